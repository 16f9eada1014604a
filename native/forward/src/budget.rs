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
    /// RTP packets, authentic or not: what opening them may cost.
    pub rtp_packets: Rate,
    /// Bytes of RTP packets.
    pub rtp_bytes: Rate,
    /// Authentic packets of one audio stream: each is sent to every subscriber.
    pub audio_packets: Rate,
    /// Those of one video stream.
    pub video_packets: Rate,
    /// Copies of its packets for subscribers: what a packet costs depends on how many there are, and packets alone would
    /// let a publisher with an audience of a hundred keep a shard busy for everybody else. Enough for 2 Mbit/s to 800.
    pub copies: Rate,
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
    /// Packets from caches for one subscriber that has no picture. Beyond it a key frame is asked for, as without a cache:
    /// who pauses and resumes must not get the same picture each time.
    pub kept: Rate,
    /// Bytes sent again to one subscriber before any are earned.
    pub rtx_burst: u64,
    /// One byte may be sent again for this many sent for the first time: enough for a path that loses a third of all.
    pub rtx_share: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Limits {
            rtp_packets: rate(20_000, 10_000),
            rtp_bytes: rate(16 << 20, 8 << 20),
            audio_packets: rate(400, 400),
            video_packets: rate(3_000, 1_500),
            copies: rate(200_000, 60_000),
            rtcp_packets: rate(1_000, 2_000),
            dtls_packets: rate(12_000, 12_000),
            checks: rate(100, 200),
            messages: rate(4_000, 4_000),
            message_bytes: rate(16 << 20, 8 << 20),
            ssrc_changes: rate(1, 6),
            unclaimed: rate(50, 200),
            keyframes: rate(1, 5),
            kept: rate(2_000, 12_000),
            rtx_burst: 40_000,
            rtx_share: 2,
        }
    }
}

impl Limits {
    /// For load generators that are one peer with the streams of hundreds.
    pub const UNLIMITED: Limits = Limits {
        rtp_packets: Rate::UNLIMITED,
        rtp_bytes: Rate::UNLIMITED,
        audio_packets: Rate::UNLIMITED,
        video_packets: Rate::UNLIMITED,
        copies: Rate::UNLIMITED,
        rtcp_packets: Rate::UNLIMITED,
        dtls_packets: Rate::UNLIMITED,
        checks: Rate::UNLIMITED,
        messages: Rate::UNLIMITED,
        message_bytes: Rate::UNLIMITED,
        ssrc_changes: Rate::UNLIMITED,
        unclaimed: Rate::UNLIMITED,
        keyframes: Rate::UNLIMITED,
        kept: Rate::UNLIMITED,
        rtx_burst: u64::MAX,
        rtx_share: 1,
    };
}

/// What was taken of a rate, as the moment at which all of it will have been allowed (the generic cell rate algorithm of
/// ITU-T I.371, annex A): one comparison, and no refilling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    allowed_at: Instant,
}

impl Meter {
    /// Nothing was taken.
    pub(crate) fn new(now: Instant) -> Self {
        Meter { allowed_at: now }
    }

    /// Whether `cost` is within the rate; then it is taken.
    #[inline]
    pub(crate) fn take(&mut self, now: Instant, rate: Rate, cost: u64) -> bool {
        let allowed_at = self.allowed_at.max(now) + rate.time(cost);
        let within = allowed_at <= now + rate.time(rate.burst);
        if within {
            self.allowed_at = allowed_at;
        }
        within
    }

    /// Whether anything is within the rate now: less was taken than it allows.
    #[inline]
    pub(crate) fn is_within(&self, now: Instant, rate: Rate) -> bool {
        self.allowed_at <= now + rate.time(rate.burst)
    }

    /// Takes `cost`, which cannot be refused any more. When the rate allows something again, if it does not now.
    pub(crate) fn take_anyway(&mut self, now: Instant, rate: Rate, cost: u64) -> Option<Instant> {
        self.allowed_at = self.allowed_at.max(now) + rate.time(cost);
        let free_at = self.allowed_at.checked_sub(rate.time(rate.burst))?;
        (free_at > now).then_some(free_at)
    }
}

impl Rate {
    /// The time in which so much is allowed.
    #[inline]
    fn time(self, amount: u64) -> Duration {
        Duration::from_nanos(amount.saturating_mul(1_000_000_000) / self.per_second.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let rate = Rate { per_second: 10, burst: 3 };
        let mut meter = Meter::new(start);
        let mut taken = |from: u64, to: u64| {
            (from..to).filter(|ms| meter.take(start + Duration::from_millis(*ms), rate, 1)).count()
        };
        assert_eq!(taken(5000, 5050), 3);
        assert_eq!(taken(5050, 6050), 10);
        assert_eq!(taken(60_000, 60_050), 3, "a pause earns the burst, not more");
    }

    #[test]
    fn costs_are_taken_whole_or_owed() {
        let start = Instant::now();
        let rate = Rate { per_second: 1000, burst: 1500 };
        let mut meter = Meter::new(start);
        assert!(meter.take(start, rate, 1000) && !meter.take(start, rate, 1000));
        assert!(meter.take(start + Duration::from_millis(500), rate, 1000));
        let mut meter = Meter::new(start);
        assert_eq!(meter.take_anyway(start, rate, 1500), None);
        assert!(meter.is_within(start, rate));
        assert_eq!(meter.take_anyway(start, rate, 3000), Some(start + Duration::from_secs(3)));
        assert!(!meter.is_within(start + Duration::from_millis(2999), rate));
        assert!(meter.is_within(start + Duration::from_secs(3), rate));
    }

    #[test]
    fn unlimited_is() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        assert!((0..1000).all(|_| meter.take(now, Rate::UNLIMITED, 1 << 30)));
    }
}
