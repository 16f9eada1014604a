//! The one error type of SRTP.

use std::fmt;

/// Why a packet was not opened or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpError {
    /// Too short to hold its header and authentication tag.
    TooShort,
    /// The authentication tag does not match: wrong key, wrong index, or the packet was changed.
    Authentication,
    /// The SRTCP index was seen before or is too old to know.
    Replay,
    /// The SRTCP packet is not encrypted, which DTLS-SRTP never negotiates.
    Unencrypted,
    /// A master key or salt does not have the length its profile demands.
    KeyLength,
    /// 2^31 SRTCP packets were sealed; the key must not be used any more (RFC 3711, 9.2).
    KeyExhausted,
}

impl fmt::Display for SrtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SrtpError::TooShort => "packet too short for SRTP",
            SrtpError::Authentication => "SRTP authentication failed",
            SrtpError::Replay => "SRTCP packet replayed or too old",
            SrtpError::Unencrypted => "SRTCP packet not encrypted",
            SrtpError::KeyLength => "SRTP master key or salt of wrong length",
            SrtpError::KeyExhausted => "SRTP key used up",
        })
    }
}

impl std::error::Error for SrtpError {}
