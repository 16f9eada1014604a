//! What arrives: continuity, loss, jitter and delay of one received stream, and what has to be asked for again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use greenroom_secure::srtp::RxSource;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock};

use crate::source::{STAMP, STAMP_LEN};

/// Missing packets remembered per stream.
const MAX_MISSING: usize = 1000;
/// Between two requests for the same packet.
pub(crate) const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// Requests for one packet before it counts as lost.
const NACK_TRIES: u8 = 5;
/// Delays are counted in steps of a sixteenth of their size, from one microsecond to over a minute.
const DELAY_STEPS: usize = 16 * 27;

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// RTP clock rate in Hz.
    pub clock: u32,
    /// For retransmissions (RFC 4588): the payload type of the original.
    pub apt: Option<u8>,
    /// Whether the stream can be asked for packets again.
    pub nack: bool,
}

/// Counts of one received stream.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReceiveStats {
    /// Packets that arrived, those that were sent again included.
    pub packets: u64,
    /// Their RTP bytes, without SRTP tags.
    pub bytes: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets missing now that may still arrive.
    pub missing: u64,
    /// Packets that arrived after a later one, or by retransmission.
    pub late: u64,
    /// Packets that arrived twice or too late to be known.
    pub duplicates: u64,
    /// Requests for packets sent.
    pub nacks: u64,
    /// Interarrival jitter in milliseconds (RFC 3550, 6.4.1).
    pub jitter_ms: f64,
}

struct Missing {
    asked: Instant,
    tries: u8,
}

/// One received stream.
pub struct Receiver {
    ssrc: u32,
    codec: Codec,
    pub(crate) source: RxSource,
    first: Option<u64>,
    highest: u64,
    missing: BTreeMap<u64, Missing>,
    transit: Option<i64>,
    jitter: f64,
    sender_report: Option<(u32, Instant)>,
    reported: (u64, u64),
    stats: ReceiveStats,
}

impl Receiver {
    pub(crate) fn new(ssrc: u32, codec: Codec) -> Self {
        Self {
            ssrc,
            codec,
            source: RxSource::default(),
            first: None,
            highest: 0,
            missing: BTreeMap::new(),
            transit: None,
            jitter: 0.0,
            sender_report: None,
            reported: (0, 0),
            stats: ReceiveStats::default(),
        }
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Counts so far.
    pub fn stats(&self) -> ReceiveStats {
        let jitter_ms = self.jitter * 1000.0 / f64::from(self.codec.clock.max(1));
        ReceiveStats { missing: self.missing.len() as u64, jitter_ms, ..self.stats }
    }

    /// Counts an authentic packet with unwrapped sequence number `index`, at `arrival` since any fixed instant.
    pub(crate) fn handle_packet(&mut self, now: Instant, index: u64, timestamp: u32, len: usize, arrival: Duration) {
        self.stats.packets += 1;
        self.stats.bytes += len as u64;
        let Some(_) = self.first else {
            (self.first, self.highest) = (Some(index), index);
            return;
        };
        if index <= self.highest {
            self.late(index);
            return;
        }
        for lost in self.highest + 1..index {
            if self.missing.len() == MAX_MISSING {
                self.missing.pop_first();
                self.stats.lost += 1;
            }
            // Due for its first request at once.
            self.missing.insert(lost, Missing { asked: now.checked_sub(NACK_INTERVAL).unwrap_or(now), tries: 0 });
        }
        self.highest = index;
        let ticks = (arrival.as_secs_f64() * f64::from(self.codec.clock)) as i64;
        let transit = ticks.wrapping_sub(i64::from(timestamp)) as i32;
        if let Some(last) = self.transit.replace(i64::from(transit)) {
            let difference = f64::from((transit.wrapping_sub(last as i32)).unsigned_abs());
            self.jitter += (difference - self.jitter) / 16.0;
        }
    }

    /// Counts a packet that came again by way of a retransmission stream.
    pub(crate) fn handle_retransmission(&mut self, sequence: u16, len: usize) {
        let index = greenroom_wire::seq::extend16(self.highest, sequence);
        if self.missing.remove(&index).is_some() {
            self.stats.late += 1;
            self.stats.packets += 1;
            self.stats.bytes += len as u64;
        } else {
            self.stats.duplicates += 1;
        }
    }

    fn late(&mut self, index: u64) {
        if self.missing.remove(&index).is_some() {
            self.stats.late += 1;
        } else {
            self.stats.duplicates += 1;
            self.stats.packets -= 1;
        }
    }

    /// Takes the sequence numbers to ask for now, oldest first, at most `limit`, and gives up the hopeless ones.
    pub(crate) fn take_nacks(&mut self, now: Instant, limit: usize) -> Vec<u16> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        let before = self.missing.len();
        let tries = if self.codec.nack { NACK_TRIES } else { 1 };
        self.missing.retain(|_, m| m.tries < tries || now.saturating_duration_since(m.asked) < NACK_INTERVAL);
        self.stats.lost += (before - self.missing.len()) as u64;
        let mut wanted = Vec::new();
        for (index, missing) in &mut self.missing {
            if wanted.len() < limit && now.saturating_duration_since(missing.asked) >= NACK_INTERVAL {
                *missing = Missing { asked: now, tries: missing.tries + 1 };
                wanted.push(*index as u16);
            }
        }
        if !self.codec.nack {
            return Vec::new();
        }
        self.stats.nacks += wanted.len() as u64;
        wanted
    }

