//! What one peer may cost. A peer beyond a budget loses packets of its own, which are counted; nobody else notices.
use std::time::{Duration, Instant};

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Per second.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Rate = Rate { per_second: u64::MAX, burst: u64::MAX };
}

/// What one peer may send to the shard, and make it do. The defaults are several times what a browser with a camera, a
/// shared screen and files to send needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// RTP packets.
    pub rtp_packets: Rate,
    /// Bytes of RTP packets.
    pub rtp_bytes: Rate,
    /// RTCP packets.
    pub rtcp_packets: Rate,
    /// DTLS datagrams: handshake and data channels.
    pub dtls_packets: Rate,
    /// Answers to connectivity checks.
    pub checks: Rate,
    /// Messages of data channels. What is beyond waits in the SCTP window: the sender gets slower and loses nothing.
    pub messages: Rate,
    /// Bytes of such messages.
    pub message_bytes: Rate,
    /// Streams that change their SSRC: each is a new stream for every subscriber.
    pub ssrc_changes: Rate,
    /// Packets of streams that no section claims, looked at before they are dropped.
    pub unclaimed: Rate,
    /// Key frames one subscriber may ask for on one stream.
    pub keyframes: Rate,
    /// Bytes sent again to one subscriber before any are earned, and per second without media.
    pub rtx_bytes: Rate,
    /// One byte may be sent again for this many sent for the first time.
    pub rtx_share: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Limits {
            rtp_packets: rate(8_000, 8_000),
            rtp_bytes: rate(8 << 20, 8 << 20),
            rtcp_packets: rate(1_000, 2_000),
            dtls_packets: rate(12_000, 12_000),
            checks: rate(100, 200),
            messages: rate(4_000, 4_000),
            message_bytes: rate(16 << 20, 8 << 20),
            ssrc_changes: rate(1, 6),
            unclaimed: rate(50, 200),
            keyframes: rate(1, 5),
            rtx_bytes: rate(4 << 10, 40 << 10),
            rtx_share: 2,
        }
    }
}

impl Limits {
    /// For load generators that are one peer with the streams of hundreds.
    pub const UNLIMITED: Limits = Limits {
        rtp_packets: Rate::UNLIMITED,
        rtp_bytes: Rate::UNLIMITED,
        rtcp_packets: Rate::UNLIMITED,
        dtls_packets: Rate::UNLIMITED,
        checks: Rate::UNLIMITED,
        messages: Rate::UNLIMITED,
        message_bytes: Rate::UNLIMITED,
        ssrc_changes: Rate::UNLIMITED,
        unclaimed: Rate::UNLIMITED,
        keyframes: Rate::UNLIMITED,
        rtx_bytes: Rate::UNLIMITED,
        rtx_share: 1,
    };
}

/// A token bucket. It looks at the clock only when it is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: u64,
    filled_at: Instant,
}

impl Bucket {
    /// Full.
    pub(crate) fn new(now: Instant, rate: Rate) -> Self {
        Bucket { tokens: rate.burst, filled_at: now }
    }

    /// Whether `cost` is there; then it is spent.
    #[inline]
    pub(crate) fn take(&mut self, now: Instant, rate: Rate, cost: u64) -> bool {
        if self.tokens < cost {
            self.refill(now, rate);
            if self.tokens < cost {
                return false;
            }
        }
        self.tokens -= cost;
        true
    }

    /// Spends what turned out to be the cost, as far as it is there.
    pub(crate) fn spend(&mut self, cost: u64) {
        self.tokens = self.tokens.saturating_sub(cost);
    }

    /// Adds what was earned otherwise.
    #[inline]
    pub(crate) fn earn(&mut self, rate: Rate, amount: u64) {
        self.tokens = self.tokens.saturating_add(amount).min(rate.burst);
    }

    /// When [`Bucket::take`] will succeed for 1.
    pub(crate) fn ready_at(&self, rate: Rate) -> Instant {
        let wait = Duration::from_nanos(1_000_000_000u64.div_ceil(rate.per_second.max(1)));
        self.filled_at + wait.max(Duration::from_millis(1))
    }

    #[cold]
    fn refill(&mut self, now: Instant, rate: Rate) {
        let micros = now.saturating_duration_since(self.filled_at).as_micros();
        let earned = (micros * u128::from(rate.per_second) / 1_000_000).min(u128::from(rate.burst)) as u64;
        if earned > 0 {
            // What is less than one token stays in the time not accounted for.
            let spent = u128::from(earned) * 1_000_000_000 / u128::from(rate.per_second.max(1));
            self.tokens = self.tokens.saturating_add(earned).min(rate.burst);
            self.filled_at =
                if self.tokens == rate.burst { now } else { self.filled_at + Duration::from_nanos(spent as u64) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::new(start, rate);
        let taken = |bucket: &mut Bucket, from: u64, to: u64| {
            (from..to).filter(|ms| bucket.take(start + Duration::from_millis(*ms), rate, 1)).count()
        };
        assert_eq!(taken(&mut bucket, 0, 50), 3);
        assert_eq!(taken(&mut bucket, 50, 1050), 10);
        assert_eq!(taken(&mut bucket, 60_000, 60_050), 3, "a pause earns the burst, not more");
    }

    #[test]
    fn costs_are_taken_whole() {
        let start = Instant::now();
        let rate = Rate { per_second: 1000, burst: 1500 };
        let mut bucket = Bucket::new(start, rate);
        assert!(bucket.take(start, rate, 1000) && !bucket.take(start, rate, 1000));
        assert!(bucket.take(start + Duration::from_millis(500), rate, 1000));
        bucket.earn(rate, 9999);
        assert!(bucket.take(start, rate, 1500) && !bucket.take(start, rate, 1));
        assert!(bucket.ready_at(rate) > start);
    }

    #[test]
    fn unlimited_is() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now, Rate::UNLIMITED);
        assert!((0..1000).all(|_| bucket.take(now, Rate::UNLIMITED, 1 << 40)));
    }
}
