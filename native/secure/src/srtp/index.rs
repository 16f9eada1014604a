//! The packet index of a received RTP packet: RFC 3711, 3.3.1 and appendix A.

use super::replay::ReplayWindow;

/// Estimates the 48-bit index of a packet with sequence number `seq` when `highest` is the highest authenticated index
/// of its SSRC: the index nearest to `highest` that ends in `seq`.
///
/// Never below 0 and never above 2^48 - 1, where RFC 3711 would wrap: a key does not live that long.
#[inline]
pub fn estimate_index(highest: u64, seq: u16) -> u64 {
    // The difference of sequence numbers as a signed 16-bit number is the shortest way round the circle.
    let delta = i64::from(seq.wrapping_sub(highest as u16) as i16);
    let estimate = highest as i64 + delta;
    // Before the first rollover a packet "from the past" cannot have a negative rollover counter.
    if estimate < 0 { (estimate + 0x1_0000) as u64 } else { (estimate as u64).min((1 << 48) - 1) }
}

/// Index estimation and replay protection for one received SSRC. It belongs to the SRTP key: a source that is forgotten
/// while the key lives on loses its rollover counter and lets old packets in again.
#[derive(Debug, Clone, Default)]
pub struct RxSource {
    window: ReplayWindow,
}

impl RxSource {
    /// A source that was in use earlier under the same key, with `highest` as the highest index accepted then.
    pub fn after(highest: u64) -> Self {
        RxSource { window: ReplayWindow::after(highest) }
    }

    /// The index to open a packet with sequence number `seq` with, accepted before or not. Changes nothing.
    #[inline]
    pub fn estimate(&self, seq: u16) -> u64 {
        match self.window.highest() {
            Some(highest) => estimate_index(highest, seq),
            // The rollover counter starts at 0 (RFC 3711, 3.3.1).
            None => u64::from(seq),
        }
    }

    /// The same, or `None` when that index was accepted before or is too old to know, for who has no use for such packets.
    #[inline]
    pub fn index_of(&self, seq: u16) -> Option<u64> {
        let index = self.estimate(seq);
        self.window.is_fresh(index).then_some(index)
    }

    /// Whether `index` was not accepted yet and is young enough to know.
    #[inline]
    pub fn is_fresh(&self, index: u64) -> bool {
        self.window.is_fresh(index)
    }

    /// Records `index` after its packet was authenticated. `false` when it was accepted before or is too old to know: the
    /// packet is a replay.
    #[inline]
    pub fn accept(&mut self, index: u64) -> bool {
        self.window.accept(index)
    }

    /// The highest accepted index.
    pub fn highest(&self) -> Option<u64> {
        self.window.highest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_across_rollovers() {
        for (highest, seq, expected) in [
            (0u64, 1u16, 1u64),
            (0x0000_ffff, 0x0000, 0x0001_0000),
            (0x0001_0000, 0xffff, 0x0000_ffff),
            (0x0001_8000, 0x7fff, 0x0001_7fff),
            (0x0005_0010, 0xfff0, 0x0004_fff0),
            (0x0005_fff0, 0x0010, 0x0006_0010),
            // A first packet near the top and a late one before it: there is no rollover below 0.
            (0x0000_0005, 0xfff0, 0x0000_fff0),
        ] {
            assert_eq!(estimate_index(highest, seq), expected, "highest {highest:#x} seq {seq:#x}");
        }
    }

    #[test]
    fn a_source_follows_its_sequence_numbers_and_refuses_replays() {
        let mut source = RxSource::default();
        for index in 65_000u64..200_000 {
            let seq = index as u16;
            assert_eq!(source.index_of(seq), Some(index));
            assert!(source.accept(index));
            assert_eq!((source.index_of(seq), source.estimate(seq)), (None, index));
            assert!(!source.is_fresh(index) && !source.accept(index));
        }
        assert_eq!(source.highest(), Some(199_999));
    }
}
