//! Commands: from how things should be to what has to change.
use std::time::Instant;

use greenroom_wire::Ssrc;

use crate::ice::Credentials;
use crate::layer::Layer;
use crate::outbound::Outbound;
use crate::peer::Peer;
use crate::receiving::Publication;
use crate::shard::Shard;
use crate::slab::Key;
use crate::timers::Owner;
use crate::{Channel, Command, Kind, PeerId, Receiver, RoomId, Sender, TrackId};
use greenroom_congestion::SPEAKER_INTERVAL;

impl Shard {
    /// Takes one command.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddPeer { peer, room, ufrag, pwd } => self.add_peer(now, peer, room, Credentials { ufrag, pwd }),
            // ICE-lite sends no checks, so the other side's credentials are not needed.
            Command::SetRemote { peer, fingerprint, .. } => self.with_peer(peer, |shard, key| {
                let change = shard.peers[key].link.set_fingerprint(now, fingerprint, &mut shard.out);
                shard.link_changed(now, key, change);
            }),
            Command::StartDtls { peer } => self.with_peer(peer, |shard, key| {
                shard.peers[key].link.be_dtls_client();
                shard.start_dtls(now, key);
            }),
            Command::RestartIce { peer, ufrag, pwd } => self.restart_ice(peer, Credentials { ufrag, pwd }),
            Command::SetReceivers { peer, receivers } => {
                self.with_peer(peer, |shard, key| shard.set_receivers(now, key, receivers));
            }
            Command::SetSenders { peer, senders } => {
                self.with_peer(peer, |shard, key| shard.set_senders(now, key, senders));
            }
            Command::SetData { peer, max_message_size, channels } => {
                self.with_peer(peer, |shard, key| shard.set_data(now, key, max_message_size, &channels));
            }
            Command::SetRoom { room, top_speakers } => self.set_room(now, room, top_speakers),
            Command::SetMuted { track, muted } => self.set_muted(now, track, muted),
            Command::SendData { peers, label, payload } => {
                for peer in peers {
                    let Some(&key) = self.peer_index.get(&peer) else { continue };
                    let change = self.peers[key].link.send_data(now, &label, &payload, &mut self.out);
                    self.link_changed(now, key, change);
                    self.arm(key);
                }
            }
            Command::RequestKeyframe { track } => {
                let Some(track) = self.media.find(track) else { return };
                for layer in self.media.tracks[track].layers.clone() {
                    let inbound = self.media.layers[layer].inbound.map(|inbound| &self.media.inbounds[inbound]);
                    if inbound.is_some_and(|inbound| inbound.last_packet().is_some()) {
                        self.request_keyframe(now, layer);
                    }
                }
            }
            Command::RemovePeer { peer } => self.remove_peer(now, peer),
        }
    }

    fn with_peer(&mut self, id: PeerId, act: impl FnOnce(&mut Shard, Key)) {
        if let Some(&key) = self.peer_index.get(&id) {
            act(self, key);
        }
    }

    fn add_peer(&mut self, now: Instant, id: PeerId, room: RoomId, credentials: Credentials) {
        if self.peer_index.contains_key(&id) {
            return self.restart_ice(id, credentials);
        }
        let ssrc = Ssrc(self.next_random() as u32 | 1);
        let ufrag = credentials.ufrag.clone();
        let key = self.peers.insert(Peer::new(id, room, credentials, ssrc, &self.limits, now));
        self.peer_index.insert(id, key);
        self.ufrags.insert(ufrag, key);
        self.media.rooms.entry(room).or_default().peers += 1;
    }

    fn restart_ice(&mut self, id: PeerId, credentials: Credentials) {
        let Some(&key) = self.peer_index.get(&id) else { return };
        self.ufrags.insert(credentials.ufrag.clone(), key);
        if let Some(retired) = self.peers[key].link.restart_ice(credentials) {
            self.ufrags.remove(&retired.ufrag);
        }
    }

    fn remove_peer(&mut self, now: Instant, id: PeerId) {
        let Some(key) = self.peer_index.remove(&id) else { return };
        self.peers[key].link.shut_down(now, &mut self.out);
        self.set_receivers(now, key, Vec::new());
        self.set_senders(now, key, Vec::new());
        self.media.backlog.remove(key);
        let Some(peer) = self.peers.remove(key) else { return };
        for ufrag in peer.link.ufrags() {
            self.ufrags.remove(ufrag);
        }
        for path in peer.link.paths() {
            if self.paths.get(&path) == Some(&key) {
                self.paths.remove(&path);
            }
        }
        if let Some(room) = self.media.rooms.get_mut(&peer.room) {
            room.peers -= 1;
            if room.peers == 0 {
                self.media.rooms.remove(&peer.room);
            }
        }
    }

    fn set_data(&mut self, now: Instant, key: Key, max_message_size: usize, channels: &[Channel]) {
        let Shard { peers, limits, out, .. } = self;
        let change = peers[key].link.open_channels(now, max_message_size, channels, limits, out);
        self.link_changed(now, key, change);
        self.arm(key);
    }

    /// Of a room that has peers: options come after the first of them and go with the last.
    fn set_room(&mut self, now: Instant, id: RoomId, top_speakers: Option<usize>) {
        let Some(room) = self.media.rooms.get_mut(&id) else { return };
        if room.set_top_speakers(top_speakers) {
            for track in room.audio.clone() {
                for stream in &self.media.tracks[track].subscribers {
                    self.media.outbounds[*stream].restart();
                }
                self.retarget(now, track);
            }
        }
    }

    fn set_receivers(&mut self, now: Instant, key: Key, receivers: Vec<Receiver>) {
        let mut former = self.peers[key].receiving.take_publications();
        let mut publications = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let known = former.iter().position(|p| p.spec.track == receiver.track && p.spec.kind == receiver.kind);
            let publication = match known {
                Some(position) => former.swap_remove(position),
                None => self.publish(now, key, &receiver),
            };
            publications.push(self.update_publication(key, publication, receiver));
        }
        for publication in former {
            let goes_on = publications.iter().any(|other| other.track == publication.track);
            self.unpublish(key, publication, goes_on);
        }
        for publication in &publications {
            self.announce_ssrcs(now, key, publication);
        }
        let tracks: Vec<Key> = publications.iter().map(|publication| publication.track).collect();
        self.peers[key].receiving.set_publications(publications);
        for track in tracks {
            self.retarget(now, track);
        }
        self.arm(key);
    }

    fn publish(&mut self, now: Instant, key: Key, receiver: &Receiver) -> Publication {
        let id = self.peers[key].room;
        let track_key = self.media.track(receiver.track);
        let track = &mut self.media.tracks[track_key];
        track.publisher = Some(key);
        track.room = Some(id);
        if receiver.kind == Kind::Audio {
            let room = self.media.rooms.entry(id).or_default();
            room.audio.push(track_key);
            if !std::mem::replace(&mut room.armed, true) {
                self.timers.push(now + SPEAKER_INTERVAL, Owner::Room(id));
            }
        }
        Publication { spec: receiver.clone(), track: track_key, layers: Vec::new() }
    }

    /// Makes the layers of a publication those of its section, and tells subscribers what arrives.
    fn update_publication(&mut self, key: Key, mut publication: Publication, receiver: Receiver) -> Publication {
        let wanted: Vec<(&str, u8)> = if receiver.layers.is_empty() {
            vec![("", 0)]
        } else {
            receiver.layers.iter().map(|(rid, spatial)| (rid.as_str(), *spatial)).collect()
        };
        let former = std::mem::take(&mut publication.layers);
        for layer in former {
            let state = &self.media.layers[layer];
            if wanted.contains(&(state.rid.as_str(), state.spatial)) {
                publication.layers.push(layer);
            } else {
                self.remove_layer(key, layer);
            }
        }
        for (rid, spatial) in &wanted {
            let known = publication.layers.iter().copied().find(|l| self.media.layers[*l].rid == *rid);
            let layer = known.unwrap_or_else(|| {
                let layer = Layer::new(key, publication.track, &receiver, rid, *spatial);
                let layer = self.media.layers.insert(layer);
                publication.layers.push(layer);
                layer
            });
            let state = &mut self.media.layers[layer];
            state.update(&receiver);
            if let Some(inbound) = state.inbound {
                self.media.inbounds[inbound].set_nack(receiver.nack);
            }
        }
        let track = &mut self.media.tracks[publication.track];
        track.layers.clone_from(&publication.layers);
        track.retain_live(wanted.iter().map(|(_, spatial)| *spatial));
        if track.codecs != receiver.codecs {
            track.codecs.clone_from(&receiver.codecs);
        }
        for stream in &track.subscribers {
            self.media.outbounds[*stream].set_publisher(Some(&track.codecs));
        }
        publication.spec = receiver;
        publication
    }

    /// SSRCs that the SDP names are known before their first packet.
    fn announce_ssrcs(&mut self, now: Instant, key: Key, publication: &Publication) {
        let names = publication.spec.layers.iter().map(|(rid, _)| rid.as_str()).chain(std::iter::repeat(""));
        let announced = publication.spec.ssrcs.iter().zip(names).take(publication.layers.len());
        for ((ssrc, rtx_ssrc), rid) in announced {
            let Some(&layer) = publication.layers.iter().find(|l| self.media.layers[**l].rid == rid) else { continue };
            let state = &self.media.layers[layer];
            let receiving = &self.peers[key].receiving;
            let known = receiving.media(*ssrc).is_some_and(|inbound| state.inbound == Some(inbound));
            let rtx_known = receiving.repairs(*rtx_ssrc, layer);
            let clock_rate = state.clock_rate();
            if *ssrc != 0 && !known {
                self.free_ssrc(key, *ssrc);
                if self.adopt(now, layer, *ssrc, clock_rate).is_none() {
                    log::warn!("SSRC {ssrc} of peer {}: too many were used", self.peers[key].id.0);
                }
            }
            if *rtx_ssrc != 0 && !rtx_known {
                self.free_ssrc(key, *rtx_ssrc);
                self.adopt_repair(layer, *rtx_ssrc);
            }
        }
    }

    /// Whatever an SSRC was until now, it is not any more.
    fn free_ssrc(&mut self, key: Key, ssrc: u32) {
        let receiving = &mut self.peers[key].receiving;
        let inbound = receiving.media(ssrc).and_then(|inbound| self.media.inbounds.remove(inbound));
        if let Some(inbound) = &inbound {
            self.media.layers[inbound.layer()].inbound = None;
        }
        if let Some(layer) = receiving.repaired_layer(ssrc) {
            self.media.layers[layer].rtx_ssrc = 0;
        }
        receiving.retire(ssrc, inbound.and_then(|inbound| inbound.highest()));
    }

    /// `goes_on`: the track has another section now.
    fn unpublish(&mut self, key: Key, publication: Publication, goes_on: bool) {
        for layer in publication.layers {
            self.remove_layer(key, layer);
        }
        let track = &mut self.media.tracks[publication.track];
        if goes_on || track.publisher != Some(key) {
            return;
        }
        if let Some(room) = track.room.and_then(|id| self.media.rooms.get_mut(&id)) {
            room.remove_audio(publication.track);
        }
        track.unpublish();
        for stream in &track.subscribers {
            let stream = &mut self.media.outbounds[*stream];
            stream.set_publisher(None);
            stream.restart();
        }
        self.media.release(publication.track);
    }

    fn remove_layer(&mut self, key: Key, key_of_layer: Key) {
        let Some(layer) = self.media.layers.remove(key_of_layer) else { return };
        let receiving = &mut self.peers[key].receiving;
        receiving.retire_repair(layer.rtx_ssrc, key_of_layer);
        if let Some(inbound) = layer.inbound.and_then(|inbound| self.media.inbounds.remove(inbound)) {
            receiving.retire(inbound.ssrc(), inbound.highest());
        }
    }

    fn set_senders(&mut self, now: Instant, key: Key, senders: Vec<Sender>) {
        let mut former = self.peers[key].sending.take_streams();
        let mut streams: Vec<Key> = Vec::with_capacity(senders.len());
        // What goes first, goes first: its SSRCs may be in use again.
        let (mut kept, mut added) = (Vec::new(), Vec::new());
        for sender in senders {
            let same = former
                .get(&sender.ssrc)
                .copied()
                .filter(|stream| self.media.outbounds[*stream].rtx_ssrc() == sender.rtx_ssrc);
            match same {
                Some(stream) => {
                    former.remove(&sender.ssrc);
                    kept.push((stream, sender));
                }
                None => added.push(sender),
            }
        }
        for stream in former.into_values() {
            self.remove_sender(key, stream);
        }
        for (stream, sender) in kept {
            self.update_sender(key, stream, sender);
            streams.push(stream);
        }
        for sender in added {
            streams.extend(self.add_sender(now, key, sender));
        }
        for stream in &streams {
            if self.media.outbounds[*stream].following().is_none() {
                self.want_keyframe(now, *stream);
            }
        }
        // A changed wish for another layer is one for its key frame.
        for stream in streams {
            self.retarget(now, self.media.outbounds[stream].track());
        }
    }

    /// A stream on SSRCs that are free on these keys; `None`, with a word in the log, where they are not.
    fn add_sender(&mut self, now: Instant, key: Key, sender: Sender) -> Option<Key> {
        // Below 2^15, so that the loss of the first packets cannot be taken for a rollover (RFC 3711, 3.3.1).
        let (first, rtx_first) = (1 + self.next_random() % 0x3fff, 1 + self.next_random() % 0x3fff);
        let Shard { peers, media, .. } = self;
        let peer = &mut peers[key];
        let (ssrc, rtx_ssrc) = (sender.ssrc, sender.rtx_ssrc);
        let Some((begin, rtx_begin)) = peer.sending.begin((ssrc, first), (rtx_ssrc, rtx_first)) else {
            log::warn!("peer {}: SSRC {ssrc} or {rtx_ssrc} is in use, or too many were; not sent", peer.id.0);
            return None;
        };
        let is_connected = peer.link.sealer().is_some();
        let track = media.track(sender.track);
        let mut stream = Outbound::new(key, track, sender, begin, rtx_begin, now);
        stream.set_ready(is_connected);
        let published = &mut media.tracks[track];
        stream.set_publisher(published.publisher.map(|_| published.codecs.as_slice()));
        let stream = media.outbounds.insert(stream);
        published.subscribers.push(stream);
        peer.sending.insert(ssrc, stream);
        Some(stream)
    }

    fn update_sender(&mut self, peer: Key, key: Key, sender: Sender) {
        let media = &mut self.media;
        let (track, former) = (media.track(sender.track), media.outbounds[key].track());
        if former != track {
            media.tracks[former].subscribers.retain(|stream| *stream != key);
            media.tracks[track].subscribers.push(key);
        }
        let published = &media.tracks[track];
        let codecs = published.publisher.map(|_| published.codecs.as_slice());
        self.peers[peer].sending.insert(sender.ssrc, key);
        media.outbounds[key].update(track, sender, codecs);
        if former != track {
            media.release(former);
        }
    }

    fn remove_sender(&mut self, peer: Key, key: Key) {
        let Some(stream) = self.media.outbounds.remove(key) else { return };
        self.media.tracks[stream.track()].subscribers.retain(|other| *other != key);
        self.media.release(stream.track());
        for (ssrc, from) in stream.continuations() {
            self.peers[peer].sending.end(ssrc, from);
        }
    }

    fn set_muted(&mut self, now: Instant, id: TrackId, muted: bool) {
        let Some(key) = self.media.find(id) else { return self.media.mute_early(id, muted) };
        let media = &mut self.media;
        let track = &mut media.tracks[key];
        if std::mem::replace(&mut track.muted, muted) == muted {
            return;
        }
        for stream in &track.subscribers {
            media.outbounds[*stream].restart();
        }
        if muted {
            // The last picture before is not for anybody who comes later.
            let inbounds = track.layers.iter().filter_map(|layer| media.layers[*layer].inbound);
            inbounds.for_each(|inbound| media.inbounds[inbound].forget_picture());
        }
        self.retarget(now, key);
    }
}
