//! STUN, DTLS and SCTP: what comes before media, and beside it.
use std::time::{Duration, Instant};

use greenroom_secure::dtls::{Connected, DimplDtls, Dtls, DtlsOutput, Role};
use greenroom_secure::mac::hmac_sha1;
use greenroom_secure::srtp::{SrtpRx, SrtpTx};
use greenroom_wire::stun::{self, Class};

use crate::peer::Link;
use crate::shard::Shard;
use crate::{Event, Path};

/// Time from one report to the next.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// A connectivity check: the only thing strangers can send that has an effect, and only with the right password.
    pub(crate) fn handle_stun(&mut self, now: Instant, path: Path, data: &[u8]) {
        let Ok(message) = stun::Message::parse(data) else {
            self.counters.dropped_stun_bad += 1;
            return;
        };
        if message.class != Class::Request || message.method != stun::METHOD_BINDING {
            self.counters.dropped_stun_bad += 1;
            return;
        }
        let ufrag = message.username.map_or("", |name| name.split(':').next().unwrap_or(""));
        let Some(&index) = self.ufrags.get(ufrag) else {
            self.counters.dropped_stun_user += 1;
            return;
        };
        let peer = &mut self.peers[index];
        let password = peer.ice.password(ufrag).unwrap_or("");
        if password.is_empty() || !message.check_integrity(password.as_bytes(), hmac_sha1) {
            self.counters.dropped_stun_bad += 1;
            return;
        }
        self.counters.stun_in += 1;
        let buf = self.arena.reserve(128);
        let written = if message.ice_controlled.is_some() {
            // We are lite and so always controlled (RFC 8445, 7.3.1.1).
            stun::write_binding_error(
                buf,
                message.transaction_id,
                487,
                "Role Conflict",
                Some(password.as_bytes()),
                hmac_sha1,
            )
        } else {
            stun::write_binding_success(buf, message.transaction_id, path.remote, password.as_bytes(), hmac_sha1)
        };
        match written {
            Ok(len) => self.arena.commit(path, len),
            Err(error) => log::warn!("STUN answer: {error}"),
        }
        if message.ice_controlled.is_some() {
            return;
        }
        let learned = peer.ice.checked(now, path, ufrag, message.use_candidate);
        let id = peer.id;
        if self.paths.get(&path) != Some(&index)
            && let Some(former) = self.paths.insert(path, index)
        {
            // The address moved from one peer to another, as when a client makes a new connection on the same port.
            log::debug!("{path:?} moved from peer {} to {}", self.peers[former].id.0, id.0);
        }
        if let Some(evicted) = learned.evicted
            && self.paths.get(&evicted) == Some(&index)
        {
            self.paths.remove(&evicted);
        }
        if let Some(retired) = learned.retired {
            self.ufrags.remove(&retired.ufrag);
        }
        self.note_heard(now, index);
        self.start_dtls(now, index);
        self.arm(index);
    }

    /// Sends the ClientHello when that is ours to do, a path is nominated and no handshake has begun.
    pub(crate) fn start_dtls(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        if peer.dtls_active && peer.dtls.is_none() && peer.link != Link::Failed && peer.ice.selected().is_some() {
            peer.dtls = Some(DimplDtls::new(Role::Client, &self.certificate, now));
            self.pump(now, index, None);
            self.arm(index);
        }
    }

    /// A peer that was silent is back.
    pub(crate) fn note_heard(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        peer.heard = now;
        if matches!(peer.link, Link::Down(_) | Link::Lost) && peer.tx.is_some() {
            // Even after "lost" as long as the keys are there: a client may come back with an ICE restart.
            peer.link = Link::Up;
            peer.report_at.get_or_insert(now + REPORT_INTERVAL);
            self.events.push_back(Event::Reconnected(peer.id));
        }
    }

    /// One DTLS datagram. The handshake may start before the signalling named the fingerprint; media may not.
    pub(crate) fn handle_dtls(&mut self, now: Instant, index: u32, path: Path, data: &[u8]) {
        let peer = &mut self.peers[index];
        if peer.link == Link::Failed {
            self.counters.dropped_early += 1;
            return;
        }
        let dtls = peer.dtls.get_or_insert_with(|| DimplDtls::new(Role::Server, &self.certificate, now));
        dtls.handle_timeout(now);
        dtls.handle_packet(now, data);
        self.pump(now, index, Some(path));
        self.arm(index);
    }

    /// Moves everything between DTLS, SCTP and the network. `reply`: the path of the datagram being answered.
    pub(crate) fn pump(&mut self, now: Instant, index: u32, reply: Option<Path>) {
        let peer = &mut self.peers[index];
        let Some(dtls) = &mut peer.dtls else { return };
        // Before nomination the handshake goes back where it came from.
        let path = if peer.tx.is_some() { peer.ice.selected() } else { reply.or(peer.ice.selected()) };
        let mut connected = None;
        let mut ended = None;
        loop {
            match dtls.poll(now) {
                DtlsOutput::Packet(datagram) => {
                    if let Some(path) = path {
                        self.arena.push(path, datagram);
                    }
                    continue;
                }
                DtlsOutput::Data(packet) => {
                    peer.heard = now;
                    if let Some(data) = &mut peer.data {
                        data.handle_packet(now, packet);
                    }
                    continue;
                }
                DtlsOutput::Connected(keys) => {
                    connected = Some(keys);
                    continue;
                }
                DtlsOutput::Closed => ended = Some(Ok(())),
                DtlsOutput::Failed(error) => ended = Some(Err(error)),
                DtlsOutput::Timeout(at) => peer.dtls_at = at,
            }
            if ended.is_some() || !dtls.is_connected() {
                break;
            }
            let Some(data) = &mut peer.data else { break };
            data.poll_events(peer.id, &mut self.counters, &mut self.events);
            let mut moved = false;
            while let Some(packet) = data.poll_transmit(now) {
                moved = true;
                if let Err(error) = dtls.send(now, packet.as_ref()) {
                    log::debug!("data of peer {}: {error}", peer.id.0);
                }
            }
            if !moved {
                break;
            }
        }
        if let Some(keys) = connected {
            peer.unverified = Some(keys);
            self.verify(now, index);
        }
        match ended {
            Some(Ok(())) => self.close_link(now, index),
            Some(Err(error)) => self.fail(index, error.to_string()),
            None => {}
        }
    }

    /// Compares the certificate with the signalling, and opens the gate when both are known and equal.
    pub(crate) fn verify(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        let Some(expected) = peer.fingerprint else { return };
        let Some(keys) = peer.unverified.take() else { return };
        if *keys.remote_fingerprint.as_bytes() != expected {
            return self.fail(index, "the certificate is not the one of the signalling".to_owned());
        }
        self.connect(now, index, &keys);
    }

    fn connect(&mut self, now: Instant, index: u32, keys: &Connected) {
        let peer = &mut self.peers[index];
        log::debug!("peer {} connected, {}", peer.id.0, keys.local.profile());
        peer.tx = Some(SrtpTx::new(&keys.local));
        peer.rx = Some(SrtpRx::new(&keys.remote));
        peer.link = Link::Up;
        peer.heard = now;
        peer.report_at = Some(now + REPORT_INTERVAL);
        self.events.push_back(Event::Connected(peer.id));
        let streams: Vec<u32> = peer.senders.values().copied().collect();
        for stream in streams {
            self.streams[stream].ready = true;
            self.want_keyframe(now, stream);
        }
        self.arm(index);
    }

    fn fail(&mut self, index: u32, reason: String) {
        let peer = &mut self.peers[index];
        if peer.link == Link::Failed {
            return;
        }
        peer.link = Link::Failed;
        peer.tx = None;
        peer.rx = None;
        peer.data = None;
        peer.dtls_at = None;
        for stream in peer.senders.values() {
            self.streams[*stream].ready = false;
        }
        self.events.push_back(Event::Failed(peer.id, reason));
    }

    /// The peer said goodbye: as if it had been silent for long.
    fn close_link(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        if peer.link == Link::Up {
            peer.link = Link::Down(now);
            self.events.push_back(Event::Disconnected(peer.id));
        }
        peer.dtls_at = None;
        peer.tx = None;
        peer.rx = None;
        peer.data = None;
        for stream in peer.senders.values() {
            self.streams[*stream].ready = false;
        }
    }
}
