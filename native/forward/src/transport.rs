//! STUN, DTLS and data: what comes before media, and beside it.
use std::time::{Duration, Instant};

use greenroom_wire::stun::{self, Class, Message};

use crate::Path;
use crate::link::Change;
use crate::shard::Shard;
use crate::slab::Key;

/// Time from one report to the next.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// A connectivity check: the only thing strangers can send that has an effect, and only with the right password.
    pub(crate) fn handle_stun(&mut self, now: Instant, path: Path, data: &[u8]) {
        let check = Message::parse(data).ok().filter(|m| m.class == Class::Request && m.method == stun::METHOD_BINDING);
        let Some(message) = check else {
            self.out.counters.dropped_stun_bad += 1;
            return;
        };
        let ufrag = message.username.map_or("", |name| name.split(':').next().unwrap_or(""));
        let Some(&key) = self.ufrags.get(ufrag) else {
            self.out.counters.dropped_stun_user += 1;
            return;
        };
        if let Some(&holder) = self.paths.get(&path)
            && holder != key
            && self.peers.get(holder).is_some_and(|peer| peer.link.uses(now, path))
        {
            // One check with a forged source would cut the peer that is there off, until its own next one.
            self.out.counters.dropped_address += 1;
            return;
        }
        let link = &mut self.peers[key].link;
        let Some(learned) = link.handle_check(now, path, ufrag, &message, &self.limits, &mut self.out) else { return };
        if self.paths.get(&path) != Some(&key)
            && let Some(former) = self.paths.insert(path, key)
        {
            // The address moved from one peer to another, as when a client makes a new connection on the port of one that
            // has ended.
            log::debug!("{path:?} moved from {former:?} to {key:?}");
        }
        if let Some(evicted) = learned.evicted
            && self.paths.get(&evicted) == Some(&key)
        {
            self.paths.remove(&evicted);
        }
        if let Some(retired) = learned.retired {
            self.ufrags.remove(&retired.ufrag);
        }
        let change = self.peers[key].link.note_heard(now, path, &mut self.out);
        self.link_changed(now, key, change);
        self.start_dtls(now, key);
        self.arm(key);
    }

    /// Sends the ClientHello when that is ours to do.
    pub(crate) fn start_dtls(&mut self, now: Instant, key: Key) {
        let change = self.peers[key].link.start_dtls(now, &self.certificate, &mut self.out);
        self.link_changed(now, key, change);
        self.arm(key);
    }

    pub(crate) fn handle_dtls(&mut self, now: Instant, key: Key, path: Path, data: &[u8]) {
        let Shard { peers, certificate, limits, out, .. } = self;
        let change = peers[key].link.handle_dtls(now, path, data, certificate, limits, out);
        self.link_changed(now, key, change);
        self.arm(key);
    }

    /// Media follows the connection.
    pub(crate) fn link_changed(&mut self, now: Instant, key: Key, change: Option<Change>) {
        let Some(change) = change else { return };
        let peer = &mut self.peers[key];
        if change == Change::Ready {
            peer.schedule.report.get_or_insert(now + REPORT_INTERVAL);
        }
        let streams: Vec<Key> = peer.sending.streams().collect();
        for stream in streams {
            self.media.outbounds[stream].set_ready(change == Change::Ready);
            self.want_keyframe(now, stream);
        }
        self.arm(key);
    }
}
