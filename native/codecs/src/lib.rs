//! Codecs and sample arithmetic of a software participant: Opus, VP8 and H264, resampling, mixing, levels and the
//! eleven pixel formats. No I/O, no clock, no threads: a caller passes data in and gets data out.
#![warn(clippy::unwrap_used)]

pub mod h264;
pub mod opus;
pub mod pcm;
pub mod pixels;
pub mod resample;
pub mod video;
pub mod vp8;

mod coding;
mod error;
mod picture;

pub use error::CodecError;
