//! A receiving audio section: packets wait in the jitter buffer, are decoded at their time on a codec thread and handed
//! to every sink.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenroom_codecs::opus::{Decoder, is_dtx_packet, is_native_rate, packet_samples_48k};
use greenroom_codecs::pcm::level_dbov;

use super::jitter::{Action, JitterBuffer, JitterStats, Packet};
use super::sink::{AudioRing, SinkFeed};
use crate::lock;
use crate::pool::{CodecPool, Task, TaskHandle};

/// Below this a frame counts as silent and may be left out to win back delay.
const SILENT_DBOV: i8 = -50;
/// Nothing at all; what follows may as well be a pause.
const NOTHING_DBOV: i8 = -70;
/// A reader that stays away: packets before the codec thread looks at them.
const MAX_INBOX: usize = 600;

struct Inbox {
    packets: Vec<Packet>,
    /// Nobody listens: packets are dropped undecoded.
    open: bool,
    /// The task runs by its own clock; packets need not wake it.
    running: bool,
}

struct Playout {
    jitter: JitterBuffer,
    decoder: Option<Decoder>,
    feeds: Vec<SinkFeed>,
    pcm: Vec<i16>,
    arrived: Vec<Packet>,
}

pub struct AudioReceiver {
    inbox: Mutex<Inbox>,
    playout: Mutex<Playout>,
    task: TaskHandle,
    concealed_us: AtomicU64,
    decoded: AtomicU64,
    stats: Mutex<JitterStats>,
}

impl AudioReceiver {
    pub fn new(pool: &CodecPool) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| Self {
            inbox: Mutex::new(Inbox { packets: Vec::new(), open: false, running: false }),
            playout: Mutex::new(Playout {
                jitter: JitterBuffer::new(Instant::now()),
                decoder: None,
                feeds: Vec::new(),
                pcm: Vec::new(),
                arrived: Vec::new(),
            }),
            task: pool.adopt(weak.clone()),
            concealed_us: AtomicU64::new(0),
            decoded: AtomicU64::new(0),
            stats: Mutex::default(),
        })
    }

    /// A packet from the network (I/O thread). `time` in 48 kHz samples; what is not Opus is dropped.
    pub fn packet(&self, seq: u64, time: u64, arrival: Instant, data: Arc<[u8]>) {
        let Some(samples) = packet_samples_48k(&data) else { return };
        let silent = is_dtx_packet(&data);
        let mut inbox = lock(&self.inbox);
        if !inbox.open || inbox.packets.len() >= MAX_INBOX {
            return;
        }
        inbox.packets.push(Packet { seq, time, samples: samples as u32, arrival, data, silent });
        if !std::mem::replace(&mut inbox.running, true) {
            drop(inbox);
            self.task.wake();
        }
    }

    pub(crate) fn attach(&self, feed: SinkFeed) {
        let mut playout = lock(&self.playout);
        playout.feeds.push(feed);
        // The best format for all sinks may be another one now.
        playout.decoder = None;
        drop(playout);
        lock(&self.inbox).open = true;
    }

    /// Take out the sinks and end them: the section receives nothing more.
    pub fn end(&self) {
        let feeds = std::mem::take(&mut lock(&self.playout).feeds);
        lock(&self.inbox).open = false;
        feeds.iter().for_each(|feed| feed.ring.end());
    }

    pub fn detach(&self, ring: &Arc<AudioRing>) {
        let mut playout = lock(&self.playout);
        playout.feeds.retain(|feed| !Arc::ptr_eq(&feed.ring, ring));
        let empty = playout.feeds.is_empty();
        if empty {
            // Whoever listens next may hear another stream on this section, with numbers of its own.
            playout.jitter = JitterBuffer::new(Instant::now());
            let mut inbox = lock(&self.inbox);
            inbox.open = false;
            inbox.packets.clear();
        }
        drop(playout);
        ring.end();
    }

    /// Milliseconds of sound made up so far.
    pub fn concealed_ms(&self) -> u64 {
        self.concealed_us.load(Ordering::Relaxed) / 1000
    }

    /// Packets that went to the decoder.
    pub fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    pub fn jitter_stats(&self) -> JitterStats {
        *lock(&self.stats)
    }
}

impl Task for AudioReceiver {
    fn run(&self, now: Instant) -> Option<Instant> {
        let mut guard = lock(&self.playout);
        let playout = &mut *guard;
        {
            let mut inbox = lock(&self.inbox);
            std::mem::swap(&mut inbox.packets, &mut playout.arrived);
            if playout.feeds.is_empty() {
                // Starts afresh with the next sink.
                inbox.running = false;
                playout.arrived.clear();
                playout.jitter = JitterBuffer::new(now);
                return None;
            }
        }
        for packet in playout.arrived.drain(..) {
            playout.jitter.insert(packet);
        }
        while playout.jitter.due().is_some_and(|due| due <= now) {
            let action = playout.jitter.next(now);
            self.decoded.fetch_add(u64::from(matches!(action, Action::Play { .. })), Ordering::Relaxed);
            playout.perform(action, &self.concealed_us);
        }
        *lock(&self.stats) = playout.jitter.stats();
        // Without a packet yet there is nothing to time; a sink that was attached late still sees `running` packets.
        Some(playout.jitter.due().unwrap_or(now + Duration::from_millis(20)))
    }

