//! Packets of sound in their order. What is missing is waited for a moment, because redundancy and retransmissions fill holes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A hole is given up when the packet behind it has waited so long.
const PATIENCE: Duration = Duration::from_millis(250);
/// Packets behind a hole; more means that it will not be filled.
const MAX_WAITING: usize = 50;
/// Numbers further apart are another source, or one that began anew.
const OTHER_SOURCE: u64 = 3000;

pub(super) struct Order<T> {
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, T)>,
    /// Something before the next packet is lost.
    gap: bool,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { next: None, waiting: BTreeMap::new(), gap: false }
    }
}

impl<T> Order<T> {
    /// What was already given out, or given up, is dropped.
    pub fn insert(&mut self, seq: u64, arrival: Instant, packet: T) {
        let next = *self.next.get_or_insert(seq);
        if seq.abs_diff(next) > OTHER_SOURCE {
            self.waiting.clear();
            self.next = Some(seq);
            self.gap = true;
        } else if seq < next {
            return;
        }
        self.waiting.entry(seq).or_insert((arrival, packet));
    }

    /// The next packet, and whether one before it is lost.
    pub fn pop(&mut self, now: Instant) -> Option<(T, bool)> {
        let (&seq, (arrival, _)) = self.waiting.first_key_value()?;
        if Some(seq) != self.next {
            if self.waiting.len() <= MAX_WAITING && *arrival + PATIENCE > now {
                return None;
            }
            self.gap = true;
        }
        self.next = Some(seq + 1);
        let (_, packet) = self.waiting.remove(&seq)?;
        Some((packet, std::mem::take(&mut self.gap)))
    }

    /// When `pop` is to be called again though nothing came.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, (arrival, _))| *arrival + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(order: &mut Order<u64>, now: Instant) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| order.pop(now)).collect()
    }

    #[test]
    fn in_order_at_once() {
        let (mut order, now) = (Order::default(), Instant::now());
        for seq in [7, 8, 9] {
            order.insert(seq, now, seq);
            assert_eq!(drain(&mut order, now), [(seq, false)]);
        }
        assert_eq!(order.due(), None);
    }

    #[test]
    fn a_hole_is_filled() {
        let (mut order, now) = (Order::default(), Instant::now());
        for seq in [1, 3, 4, 2, 3, 1] {
            order.insert(seq, now, seq);
        }
        assert_eq!(drain(&mut order, now), [(1, false), (2, false), (3, false), (4, false)]);
    }

    #[test]
    fn a_hole_that_stays_is_said_once() {
        let (mut order, now) = (Order::default(), Instant::now());
        for seq in [1, 4, 5] {
            order.insert(seq, now, seq);
        }
        assert_eq!(drain(&mut order, now), [(1, false)]);
        assert_eq!(order.due(), Some(now + PATIENCE));
        assert_eq!(drain(&mut order, now + PATIENCE), [(4, true), (5, false)]);
        order.insert(2, now, 2);
        assert_eq!(drain(&mut order, now + PATIENCE * 2), []);
    }

    #[test]
    fn many_packets_behind_a_hole() {
        let (mut order, now) = (Order::default(), Instant::now());
        order.insert(1, now, 1);
        for seq in 3..3 + MAX_WAITING as u64 + 1 {
            order.insert(seq, now, seq);
        }
        assert_eq!(drain(&mut order, now).len(), MAX_WAITING + 2);
    }

    #[test]
    fn another_source() {
        let (mut order, now) = (Order::default(), Instant::now());
        for seq in [100_000, 5, 6] {
            order.insert(seq, now, seq);
        }
        assert_eq!(drain(&mut order, now), [(5, true), (6, false)]);
    }
}
