//! Reception statistics of one stream (RFC 3550 sections 6.4.1, A.1, A.3 and A.8).

use std::time::Instant;

use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock};
use greenroom_wire::seq::{diff16, diff32};

/// A forward jump larger than this, or a backward one larger than [`MAX_MISORDER`], is taken for a restart of the sender
/// when the next packet confirms it.
const MAX_DROPOUT: i16 = 3000;
const MAX_MISORDER: i16 = 100;

/// Counts packets of one SSRC and makes its report block.
#[derive(Clone, Debug)]
pub struct ReceiveStats {
    ssrc: Ssrc,
    clock_rate: u32,
    epoch: Option<Instant>,
    base: u32,
    /// Highest sequence number, cycles in the upper half.
    highest: u32,
    /// Successor of a packet that looked like a restart.
    suspect: Option<u16>,
    received: u64,
    bytes: u64,
    expected_prior: u64,
    received_prior: u64,
    last_transit: Option<(u32, i64)>,
    /// Jitter times 16, in timestamp units.
    jitter_q4: u64,
    last_sr: Option<(u32, Instant)>,
}

impl ReceiveStats {
    /// `clock_rate` of the stream's timestamps, in Hz.
    pub fn new(ssrc: Ssrc, clock_rate: u32) -> Self {
        ReceiveStats {
            ssrc,
            clock_rate,
            epoch: None,
            base: 0,
            highest: 0,
            suspect: None,
            received: 0,
            bytes: 0,
            expected_prior: 0,
            received_prior: 0,
            last_transit: None,
            jitter_q4: 0,
            last_sr: None,
        }
    }

    /// A packet with `payload_len` bytes of payload arrived.
    pub fn received(&mut self, now: Instant, sequence: u16, timestamp: u32, payload_len: usize) {
        let epoch = *self.epoch.get_or_insert(now);
        if self.received == 0 {
            self.restart(sequence);
        } else if !self.advance(sequence) {
            return;
        }
        self.received += 1;
        self.bytes += payload_len as u64;
        let arrival = now.saturating_duration_since(epoch).as_micros() as i64;
        self.update_jitter(timestamp, arrival);
    }

    fn restart(&mut self, sequence: u16) {
        self.base = sequence as u32;
        self.highest = sequence as u32;
        self.suspect = None;
        self.received = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.last_transit = None;
    }

    /// Moves the highest sequence number; false when the packet must not be counted.
    fn advance(&mut self, sequence: u16) -> bool {
        let step = diff16(sequence, self.highest as u16);
        if (-MAX_MISORDER..=MAX_DROPOUT).contains(&step) {
            if step > 0 {
                self.highest = self.highest.wrapping_add(step as u32);
            }
            self.suspect = None;
            return true;
        }
        if self.suspect == Some(sequence) {
            self.restart(sequence);
            return true;
        }
        self.suspect = Some(sequence.wrapping_add(1));
        false
    }

    /// Compares spacing of arrivals with spacing of timestamps. Packets of one video frame share a timestamp and leave
    /// the sender in a burst: their spacing says nothing about the network, so only the first of each counts.
    fn update_jitter(&mut self, timestamp: u32, arrival: i64) {
        let Some((last_timestamp, last_arrival)) = self.last_transit else {
            self.last_transit = Some((timestamp, arrival));
            return;
        };
        let media = diff32(timestamp, last_timestamp) as i64;
        if media == 0 {
            return;
        }
        let elapsed = (arrival - last_arrival) * self.clock_rate as i64 / 1_000_000;
        self.last_transit = Some((timestamp, arrival));
        let deviation = (elapsed - media).unsigned_abs();
        // A pause or a jump of the timestamp by more than 5 s is not jitter.
        if deviation < 5 * self.clock_rate as u64 {
            self.jitter_q4 = self.jitter_q4 + deviation - ((self.jitter_q4 + 8) >> 4);
        }
    }

    /// An SR of this stream arrived.
    pub fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.last_sr = Some((ntp.middle(), now));
    }

    /// Block for the next RR; begins a new interval for the loss fraction. `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        if self.received == 0 {
            return None;
        }
        let expected = self.expected();
        let expected_interval = expected.saturating_sub(self.expected_prior);
        let received_interval = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest,
            jitter: self.jitter(),
            last_sr: self.last_sr.map_or(0, |(middle, _)| middle),
            delay_since_last_sr: self.last_sr.map_or(0, |(_, at)| {
                let nanos = now.saturating_duration_since(at).as_nanos();
                u32::try_from((nanos << 16) / 1_000_000_000).unwrap_or(u32::MAX)
            }),
        })
    }

    fn expected(&self) -> u64 {
        self.highest.wrapping_sub(self.base) as u64 + 1
    }

    /// Packets counted since the beginning or the last restart.
    pub fn packets(&self) -> u64 {
        self.received
    }

    /// Payload bytes since the beginning.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets lost; negative with more duplicates than losses.
    pub fn lost(&self) -> i64 {
        if self.received == 0 { 0 } else { self.expected() as i64 - self.received as i64 }
    }

    /// Interarrival jitter in timestamp units.
    pub fn jitter(&self) -> u32 {
        (self.jitter_q4 >> 4) as u32
    }

    /// Extended highest sequence number.
    pub fn highest_sequence(&self) -> u32 {
        self.highest
    }
}
