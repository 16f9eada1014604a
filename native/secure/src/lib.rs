//! The secure transports of a WebRTC peer: DTLS, SRTP and SRTCP, SCTP data channels.
//!
//! Everything here is driven from outside: the caller passes datagrams and the time in and takes datagrams, events and
//! deadlines out. Nothing opens a socket or reads a clock. Randomness is drawn in three places only, because the
//! protocols need unpredictable values there: certificates, DTLS handshakes and SCTP verification tags.
//!
//! - [`srtp`]: packet protection, in place and without allocation.
//! - [`dtls`]: the handshake that yields the SRTP keys and carries SCTP.
//! - [`sctp`]: data channels.
//! - [`mac`]: HMAC-SHA1 for STUN and comparison in constant time.
#![warn(clippy::unwrap_used)]

pub mod dtls;
#[doc(hidden)]
pub mod fuzzing;
pub mod mac;
pub mod sctp;
pub mod srtp;
