//! One direction of a path.
use std::time::{Duration, Instant};

use crate::Random;

/// How a direction treats datagrams. The default loses nothing and takes 10 ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Time every datagram takes.
    pub delay: Duration,
    /// Up to so much more, evenly distributed. The order is kept, as queues keep it, unless `shuffled`.
    pub jitter: Duration,
    /// Jitter may change the order.
    pub shuffled: bool,
    /// Lost by themselves, of 1,000.
    pub loss: u32,
    /// Lost in a row.
    pub bursts: Option<Bursts>,
    /// Held back by 20 to 40 ms while others pass, of 1,000.
    pub reordered: u32,
    /// Delivered twice, of 1,000.
    pub repeated: u32,
    /// A bottleneck.
    pub rate: Option<Rate>,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            shuffled: false,
            loss: 0,
            bursts: None,
            reordered: 0,
            repeated: 0,
            rate: None,
        }
    }
}

/// A two-state (Gilbert) loss process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// A datagram begins a burst, of 1,000.
    pub begin: u32,
    /// A datagram ends it, of 1,000: 250 are four datagrams on average.
    pub end: u32,
}

/// A bottleneck with a queue that drops at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Bits per second, UDP and IP headers included.
    pub bits_per_second: u64,
    /// What waits at most.
    pub queue: Duration,
}

/// What became of the datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Given to the link.
    pub offered: u64,
    /// Lost, by chance or at the bottleneck.
    pub lost: u64,
    /// Delivered a second time.
    pub repeated: u64,
    /// Arriving before one that was sent earlier.
    pub overtaking: u64,
}

/// One direction with its own chance.
#[derive(Debug, Clone)]
pub struct Link {
    /// May be changed at any time.
    pub conditions: Conditions,
    random: Random,
    in_burst: bool,
    free_at: Option<Instant>,
    newest_arrival: Option<Instant>,
    stats: LinkStats,
}

const HEADERS: u64 = 28;

impl Link {
    /// A direction numbered `stream` in a run with `seed`.
    pub fn new(seed: u64, stream: u64, conditions: Conditions) -> Self {
        let random = Random::new(seed, stream);
        Link { conditions, random, in_burst: false, free_at: None, newest_arrival: None, stats: LinkStats::default() }
    }

    /// When a datagram of `len` bytes sent at `now` arrives: never, once, or twice.
    pub fn carry(&mut self, now: Instant, len: usize) -> [Option<Instant>; 2] {
        let Conditions { delay, jitter, shuffled, loss, bursts, reordered, repeated, rate } = self.conditions;
        self.stats.offered += 1;
        // The same number of draws for every datagram: one that is lost does not change the luck of the next.
        let [lost, turn, late, held, again, extra] = std::array::from_fn(|_| self.random.next());
        let hit = |draw: u64, per_mille: u32| draw % 1000 < u64::from(per_mille);
        if let Some(bursts) = bursts {
            self.in_burst = if self.in_burst { !hit(turn, bursts.end) } else { hit(turn, bursts.begin) };
        }
        if hit(lost, loss) || (bursts.is_some() && self.in_burst) {
            self.stats.lost += 1;
            return [None, None];
        }
        let Some(leaves) = self.pass_bottleneck(now, len, rate) else {
            self.stats.lost += 1;
            return [None, None];
        };
        let mut at = leaves + delay + Duration::from_micros(late % (jitter.as_micros() as u64).max(1));
        let held_back = hit(held, reordered);
        if !shuffled && !held_back {
            at = at.max(self.newest_arrival.unwrap_or(at));
        }
        if held_back {
            at += Duration::from_millis(20 + extra % 20);
        } else {
            if self.newest_arrival.is_some_and(|newest| at < newest) {
                self.stats.overtaking += 1;
            }
            self.newest_arrival = self.newest_arrival.max(Some(at));
        }
        self.stats.overtaking += u64::from(held_back);
        let twice = hit(again, repeated);
        self.stats.repeated += u64::from(twice);
        [Some(at), twice.then(|| at + Duration::from_millis(1 + extra % 15))]
    }

    fn pass_bottleneck(&mut self, now: Instant, len: usize, rate: Option<Rate>) -> Option<Instant> {
        let Some(rate) = rate else { return Some(now) };
        let begins = self.free_at.map_or(now, |free| free.max(now));
        if begins - now > rate.queue {
            return None;
        }
        let bits = (len as u64 + HEADERS) * 8;
        let ends = begins + Duration::from_nanos(bits * 1_000_000_000 / rate.bits_per_second.max(1));
        self.free_at = Some(ends);
        Some(ends)
    }

    /// What became of the datagrams so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(conditions: Conditions, count: u32) -> (Vec<Option<Duration>>, LinkStats) {
        let start = Instant::now();
        let mut link = Link::new(1, 2, conditions);
        let times = (0..count).map(|i| {
            let now = start + Duration::from_millis(5 * u64::from(i));
            link.carry(now, 972)[0].map(|at| at - start)
        });
        (times.collect(), link.stats())
    }

    #[test]
    fn jitter_keeps_the_order_unless_told_otherwise() {
        let jitter = Duration::from_millis(30);
        let (times, stats) = arrivals(Conditions { jitter, ..Conditions::default() }, 1000);
        assert!(times.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(stats.overtaking, 0);
        let (times, stats) = arrivals(Conditions { jitter, shuffled: true, ..Conditions::default() }, 1000);
        assert!(times.windows(2).any(|w| w[0] > w[1]));
        assert!(stats.overtaking > 100);
    }

    #[test]
    fn loss_is_what_was_asked_for_and_bursts_come_in_rows() {
        let (_, stats) = arrivals(Conditions { loss: 50, ..Conditions::default() }, 10_000);
        assert!((400..600).contains(&stats.lost), "{stats:?}");
        let bursts = Some(Bursts { begin: 10, end: 250 });
        let (times, stats) = arrivals(Conditions { bursts, ..Conditions::default() }, 10_000);
        let rows = times.windows(2).filter(|w| w[0].is_some() && w[1].is_none()).count() as u64;
        assert!((3..6).contains(&(stats.lost / rows)), "{stats:?} in {rows} rows");
    }

    #[test]
    fn a_bottleneck_delays_then_drops() {
        // 200 datagrams of 1,000 bytes with headers a second, 1.6 Mbit/s, through 0.8.
        let rate = Some(Rate { bits_per_second: 800_000, queue: Duration::from_millis(100) });
        let (times, stats) = arrivals(Conditions { rate, ..Conditions::default() }, 400);
        let longest = times.iter().enumerate().filter_map(|(i, at)| Some((*at)? - Duration::from_millis(5 * i as u64)));
        assert!(longest.max().unwrap() <= Duration::from_millis(121));
        assert!((170..200).contains(&stats.lost), "{stats:?}");
    }
}
