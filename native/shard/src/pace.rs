//! When to send. Alone, a packet leaves at once. Under load, audio waits a moment for other audio: packets of several
//! speakers to one listener then leave as one send, which is where the cost of a packet is. Video never waits.
use std::time::{Duration, Instant};

/// Longest waits: a tenth of an audio frame, and half as much again where thousands of packets pay for it.
const HOLD: Duration = Duration::from_millis(2);
const HOLD_VERY_BUSY: Duration = Duration::from_millis(3);
/// Packets sent in a window above which waiting pays: some 3,000 and 10,000 a second.
const BUSY: u64 = 300;
const VERY_BUSY: u64 = 1000;
const WINDOW: Duration = Duration::from_millis(100);

/// Decides for one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    window_start: Instant,
    sent_before: u64,
    /// Zero: nothing waits.
    hold: Duration,
    held_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Pace { window_start: now, sent_before: 0, hold: Duration::ZERO, held_since: None }
    }

    /// Whether what waits should be sent now. `patient`: there is something, and all of it may wait. `sent`: packets sent
    /// so far.
    pub(crate) fn is_due(&mut self, now: Instant, patient: bool, sent: u64) -> bool {
        if now >= self.window_start + WINDOW {
            self.hold = match sent - self.sent_before {
                VERY_BUSY.. => HOLD_VERY_BUSY,
                BUSY.. => HOLD,
                _ => Duration::ZERO,
            };
            self.sent_before = sent;
            self.window_start = now;
        }
        if !patient || self.hold.is_zero() {
            self.held_since = None;
            return true;
        }
        let since = *self.held_since.get_or_insert(now);
        let due = now >= since + self.hold;
        if due {
            self.held_since = None;
        }
        due
    }

    /// Whether the shard is busy enough for holding to pay.
    pub(crate) fn holds(&self) -> bool {
        !self.hold.is_zero()
    }

    /// When what is held must go.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held_since.map(|since| since + self.hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_shard_never_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for packet in 0..100u64 {
            assert!(pace.is_due(start + Duration::from_millis(20 * packet), true, packet));
        }
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn a_busy_shard_holds_audio_for_a_bounded_time_and_video_not_at_all() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let busy = start + WINDOW;
        assert!(!pace.is_due(busy, true, 999));
        assert_eq!(pace.deadline(), Some(busy + HOLD));
        assert!(!pace.is_due(busy + HOLD / 2, true, 999));
        assert!(pace.is_due(busy + HOLD, true, 999));
        assert!(!pace.is_due(busy + HOLD, true, 999));
        assert!(pace.is_due(busy + HOLD, false, 999));
        assert_eq!(pace.deadline(), None);
    }
}
