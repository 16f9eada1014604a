//! Loss and picture feedback: NACK and PLI (RFC 4585 sections 6.2.1 and 6.3.1), FIR (RFC 5104 section 4.3.1).

use super::format::feedback_ssrcs;
use crate::bytes::{u16_at, u32_at};
use crate::{Ssrc, WireError};

/// Generic NACK: a list of (PID, BLP) pairs, each naming one packet and any of the sixteen after it.
#[derive(Clone, Debug)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender: Ssrc,
    /// The stream packets are missing from.
    pub media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let (sender, media) = feedback_ssrcs(body)?;
        let pairs = &body[8..];
        if pairs.is_empty() || !pairs.len().is_multiple_of(4) {
            return Err(WireError::Length);
        }
        Ok(Nack { sender, media, pairs })
    }

    /// Sequence numbers asked for, in the order written. At most 17 per pair; the caller bounds how many it serves.
    pub fn sequence_numbers(&self) -> NackIter<'a> {
        NackIter { pairs: self.pairs, pid: 0, blp: 0 }
    }
}

/// Iterator over the sequence numbers of a NACK.
#[derive(Clone, Debug)]
pub struct NackIter<'a> {
    pairs: &'a [u8],
    pid: u16,
    blp: u16,
}

impl Iterator for NackIter<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.blp != 0 {
            let bit = self.blp.trailing_zeros() as u16;
            self.blp &= self.blp - 1;
            return Some(self.pid.wrapping_add(bit + 1));
        }
        let (head, rest) = self.pairs.split_at_checked(4)?;
        self.pairs = rest;
        self.pid = u16_at(head, 0).ok()?;
        self.blp = u16_at(head, 2).ok()?;
        Some(self.pid)
    }
}

/// Picture loss indication: the receiver cannot decode on and wants a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// Who asks.
    pub sender: Ssrc,
    /// The stream a keyframe is wanted of.
    pub media: Ssrc,
}

impl Pli {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let (sender, media) = feedback_ssrcs(body)?;
        Ok(Pli { sender, media })
    }
}

/// Full intra request. The media SSRC of the header is unused (zero): targets are in the entries.
#[derive(Clone, Debug)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let (sender, _) = feedback_ssrcs(body)?;
        let entries = &body[8..];
        if entries.is_empty() || !entries.len().is_multiple_of(8) {
            return Err(WireError::Length);
        }
        Ok(Fir { sender, entries })
    }

    /// Targets and their command sequence numbers; a repeated number is the same request again.
    pub fn entries(&self) -> FirEntries<'a> {
        FirEntries { data: self.entries }
    }
}

/// Iterator over FIR entries: (target, command sequence number).
#[derive(Clone, Debug)]
pub struct FirEntries<'a> {
    data: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);

    fn next(&mut self) -> Option<(Ssrc, u8)> {
        let (head, rest) = self.data.split_at_checked(8)?;
        self.data = rest;
        Some((Ssrc(u32_at(head, 0).ok()?), head[4]))
    }
}
