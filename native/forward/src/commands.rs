//! Commands: from how things should be to what has to change.
use std::time::Instant;

use greenroom_congestion::SPEAKER_INTERVAL;
use greenroom_secure::dtls::Dtls;
use greenroom_wire::Ssrc;

use crate::data_lane::DataLane;
use crate::ice::{Credentials, IceLite};
use crate::layer::Layer;
use crate::peer::{Peer, Publication, Source, SourceKind};
use crate::send_stream::SendStream;
use crate::shard::Shard;
use crate::timers::Owner;
use crate::track::Track;
use crate::{Command, Kind, PeerId, Receiver, RoomId, Sender, TrackId};

impl Shard {
    /// Takes one command.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddPeer { peer, room, ufrag, pwd } => self.add_peer(now, peer, room, Credentials { ufrag, pwd }),
            Command::SetRemote { peer, fingerprint, .. } => {
                // ICE-lite sends no checks, so the other side's credentials are not needed.
                if let Some(&index) = self.peer_index.get(&peer) {
                    self.peers[index].fingerprint = Some(fingerprint);
                    self.verify(now, index);
                }
            }
            Command::StartDtls { peer } => {
                if let Some(&index) = self.peer_index.get(&peer) {
                    self.peers[index].dtls_active = true;
                    self.start_dtls(now, index);
                }
            }
            Command::RestartIce { peer, ufrag, pwd } => self.restart_ice(peer, Credentials { ufrag, pwd }),
            Command::SetReceivers { peer, receivers } => {
                if let Some(&index) = self.peer_index.get(&peer) {
                    self.set_receivers(now, index, receivers);
                }
            }
            Command::SetSenders { peer, senders } => {
                if let Some(&index) = self.peer_index.get(&peer) {
                    self.set_senders(now, index, senders);
                }
            }
            Command::SetData { peer, max_message_size, channels } => {
                if let Some(&index) = self.peer_index.get(&peer) {
                    let data = self.peers[index].data.get_or_insert_with(|| DataLane::new(now, max_message_size));
                    data.open(&channels);
                    self.pump(now, index, None);
                    self.arm(index);
                }
            }
            Command::SetMuted { track, muted } => self.set_muted(now, track, muted),
            Command::SendData { peers, label, payload } => {
                for peer in peers {
                    let Some(&index) = self.peer_index.get(&peer) else { continue };
                    let Some(data) = &mut self.peers[index].data else {
                        self.counters.dropped_data += 1;
                        continue;
                    };
                    data.send(&label, &payload, &mut self.counters);
                    self.pump(now, index, None);
                    self.arm(index);
                }
            }
            Command::RequestKeyframe { track } => {
                if let Some(&index) = self.track_index.get(&track) {
                    for layer in self.tracks[index].layers.clone() {
                        if self.layers[layer].is_live(now) {
                            self.request_keyframe(now, layer);
                        }
                    }
                }
            }
            Command::RemovePeer { peer } => self.remove_peer(now, peer),
        }
    }

    fn add_peer(&mut self, now: Instant, id: PeerId, room: RoomId, credentials: Credentials) {
        if self.peer_index.contains_key(&id) {
            return self.restart_ice(id, credentials);
        }
        self.generation = self.generation.wrapping_add(1);
        let ssrc = Ssrc(self.next_random() as u32 | 1);
        let ufrag = credentials.ufrag.clone();
        let peer = Peer::new(id, room, self.generation, IceLite::new(credentials), ssrc, now);
        let index = self.peers.insert(peer);
        self.peer_index.insert(id, index);
        self.ufrags.insert(ufrag, index);
        self.rooms.entry(room).or_default().peers += 1;
    }

    fn restart_ice(&mut self, id: PeerId, credentials: Credentials) {
        let Some(&index) = self.peer_index.get(&id) else { return };
        self.ufrags.insert(credentials.ufrag.clone(), index);
        if let Some(retired) = self.peers[index].ice.restart(credentials) {
            self.ufrags.remove(&retired.ufrag);
        }
    }

    fn remove_peer(&mut self, now: Instant, id: PeerId) {
        let Some(index) = self.peer_index.remove(&id) else { return };
        if let Some(data) = &mut self.peers[index].data {
            data.close();
        }
        self.pump(now, index, None);
        if let Some(dtls) = &mut self.peers[index].dtls {
            dtls.close();
        }
        self.pump(now, index, None);
        self.set_receivers(now, index, Vec::new());
        self.set_senders(now, index, Vec::new());
        self.dirty.retain(|dirty| *dirty != index);
        let Some(peer) = self.peers.remove(index) else { return };
        self.waiting = self.waiting.saturating_sub(peer.pending.len());
        for ufrag in peer.ice.ufrags() {
            self.ufrags.remove(ufrag);
        }
        for path in peer.ice.paths() {
            if self.paths.get(&path) == Some(&index) {
                self.paths.remove(&path);
            }
        }
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.peers -= 1;
            if room.peers == 0 {
                self.rooms.remove(&peer.room);
            }
        }
    }

    fn set_receivers(&mut self, now: Instant, index: u32, receivers: Vec<Receiver>) {
        let mut former = std::mem::take(&mut self.peers[index].publications);
        let mut publications = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let known = former.iter().position(|p| p.spec.track == receiver.track && p.spec.kind == receiver.kind);
            let publication = match known {
                Some(position) => former.swap_remove(position),
                None => self.publish(now, index, &receiver),
            };
            publications.push(self.update_publication(index, publication, receiver));
        }
        for publication in former {
            self.unpublish(index, publication);
        }
        let peer = &mut self.peers[index];
        peer.extensions.fill(None);
        for (id, kind) in publications.iter().flat_map(|p| p.spec.extensions.pairs()) {
            peer.extensions[usize::from(*id)] = Some(*kind);
        }
        peer.transport_cc = publications.iter().any(|p| p.spec.transport_cc);
        peer.publications = publications;
        self.arm(index);
    }

    fn publish(&mut self, now: Instant, index: u32, receiver: &Receiver) -> Publication {
        let room_id = self.peers[index].room;
        let track_index = self.track(receiver.track);
        let track = &mut self.tracks[track_index];
        track.publisher = Some(index);
        track.room = Some(room_id);
        if receiver.kind == Kind::Audio {
            let room = self.rooms.entry(room_id).or_default();
            room.audio.push(track_index);
            if !std::mem::replace(&mut room.armed, true) {
                self.timers.push(now + SPEAKER_INTERVAL, Owner::Room(room_id));
            }
        }
        Publication { spec: receiver.clone(), track: track_index, layers: Vec::new() }
    }

    /// Makes the layers of a publication those of its section, and tells subscribers what arrives.
    fn update_publication(&mut self, index: u32, mut publication: Publication, receiver: Receiver) -> Publication {
        let wanted: Vec<(&str, u8)> = if receiver.layers.is_empty() {
            vec![("", 0)]
        } else {
            receiver.layers.iter().map(|(rid, spatial)| (rid.as_str(), *spatial)).collect()
        };
        let former = std::mem::take(&mut publication.layers);
        for layer in former {
            let state = &self.layers[layer];
            if wanted.contains(&(state.rid.as_str(), state.spatial)) {
                publication.layers.push(layer);
            } else {
                self.remove_layer(index, publication.track, layer);
            }
        }
        for (position, (rid, spatial)) in wanted.iter().enumerate() {
            let ssrcs = receiver.ssrcs.get(position).copied().unwrap_or((0, 0));
            let known = publication.layers.iter().copied().find(|l| self.layers[*l].rid == *rid);
            let layer = match known {
                Some(layer) => layer,
                None => {
                    let layer = Layer::new(index, publication.track, &receiver, rid, *spatial, ssrcs);
                    let layer = self.layers.insert(layer);
                    publication.layers.push(layer);
                    layer
                }
            };
            self.layers[layer].update(&receiver);
            self.announce_ssrcs(index, layer, ssrcs);
        }
        let Shard { tracks, streams, .. } = self;
        let track = &mut tracks[publication.track];
        track.layers.clone_from(&publication.layers);
        if track.codecs != receiver.codecs {
            track.codecs.clone_from(&receiver.codecs);
        }
        for stream in &track.subscribers {
            streams[*stream].set_publisher(Some(&track.codecs));
        }
        publication.spec = receiver;
        publication
    }

    /// SSRCs that the SDP names are known before their first packet.
    fn announce_ssrcs(&mut self, index: u32, layer: u32, (ssrc, rtx_ssrc): (u32, u32)) {
        let state = &mut self.layers[layer];
        let clock_rate = state.formats.first().map_or(90_000, |format| format.clock_rate);
        let sources = &mut self.peers[index].sources;
        for (ssrc, kind) in [(ssrc, SourceKind::Media(layer)), (rtx_ssrc, SourceKind::Rtx(layer))] {
            if ssrc == 0 || sources.get(&ssrc).is_some_and(|source| source.kind == kind) {
                continue;
            }
            let former = match kind {
                SourceKind::Media(_) => {
                    let former = state.ssrc;
                    state.adopt(ssrc, clock_rate);
                    former
                }
                SourceKind::Rtx(_) => std::mem::replace(&mut state.rtx_ssrc, ssrc),
            };
            if former != ssrc {
                sources.remove(&former);
            }
            sources.insert(ssrc, Source { kind, window: Default::default() });
        }
    }

    fn unpublish(&mut self, index: u32, publication: Publication) {
        for layer in publication.layers {
            self.remove_layer(index, publication.track, layer);
        }
        let Shard { tracks, streams, rooms, .. } = self;
        let track = &mut tracks[publication.track];
        if let Some(room) = track.room.take().and_then(|id| rooms.get_mut(&id)) {
            room.audio.retain(|audio| *audio != publication.track);
        }
        track.publisher = None;
        track.layers.clear();
        track.codecs.clear();
        track.live = 0;
        for stream in &track.subscribers {
            streams[*stream].set_publisher(None);
        }
        self.release_track(publication.track);
    }

    fn remove_layer(&mut self, index: u32, track: u32, layer: u32) {
        for stream in &self.tracks[track].subscribers {
            let stream = &mut self.streams[*stream];
            stream.forget_layer(layer);
            let pending = &mut self.peers[stream.peer].pending;
            let before = pending.len();
            pending.retain(|item| item.layer != layer);
            self.waiting -= before - pending.len();
        }
        let kinds = [SourceKind::Media(layer), SourceKind::Rtx(layer)];
        self.peers[index].sources.retain(|_, source| !kinds.contains(&source.kind));
        self.layers.remove(layer);
    }

    fn set_senders(&mut self, now: Instant, index: u32, senders: Vec<Sender>) {
        let mut former = std::mem::take(&mut self.peers[index].senders);
        let mut changed = Vec::new();
        for sender in senders {
            let track = self.track(sender.track);
            let ssrc = sender.ssrc;
            let stream = match former.remove(&ssrc) {
                Some(stream) => self.update_sender(stream, track, sender),
                None => self.add_sender(index, track, sender),
            };
            if let Some(other) = self.peers[index].senders.insert(ssrc, stream) {
                log::warn!("SSRC {ssrc} is in two sections of a peer; the later one counts");
                self.remove_sender(index, other);
            }
            changed.push(stream);
        }
        for stream in former.into_values() {
            self.remove_sender(index, stream);
        }
        for stream in changed {
            if self.streams.get(stream).is_some_and(|s| !s.started) {
                self.want_keyframe(now, stream);
            }
        }
        // A changed wish for another layer is one for its key frame.
        let tracks: Vec<u32> = self.peers[index].senders.values().map(|s| self.streams[*s].track).collect();
        for track in tracks {
            self.retarget(now, track);
        }
    }

    fn add_sender(&mut self, index: u32, track: u32, sender: Sender) -> u32 {
        // Below 2^15, so that the loss of the first packets cannot be taken for a rollover (RFC 3711, 3.3.1).
        let (first, rtx_first) = (1 + self.next_random() % 0x3fff, 1 + self.next_random() % 0x3fff);
        let peer = &mut self.peers[index];
        let (first, rtx_first) = peer.retired.remove(&sender.ssrc).unwrap_or((first, rtx_first));
        let mut stream = SendStream::new(index, track, sender, first, rtx_first);
        stream.ready = peer.tx.is_some();
        let published = &self.tracks[track];
        stream.set_publisher(published.publisher.map(|_| published.codecs.as_slice()));
        let stream = self.streams.insert(stream);
        self.tracks[track].subscribers.push(stream);
        stream
    }

    fn update_sender(&mut self, index: u32, track: u32, sender: Sender) -> u32 {
        let former = self.streams[index].track;
        if former != track {
            self.tracks[former].subscribers.retain(|stream| *stream != index);
            self.tracks[track].subscribers.push(index);
        }
        let published = &self.tracks[track];
        let codecs = published.publisher.map(|_| published.codecs.as_slice());
        self.streams[index].update(track, sender, codecs);
        if former != track {
            self.release_track(former);
        }
        index
    }

    fn remove_sender(&mut self, peer: u32, index: u32) {
        let Some(stream) = self.streams.remove(index) else { return };
        self.tracks[stream.track].subscribers.retain(|other| *other != index);
        self.release_track(stream.track);
        let peer = &mut self.peers[peer];
        let before = peer.pending.len();
        peer.pending.retain(|item| item.stream != index);
        self.waiting -= before - peer.pending.len();
        peer.retired.insert(stream.ssrc, stream.next_numbers());
    }

    fn set_muted(&mut self, now: Instant, id: TrackId, muted: bool) {
        // Before it is published, too: the publication may cross the wish.
        let index = self.track(id);
        if std::mem::replace(&mut self.tracks[index].muted, muted) == muted {
            return self.release_track(index);
        }
        for stream in &self.tracks[index].subscribers {
            self.streams[*stream].restart();
        }
        self.retarget(now, index);
    }

    /// The index of a track, made on first mention.
    fn track(&mut self, id: TrackId) -> u32 {
        if let Some(&index) = self.track_index.get(&id) {
            return index;
        }
        let index = self.tracks.insert(Track::new(id));
        self.track_index.insert(id, index);
        index
    }

    /// Forgets a track that neither side names.
    fn release_track(&mut self, index: u32) {
        if self.tracks.get(index).is_some_and(Track::is_unused)
            && let Some(track) = self.tracks.remove(index)
        {
            self.track_index.remove(&track.id);
        }
    }
}
