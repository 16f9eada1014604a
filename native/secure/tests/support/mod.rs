//! A network between two endpoints on virtual time: one seed reproduces one run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// A datagram on its way: when it arrives, a tie breaker, to which end, and its content.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Two directions with the same delay, jitter (which reorders) and loss.
pub struct Link {
    state: u64,
    sent: u64,
    delay: Duration,
    jitter: Duration,
    loss_percent: u64,
    /// Datagrams in which one bit flips.
    pub corrupt_percent: u64,
    in_flight: BinaryHeap<InFlight>,
}

impl Link {
    pub fn new(seed: u64, delay: Duration, jitter: Duration, loss_percent: u64) -> Self {
        // The seed is spread first: neighbouring seeds would start alike.
        let state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { state, sent: 0, delay, jitter, loss_percent, corrupt_percent: 0, in_flight: BinaryHeap::new() }
    }

    /// Sends `datagram` to end `to` (0 or 1).
    pub fn send(&mut self, now: Instant, to: usize, datagram: &[u8]) {
        let lost = self.random(100) < self.loss_percent;
        let jitter = Duration::from_micros(self.random(self.jitter.as_micros() as u64 + 1));
        if !lost {
            self.sent += 1;
            let mut datagram = datagram.to_vec();
            if self.random(100) < self.corrupt_percent {
                let bit = self.random(datagram.len() as u64 * 8) as usize;
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            self.in_flight.push(Reverse((now + self.delay + jitter, self.sent, to, datagram)));
        }
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse((at, ..))| *at)
    }

    /// A datagram that has arrived by `now`, and at which end.
    pub fn receive(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse((_, _, to, datagram))| (to, datagram))
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }
}
