//! Bytes on the wire: RTP, RTCP, STUN and the codec headers an SFU has to look into.
//!
//! Nothing in this crate does I/O, reads a clock, draws randomness or allocates while parsing. Every parser takes the
//! caller's bytes and returns plain values or views into them; every writer fills the caller's buffer. Input from the
//! network is never trusted: a parser returns [`WireError`] (or `None` where "not there" is an ordinary answer), it
//! does not panic. `native/fuzz` holds that promise against random and mutated input.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used)]

pub mod annexb;
pub mod av1;
pub mod demux;
pub mod ext;
pub mod h264;
pub mod h265;
pub mod red;
pub mod rtcp;
pub mod rtp;
pub mod seq;
pub mod stun;
pub mod trailer;
pub mod vp8;
pub mod vp9;

mod bytes;
mod error;

pub use error::WireError;

/// Synchronisation source of an RTP stream (RFC 3550, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

impl From<u32> for Ssrc {
    fn from(value: u32) -> Self {
        Ssrc(value)
    }
}

impl std::fmt::Display for Ssrc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
