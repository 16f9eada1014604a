//! Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
//!
//! ```text
//! |  'R' 'E' 'M' 'B'                                              |
//! |  Num SSRC     | BR Exp    |  BR Mantissa (18 bits)            |
//! |   SSRC feedback ...                                           |
//! ```

use super::format::feedback_ssrcs;
use crate::bytes::{u24_at, u32_at};
use crate::{Ssrc, WireError};

pub(super) const NAME: &[u8; 4] = b"REMB";

/// A REMB packet.
#[derive(Clone, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: Ssrc,
    /// Total bit rate the receiver believes it can take, bit/s. Saturates at `u64::MAX`.
    pub bitrate_bps: u64,
    sources: &'a [u8],
}

impl<'a> Remb<'a> {
    /// Application layer feedback is shared with others; only the name tells.
    pub(super) fn is_remb(body: &[u8]) -> bool {
        body.get(8..12) == Some(NAME.as_slice())
    }

    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let (sender, _) = feedback_ssrcs(body)?;
        let count = *body.get(12).ok_or(WireError::Truncated)? as usize;
        let packed = u24_at(body, 13)?;
        let (exponent, mantissa) = (packed >> 18, (packed & 0x3_ffff) as u64);
        let bitrate_bps = if mantissa.leading_zeros() >= exponent { mantissa << exponent } else { u64::MAX };
        let sources = body.get(16..16 + 4 * count).ok_or(WireError::Length)?;
        Ok(Remb { sender, bitrate_bps, sources })
    }

    /// Streams the estimate covers.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + 'a {
        let sources = self.sources;
        (0..sources.len() / 4).filter_map(move |i| u32_at(sources, 4 * i).ok().map(Ssrc))
    }
}

/// Exponent and mantissa of a bit rate, rounded down: never claim more than was estimated.
pub(super) fn pack_bitrate(bps: u64) -> u32 {
    let exponent = (64 - bps.leading_zeros()).saturating_sub(18);
    (exponent << 18) | (bps >> exponent) as u32
}
