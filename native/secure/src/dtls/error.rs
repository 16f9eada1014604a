//! The one error type of DTLS.

use std::fmt;

/// Why a DTLS endpoint failed or refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DtlsError {
    /// No certificate could be made.
    Certificate(String),
    /// The handshake did not finish in time.
    HandshakeTimeout,
    /// The peer offered nothing acceptable, violated the protocol, or sent a fatal alert.
    Protocol(String),
    /// The peer negotiated no SRTP profile (`use_srtp`, RFC 5764, 4.1) or showed no certificate.
    NoKeys,
    /// `send` before the handshake ended.
    NotConnected,
    /// `send` after the connection ended.
    Closed,
    /// Application data larger than [`MAX_DATA_LEN`](super::MAX_DATA_LEN).
    TooLarge,
    /// Too many datagrams wait for [`Dtls::poll`](super::Dtls::poll).
    QueueFull,
    /// The implementation broke on this input. The connection is gone, the process is not.
    Internal(String),
}

impl fmt::Display for DtlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DtlsError::Certificate(why) => write!(f, "cannot make a DTLS certificate: {why}"),
            DtlsError::HandshakeTimeout => f.write_str("DTLS handshake timed out"),
            DtlsError::Protocol(why) => write!(f, "DTLS failed: {why}"),
            DtlsError::NoKeys => f.write_str("DTLS ended without an SRTP profile or a peer certificate"),
            DtlsError::NotConnected => f.write_str("DTLS is not connected yet"),
            DtlsError::Closed => f.write_str("DTLS is closed"),
            DtlsError::TooLarge => f.write_str("application data does not fit a datagram"),
            DtlsError::QueueFull => f.write_str("too many DTLS datagrams wait to be sent"),
            DtlsError::Internal(why) => write!(f, "DTLS broke: {why}"),
        }
    }
}

impl std::error::Error for DtlsError {}
