//! How often something happened lately.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts events in a sliding window.
#[derive(Debug)]
pub(crate) struct Recent {
    times: VecDeque<Instant>,
    limit: usize,
    window: Duration,
}

impl Recent {
    /// Up to `limit` events within `window` are fine.
    pub(crate) fn new(limit: usize, window: Duration) -> Self {
        Recent { times: VecDeque::with_capacity(limit + 1), limit, window }
    }

    /// One more. `true` when that is too many.
    pub(crate) fn add(&mut self, now: Instant) -> bool {
        while self.times.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.window) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let exceeded = self.times.len() > self.limit;
        if exceeded {
            self.times.pop_front();
        }
        exceeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_recent_counts() {
        let start = Instant::now();
        let mut recent = Recent::new(3, Duration::from_secs(10));
        let mut add = |seconds| recent.add(start + Duration::from_secs(seconds));
        assert!(![0, 1, 2].into_iter().any(&mut add));
        assert!(add(9));
        assert!(!add(12));
        assert!(!add(30));
    }
}
