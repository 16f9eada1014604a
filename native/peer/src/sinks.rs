//! What a program reads decoded media from.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::audio::receiver::AudioReceiver;
use crate::audio::sink::{AudioFrame, AudioRing};
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
