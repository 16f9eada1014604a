//! What the core is told about a negotiated peer: plain values made by whoever reads the SDP.
use greenroom_wire::ext::ExtensionKind;

use crate::TrackId;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One stream, forwarded from any packet on.
    Audio,
    /// One to three streams (simulcast), forwarded from a key frame on.
    Video,
}

/// The codecs whose payload is looked into. Everything else is forwarded blindly, from any packet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecKind {
    /// RFC 2198 redundancy around Opus.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// AV1 RTP specification.
    Av1,
    /// Opus, G.711 and what else there is.
    Opaque,
}

/// One payload type of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    /// Payload type, 0..=127.
    pub pt: u8,
    /// Lower-case name without the kind: `opus`, `vp8`.
    pub name: String,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Payload type of its retransmissions (RFC 4588); 0: none.
    pub rtx_pt: u8,
    /// The parameters of `a=fmtp`.
    pub fmtp: String,
}

impl Codec {
    /// How the payload is treated.
    pub fn kind(&self) -> CodecKind {
        match self.name.as_str() {
            "red" => CodecKind::Red,
            "vp8" => CodecKind::Vp8,
            "vp9" => CodecKind::Vp9,
            "h264" => CodecKind::H264,
            "h265" => CodecKind::H265,
            "av1" => CodecKind::Av1,
            _ => CodecKind::Opaque,
        }
    }

    /// The value of one `key=value` parameter.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.fmtp.split(';').filter_map(|part| part.trim().split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    }
}

/// Negotiated header extensions: both ways between id and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    pairs: Vec<(u8, ExtensionKind)>,
}

impl Extensions {
    /// From `a=extmap` pairs; URIs nobody here knows are left out.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, u8)>) -> Self {
        let known = pairs.into_iter().filter_map(|(uri, id)| Some((id, ExtensionKind::from_uri(uri)?)));
        Extensions { pairs: known.filter(|(id, _)| *id != 0).collect() }
    }

    /// The id of a kind.
    pub fn id(&self, kind: ExtensionKind) -> Option<u8> {
        self.pairs.iter().find(|(_, k)| *k == kind).map(|(id, _)| *id)
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(u8, ExtensionKind)] {
        &self.pairs
    }
}

/// A section on which the peer sends to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The published track.
    pub track: TrackId,
    /// `a=mid`.
    pub mid: String,
    /// Audio or video.
    pub kind: Kind,
    /// What may arrive.
    pub codecs: Vec<Codec>,
    /// Extension ids.
    pub extensions: Extensions,
    /// Simulcast streams: (rid, spatial layer 0..=2); empty without simulcast.
    pub layers: Vec<(String, u8)>,
    /// (ssrc, rtx ssrc or 0) as far as the SDP names them, in order.
    pub ssrcs: Vec<(u32, u32)>,
    /// Whether lost packets may be asked for.
    pub nack: bool,
    /// Whether the sender wants transport-wide feedback.
    pub transport_cc: bool,
}

/// A section on which we send to the peer. Its identity is `ssrc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// `a=mid`.
    pub mid: String,
    /// The track to forward; it may not be published yet.
    pub track: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// SSRC of the stream.
    pub ssrc: u32,
    /// SSRC of its retransmissions; 0: retransmit plainly.
    pub rtx_ssrc: u32,
    /// What the peer can take here.
    pub codecs: Vec<Codec>,
    /// Extension ids.
    pub extensions: Extensions,
    /// Send nothing for now.
    pub paused: bool,
    /// Highest spatial layer wanted.
    pub max_layer: u8,
    /// Highest temporal layer wanted.
    pub max_temporal: u8,
    /// CNAME: the same for all tracks to be played in sync.
    pub cname: String,
}
