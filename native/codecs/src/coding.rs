//! What every video codec here can do.

use crate::CodecError;
use crate::picture::I420;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    Vp8,
    H264,
}

/// How a picture is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoSettings {
    pub width: usize,
    pub height: usize,
    /// Bits per second.
    pub bitrate: u32,
    pub fps: f32,
    pub screencast: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPicture {
    pub data: Vec<u8>,
    pub key: bool,
}

pub trait VideoEncoder: Send {
    /// Encode one picture of the size given at the start. Timestamps grow. None: the rate control left it out.
    fn encode(&mut self, picture: &I420, timestamp_us: i64, key: bool) -> Result<Option<EncodedPicture>, CodecError>;
    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError>;
}

pub trait VideoDecoder: Send {
    /// Decode one whole frame. None: nothing to show for it.
    fn decode(&mut self, frame: &[u8]) -> Result<Option<I420>, CodecError>;
}
