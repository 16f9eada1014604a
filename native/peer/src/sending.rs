//! Sections that send an audio or a video input.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use greenroom_codecs::video::VideoCodec;
use str0m::media::Mid;

use crate::audio::input::{AudioPacket, AudioTarget};
use crate::connection::VideoSending;
use crate::shared::PeerShared;
use crate::video::input::{VideoPacket, VideoTarget};

/// A section that sends an audio input.
pub(crate) struct AudioSection {
    peer: Weak<PeerShared>,
    mid: Mid,
    muted: AtomicBool,
    removed: AtomicBool,
}

impl AudioSection {
    pub fn new(peer: &Arc<PeerShared>, mid: Mid) -> Self {
        Self { peer: Arc::downgrade(peer), mid, muted: AtomicBool::new(false), removed: AtomicBool::new(false) }
    }
}

impl AudioTarget for AudioSection {
    fn send(&self, packet: AudioPacket<'_>) -> bool {
        let Some(peer) = self.peer.upgrade() else { return false };
        if self.removed.load(Ordering::Relaxed) || peer.is_closed() {
            return false;
        }
        if !self.muted.load(Ordering::Relaxed) {
            // A failed write is a lost packet; a failed peer has said so.
            let _ = peer.with(|connection, _| connection.write_audio(self.mid, packet));
        }
        true
    }
}

/// A section that sends a video input.
pub(crate) struct VideoSection {
    peer: Weak<PeerShared>,
    mid: Mid,
    codec: VideoCodec,
    sending: Arc<VideoSending>,
    muted: AtomicBool,
    removed: AtomicBool,
}

impl VideoSection {
    pub fn new(peer: &Arc<PeerShared>, mid: Mid, codec: VideoCodec, sending: Arc<VideoSending>) -> Self {
        let (muted, removed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { peer: Arc::downgrade(peer), mid, codec, sending, muted, removed }
    }
}

impl VideoTarget for VideoSection {
    fn layers_wanted(&self) -> Option<usize> {
        let peer = self.peer.upgrade()?;
        if self.removed.load(Ordering::Relaxed) || peer.is_closed() {
            return None;
        }
        if self.muted.load(Ordering::Relaxed) {
            return Some(0);
        }
        Some(peer.view(|connection| connection.video_layers_wanted(self.mid, self.codec, self.sending.rids.len())))
    }

    fn take_keyframe_request(&self, layer: usize) -> bool {
        let bit = 1 << layer;
        self.sending.keyframes.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    fn send(&self, packet: VideoPacket) {
        let Some(peer) = self.peer.upgrade() else { return };
        let rid = self.sending.rids.get(packet.layer).copied().flatten();
        // A failed write is a lost frame; a failed peer has said so.
        let _ = peer.with(|connection, now| connection.write_video(self.mid, self.codec, rid, packet, now));
    }
}

/// A sending section as the peer remembers it.
pub(crate) enum Sending {
    Audio(Arc<AudioSection>),
    Video(Arc<VideoSection>),
}

impl Sending {
    pub fn mid(&self) -> Mid {
        match self {
            Self::Audio(section) => section.mid,
            Self::Video(section) => section.mid,
        }
    }

    pub fn remove(&self) {
        match self {
            Self::Audio(section) => section.removed.store(true, Ordering::Relaxed),
            Self::Video(section) => section.removed.store(true, Ordering::Relaxed),
        }
    }

    pub fn mute(&self, muted: bool) {
        match self {
            Self::Audio(section) => section.muted.store(muted, Ordering::Relaxed),
            Self::Video(section) => {
                section.muted.store(muted, Ordering::Relaxed);
                // Whoever sees it again needs a key frame.
                section.sending.request(None);
            }
        }
    }
}
