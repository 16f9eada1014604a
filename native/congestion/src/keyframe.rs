//! Limits how often a publisher is asked for a keyframe.

use std::time::{Duration, Instant};

/// One per stream (simulcast layer).
///
/// A keyframe costs many times an ordinary frame, and every new subscriber wants one. Requests within the interval are
/// merged into one at its end, which is dropped when a keyframe arrives before.
#[derive(Clone, Debug)]
pub struct KeyframeThrottle {
    interval: Duration,
    last: Option<Instant>,
    pending: bool,
}

impl KeyframeThrottle {
    /// Interval of the lowest layer, which is cheap and what new subscribers start with.
    pub const LOW: Duration = Duration::from_millis(500);
    /// Interval of middle and high layers.
    pub const HIGH: Duration = Duration::from_secs(1);

    /// At most one request per `interval`.
    pub fn new(interval: Duration) -> Self {
        KeyframeThrottle { interval, last: None, pending: false }
    }

    /// A keyframe is wanted. `true`: send the request now; `false`: it is remembered, see
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn request(&mut self, now: Instant) -> bool {
        self.pending = true;
        self.poll_request(now)
    }

    /// When [`poll_request`](Self::poll_request) will say so.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last.filter(|_| self.pending).map(|last| last + self.interval)
    }

    /// Whether a remembered request is due; `true` once per interval.
    pub fn poll_request(&mut self, now: Instant) -> bool {
        let due = self.pending && self.last.is_none_or(|last| now >= last + self.interval);
        if due {
            self.last = Some(now);
            self.pending = false;
        }
        due
    }

    /// A keyframe arrived: whoever waited has it.
    pub fn keyframe_received(&mut self) {
        self.pending = false;
    }
}
