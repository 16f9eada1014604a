//! A receiving video section: whole frames are decoded in order on a codec thread and handed to every sink.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenroom_codecs::video::{VideoCodec, VideoDecoder, decoder};

use crate::lock;
use crate::pool::{CodecPool, Task, TaskHandle};
use crate::ring::FrameRing;
use crate::video::metadata::FrameMetadata;

/// Key frames are asked for at most this often.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Frames that wait for the decoder; more means that it cannot keep up, and the picture jumps to the next key frame.
const MAX_INBOX: usize = 60;

/// I420, planes tightly packed.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    pub width: usize,
    pub height: usize,
    pub data: Arc<[u8]>,
    pub timestamp_us: i64,
    /// Quarter turns clockwise that show it upright, 0 to 3.
    pub rotation: u8,
    /// What the sender says about this picture.
    pub metadata: Option<Arc<FrameMetadata>>,
}

pub type VideoRing = FrameRing<VideoFrame>;

/// One encoded frame from the network.
pub(crate) struct CodedFrame {
    pub codec: VideoCodec,
    pub data: Arc<[u8]>,
    /// So many bytes of it are picture; the sender's words follow.
    pub picture_len: usize,
    pub metadata: Option<Arc<FrameMetadata>>,
    /// Nothing is missing between this frame and the one before.
    pub contiguous: bool,
    pub key: bool,
    pub timestamp_us: i64,
    pub rotation: u8,
}

#[derive(Default)]
struct Inbox {
    frames: VecDeque<CodedFrame>,
    open: bool,
    overflowed: bool,
}

#[derive(Default)]
struct Playout {
    decoder: Option<(VideoCodec, Box<dyn VideoDecoder>)>,
    sinks: Vec<Arc<VideoRing>>,
    /// What arrives cannot be decoded until a key frame does.
    wants_key: bool,
    last_request: Option<Instant>,
    rotation: u8,
}

pub struct VideoReceiver {
    inbox: Mutex<Inbox>,
    playout: Mutex<Playout>,
    task: TaskHandle,
    request_keyframe: Box<dyn Fn() + Send + Sync>,
    decoded: AtomicU64,
}

impl VideoReceiver {
    /// `request_keyframe` asks the sender for one; it is called on a codec thread.
    pub(crate) fn new(pool: &CodecPool, request_keyframe: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| Self {
            inbox: Mutex::default(),
            playout: Mutex::new(Playout { wants_key: true, ..Playout::default() }),
            task: pool.adopt(weak.clone()),
            request_keyframe,
            decoded: AtomicU64::new(0),
        })
    }

    pub(crate) fn frame(&self, frame: CodedFrame) {
        let mut inbox = lock(&self.inbox);
        if !inbox.open {
            return;
        }
        if inbox.frames.len() >= MAX_INBOX {
            inbox.frames.clear();
            inbox.overflowed = true;
        }
        inbox.frames.push_back(frame);
        drop(inbox);
        self.task.wake();
    }

    pub(crate) fn attach(&self, ring: Arc<VideoRing>) {
        let mut playout = lock(&self.playout);
        playout.sinks.push(ring);
        // Whoever comes late cannot show anything before a key frame.
        playout.wants_key = true;
        playout.last_request = None;
        drop(playout);
        lock(&self.inbox).open = true;
        self.task.wake();
    }

    pub fn detach(&self, ring: &Arc<VideoRing>) {
        let mut playout = lock(&self.playout);
        playout.sinks.retain(|sink| !Arc::ptr_eq(sink, ring));
        let empty = playout.sinks.is_empty();
        drop(playout);
        if empty {
            let mut inbox = lock(&self.inbox);
            inbox.open = false;
            inbox.frames.clear();
        }
        ring.end();
    }

    /// Frames that went to the decoder.
    pub fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        let sinks = std::mem::take(&mut lock(&self.playout).sinks);
        *lock(&self.inbox) = Inbox::default();
        sinks.iter().for_each(|sink| sink.end());
    }
}

impl Task for VideoReceiver {
    fn run(&self, now: Instant) -> Option<Instant> {
        let mut playout = lock(&self.playout);
        loop {
            let next = {
                let mut inbox = lock(&self.inbox);
                if std::mem::take(&mut inbox.overflowed) {
                    playout.wants_key = true;
                }
                inbox.frames.pop_front()
            };
            let Some(frame) = next else { break };
            playout.decode(frame, &self.decoded);
        }
        if playout.sinks.is_empty() || !playout.wants_key {
            return None;
        }
        let next_request = playout.last_request.map_or(now, |last| last + REQUEST_INTERVAL);
        if next_request > now {
            return Some(next_request);
        }
        playout.last_request = Some(now);
        drop(playout);
        (self.request_keyframe)();
        Some(now + REQUEST_INTERVAL)
    }

    fn failed(&self) {
        self.end();
    }
}

impl Playout {
    fn decode(&mut self, frame: CodedFrame, decoded: &AtomicU64) {
        if !frame.contiguous && !frame.key {
            self.wants_key = true;
        }
        if self.wants_key && !frame.key {
            return;
        }
        if self.decoder.as_ref().is_none_or(|(codec, _)| *codec != frame.codec) {
            match decoder(frame.codec) {
                Ok(decoder) => self.decoder = Some((frame.codec, decoder)),
                Err(error) => {
                    log::error!("no decoder: {error}");
                    return;
                }
            }
        }
        let Some((_, decoder)) = self.decoder.as_mut() else { return };
        // Senders put the orientation on some frames only.
        self.rotation = if frame.key || frame.rotation != 0 { frame.rotation } else { self.rotation };
        decoded.fetch_add(1, Ordering::Relaxed);
        match decoder.decode(&frame.data[..frame.picture_len]) {
            Ok(Some(picture)) => {
                self.wants_key = false;
                let frame = VideoFrame {
                    width: picture.width,
                    height: picture.height,
                    data: picture.data.into(),
                    timestamp_us: frame.timestamp_us,
                    rotation: self.rotation,
                    metadata: frame.metadata,
                };
                self.sinks.iter().for_each(|sink| sink.push(frame.clone()));
            }
            Ok(None) => self.wants_key |= frame.key,
            Err(error) => {
                log::debug!("frame not decoded: {error}");
                self.wants_key = true;
                // A decoder that failed may be in any state.
                self.decoder = None;
            }
        }
    }
}