    /// Packets are missing, so that [`Receiver::take_nacks`] has to be called now and then.
    pub(crate) fn is_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// A sender report of this stream arrived.
    pub(crate) fn handle_sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.sender_report = Some((ntp.middle(), now));
    }

    /// The next report block; None before the first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let first = self.first?;
        let expected = self.highest + 1 - first;
        let lost = expected.saturating_sub(self.stats.packets);
        let (expected_before, lost_before) = std::mem::replace(&mut self.reported, (expected, lost));
        let interval = (expected - expected_before).max(1);
        let fraction = 256 * lost.saturating_sub(lost_before) / interval;
        let (last_sr, delay) = self.sender_report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32)
        });
        Some(ReportBlock {
            ssrc: Ssrc(self.ssrc),
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: lost.min(0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

/// How long packets were under way, as a histogram.
#[derive(Debug, Clone)]
pub struct Delays(Box<[u64; DELAY_STEPS]>);

impl Default for Delays {
    fn default() -> Self {
        Self(Box::new([0; DELAY_STEPS]))
    }
}

impl Delays {
    /// Reads the stamp of a source of this process from the end of a packet; `now` in microseconds of the same clock.
    pub(crate) fn read(&mut self, packet: &[u8], now: u64) {
        let Some(stamp) = packet.len().checked_sub(STAMP_LEN).map(|at| &packet[at..]) else { return };
        let (magic, micros) = stamp.split_at(STAMP.len());
        if magic == STAMP
            && let Ok(micros) = micros.try_into()
        {
            self.add(now.saturating_sub(u64::from_be_bytes(micros)));
        }
    }

    fn add(&mut self, micros: u64) {
        let value = micros.max(1);
        let octave = value.ilog2() as usize;
        let step =
            if octave >= 4 { (value >> (octave - 4)) as usize & 15 } else { (value << (4 - octave)) as usize & 15 };
        self.0[(16 * octave + step).min(DELAY_STEPS - 1)] += 1;
    }

    /// The delay in microseconds below which the fraction `q` of all lies; None when nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some((1u64 << (at / 16)) as f64 * (1.0 + (at % 16) as f64 / 16.0))
    }

    /// Starts again.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds what another histogram holds.
    pub(crate) fn merge(&mut self, other: &Delays) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(mine, theirs)| *mine += theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: Codec = Codec { clock: 90_000, apt: None, nack: true };

    fn receive(receiver: &mut Receiver, now: Instant, indices: &[u64]) {
        for index in indices {
            receiver.handle_packet(now, *index, *index as u32 * 3000, 1000, Duration::from_millis(33 * index));
        }
    }

    #[test]
    fn gaps_are_asked_for_and_filled_or_given_up() {
        let (mut receiver, mut now) = (Receiver::new(1, VIDEO), Instant::now());
        receive(&mut receiver, now, &[10, 11, 14, 12]);
        assert_eq!(receiver.take_nacks(now, 64), [13]);
        assert_eq!(receiver.take_nacks(now, 64), [0u16; 0], "not twice at once");
        receiver.handle_retransmission(13, 1000);
        let stats = receiver.stats();
        assert_eq!((stats.packets, stats.late, stats.missing, stats.lost), (5, 2, 0, 0));

        receive(&mut receiver, now, &[16]);
        for _ in 0..NACK_TRIES {
            assert_eq!(receiver.take_nacks(now, 64), [15]);
            now += NACK_INTERVAL;
        }
        assert!(receiver.take_nacks(now, 64).is_empty());
        assert_eq!((receiver.stats().lost, receiver.stats().missing), (1, 0));
        assert_eq!(receiver.stats().nacks, 1 + u64::from(NACK_TRIES));
    }

    #[test]
    fn reports_tell_loss_since_the_last_one() {
        let (mut receiver, now) = (Receiver::new(1, VIDEO), Instant::now());
        assert_eq!(receiver.report(now), None);
        receive(&mut receiver, now, &[0, 1, 2, 3, 5, 6, 7]);
        let block = receiver.report(now).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost, block.highest_sequence), (32, 1, 7));
        receive(&mut receiver, now, &[8, 9]);
        assert_eq!(receiver.report(now).unwrap().fraction_lost, 0);
    }

    #[test]
    fn steady_arrival_has_no_jitter() {
        let (mut receiver, now) = (Receiver::new(1, VIDEO), Instant::now());
        for index in 0..100 {
            receiver.handle_packet(now, index, index as u32 * 900, 100, Duration::from_millis(10 * index));
        }
        assert!(receiver.stats().jitter_ms < 0.1);
    }

    #[test]
    fn quantiles_of_delays_are_within_a_sixteenth() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        (1..=1000).for_each(|micros| delays.add(micros));
        for (q, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let value = delays.quantile(q).unwrap();
            assert!((value - expected).abs() <= expected / 16.0, "{q}: {value}");
        }
    }
}
