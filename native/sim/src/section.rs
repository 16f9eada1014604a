//! What SDP would have settled, for both sides.
use greenroom_forward::{Codec, Extensions, Kind, Receiver, Sender, TrackId};

/// Ids of str0m's standard header extensions.
fn extensions() -> Extensions {
    Extensions::new([
        ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 1),
        ("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 2),
        ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", 3),
        ("urn:ietf:params:rtp-hdrext:sdes:mid", 4),
        ("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", 10),
        ("urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", 11),
    ])
}

/// Payload types as str0m has them.
fn codecs(kind: Kind) -> Vec<Codec> {
    let (pt, name, clock_rate, rtx_pt) = match kind {
        Kind::Audio => (111, "opus", 48_000, 0),
        Kind::Video => (96, "vp8", 90_000, 97),
    };
    vec![Codec { pt, name: name.into(), clock_rate, rtx_pt, fmtp: String::new() }]
}

/// A section on which a participant publishes `track`. Simulcast streams are known by their `rids` (lowest first) only.
pub(crate) fn receiver(track: u64, mid: &str, kind: Kind, ssrcs: &[(u32, u32)], rids: &[&str]) -> Receiver {
    Receiver {
        track: TrackId(track),
        mid: mid.into(),
        kind,
        codecs: codecs(kind),
        extensions: extensions(),
        layers: rids.iter().zip(0..).map(|(rid, layer)| (rid.to_string(), layer)).collect(),
        ssrcs: ssrcs.to_vec(),
        nack: true,
        transport_cc: true,
    }
}

/// A section on which a participant receives `track`.
pub(crate) fn sender(track: u64, mid: &str, kind: Kind, ssrc: u32, rtx_ssrc: u32) -> Sender {
    Sender {
        mid: mid.into(),
        track: TrackId(track),
        kind,
        ssrc,
        rtx_ssrc,
        codecs: codecs(kind),
        extensions: extensions(),
        paused: false,
        max_layer: 2,
        max_temporal: 3,
        cname: format!("publisher of {track}"),
    }
}
