//! Codecs and sample arithmetic of a software participant: Opus, VP8 and H264, resampling, mixing, levels and the
//! eleven pixel formats. No I/O, no clock, no threads: a caller passes data in and gets data out.

pub mod opus;
pub mod pcm;
pub mod resample;

mod error;

pub use error::CodecError;
