//! What forwarding must know of a packet's payload: whether a decoder can start here.
use greenroom_wire::vp8::Descriptor;
use greenroom_wire::{av1, h264, h265, vp9};

use crate::CodecKind;
use crate::picture::Picture;

/// Facts read once per received packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FrameFacts {
    /// First packet of a key frame.
    pub(crate) keyframe: bool,
    /// VP8 counters.
    pub(crate) picture: Option<Picture>,
}

/// Reads a payload. One that does not parse is forwarded like any other: the decoder at the end decides.
pub(crate) fn inspect(codec: CodecKind, payload: &[u8]) -> FrameFacts {
    let keyframe = match codec {
        CodecKind::Vp8 => {
            return Descriptor::parse(payload).map_or(FrameFacts::default(), |descriptor| FrameFacts {
                keyframe: descriptor.keyframe,
                picture: descriptor.picture_id.map(|_| Picture::of(&descriptor)),
            });
        }
        CodecKind::Vp9 => {
            vp9::Descriptor::parse(payload).is_ok_and(|d| d.keyframe() && d.start_of_frame && d.spatial() == 0)
        }
        CodecKind::H264 => h264::inspect(payload).is_ok_and(|summary| summary.is_keyframe()),
        CodecKind::H265 => h265::inspect(payload).is_ok_and(|summary| summary.is_keyframe()),
        CodecKind::Av1 => av1::is_keyframe(payload).unwrap_or(false),
        CodecKind::Red | CodecKind::Opaque => true,
    };
    FrameFacts { keyframe, picture: None }
}
