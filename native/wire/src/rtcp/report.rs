//! Sender and receiver reports (RFC 3550 sections 6.4.1 and 6.4.2).

use crate::bytes::{Writer, u24_at, u32_at};
use crate::{Ssrc, WireError};

/// NTP timestamp: 32.32 fixed-point seconds since 1900 (RFC 3550 section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

/// Seconds from 1900-01-01 to 1970-01-01.
const UNIX_OFFSET: u64 = 2_208_988_800;

impl NtpTime {
    /// From microseconds since the Unix epoch.
    pub fn from_unix_micros(micros: u64) -> NtpTime {
        let seconds = (micros / 1_000_000).wrapping_add(UNIX_OFFSET);
        NtpTime((seconds << 32) | (((micros % 1_000_000) << 32) / 1_000_000))
    }

    /// Microseconds since the Unix epoch; 0 for times before it.
    pub fn unix_micros(self) -> u64 {
        let seconds = (self.0 >> 32).saturating_sub(UNIX_OFFSET);
        seconds * 1_000_000 + (((self.0 & 0xffff_ffff) * 1_000_000 + 0x8000_0000) >> 32)
    }

    /// The middle 32 bits, as echoed in LSR and LRR fields (16.16 seconds).
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// One report block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: Ssrc,
    /// Loss since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits signed: duplicates can make it negative.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received: wraps in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last SR's NTP time, 0 when none was received.
    pub last_sr: u32,
    /// Delay since that SR in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    const LEN: usize = 24;

    fn parse(b: &[u8]) -> Result<ReportBlock, WireError> {
        Ok(ReportBlock {
            ssrc: Ssrc(u32_at(b, 0)?),
            fraction_lost: *b.get(4).ok_or(WireError::Truncated)?,
            cumulative_lost: ((u24_at(b, 5)? << 8) as i32) >> 8, // sign extension of 24 bits
            highest_sequence: u32_at(b, 8)?,
            jitter: u32_at(b, 12)?,
            last_sr: u32_at(b, 16)?,
            delay_since_last_sr: u32_at(b, 20)?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), WireError> {
        w.u32(self.ssrc.0)?;
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        w.u32((self.fraction_lost as u32) << 24 | lost)?;
        w.u32(self.highest_sequence)?;
        w.u32(self.jitter)?;
        w.u32(self.last_sr)?;
        w.u32(self.delay_since_last_sr)
    }
}

/// Iterator over report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    data: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    /// Bytes beyond the announced blocks are profile-specific extensions and left alone.
    fn parse(count: u8, body: &'a [u8], at: usize) -> Result<Self, WireError> {
        let data = body.get(at..at + ReportBlock::LEN * count as usize).ok_or(WireError::Length)?;
        Ok(ReportBlocks { data })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (head, rest) = self.data.split_at_checked(ReportBlock::LEN)?;
        self.data = rest;
        ReportBlock::parse(head).ok()
    }
}

/// What a sender says about its own stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender's stream.
    pub ssrc: Ssrc,
    /// Wall clock of the report.
    pub ntp: NtpTime,
    /// The same moment on the media clock.
    pub rtp_timestamp: u32,
    /// RTP packets sent.
    pub packets: u32,
    /// Payload octets sent, without headers and padding.
    pub octets: u32,
}

/// A sender report.
#[derive(Clone, Debug)]
pub struct SenderReport<'a> {
    /// The sender's own figures.
    pub info: SenderInfo,
    /// Blocks about streams it receives.
    pub reports: ReportBlocks<'a>,
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let info = SenderInfo {
            ssrc: Ssrc(u32_at(body, 0)?),
            ntp: NtpTime((u32_at(body, 4)? as u64) << 32 | u32_at(body, 8)? as u64),
            rtp_timestamp: u32_at(body, 12)?,
            packets: u32_at(body, 16)?,
            octets: u32_at(body, 20)?,
        };
        Ok(SenderReport { info, reports: ReportBlocks::parse(count, body, 24)? })
    }
}

/// A receiver report.
#[derive(Clone, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    /// Blocks about streams it receives.
    pub reports: ReportBlocks<'a>,
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, WireError> {
        Ok(ReceiverReport { ssrc: Ssrc(u32_at(body, 0)?), reports: ReportBlocks::parse(count, body, 4)? })
    }
}
