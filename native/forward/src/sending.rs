//! What one peer is sent: its streams by SSRC, the numbers of those that went, and what may be sent again.
use std::time::Instant;

use crate::budget::{Limits, Meter};
use crate::hash::{Map, Set};
use crate::picture::Picture;
use crate::slab::Key;

/// SSRCs used before on these keys, whose numbers must go on. Beyond this no further stream is added: 50 subscriptions
/// a minute last for five hours.
const MAX_FORMER: usize = 16_384;

/// See the module.
pub(crate) struct Sending {
    streams: Map<u32, Key>,
    /// SSRCs of streams and of their retransmissions.
    in_use: Set<u32>,
    /// What an SSRC used before goes on from.
    former: Map<u32, Continuation>,
    next_transport_cc: u16,
    /// Bytes that may be sent again, times the share that earns them.
    rtx: u64,
    kept: Meter,
}

/// Where a stream on an SSRC begins: its next extended number; the timestamp sent last, when, and the VP8 picture, if the
/// SSRC was in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Continuation {
    pub(crate) next: u64,
    pub(crate) newest: Option<(u32, Instant)>,
    pub(crate) pictures: Option<Picture>,
}

impl Sending {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Sending {
            streams: Map::default(),
            in_use: Set::default(),
            former: Map::default(),
            next_transport_cc: 0,
            rtx: limits.rtx_burst.saturating_mul(limits.rtx_share),
            kept: Meter::new(now),
        }
    }

    /// The stream with this SSRC.
    pub(crate) fn stream(&self, ssrc: u32) -> Option<Key> {
        self.streams.get(&ssrc).copied()
    }

    /// All streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = Key> {
        self.streams.values().copied()
    }

    /// Takes all streams out, to be changed and put back.
    pub(crate) fn take_streams(&mut self) -> Map<u32, Key> {
        std::mem::take(&mut self.streams)
    }

    /// Puts a stream in.
    pub(crate) fn insert(&mut self, ssrc: u32, stream: Key) {
        self.streams.insert(ssrc, stream);
    }

    /// How to begin on two SSRCs (the second may be 0, for none): where each ended before, else with the number given.
    /// `None` when one is in use, or no more can be remembered.
    pub(crate) fn begin(&mut self, media: (u32, u64), rtx: (u32, u64)) -> Option<(Continuation, Continuation)> {
        let free = |ssrc: u32| !self.in_use.contains(&ssrc);
        if !free(media.0) || !free(rtx.0) || media.0 == rtx.0 || self.former.len() >= MAX_FORMER {
            return None;
        }
        let mut take = |(ssrc, next): (u32, u64)| {
            if ssrc != 0 {
                self.in_use.insert(ssrc);
            }
            self.former.remove(&ssrc).unwrap_or(Continuation { next, newest: None, pictures: None })
        };
        Some((take(media), take(rtx)))
    }

    /// An SSRC is not in use any more.
    pub(crate) fn end(&mut self, ssrc: u32, from: Continuation) {
        if self.in_use.remove(&ssrc) {
            self.former.insert(ssrc, from);
        }
    }

    /// The transport-wide number of the next packet.
    pub(crate) fn transport_cc(&self) -> u16 {
        self.next_transport_cc
    }

    /// It was used.
    pub(crate) fn count_transport_cc(&mut self) {
        self.next_transport_cc = self.next_transport_cc.wrapping_add(1);
    }

    /// A packet of this size was sent for the first time: a share of it may be sent again.
    #[inline]
    pub(crate) fn earn_rtx(&mut self, limits: &Limits, bytes: usize) {
        let most = limits.rtx_burst.saturating_mul(limits.rtx_share);
        self.rtx = self.rtx.saturating_add(bytes as u64).min(most);
    }

    /// Whether a packet of this size may be sent again; then it is counted.
    pub(crate) fn may_resend(&mut self, limits: &Limits, bytes: usize) -> bool {
        let cost = bytes as u64 * limits.rtx_share;
        let within = self.rtx >= cost;
        if within {
            self.rtx -= cost;
        }
        within
    }

    /// Whether a picture from a cache may be sent now.
    pub(crate) fn may_show(&self, now: Instant, limits: &Limits) -> bool {
        self.kept.is_within(now, limits.kept)
    }

    /// One was, of so many packets.
    pub(crate) fn note_shown(&mut self, now: Instant, limits: &Limits, packets: usize) {
        self.kept.take_anyway(now, limits.kept, packets as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_was_sent_may_be_sent_again() {
        let limits = Limits { rtx_burst: 1000, rtx_share: 2, ..Limits::default() };
        let mut sending = Sending::new(&limits, Instant::now());
        assert!(sending.may_resend(&limits, 1000) && !sending.may_resend(&limits, 1));
        (0..5).for_each(|_| sending.earn_rtx(&limits, 101));
        assert!(sending.may_resend(&limits, 252) && !sending.may_resend(&limits, 1));
        sending.earn_rtx(&limits, 1 << 20);
        assert!(!sending.may_resend(&limits, 1001), "no more than the burst is saved");
    }

    #[test]
    fn an_ssrc_that_comes_back_goes_on() {
        let mut sending = Sending::new(&Limits::default(), Instant::now());
        let (media, rtx) = sending.begin((1, 100), (2, 200)).unwrap();
        assert_eq!((media.next, rtx.next), (100, 200));
        assert_eq!(sending.begin((3, 100), (2, 200)), None, "in use");
        let newest = Some((7, Instant::now()));
        sending.end(1, Continuation { next: 150, newest, pictures: None });
        sending.end(2, Continuation { next: 260, newest, pictures: None });
        let (media, rtx) = sending.begin((2, 1), (0, 1)).unwrap();
        assert_eq!((media, rtx.next), (Continuation { next: 260, newest, pictures: None }, 1));
    }
}
