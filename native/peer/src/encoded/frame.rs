//! One encoded frame, and the queue a program reads it from.

use std::sync::Arc;

use crate::ring::FrameRing;
use crate::video::metadata::FrameMetadata;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedFormat {
    /// One packet (RFC 6716).
    Opus,
    /// One frame (RFC 6386).
    Vp8,
    /// One access unit in Annex B form; key frames begin with their parameter sets.
    H264,
}

impl EncodedFormat {
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::H264 => 90_000,
        }
    }

    pub fn is_audio(self) -> bool {
        self == Self::Opus
    }
}

#[derive(Debug, Clone)]
pub struct EncodedFrame {
    pub format: EncodedFormat,
    /// Shared with whoever else receives the frame; only the first `len` bytes are it.
    pub(crate) buffer: Arc<[u8]>,
    pub(crate) len: usize,
    /// As on the wire; counts `format.clock_rate()`.
    pub rtp_timestamp: u32,
    /// When it is to be heard or shown, on this machine's monotonic clock. Grows from frame to frame.
    pub presentation_us: i64,
    /// Of sound; 0 for a picture.
    pub duration_us: u64,
    /// Decoding may start here. Every packet of sound.
    pub key: bool,
    /// Of the pictures since the last key frame, in pixels; 0 when unknown, and for sound.
    pub width: u16,
    pub height: u16,
    /// Quarter turns clockwise that show it upright, 0 to 3.
    pub rotation: u8,
    /// Frames before this one were lost, on the way or because nobody read.
    pub discontinuity: bool,
    pub metadata: Option<Arc<FrameMetadata>>,
}

impl EncodedFrame {
    pub fn data(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// Bytes that may wait in a queue, whatever its capacity in frames.
pub const MAX_WAITING_BYTES: usize = 32 << 20;

pub type EncodedRing = FrameRing<EncodedFrame>;
