//! A receiving section as it came: frames are put in order, timed and handed to every sink on the thread that brings them.
//! The codec thread only helps with what must happen when nothing arrives: lost sound is given up, key frames are asked for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenroom_codecs::opus::packet_samples_48k;
use greenroom_codecs::video::VideoCodec;
use greenroom_wire::vp8;

use super::frame::{EncodedFormat, EncodedFrame, EncodedRing};
use super::order::Order;
use super::parameter_sets::ParameterSets;
use super::timeline::{GroupClock, SenderTime, Timeline};
use crate::clock::monotonic_us;
use crate::lock;
use crate::pool::{CodecPool, Task, TaskHandle};
use crate::video::receiver::CodedFrame;

/// Key frames are asked for at most this often.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// The times of something that arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Extended.
    pub rtp: u64,
    pub at: Instant,
    pub report: Option<SenderTime>,
}

struct Feed {
    ring: Arc<EncodedRing>,
    /// Pictures begin with a key frame.
    started: bool,
}

#[derive(Default)]
struct State {
    feeds: Vec<Feed>,
    timeline: Option<Timeline>,
    packets: Order<(Arrival, Arc<[u8]>, usize)>,
    sets: ParameterSets,
    size: (u16, u16),
    rotation: u8,
    wants_key: bool,
    last_request: Option<Instant>,
}

pub struct EncodedReceiver {
    state: Mutex<State>,
    task: TaskHandle,
    request_keyframe: Box<dyn Fn() + Send + Sync>,
}

impl EncodedReceiver {
    /// `request_keyframe` asks the sender for one; it is called on a codec thread.
    pub(crate) fn new(pool: &CodecPool, request_keyframe: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| Self {
            state: Mutex::default(),
            task: pool.adopt(weak.clone()),
            request_keyframe,
        })
    }

    /// `group` is used while this is the section's only sink.
    pub(crate) fn attach(&self, ring: Arc<EncodedRing>, is_audio: bool, group: Arc<GroupClock>) {
        let mut state = lock(&self.state);
        if state.feeds.is_empty() {
            let rate = if is_audio { EncodedFormat::Opus } else { EncodedFormat::Vp8 }.clock_rate();
            *state = State { timeline: Some(Timeline::new(rate, group)), ..State::default() };
        }
        state.feeds.push(Feed { ring, started: is_audio });
        drop(state);
        if !is_audio {
            self.ask_for_key();
        }
    }

    /// The sender is asked for a key frame until one comes.
    pub(crate) fn ask_for_key(&self) {
        lock(&self.state).wants_key = true;
        self.task.wake();
    }

    pub fn detach(&self, ring: &Arc<EncodedRing>) {
        let mut state = lock(&self.state);
        state.feeds.retain(|feed| !Arc::ptr_eq(&feed.ring, ring));
        if state.feeds.is_empty() {
            *state = State::default();
        }
        drop(state);
        ring.end();
    }

    pub fn end(&self) {
        let feeds = std::mem::take(&mut *lock(&self.state)).feeds;
        feeds.iter().for_each(|feed| feed.ring.end());
    }

    /// A packet of sound, in any order. What is not Opus is dropped.
    pub(crate) fn packet(&self, seq: u64, arrival: Arrival, data: &Arc<[u8]>) {
        let mut state = lock(&self.state);
        if state.feeds.is_empty() {
            return;
        }
        let Some(samples) = packet_samples_48k(data) else { return };
        state.packets.insert(seq, arrival.at, (arrival, data.clone(), samples));
        state.give_packets(arrival.at);
        let due = state.packets.due();
        drop(state);
        if let Some(due) = due {
            self.task.wake_at(due);
        }
    }

    /// A picture; they come in their order.
    pub(crate) fn frame(&self, arrival: Arrival, frame: &CodedFrame) {
        let mut state = lock(&self.state);
        if state.feeds.is_empty() {
            return;
        }
        state.give_picture(arrival, frame);
        let asks = state.wants_key;
        drop(state);
        if asks {
            self.task.wake();
        }
    }
}

impl Task for EncodedReceiver {
    fn run(&self, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.state);
        state.give_packets(now);
        let due = state.packets.due();
        if !state.wants_key || state.feeds.is_empty() {
            return due;
        }
        let next = state.last_request.map_or(now, |last| last + REQUEST_INTERVAL);
        if next > now {
            return Some(next);
        }
        state.last_request = Some(now);
        drop(state);
        (self.request_keyframe)();
        Some(now + REQUEST_INTERVAL)
    }

    fn failed(&self) {
        self.end();
    }
}

impl State {
    fn give_packets(&mut self, now: Instant) {
        while let Some(((arrival, data, samples), lost)) = self.packets.pop(now) {
            let frame = EncodedFrame {
                format: EncodedFormat::Opus,
                len: data.len(),
                buffer: data,
                rtp_timestamp: arrival.rtp as u32,
                presentation_us: 0,
                duration_us: samples as u64 * 1_000_000 / 48_000,
                key: true,
                width: 0,
                height: 0,
                rotation: 0,
                discontinuity: lost,
                metadata: None,
            };
            self.give(arrival, frame);
        }
    }

    fn give_picture(&mut self, arrival: Arrival, coded: &CodedFrame) {
        let picture = &coded.data[..coded.picture_len];
        let (format, size, before) = match coded.codec {
            VideoCodec::Vp8 => (EncodedFormat::Vp8, vp8::picture_size(picture), Vec::new()),
            VideoCodec::H264 => {
                let missing = self.sets.before(picture).to_vec();
                (EncodedFormat::H264, self.sets.picture_size().filter(|_| coded.key), missing)
            }
        };
        self.size = size.unwrap_or(self.size);
        // Senders put the orientation on some frames only.
        self.rotation = if coded.key || coded.rotation != 0 { coded.rotation } else { self.rotation };
        if coded.key {
            self.wants_key = false;
        } else if !coded.contiguous {
            self.wants_key = true;
        }
        let (buffer, len) = if before.is_empty() {
            (coded.data.clone(), coded.picture_len)
        } else {
            let whole: Arc<[u8]> = [&before[..], picture].concat().into();
            let len = whole.len();
            (whole, len)
        };
        let frame = EncodedFrame {
            format,
            buffer,
            len,
            rtp_timestamp: arrival.rtp as u32,
            presentation_us: 0,
            duration_us: 0,
            key: coded.key,
            width: self.size.0,
            height: self.size.1,
            rotation: self.rotation,
            discontinuity: !coded.contiguous,
            metadata: coded.metadata.clone(),
        };
        self.give(arrival, frame);
    }

    fn give(&mut self, arrival: Arrival, mut frame: EncodedFrame) {
        let Some(timeline) = self.timeline.as_mut() else { return };
        let placed = timeline.place(arrival.rtp, monotonic_us(arrival.at), arrival.report);
        frame.presentation_us = placed.us;
        frame.discontinuity |= placed.anew;
        for feed in &mut self.feeds {
            if feed.started {
                feed.ring.push(frame.clone());
            } else if frame.key {
                feed.started = true;
                // Nothing was promised before.
                feed.ring.push(EncodedFrame { discontinuity: false, ..frame.clone() });
            }
        }
    }
}
