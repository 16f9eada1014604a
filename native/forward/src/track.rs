//! A published track: its layers, and the send streams that want it. Exists as soon as either side names it.
use std::time::Instant;

use greenroom_congestion::SpeakerLevel;

use crate::layer::Layer;
use crate::slab::Slab;
use crate::{Codec, RoomId, TrackId};

pub(crate) struct Track {
    pub(crate) id: TrackId,
    /// Index of the publishing peer.
    pub(crate) publisher: Option<u32>,
    pub(crate) room: Option<RoomId>,
    pub(crate) codecs: Vec<Codec>,
    /// Indices of layers, by no particular order.
    pub(crate) layers: Vec<u32>,
    /// Indices of send streams.
    pub(crate) subscribers: Vec<u32>,
    pub(crate) muted: bool,
    /// Highest spatial layer with packets, bit per layer.
    pub(crate) live: u8,
    pub(crate) speaker: SpeakerLevel,
    pub(crate) last_level_timestamp: Option<u32>,
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

    /// Nobody names it any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.publisher.is_none() && self.subscribers.is_empty()
    }

    /// The spatial layer to follow: the highest live one up to `max`, or the lowest live one above it.
    pub(crate) fn target(&self, max: u8) -> Option<u8> {
        let wanted = self.live & ((1u16 << (u16::from(max.min(7)) + 1)) - 1) as u8;
        if wanted != 0 {
            Some(7 - wanted.leading_zeros() as u8)
        } else {
            (self.live != 0).then(|| self.live.trailing_zeros() as u8)
        }
    }

    /// Takes stock of which layers have packets; true when that changed.
    pub(crate) fn refresh_live(&mut self, now: Instant, layers: &Slab<Layer>) -> bool {
        let mut live = 0u8;
        for layer in self.layers.iter().filter_map(|index| layers.get(*index)) {
            if layer.is_live(now) {
                live |= 1 << layer.spatial.min(7);
            }
        }
        std::mem::replace(&mut self.live, live) != live
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
