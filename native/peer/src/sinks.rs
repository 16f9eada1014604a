//! What a program reads media from, decoded or as it came.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::audio::receiver::AudioReceiver;
use crate::audio::sink::{AudioFrame, AudioRing};
use crate::encoded::frame::{EncodedFrame, EncodedRing};
use crate::encoded::receiver::EncodedReceiver;
use crate::event::Id;
use crate::video::receiver::{VideoFrame, VideoReceiver, VideoRing};

/// Decoded sound of one section. Detached when dropped.
pub struct AudioSink {
    pub(crate) ring: Arc<AudioRing>,
    pub(crate) receiver: Arc<AudioReceiver>,
}

impl AudioSink {
    pub fn id(&self) -> Id {
        self.ring.id()
    }

    pub fn read(&self) -> VecDeque<AudioFrame> {
        self.ring.read()
    }

    /// No more frames; the sink ends.
    pub fn close(&self) {
        self.receiver.detach(&self.ring);
    }
}

impl Drop for AudioSink {
    fn drop(&mut self) {
        self.close();
    }
}

/// Decoded pictures of one section. Detached when dropped.
pub struct VideoSink {
    pub(crate) ring: Arc<VideoRing>,
    pub(crate) receiver: Arc<VideoReceiver>,
}

impl VideoSink {
    pub fn id(&self) -> Id {
        self.ring.id()
    }

    pub fn read(&self) -> VecDeque<VideoFrame> {
        self.ring.read()
    }

    /// No more frames; the sink ends.
    pub fn close(&self) {
        self.receiver.detach(&self.ring);
    }
}

impl Drop for VideoSink {
    fn drop(&mut self) {
        self.close();
    }
}

/// Encoded frames of one section. Detached when dropped.
pub struct EncodedSink {
    pub(crate) ring: Arc<EncodedRing>,
    pub(crate) receiver: Arc<EncodedReceiver>,
    pub(crate) is_audio: bool,
}

impl EncodedSink {
    pub fn id(&self) -> Id {
        self.ring.id()
    }

    /// Frames in their order. When some were dropped before them, the first says `discontinuity`, and of pictures a key frame is
    /// asked for, because what follows cannot be decoded without.
    pub fn read(&self) -> VecDeque<EncodedFrame> {
        let (mut frames, dropped) = self.ring.read_counting();
        if dropped > 0 {
            if let Some(first) = frames.front_mut() {
                first.discontinuity = true;
            }
            if !frames.iter().any(|frame| frame.key) {
                self.receiver.ask_for_key();
            }
        }
        frames
    }

    /// Frames that were not read in time.
    pub fn dropped(&self) -> u64 {
        self.ring.dropped()
    }

    /// Ask the sender, until a key frame comes. Sound needs none.
    pub fn request_keyframe(&self) {
        if !self.is_audio {
            self.receiver.ask_for_key();
        }
    }

    /// No more frames; the sink ends.
    pub fn close(&self) {
        self.receiver.detach(&self.ring);
    }
}

impl Drop for EncodedSink {
    fn drop(&mut self) {
        self.close();
    }
}
