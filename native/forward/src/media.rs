//! Tracks, and the streams on both sides of them: who gets which packet.
use std::collections::VecDeque;
use std::time::Instant;

use crate::backlog::Backlog;
use crate::frame;
use crate::hash::Map;
use crate::inbound::Inbound;
use crate::layer::Layer;
use crate::outbound::Outbound;
use crate::outgoing::Arrival;
use crate::room::Room;
use crate::slab::{Key, Slab};
use crate::track::Track;
use crate::{Kind, RoomId, TrackId};

/// Mutes that came before anybody named their track: the publication may cross the wish.
const MAX_EARLY_MUTES: usize = 256;

/// Everything about media that is not of one peer.
#[derive(Default)]
pub(crate) struct Media {
    pub(crate) rooms: Map<RoomId, Room>,
    pub(crate) tracks: Slab<Track>,
    names: Map<TrackId, Key>,
    early_mutes: VecDeque<TrackId>,
    pub(crate) layers: Slab<Layer>,
    pub(crate) inbounds: Slab<Inbound>,
    pub(crate) outbounds: Slab<Outbound>,
    pub(crate) backlog: Backlog,
    /// Received streams that have ended, kept for what waits of them.
    leaving: Vec<Key>,
}

impl Media {
    /// A track that somebody named before.
    pub(crate) fn find(&self, id: TrackId) -> Option<Key> {
        self.names.get(&id).copied()
    }

    /// A track, made on first mention.
    pub(crate) fn track(&mut self, id: TrackId) -> Key {
        if let Some(&key) = self.names.get(&id) {
            return key;
        }
        let mut track = Track::new(id);
        track.muted = self.early_mutes.contains(&id);
        self.early_mutes.retain(|early| *early != id);
        let key = self.tracks.insert(track);
        self.names.insert(id, key);
        key
    }

    /// Mutes a track that nobody has named yet, or not any more.
    pub(crate) fn mute_early(&mut self, id: TrackId, muted: bool) {
        self.early_mutes.retain(|early| *early != id);
        if muted {
            if self.early_mutes.len() == MAX_EARLY_MUTES {
                self.early_mutes.pop_front();
            }
            self.early_mutes.push_back(id);
        }
    }

    /// Forgets a track that neither side names.
    pub(crate) fn release(&mut self, key: Key) {
        if self.tracks.get(key).is_some_and(Track::is_unused)
            && let Some(track) = self.tracks.remove(key)
        {
            self.names.remove(&track.id);
        }
    }

    /// A received stream has ended. Gives its SSRC and its highest number.
    pub(crate) fn leave(&mut self, key: Key) -> Option<(u32, Option<u64>)> {
        let inbound = self.inbounds.get(key)?;
        let told = (inbound.ssrc(), inbound.highest());
        self.leaving.push(key);
        self.forget_left();
        Some(told)
    }

    /// Gives up the streams that have ended, once nothing waits: their caches hold what does.
    pub(crate) fn forget_left(&mut self) {
        if self.backlog.is_empty() {
            self.leaving.drain(..).for_each(|key| drop(self.inbounds.remove(key)));
        }
    }

    /// Queues a packet for every subscriber that follows its stream. Returns how many copies that are.
    pub(crate) fn fan_out(&mut self, now: Instant, track: Key, packet: &Arrival) -> usize {
        let Media { tracks, layers, inbounds, outbounds, backlog, .. } = self;
        let track = &tracks[track];
        let mut copies = 0;
        for &key in &track.subscribers {
            let stream = &mut outbounds[key];
            let is_target = track.target(stream.max_layer()) == Some(packet.spatial);
            let Some(accepted) = stream.accept(now, key, packet, is_target, inbounds) else { continue };
            backlog.push(stream.peer(), stream.kind(), accepted.outgoing);
            copies += 1;
            if accepted.begins {
                // The first packet of a key frame may be the last of it to come.
                let rest = inbounds[packet.inbound].after(packet.seq);
                copies += forward_kept(now, key, stream, packet.inbound, rest, layers, inbounds, backlog);
            }
        }
        if packet.completes {
            backlog.end_frame();
        }
        copies
    }

