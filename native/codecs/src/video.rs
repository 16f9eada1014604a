//! Pictures between pixels and packets: I420, what every video codec here can do, and the codecs by name.

use crate::CodecError;
use crate::h264::{H264Decoder, H264Encoder};
use crate::vp8::{Vp8Decoder, Vp8Encoder};

pub use crate::coding::{EncodedPicture, VideoCodec, VideoDecoder, VideoEncoder, VideoSettings};
pub use crate::picture::{I420, MAX_SIDE};

/// An encoder for pictures of one size.
pub fn encoder(codec: VideoCodec, settings: VideoSettings) -> Result<Box<dyn VideoEncoder>, CodecError> {
    Ok(match codec {
        VideoCodec::Vp8 => Box::new(Vp8Encoder::new(settings)?),
        VideoCodec::H264 => Box::new(H264Encoder::new(settings)?),
    })
}

/// A decoder for pictures of any size up to [`MAX_SIDE`].
pub fn decoder(codec: VideoCodec) -> Result<Box<dyn VideoDecoder>, CodecError> {
    Ok(match codec {
        VideoCodec::Vp8 => Box::new(Vp8Decoder::new()?),
        VideoCodec::H264 => Box::new(H264Decoder::new()?),
    })
}