    fn failed(&self) {
        self.end();
    }
}

impl Playout {
    fn perform(&mut self, action: Action, concealed_us: &AtomicU64) {
        let Some((rate, channels)) = self.ensure_decoder() else { return };
        let Some(decoder) = self.decoder.as_mut() else { return };
        let mut pcm = std::mem::take(&mut self.pcm);
        let mut concealed = false;
        let silence = |pcm: &mut Vec<i16>, samples: u32| {
            pcm.clear();
            pcm.resize(samples as usize * rate as usize / 48_000 * channels, 0);
        };
        let mut leave_out = false;
        match &action {
            Action::Play { packet, may_skip, skip } => {
                if decoder.decode(&packet.data, &mut pcm).is_err() {
                    // Not what it said it was: its time passes in silence.
                    silence(&mut pcm, packet.samples);
                    concealed = true;
                }
                leave_out = *skip;
                let level = level_dbov(&pcm);
                if !*skip && *may_skip && (packet.silent || level < SILENT_DBOV) {
                    self.jitter.skipped(packet.samples);
                    leave_out = true;
                }
                if level < NOTHING_DBOV {
                    self.jitter.heard_nothing();
                }
            }
            Action::Recover { next, samples } => {
                concealed = true;
                if decoder.decode_fec(&next.data, *samples as usize, &mut pcm).is_err() {
                    silence(&mut pcm, *samples);
                }
            }
            Action::Conceal { samples } => {
                concealed = true;
                if decoder.conceal(*samples as usize, &mut pcm).is_err() {
                    silence(&mut pcm, *samples);
                }
            }
            Action::Silence { samples } => silence(&mut pcm, *samples),
        }
        if !leave_out {
            if concealed {
                let us = pcm.len() as u64 / channels as u64 * 1_000_000 / u64::from(rate);
                concealed_us.fetch_add(us, Ordering::Relaxed);
            }
            for feed in &mut self.feeds {
                feed.push(&pcm, rate, channels, concealed);
            }
        }
        self.pcm = pcm;
    }

    /// Opus decodes to any of its own rates at no extra cost, so that one common wish needs no resampler and no mixing.
    fn ensure_decoder(&mut self) -> Option<(u32, usize)> {
        if self.decoder.is_none() {
            let first = self.feeds.first()?.format;
            let same_rate = self.feeds.iter().all(|feed| feed.format.sample_rate == first.sample_rate);
            let rate = if same_rate && is_native_rate(first.sample_rate) { first.sample_rate } else { 48_000 };
            let mono = self.feeds.iter().all(|feed| feed.format.channels == 1);
            self.decoder = Decoder::new(rate, if mono { 1 } else { 2 }).ok();
        }
        self.decoder.as_ref().map(|decoder| (decoder.sample_rate(), decoder.channels()))
    }
}

#[cfg(test)]
mod tests {
    use greenroom_codecs::opus::{Encoder, EncoderSettings};

    use super::*;
    use crate::audio::sink::AudioFormat;
    use crate::event::{Event, EventQueue};

    const FORMAT: AudioFormat = AudioFormat { sample_rate: 16_000, channels: 1, frame_ms: 20 };

    /// Whether the sink has loud frames of a tone of 40 packets.
    fn heard(receiver: &AudioReceiver, ring: &AudioRing, first_seq: u64) -> bool {
        let settings = EncoderSettings { sample_rate: 16_000, channels: 1, bitrate: 24_000, complexity: 5 };
        let mut encoder = Encoder::new(settings).unwrap();
        let (mut phase, mut loud) = (0.0f64, false);
        for number in 0..40 {
            let pcm: Vec<i16> = (0..encoder.frame_samples())
                .map(|_| {
                    phase += std::f64::consts::TAU * 440.0 / 16_000.0;
                    (12_000.0 * phase.sin()) as i16
                })
                .collect();
            let data: Arc<[u8]> = encoder.encode(&pcm).unwrap().into();
            receiver.packet(first_seq + number, number * 960, Instant::now(), data);
            std::thread::sleep(Duration::from_millis(20));
            loud |= ring.read().iter().any(|frame| frame.pcm.iter().any(|sample| *sample > 3_000));
        }
        loud
    }

    #[test]
    fn a_section_that_is_used_again_may_count_from_a_lower_number() {
        let pool = CodecPool::new(1).unwrap();
        let events = Arc::new(EventQueue::new().unwrap());
        let receiver = AudioReceiver::new(&pool);
        let ring = |id| Arc::new(AudioRing::new(id, 500, Event::Audio, events.clone()));
        let (first, second) = (ring(1), ring(2));
        receiver.attach(SinkFeed::new(first.clone(), FORMAT));
        assert!(heard(&receiver, &first, 5_000));
        receiver.detach(&first);
        receiver.attach(SinkFeed::new(second.clone(), FORMAT));
        assert!(heard(&receiver, &second, 4_000));
        pool.stop();
    }
}