    /// Sends the picture that is in the cache to a subscriber that has none, where there is one worth it. Returns of how
    /// many packets.
    pub(crate) fn show_kept_picture(&mut self, now: Instant, key: Key) -> usize {
        let Media { tracks, layers, inbounds, outbounds, backlog, .. } = self;
        let stream = &mut outbounds[key];
        if stream.following().is_some() {
            return 0;
        }
        let track = &tracks[stream.track()];
        let Some(layer) = track.target(stream.max_layer()).and_then(|spatial| layer_of(track, spatial, layers)) else {
            return 0;
        };
        let Some(inbound) = layers[layer].inbound else { return 0 };
        let Some(run) = inbounds[inbound].picture(now) else { return 0 };
        forward_kept(now, key, stream, inbound, run, layers, inbounds, backlog)
    }

    /// The layer whose key frame a stream needs: of what it follows, else of what it should follow. `None` where a key
    /// frame would not help: the track is muted, nothing is sent, or the subscriber cannot take what is.
    pub(crate) fn helpful_layer(&self, key: Key) -> Option<Key> {
        let stream = self.outbounds.get(key)?;
        let track = &self.tracks[stream.track()];
        if !stream.wants_media() || stream.kind() == Kind::Audio || track.muted {
            return None;
        }
        let followed = stream.following().and_then(|inbound| self.inbounds.get(inbound)).map(Inbound::layer);
        let wanted = || layer_of(track, track.target(stream.max_layer())?, &self.layers);
        followed.or_else(wanted).filter(|layer| self.is_taken(stream, *layer))
    }

    /// Layers that subscribers should follow and do not, as far as a key frame would help: a bit for each spatial layer.
    pub(crate) fn lacking(&self, track: Key) -> u8 {
        let track = &self.tracks[track];
        if track.muted {
            return 0;
        }
        let streams = track.subscribers.iter().map(|key| &self.outbounds[*key]);
        streams.filter(|stream| stream.wants_media() && stream.kind() == Kind::Video).fold(0, |lacking, stream| {
            let Some(target) = track.target(stream.max_layer()) else { return lacking };
            let Some(layer) = layer_of(track, target, &self.layers) else { return lacking };
            let follows = stream.following().is_some() && stream.following() == self.layers[layer].inbound;
            if follows || !self.is_taken(stream, layer) { lacking } else { lacking | 1 << target.min(7) }
        })
    }

    /// Whether a subscriber can take what a layer is sending.
    fn is_taken(&self, stream: &Outbound, layer: Key) -> bool {
        let inbound = self.layers[layer].inbound.and_then(|inbound| self.inbounds.get(inbound));
        inbound.is_some_and(|inbound| stream.can_take(inbound.pt()))
    }
}

fn layer_of(track: &Track, spatial: u8, layers: &Slab<Layer>) -> Option<Key> {
    track.layers.iter().copied().find(|layer| layers[*layer].spatial == spatial)
}

/// Forwards packets from the cache of a stream as if they came now. Returns how many.
#[cold]
#[allow(clippy::too_many_arguments, reason = "the parts of `Media`, which is borrowed piece by piece")]
fn forward_kept(
    now: Instant,
    key: Key,
    stream: &mut Outbound,
    from: Key,
    numbers: std::ops::Range<u64>,
    layers: &Slab<Layer>,
    inbounds: &Slab<Inbound>,
    backlog: &mut Backlog,
) -> usize {
    let mut copies = 0;
    let inbound = &inbounds[from];
    let layer = &layers[inbound.layer()];
    for seq in numbers {
        let Some(packet) = inbound.packet(seq) else { continue };
        let Some(format) = layer.format(packet.pt) else { continue };
        let arrival = Arrival {
            inbound: from,
            spatial: layer.spatial,
            seq,
            timestamp: packet.timestamp,
            pt: packet.pt,
            clock_rate: format.clock_rate,
            completes: true,
            size: packet.size().min(usize::from(u16::MAX)) as u16,
            facts: frame::inspect(format, packet.payload),
        };
        if let Some(accepted) = stream.accept(now, key, &arrival, true, inbounds) {
            backlog.push(stream.peer(), stream.kind(), accepted.outgoing);
            copies += 1;
            // Somebody waits for this picture.
            backlog.end_frame();
        }
    }
    copies
}
