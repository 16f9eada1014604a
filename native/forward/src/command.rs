//! What goes into a shard besides packets, and what comes out.
use std::sync::Arc;

use crate::{PeerId, PeerStats, Receiver, RoomId, Sender, TrackId};

/// An intent. Whole and idempotent: it says how things should be, not how they change. Unknown ids are ignored, since a
/// command may cross the removal of what it names.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub enum Command {
    /// Expect STUN for these local credentials.
    AddPeer { peer: PeerId, room: RoomId, ufrag: String, pwd: String },
    /// The other side's credentials and certificate (32 bytes of SHA-256).
    SetRemote { peer: PeerId, ufrag: String, pwd: String, fingerprint: [u8; 32] },
    /// The other side waits for our ClientHello (`a=setup:passive`): send it once a path is nominated.
    StartDtls { peer: PeerId },
    /// New local credentials; the old ones stay good until a check with the new ones arrives.
    RestartIce { peer: PeerId, ufrag: String, pwd: String },
    /// All sections on which the peer sends.
    SetReceivers { peer: PeerId, receivers: Vec<Receiver> },
    /// All sections on which we send to the peer.
    SetSenders { peer: PeerId, senders: Vec<Sender> },
    /// Start SCTP and open these channels.
    SetData { peer: PeerId, max_message_size: usize, channels: Vec<Channel> },
    /// How a room with peers in it is served: only this many of its loudest audio tracks are forwarded (`None`: all).
    SetRoom { room: RoomId, top_speakers: Option<usize> },
    /// Stop or resume forwarding a track.
    SetMuted { track: TrackId, muted: bool },
    /// Send one binary message to each of these peers.
    SendData { peers: Vec<PeerId>, label: Arc<str>, payload: Arc<[u8]> },
    /// Ask the publisher for a key frame.
    RequestKeyframe { track: TrackId },
    /// Close and forget.
    RemovePeer { peer: PeerId },
}

/// A data channel to be opened by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its label.
    pub label: String,
    /// Whether messages keep their order.
    pub ordered: bool,
    /// `None`: reliable.
    pub max_retransmits: Option<u16>,
}

/// What a shard reports.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub enum Event {
    /// ICE checked, DTLS done, fingerprint verified, SRTP ready.
    Connected(PeerId),
    /// DTLS or the fingerprint failed.
    Failed(PeerId, String),
    /// Nothing heard for 10 s.
    Disconnected(PeerId),
    /// Heard again after `Disconnected`.
    Reconnected(PeerId),
    /// Nothing heard for 5 s after `Disconnected`.
    Lost(PeerId),
    /// First media packet of a layer.
    Track { track: TrackId, layer: u8, ssrc: u32, pt: u8 },
    /// A data-channel message.
    Data { peer: PeerId, label: Arc<str>, payload: Vec<u8>, binary: bool },
    /// A data channel can be written to.
    ChannelOpen { peer: PeerId, label: Arc<str> },
    /// Who speaks changed: (track, level 0..1, active), changes only.
    Speakers { room: RoomId, changes: Vec<(TrackId, f32, bool)> },
    /// Messages not sent because the reader is too slow.
    Dropped { peer: PeerId, label: Arc<str>, count: u64 },
    /// A snapshot, once a second for each connected peer.
    Stats(PeerId, Box<PeerStats>),
}
