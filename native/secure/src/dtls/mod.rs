//! DTLS (RFC 6347) with the SRTP key exporter (RFC 5764), behind a trait of our own.
//!
//! The trait exists so that the implementation stays a choice of one line: [`DimplDtls`] is the only one today.
//!
//! Run it like this, after every change (a datagram, a due deadline, a `send`):
//! call [`Dtls::poll`] until it answers [`DtlsOutput::Timeout`], and call [`Dtls::handle_timeout`] at that instant.

mod certificate;
mod dimpl_backend;
mod error;

use std::time::Instant;

use crate::srtp::MasterKey;

pub use certificate::{Certificate, Fingerprint, InvalidFingerprint};
pub use dimpl_backend::DimplDtls;
pub use error::DtlsError;

/// Which side of the handshake an endpoint plays (RFC 8842: `a=setup:active` is the client, `passive` the server).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends the ClientHello. Opens data channels with even stream ids (RFC 8832, 6).
    Client,
    /// Answers, and chooses cipher suite and SRTP profile. Opens data channels with odd stream ids.
    Server,
}

/// What a DTLS endpoint wants its caller to do.
#[derive(Debug)]
pub enum DtlsOutput<'a> {
    /// Send this datagram to the peer.
    Packet(&'a [u8]),
    /// Nothing more for now. Call [`Dtls::handle_timeout`] at the given instant; `None` once closed or failed.
    Timeout(Option<Instant>),
    /// The handshake is complete. Comes once, before any [`DtlsOutput::Data`]. The caller MUST compare
    /// `remote_fingerprint` with the one of the signalling before it uses the keys: nothing else authenticates the peer.
    Connected(Box<Connected>),
    /// Decrypted application data: one SCTP packet.
    Data(&'a [u8]),
    /// The peer, or this side, closed the connection. Terminal.
    Closed,
    /// The handshake or the connection failed. Terminal.
    Failed(DtlsError),
}

/// The result of a handshake.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Keys for what this side sends (SRTP profile, key and salt).
    pub local: MasterKey,
    /// Keys for what the peer sends.
    pub remote: MasterKey,
    /// SHA-256 fingerprint of the certificate the peer proved to own.
    pub remote_fingerprint: Fingerprint,
}

/// Largest application data of one [`Dtls::send`], in bytes: one datagram on any path WebRTC uses.
pub const MAX_DATA_LEN: usize = 1400;

/// A DTLS endpoint.
pub trait Dtls: Send {
    /// Takes one datagram from the peer (first byte 20 to 63, RFC 7983). Garbage is dropped.
    fn handle_packet(&mut self, now: Instant, packet: &[u8]);

    /// Retransmits and gives up as time demands. Calling it early or late is harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing to do. Call until [`DtlsOutput::Timeout`].
    fn poll(&mut self, now: Instant) -> DtlsOutput<'_>;

    /// Encrypts `data` (one SCTP packet); the datagram comes out of [`Dtls::poll`].
    fn send(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsError>;

    /// Starts a graceful end: a `close_notify` comes out of [`Dtls::poll`], then [`DtlsOutput::Closed`]. Twice is fine.
    fn close(&mut self);

    /// Whether the handshake has ended well and the connection has not ended since.
    fn is_connected(&self) -> bool;
}
