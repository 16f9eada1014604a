//! What forwarding must know of a packet's payload: whether a decoder can start here.
use greenroom_wire::vp8::{Descriptor, PictureId};
use greenroom_wire::{av1, h264, h265, vp9};

use crate::picture::Picture;
use crate::{Codec, CodecKind};

/// How a payload type of the publisher is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadFormat {
    pub(crate) pt: u8,
    pub(crate) rtx_pt: u8,
    pub(crate) codec: CodecKind,
    pub(crate) clock_rate: u32,
    /// Parameter sets travel in the signalling (RFC 6184, 8.1; RFC 7798, 7.1): a picture alone is enough to start with.
    configured: bool,
}

impl PayloadFormat {
    pub(crate) fn new(codec: &Codec) -> Self {
        PayloadFormat {
            pt: codec.pt,
            rtx_pt: codec.rtx_pt,
            codec: codec.kind(),
            clock_rate: codec.clock_rate,
            configured: ["sprop-parameter-sets", "sprop-sps"].iter().any(|key| codec.parameter(key).is_some()),
        }
    }
}

/// Facts read once per received packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FrameFacts {
    /// A decoder can start with this packet: the first one of a key frame.
    pub(crate) start: bool,
    /// A key frame, or the picture of one whose parameter sets came before.
    pub(crate) keyframe: bool,
    /// VP8 counters.
    pub(crate) picture: Option<Picture>,
    /// The VP8 picture id has 7 bits.
    pub(crate) is_short: bool,
}

/// Reads a payload. One that does not parse is forwarded like any other: the decoder at the end decides.
pub(crate) fn inspect(format: PayloadFormat, payload: &[u8]) -> FrameFacts {
    let keyframe = match format.codec {
        CodecKind::Vp8 => {
            return Descriptor::parse(payload).map_or(FrameFacts::default(), |descriptor| FrameFacts {
                start: descriptor.keyframe,
                keyframe: descriptor.keyframe,
                picture: descriptor.picture_id.map(|_| Picture::of(&descriptor)),
                is_short: matches!(descriptor.picture_id, Some(PictureId::Short(_))),
            });
        }
        CodecKind::H264 => {
            let summary = h264::inspect(payload).unwrap_or_default();
            // An IDR picture without the parameter sets before it is nothing to a decoder that is new.
            let start = summary.starts_decoder() || (summary.starts_idr() && format.configured);
            return FrameFacts { start, keyframe: summary.is_keyframe(), ..FrameFacts::default() };
        }
        CodecKind::Vp9 => {
            vp9::Descriptor::parse(payload).is_ok_and(|d| d.keyframe() && d.start_of_frame && d.spatial() == 0)
        }
        CodecKind::H265 => {
            let summary = h265::inspect(payload).unwrap_or_default();
            let start = summary.starts_decoder() || (summary.starts_irap() && format.configured);
            return FrameFacts { start, keyframe: summary.is_keyframe(), ..FrameFacts::default() };
        }
        CodecKind::Av1 => av1::is_keyframe(payload).unwrap_or(false),
        CodecKind::Red | CodecKind::Opaque => true,
    };
    FrameFacts { start: keyframe, keyframe, ..FrameFacts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(fmtp: &str, payload: &[u8]) -> (bool, bool) {
        let codec = Codec { pt: 96, name: "h264".into(), clock_rate: 90_000, rtx_pt: 97, fmtp: fmtp.into() };
        let facts = inspect(PayloadFormat::new(&codec), payload);
        (facts.start, facts.keyframe)
    }

    #[test]
    fn h264_starts_with_its_parameter_sets() {
        let (sps, idr, slice) = (&[0x67, 0x42][..], &[0x65, 0x88][..], &[0x41, 0x9a][..]);
        assert_eq!(h264("packetization-mode=1", sps), (true, true));
        assert_eq!(h264("packetization-mode=1", idr), (false, true));
        assert_eq!(h264("packetization-mode=1", slice), (false, false));
        assert_eq!(h264("packetization-mode=1;sprop-parameter-sets=Z0LgH9sCgPQ=,aM48gA==", idr), (true, true));
    }
}
