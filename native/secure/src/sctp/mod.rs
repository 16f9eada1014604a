//! Data channels: SCTP (RFC 9260) in DTLS (RFC 8261) with channel establishment by DCEP (RFC 8832).
//!
//! [`DataTransport`] is what the rest of the core knows; [`Association`] implements it on `sctp-proto`. After every
//! call that changes something, drain [`DataTransport::poll_transmit`] and [`DataTransport::poll_event`] and take the
//! new [`DataTransport::poll_timeout`].

mod association;
mod dcep;

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::dtls::Role;

pub use association::Association;
pub(crate) use association::BROKEN;

/// The largest message WebRTC peers accept when their SDP has no `a=max-message-size`, minus the one byte that keeps
/// older implementations from counting it as 64 KiB.
pub const DEFAULT_MAX_SEND_MESSAGE: usize = 65_535;

/// The largest inbound message accepted by default; what `a=max-message-size` should announce.
pub const DEFAULT_MAX_RECEIVE_MESSAGE: usize = 256 * 1024;

/// Limits and role of an association.
#[derive(Debug, Clone)]
pub struct SctpConfig {
    /// The DTLS role. It decides the parity of stream ids, and which side sends the INIT: the client does.
    pub role: Role,
    /// Largest message to send, in bytes.
    pub max_send_message: usize,
    /// Largest message to accept, in bytes; a larger one ends the association.
    pub max_receive_message: usize,
    /// What may wait unacknowledged per channel, in bytes, before `send` refuses.
    pub max_buffered: usize,
    /// How many channels may be open at once.
    pub max_channels: usize,
}

impl SctpConfig {
    /// The defaults for `role`: 65,535 bytes out, 256 KiB in, 4 MiB buffered per channel, 64 channels.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            max_send_message: DEFAULT_MAX_SEND_MESSAGE,
            max_receive_message: DEFAULT_MAX_RECEIVE_MESSAGE,
            max_buffered: 4 * 1024 * 1024,
            max_channels: 64,
        }
    }
}

/// A channel: its SCTP stream id, the same at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

/// How hard a channel tries to deliver (RFC 8832, 5.1; RFC 7496).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Until it arrives.
    #[default]
    Reliable,
    /// At most this many retransmissions.
    MaxRetransmits(u32),
    /// Within this many milliseconds.
    MaxLifetime(u32),
}

/// The properties of a channel, fixed when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// The label, for example `_reliable`.
    pub label: String,
    /// The subprotocol; almost always empty.
    pub protocol: String,
    /// Whether messages arrive in the order they were sent.
    pub ordered: bool,
    /// How hard delivery is tried.
    pub reliability: Reliability,
}

impl ChannelConfig {
    /// A reliable, ordered channel.
    pub fn reliable(label: &str) -> Self {
        Self { label: label.to_owned(), protocol: String::new(), ordered: true, reliability: Reliability::Reliable }
    }

    /// An unordered channel that never retransmits.
    pub fn lossy(label: &str) -> Self {
        Self { ordered: false, reliability: Reliability::MaxRetransmits(0), ..Self::reliable(label) }
    }
}

/// What happened on an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SctpEvent {
    /// The association is established; negotiated channels can be used.
    Connected,
    /// A channel can be used: the peer opened it, or acknowledged ours, or it was negotiated in advance.
    ChannelOpen {
        /// The stream id.
        id: ChannelId,
        /// Label and properties.
        config: ChannelConfig,
        /// Whether the peer opened it.
        remote: bool,
    },
    /// A whole message arrived.
    Message {
        /// On which channel.
        id: ChannelId,
        /// Binary, or UTF-8 text (which is not validated here).
        binary: bool,
        /// The content.
        data: Bytes,
    },
    /// What waits on this channel fell to its threshold, see [`DataTransport::set_buffered_low_threshold`].
    BufferedLow {
        /// On which channel.
        id: ChannelId,
    },
    /// The channel ended, by either side.
    ChannelClosed {
        /// Which one; its id may be used again.
        id: ChannelId,
    },
    /// The association ended, with the reason. Terminal; open channels ended with it, without events of their own.
    Closed {
        /// Why, for logs.
        reason: String,
    },
}

/// Why an SCTP call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SctpError {
    /// The association is not established yet.
    NotConnected,
    /// The association has ended.
    Closed,
    /// No such channel, or it is not open.
    UnknownChannel,
    /// The stream id is taken, reserved, or used up.
    NoStreamId,
    /// As many channels are open as the configuration allows.
    TooManyChannels,
    /// The message exceeds `max_send_message`.
    MessageTooLarge,
    /// `max_buffered` bytes wait already. Try again after [`SctpEvent::BufferedLow`], or drop the message.
    BufferFull,
    /// Label or protocol exceed [`MAX_LABEL_LEN`].
    LabelTooLong,
}

impl fmt::Display for SctpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SctpError::NotConnected => "SCTP association is not established yet",
            SctpError::Closed => "SCTP association is closed",
            SctpError::UnknownChannel => "no such data channel is open",
            SctpError::NoStreamId => "SCTP stream id is taken or none is left",
            SctpError::TooManyChannels => "too many data channels",
            SctpError::MessageTooLarge => "message exceeds the maximum message size",
            SctpError::BufferFull => "data channel send buffer is full",
            SctpError::LabelTooLong => "data channel label or protocol is too long",
        })
    }
}

impl std::error::Error for SctpError {}

/// Longest label and longest protocol of a channel, in bytes. RFC 8832 allows 65,535; peers keep them per channel.
pub const MAX_LABEL_LEN: usize = 1024;

/// An SCTP association with its data channels.
pub trait DataTransport: Send {
    /// Takes one SCTP packet: the payload of one DTLS record. Garbage is dropped.
    fn handle_packet(&mut self, now: Instant, packet: &[u8]);

    /// Lets due timers act.
    fn handle_timeout(&mut self, now: Instant);

    /// When to call [`DataTransport::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next SCTP packet to pass to [`crate::dtls::Dtls::send`].
    fn poll_transmit(&mut self, now: Instant) -> Option<Bytes>;

    /// The next event.
    fn poll_event(&mut self) -> Option<SctpEvent>;

    /// Opens a channel by DCEP, with an id of this side's parity. May be called before the association is
    /// established; [`SctpEvent::ChannelOpen`] says when it can be used.
    fn open(&mut self, config: ChannelConfig) -> Result<ChannelId, SctpError>;

    /// Opens a channel whose id both sides know in advance, without DCEP. May be called at any time.
    fn open_negotiated(&mut self, id: ChannelId, config: ChannelConfig) -> Result<(), SctpError>;

    /// Queues a message. It is taken whole or refused.
    fn send(&mut self, id: ChannelId, binary: bool, data: &[u8]) -> Result<(), SctpError>;

    /// Bytes of this channel that wait for acknowledgement; 0 for an unknown channel.
    fn buffered_amount(&mut self, id: ChannelId) -> usize;

    /// Asks for [`SctpEvent::BufferedLow`] when the buffered amount falls to `bytes` (0 by default).
    fn set_buffered_low_threshold(&mut self, id: ChannelId, bytes: usize) -> Result<(), SctpError>;

    /// Ends one channel (RFC 8831, 6.7: by resetting its streams).
    fn close_channel(&mut self, id: ChannelId) -> Result<(), SctpError>;

    /// Aborts the association. Twice is fine.
    fn close(&mut self);
}
