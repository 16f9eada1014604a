//! Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1, RFC 3611) and what feedback packets share.

use crate::bytes::u32_at;
use crate::{Ssrc, WireError};

pub(super) const SR: u8 = 200;
pub(super) const RR: u8 = 201;
pub(super) const SDES: u8 = 202;
pub(super) const BYE: u8 = 203;
pub(super) const RTPFB: u8 = 205;
pub(super) const PSFB: u8 = 206;
pub(super) const XR: u8 = 207;

pub(super) const FMT_NACK: u8 = 1;
pub(super) const FMT_TWCC: u8 = 15;
pub(super) const FMT_PLI: u8 = 1;
pub(super) const FMT_FIR: u8 = 4;
pub(super) const FMT_AFB: u8 = 15;

/// Sender and media SSRC that open every feedback packet (RFC 4585 section 6.1).
pub(super) fn feedback_ssrcs(body: &[u8]) -> Result<(Ssrc, Ssrc), WireError> {
    Ok((Ssrc(u32_at(body, 0)?), Ssrc(u32_at(body, 4)?)))
}
