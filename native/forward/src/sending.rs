//! What one peer is sent: its streams by SSRC, the numbers of those that went, and what may be sent again.
use std::time::Instant;

use crate::budget::{Bucket, Limits};
use crate::hash::{Map, Set};
use crate::slab::Key;

/// SSRCs used before on these keys, whose numbers must go on. Beyond this no further stream is added: 50 subscriptions
/// a minute last for five hours.
const MAX_FORMER: usize = 16_384;

/// See the module.
pub(crate) struct Sending {
    streams: Map<u32, Key>,
    /// SSRCs of streams and of their retransmissions.
    in_use: Set<u32>,
    /// Next extended number of an SSRC used before.
    former: Map<u32, u64>,
    next_transport_cc: u16,
    rtx: Bucket,
    /// Bytes sent that have not earned a whole byte yet.
    unearned: u64,
}

impl Sending {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Sending {
            streams: Map::default(),
            in_use: Set::default(),
            former: Map::default(),
            next_transport_cc: 0,
            rtx: Bucket::new(now, limits.rtx_bytes),
            unearned: 0,
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

    /// The numbers to begin with on two SSRCs (the second may be 0, for none): where each ended before, else those given.
    /// `None` when one is in use, or no more can be remembered.
    pub(crate) fn begin(&mut self, media: (u32, u64), rtx: (u32, u64)) -> Option<(u64, u64)> {
        let free = |ssrc: u32| !self.in_use.contains(&ssrc);
        if !free(media.0) || !free(rtx.0) || media.0 == rtx.0 || self.former.len() >= MAX_FORMER {
            return None;
        }
        let mut take = |(ssrc, first): (u32, u64)| {
            if ssrc != 0 {
                self.in_use.insert(ssrc);
            }
            self.former.remove(&ssrc).unwrap_or(first)
        };
        Some((take(media), take(rtx)))
    }

    /// An SSRC is not in use any more.
    pub(crate) fn end(&mut self, ssrc: u32, next: u64) {
        if self.in_use.remove(&ssrc) {
            self.former.insert(ssrc, next);
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
        self.unearned += bytes as u64;
        let earned = self.unearned / limits.rtx_share;
        self.unearned %= limits.rtx_share;
        self.rtx.earn(limits.rtx_bytes, earned);
    }

    /// Whether a packet of this size may be sent again.
    pub(crate) fn may_resend(&mut self, now: Instant, limits: &Limits, bytes: usize) -> bool {
        self.rtx.take(now, limits.rtx_bytes, bytes as u64)
    }
}
