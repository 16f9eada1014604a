//! Extended reports: receiver reference time and its echo (RFC 3611 sections 4.4 and 4.5).
//!
//! With these a receiver that sends no media can measure the round trip: it sends RRTR, the other side answers DLRR.

use super::report::NtpTime;
use crate::bytes::{u16_at, u32_at};
use crate::{Ssrc, WireError};

pub(super) const RRTR: u8 = 4;
pub(super) const DLRR: u8 = 5;

/// An extended report.
#[derive(Clone, Debug)]
pub struct Xr<'a> {
    /// Who reports.
    pub sender: Ssrc,
    blocks: &'a [u8],
}

impl<'a> Xr<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let sender = Ssrc(u32_at(body, 0)?);
        let blocks = &body[4..];
        let mut rest = blocks;
        while !rest.is_empty() {
            rest = split_block(rest)?.2;
        }
        Ok(Xr { sender, blocks })
    }

    /// Report blocks in order.
    pub fn blocks(&self) -> XrBlocks<'a> {
        XrBlocks { rest: self.blocks }
    }
}

/// One block of an extended report.
#[derive(Clone, Debug)]
pub enum XrBlock<'a> {
    /// Receiver reference time.
    Rrtr(NtpTime),
    /// Delay since last RRTR.
    Dlrr(DlrrEntries<'a>),
    /// A block type not interpreted, or one of the above with a wrong length.
    Unknown(u8),
}

/// Echo of one receiver's reference time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DlrrEntry {
    /// The receiver whose RRTR is echoed.
    pub ssrc: Ssrc,
    /// Middle 32 bits of its NTP time, 0 when none was received.
    pub last_rr: u32,
    /// Delay since then in 1/65536 s.
    pub delay_since_last_rr: u32,
}

/// Iterator over the entries of a DLRR block.
#[derive(Clone, Debug)]
pub struct DlrrEntries<'a> {
    data: &'a [u8],
}

impl Iterator for DlrrEntries<'_> {
    type Item = DlrrEntry;

    fn next(&mut self) -> Option<DlrrEntry> {
        let (head, rest) = self.data.split_at_checked(12)?;
        self.data = rest;
        Some(DlrrEntry {
            ssrc: Ssrc(u32_at(head, 0).ok()?),
            last_rr: u32_at(head, 4).ok()?,
            delay_since_last_rr: u32_at(head, 8).ok()?,
        })
    }
}

/// Iterator over XR blocks.
#[derive(Clone, Debug)]
pub struct XrBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for XrBlocks<'a> {
    type Item = XrBlock<'a>;

    fn next(&mut self) -> Option<XrBlock<'a>> {
        let (kind, data, rest) = split_block(self.rest).ok()?;
        self.rest = rest;
        Some(match (kind, data.len()) {
            (RRTR, 8) => XrBlock::Rrtr(NtpTime((u32_at(data, 0).ok()? as u64) << 32 | u32_at(data, 4).ok()? as u64)),
            (DLRR, n) if n % 12 == 0 => XrBlock::Dlrr(DlrrEntries { data }),
            _ => XrBlock::Unknown(kind),
        })
    }
}

fn split_block(buf: &[u8]) -> Result<(u8, &[u8], &[u8]), WireError> {
    let words = u16_at(buf, 2)? as usize;
    let (data, rest) = buf[4..].split_at_checked(4 * words).ok_or(WireError::Length)?;
    Ok((buf[0], data, rest))
}
