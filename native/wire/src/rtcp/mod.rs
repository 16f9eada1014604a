//! RTCP: compound packets, typed views and writers.
//!
//! ```text
//!  0                   1                   2                   3
//! |V=2|P|  count  |  packet type  |  length in words minus one    |
//! ```
//!
//! Sender and receiver reports, SDES and BYE are RFC 3550 section 6; NACK, PLI and FIR are RFC 4585 and RFC 5104; REMB is
//! draft-alvestrand-rmcat-remb; transport-wide feedback is draft-holmer-rmcat-transport-wide-cc-extensions; extended
//! reports are RFC 3611. Reduced-size packets (RFC 5506) are accepted: a compound need not begin with a report.

mod bye;
mod feedback;
mod format;
mod remb;
mod report;
mod sdes;
mod twcc;
mod writer;
mod xr;

pub use bye::Bye;
pub use feedback::{Fir, FirEntries, Nack, NackIter, Pli};
pub use remb::Remb;
pub use report::{NtpTime, ReceiverReport, ReportBlock, ReportBlocks, SenderInfo, SenderReport};
pub use sdes::{Sdes, SdesChunk, SdesChunks};
pub use twcc::{Twcc, TwccHeader, TwccStatuses, max_len as twcc_max_len};
pub use writer::Builder;
pub use xr::{DlrrEntries, DlrrEntry, Xr, XrBlock, XrBlocks};

use crate::WireError;
use crate::bytes::u16_at;
use format::{BYE, FMT_AFB, FMT_FIR, FMT_NACK, FMT_PLI, FMT_TWCC, PSFB, RR, RTPFB, SDES, SR, XR};

/// One packet of a compound.
#[derive(Clone, Debug)]
pub enum Packet<'a> {
    /// SR, packet type 200.
    SenderReport(SenderReport<'a>),
    /// RR, packet type 201.
    ReceiverReport(ReceiverReport<'a>),
    /// SDES, packet type 202.
    Sdes(Sdes<'a>),
    /// BYE, packet type 203.
    Bye(Bye<'a>),
    /// Generic NACK, RTPFB format 1.
    Nack(Nack<'a>),
    /// Picture loss indication, PSFB format 1.
    Pli(Pli),
    /// Full intra request, PSFB format 4.
    Fir(Fir<'a>),
    /// Receiver estimated maximum bitrate, PSFB format 15 with the name `REMB`.
    Remb(Remb<'a>),
    /// Transport-wide congestion control feedback, RTPFB format 15.
    Twcc(Twcc<'a>),
    /// Extended report, packet type 207.
    Xr(Xr<'a>),
    /// Well-formed but not interpreted: APP, other feedback formats, future types.
    Unknown {
        /// Packet type octet.
        packet_type: u8,
        /// Count or format field.
        count: u8,
    },
}

/// A compound whose chain of lengths has been checked; iterate to read its packets.
#[derive(Clone, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

/// Checks versions, lengths and padding of a whole (decrypted) compound packet.
///
/// The chain must end exactly at the end of `buf`: a length that does not add up means that none of the packet can be
/// trusted (RFC 3550 appendix A.2). Errors: `Truncated`, `Version`, `Length`.
pub fn parse(buf: &[u8]) -> Result<Compound<'_>, WireError> {
    if buf.is_empty() {
        return Err(WireError::Truncated);
    }
    let mut rest = buf;
    while !rest.is_empty() {
        rest = split(rest)?.rest;
    }
    Ok(Compound { rest: buf })
}

/// Each item stands alone: one packet with a malformed body is an `Err`, the next ones are still read.
impl<'a> Iterator for Compound<'a> {
    type Item = Result<Packet<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split(self.rest) {
            Ok(first) => {
                self.rest = first.rest;
                Some(first.read())
            }
            Err(e) => {
                self.rest = &[]; // parse() has excluded this
                Some(Err(e))
            }
        }
    }
}

struct Raw<'a> {
    count: u8,
    packet_type: u8,
    body: &'a [u8],
    rest: &'a [u8],
}

fn split(buf: &[u8]) -> Result<Raw<'_>, WireError> {
    let words = u16_at(buf, 2)? as usize;
    if buf[0] >> 6 != 2 {
        return Err(WireError::Version);
    }
    let len = 4 * (words + 1);
    if len > buf.len() {
        return Err(WireError::Length);
    }
    let (this, rest) = buf.split_at(len);
    let mut body = &this[4..];
    if this[0] & 0x20 != 0 {
        let padding = *body.last().ok_or(WireError::Length)? as usize;
        if padding == 0 || padding > body.len() {
            return Err(WireError::Length);
        }
        body = &body[..body.len() - padding];
    }
    Ok(Raw { count: this[0] & 0x1f, packet_type: this[1], body, rest })
}

impl<'a> Raw<'a> {
    fn read(&self) -> Result<Packet<'a>, WireError> {
        let Raw { count, packet_type, body, .. } = *self;
        Ok(match (packet_type, count) {
            (SR, _) => Packet::SenderReport(SenderReport::parse(count, body)?),
            (RR, _) => Packet::ReceiverReport(ReceiverReport::parse(count, body)?),
            (SDES, _) => Packet::Sdes(Sdes::parse(count, body)?),
            (BYE, _) => Packet::Bye(Bye::parse(count, body)?),
            (RTPFB, FMT_NACK) => Packet::Nack(Nack::parse(body)?),
            (RTPFB, FMT_TWCC) => Packet::Twcc(Twcc::parse(body)?),
            (PSFB, FMT_PLI) => Packet::Pli(Pli::parse(body)?),
            (PSFB, FMT_FIR) => Packet::Fir(Fir::parse(body)?),
            (PSFB, FMT_AFB) if Remb::is_remb(body) => Packet::Remb(Remb::parse(body)?),
            (XR, _) => Packet::Xr(Xr::parse(body)?),
            _ => Packet::Unknown { packet_type, count },
        })
    }
}
