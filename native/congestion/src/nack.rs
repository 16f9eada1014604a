//! Asking for lost packets.

use std::time::{Duration, Instant};

use greenroom_wire::seq::Unwrap16;

/// Lost packets tracked at once; beyond this the oldest is given up.
const MAX_TRACKED: usize = 100;
/// Requests per packet.
const MAX_TRIES: u8 = 5;
/// Bounds of the time between two requests for the same packet.
const MIN_SPACING: Duration = Duration::from_millis(20);
const MAX_SPACING: Duration = Duration::from_millis(400);

/// What [`NackGenerator::received`] learned about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Newer than all before; this many packets between are missing.
    Newest {
        /// Size of the gap, 0 in order.
        missing: u64,
    },
    /// A packet that was being asked for.
    Recovered,
    /// Nobody asks for it: a duplicate, or one that was given up or forgotten before it came.
    Old,
}

/// Sequence numbers to put in one NACK.
#[derive(Clone, Debug)]
pub struct NackList {
    numbers: [u16; MAX_TRACKED],
    len: usize,
}

impl std::ops::Deref for NackList {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        &self.numbers[..self.len]
    }
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    tries: u8,
    due: Instant,
}

/// Tracks the gaps of one stream.
///
/// A gap is asked for at once (callers handle a whole batch of received datagrams before polling, which absorbs the
/// small reorderings), then every round trip, stretched by a quarter with each try and held within 20 to 400 ms.
#[derive(Debug, Default)]
pub struct NackGenerator {
    unwrap: Unwrap16,
    missing: Vec<Missing>, // ascending by sequence; allocated by the first loss
    abandoned: u64,
    newest_abandoned: Option<u64>,
}

impl NackGenerator {
    /// Nothing received yet.
    pub fn new() -> Self {
        NackGenerator::default()
    }

    /// A packet arrived, by itself or restored from RTX.
    pub fn received(&mut self, now: Instant, sequence: u16) -> Received {
        let previous = self.unwrap.highest();
        let sequence = self.unwrap.unwrap(sequence);
        let Some(previous) = previous else { return Received::Newest { missing: 0 } };
        if sequence <= previous {
            return match self.missing.binary_search_by_key(&sequence, |m| m.sequence) {
                Ok(at) => {
                    self.missing.remove(at);
                    Received::Recovered
                }
                Err(_) => Received::Old,
            };
        }
        let missing = sequence - previous - 1;
        // Of a gap larger than can be tracked only the newest part may still be of use.
        let first = (previous + 1).max(sequence.saturating_sub(MAX_TRACKED as u64));
        let excess = (self.missing.len() + (sequence - first) as usize).saturating_sub(MAX_TRACKED);
        let pushed_out = self.missing.drain(..excess).next_back().map(|m| m.sequence);
        self.give_up(excess as u64, pushed_out);
        self.give_up(first - previous - 1, (first > previous + 1).then(|| first - 1));
        self.missing.extend((first..sequence).map(|sequence| Missing { sequence, tries: 0, due: now }));
        Received::Newest { missing }
    }

    /// When [`poll_nacks`](Self::poll_nacks) will have something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.due).min()
    }

    /// Packets to ask for now, oldest first; `None` when nothing is due. `rtt` is the current round trip to the sender.
    /// Packets asked for five times are given up once their last wait is over.
    pub fn poll_nacks(&mut self, now: Instant, rtt: Duration) -> Option<NackList> {
        let mut list = NackList { numbers: [0; MAX_TRACKED], len: 0 };
        let (mut abandoned, mut newest) = (0, None);
        self.missing.retain_mut(|m| {
            if now < m.due {
                return true;
            }
            if m.tries == MAX_TRIES {
                abandoned += 1;
                newest = Some(m.sequence);
                return false;
            }
            list.numbers[list.len] = m.sequence as u16;
            list.len += 1;
            m.due = now + spacing(rtt, m.tries);
            m.tries += 1;
            true
        });
        self.give_up(abandoned, newest);
        (list.len > 0).then_some(list)
    }

    fn give_up(&mut self, count: u64, newest: Option<u64>) {
        self.abandoned += count;
        self.newest_abandoned = self.newest_abandoned.max(newest);
    }

    /// Whether this packet is missing and still wanted. A retransmission of any other was not asked for: it repeats what
    /// arrived, or what was given up.
    pub fn is_missing(&self, sequence: u16) -> bool {
        let sequence = self.unwrap.peek(sequence);
        self.missing.binary_search_by_key(&sequence, |m| m.sequence).is_ok()
    }

    /// Packets given up since the beginning.
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// The newest packet that was given up: video that depends on it stands still until the next keyframe.
    pub fn newest_abandoned(&self) -> Option<u16> {
        self.newest_abandoned.map(|sequence| sequence as u16)
    }

    /// Packets being asked for.
    pub fn tracked(&self) -> usize {
        self.missing.len()
    }
}

/// rtt * 1.25^tries within the bounds.
fn spacing(rtt: Duration, tries: u8) -> Duration {
    rtt.min(MAX_SPACING).mul_f64(1.25f64.powi(tries as i32)).clamp(MIN_SPACING, MAX_SPACING)
}
