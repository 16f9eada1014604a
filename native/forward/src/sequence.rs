//! Outgoing sequence numbers without gaps of our own making: over pauses, layer switches and packets left out.
//!
//! A gap the publisher's network made stays a gap, so that the subscriber notices and asks, and a packet that comes late
//! finds its place.

/// Earlier ranges remembered, for packets that arrive late.
const SPANS: usize = 7;
/// A forward jump beyond this is a new start of the publisher rather than loss.
const MAX_JUMP: u64 = 4096;

/// From which incoming number on how much is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    shift: i64,
}

/// Maps extended incoming numbers to extended outgoing ones.
#[derive(Debug, Clone)]
pub(crate) struct Sequencer {
    /// `None`: the next packet starts anew.
    current: Option<Span>,
    highest_in: u64,
    next: u64,
    /// Earlier ranges, newest last. Rarely any.
    earlier: Vec<Span>,
}

impl Sequencer {
    /// The first packet will get `first`.
    pub(crate) fn new(first: u64) -> Self {
        Sequencer { current: None, highest_in: 0, next: first, earlier: Vec::new() }
    }

    /// The number after the highest one given out.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The next packet, whatever its number, follows the last one given out.
    pub(crate) fn reset(&mut self) {
        self.current = None;
        self.earlier.clear();
    }

    /// The outgoing number of a packet; `None` when it belongs before the last start.
    pub(crate) fn map(&mut self, seq: u64) -> Option<u64> {
        if seq > self.highest_in + MAX_JUMP {
            self.reset();
        }
        let current = match self.current {
            Some(span) => span,
            None => {
                self.highest_in = seq;
                *self.current.insert(Span { from: seq, shift: self.next as i64 - seq as i64 })
            }
        };
        let span =
            if current.from <= seq { current } else { *self.earlier.iter().rev().find(|span| span.from <= seq)? };
        let out = (seq as i64 + span.shift) as u64;
        self.highest_in = self.highest_in.max(seq);
        self.next = self.next.max(out + 1);
        Some(out)
    }

    /// The place of a packet not newer than the newest one mapped; changes nothing.
    pub(crate) fn place(&self, seq: u64) -> Option<u64> {
        let spans = self.earlier.iter().chain(&self.current).rev();
        let span = spans.into_iter().find(|span| seq < self.highest_in && span.from <= seq)?;
        Some((seq as i64 + span.shift) as u64)
    }

    /// The packet is not forwarded and shall leave no gap. One that comes late leaves a gap.
    pub(crate) fn skip(&mut self, seq: u64) {
        let Some(current) = &mut self.current else { return };
        if seq <= self.highest_in {
            return;
        }
        if seq > self.highest_in + MAX_JUMP {
            return self.reset();
        }
        self.highest_in = seq;
        // What is missing before it keeps its numbers, whoever comes next.
        self.next = self.next.max((seq as i64 + current.shift) as u64);
        let before = std::mem::replace(current, Span { from: seq + 1, shift: current.shift - 1 });
        if before.from < seq {
            if self.earlier.len() == SPANS {
                self.earlier.remove(0);
            }
            self.earlier.push(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to one incoming number, and the outgoing one expected.
    enum Step {
        Map(u64, Option<u64>),
        Skip(u64),
        Reset,
    }
    use Step::*;

    fn run(steps: &[Step]) {
        let mut sequencer = Sequencer::new(100);
        for (index, step) in steps.iter().enumerate() {
            match step {
                Map(seq, expected) => assert_eq!(sequencer.map(*seq), *expected, "step {index}"),
                Skip(seq) => sequencer.skip(*seq),
                Reset => sequencer.reset(),
            }
        }
    }

    #[test]
    fn loss_and_reordering_keep_their_places() {
        run(&[Map(7, Some(100)), Map(9, Some(102)), Map(8, Some(101)), Map(10, Some(103)), Map(6, None)]);
    }

    #[test]
    fn packets_left_out_leave_no_gap() {
        run(&[Map(1, Some(100)), Skip(2), Map(3, Some(101)), Skip(4), Skip(5), Map(6, Some(102))]);
        // Number 2 is lost, 3 is left out, 2 comes late.
        run(&[Map(1, Some(100)), Skip(3), Map(4, Some(102)), Map(2, Some(101))]);
    }

    #[test]
    fn numbers_kept_for_late_packets_are_not_given_to_what_follows_a_switch() {
        let mut sequencer = Sequencer::new(100);
        assert_eq!(sequencer.map(10), Some(100));
        // 11 and 12 are missing, 13 is left out; then another stream takes over.
        sequencer.skip(13);
        let before = sequencer.clone();
        sequencer.reset();
        assert_eq!((sequencer.map(500), sequencer.map(501)), (Some(103), Some(104)));
        assert_eq!((before.place(11), before.place(12)), (Some(101), Some(102)));
    }

    #[test]
    fn a_new_start_continues_and_forgets_what_came_before() {
        run(&[Map(50, Some(100)), Reset, Map(9000, Some(101)), Map(8999, None), Map(9002, Some(103))]);
        run(&[Map(50, Some(100)), Map(50 + 5000, Some(101)), Map(51, None)]);
        run(&[Map(50, Some(100)), Skip(50 + 5000), Map(50 + 5001, Some(101)), Map(51, None)]);
    }

    #[test]
    fn every_mix_of_skips_gives_each_number_once() {
        let mut state = 1u64;
        let mut sequencer = Sequencer::new(100);
        let mut given = std::collections::BTreeSet::new();
        for seq in 1000..3000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match state >> 62 {
                0 => sequencer.skip(seq),
                _ => assert!(given.insert(sequencer.map(seq).unwrap())),
            }
        }
        assert_eq!(*given.last().unwrap(), 100 + given.len() as u64 - 1);
    }
}
