//! A published track: its layers, and the streams that want it. Exists as soon as either side names it.
use std::time::{Duration, Instant};

use greenroom_congestion::SpeakerLevel;
use greenroom_wire::ext::AudioLevel;
use greenroom_wire::seq::diff32;

use crate::inbound::Inbound;
use crate::layer::Layer;
use crate::slab::{Key, Slab};
use crate::{Codec, RoomId, TrackId};

pub(crate) struct Track {
    pub(crate) id: TrackId,
    /// The publishing peer.
    pub(crate) publisher: Option<Key>,
    pub(crate) room: Option<RoomId>,
    pub(crate) codecs: Vec<Codec>,
    /// In no particular order.
    pub(crate) layers: Vec<Key>,
    /// Streams towards subscribers.
    pub(crate) subscribers: Vec<Key>,
    pub(crate) muted: bool,
    /// Spatial layers with packets, a bit each.
    live: u8,
    pub(crate) speaker: SpeakerLevel,
    last_level_timestamp: Option<u32>,
}

impl Track {
    pub(crate) fn new(id: TrackId) -> Self {
        Track {
            id,
            publisher: None,
            room: None,
            codecs: Vec::new(),
            layers: Vec::new(),
            subscribers: Vec::new(),
            muted: false,
            live: 0,
            speaker: SpeakerLevel::new(),
            last_level_timestamp: None,
        }
    }

    /// Its publisher is gone.
    pub(crate) fn unpublish(&mut self) {
        self.publisher = None;
        self.room = None;
        self.layers.clear();
        self.codecs.clear();
        self.live = 0;
    }

    /// Nobody names it any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.publisher.is_none() && self.subscribers.is_empty()
    }

    /// The spatial layer to follow: the highest live one up to `max`, or the lowest live one above it.
    #[inline]
    pub(crate) fn target(&self, max: u8) -> Option<u8> {
        let wanted = self.live & ((1u16 << (u16::from(max.min(7)) + 1)) - 1) as u8;
        if wanted != 0 {
            Some(7 - wanted.leading_zeros() as u8)
        } else {
            (self.live != 0).then(|| self.live.trailing_zeros() as u8)
        }
    }

    /// A packet of a spatial layer came; true when the layer had none before.
    #[inline]
    pub(crate) fn note_live(&mut self, spatial: u8) -> bool {
        let bit = 1u8 << spatial.min(7);
        let newly = self.live & bit == 0;
        self.live |= bit;
        newly
    }

    /// Only these spatial layers are there.
    pub(crate) fn retain_live(&mut self, spatials: impl Iterator<Item = u8>) {
        self.live &= spatials.fold(0, |present, spatial| present | 1 << spatial.min(7));
    }

    /// Takes stock of which layers have packets; true when that changed. A layer has stopped when it is silent while
    /// another of the track goes on: the publisher's network or encoder gave it up. When all are silent together the
    /// picture stands still, or the network does, and nothing would be won by following another.
    pub(crate) fn refresh_live(&mut self, layers: &Slab<Layer>, inbounds: &Slab<Inbound>) -> bool {
        let streams = |track: &Track| -> [Option<(u8, Instant, Duration)>; 8] {
            let mut found = [None; 8];
            let filled = track.layers.iter().filter_map(|key| {
                let layer = layers.get(*key)?;
                let inbound = inbounds.get(layer.inbound?)?;
                Some((layer.spatial.min(7), inbound.last_packet()?, inbound.patience()))
            });
            found.iter_mut().zip(filled).for_each(|(slot, stream)| *slot = Some(stream));
            found
        };
        let found = streams(self);
        let Some(newest) = found.iter().flatten().map(|(_, at, _)| *at).max() else { return false };
        let going = found.iter().flatten().filter(|(_, at, patience)| newest < *at + *patience);
        let live = going.fold(0, |live, (spatial, ..)| live | 1 << spatial);
        std::mem::replace(&mut self.live, live) != live
    }

    /// The audio level of a packet, which lasts since the one before.
    pub(crate) fn note_level(&mut self, level: AudioLevel, timestamp: u32, clock_rate: u32) {
        let last = self.last_level_timestamp.replace(timestamp).unwrap_or(timestamp);
        let ticks = diff32(timestamp, last).clamp(0, (clock_rate / 2) as i32) as u64;
        self.speaker.observe(level, Duration::from_micros(ticks * 1_000_000 / u64::from(clock_rate.max(1))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_highest_live_layer_that_is_wanted() {
        let mut track = Track::new(TrackId(1));
        for (live, max, expected) in [
            (0b000, 2, None),
            (0b111, 2, Some(2)),
            (0b111, 1, Some(1)),
            (0b011, 2, Some(1)),
            (0b100, 0, Some(2)),
            (0b101, 1, Some(0)),
        ] {
            track.live = live;
            assert_eq!(track.target(max), expected, "{live:b} {max}");
        }
    }
}
