//! PCM from the program, paced by the clock and encoded for every section that sends it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use greenroom_codecs::opus::{Encoder, EncoderSettings, is_dtx_packet, is_native_rate};
use greenroom_codecs::pcm::{level_dbov, mix_channels};
use greenroom_codecs::resample::Resampler;

use crate::error::PeerError;
use crate::event::{Event, EventQueue, Id};
use crate::lock;
use crate::pool::{CodecPool, Task, TaskHandle};

const FRAME: Duration = Duration::from_millis(20);
/// How long an incomplete frame waits for the program before silence completes it.
const PATIENCE: Duration = Duration::from_millis(15);
/// Silence sent after the last sound, so that listeners fade out instead of guessing. Then nothing is sent.
const HANGOVER_FRAMES: u32 = 10;
/// A voice is heard above this level (RFC 6464's V bit).
const VOICE_DBOV: i8 = -55;
/// Frames below this are nothing anybody hears; after `HANGOVER_FRAMES` of them discontinuous transmission may set in.
const NOTHING_DBOV: i8 = -75;

/// One encoded packet on its way to a section.
pub(crate) struct AudioPacket<'a> {
    pub data: &'a [u8],
    /// 48 kHz.
    pub rtp_time: u64,
    pub at: Instant,
    pub level: i8,
    pub voice: bool,
    pub talkspurt: bool,
}

/// A section that sends this input.
pub(crate) trait AudioTarget: Send + Sync {
    /// False when the section is gone for good.
    fn send(&self, packet: AudioPacket<'_>) -> bool;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct AudioSending {
    pub bitrate: u32,
    pub dtx: bool,
}

struct Output {
    target: Arc<dyn AudioTarget>,
    encoder: Encoder,
    dtx: bool,
    /// The last packet carried no sound.
    silent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// Nothing is sent; sound that comes is sent at once.
    Idle,
    /// An incomplete frame waits until then for its rest.
    Waiting(Instant),
    /// The next frame is due.
    Running(Instant),
    /// So many frames of silence have followed the sound; the next is due.
    Hangover(u32, Instant),
}

struct State {
    queue: VecDeque<i16>,
    resampler: Option<Resampler>,
    outputs: Vec<Output>,
    pace: Pace,
    /// RTP time of the next frame, 48 kHz.
    rtp_time: u64,
    /// The RTP clock is tied to the wall clock here, and pulled up to it after every pause.
    epoch: Option<Instant>,
    /// Nothing was sent for a while: the next frame begins a talk spurt.
    paused: bool,
    /// Frames of nothing in a row.
    quiet_frames: u32,
    /// A push was refused: samples it needs.
    refused: Option<usize>,
    closed: bool,
    frame: Vec<i16>,
    scratch: Vec<i16>,
}

pub struct AudioInput {
    id: Id,
    sample_rate: u32,
    channels: usize,
    /// What is queued and encoded: one of Opus' own rates, one or two channels.
    encoded_rate: u32,
    encoded_channels: usize,
    capacity: usize,
    events: Arc<EventQueue>,
    task: TaskHandle,
    state: Mutex<State>,
}

impl AudioInput {
    pub(crate) fn new(
        id: Id,
        pool: &CodecPool,
        events: Arc<EventQueue>,
        sample_rate: u32,
        channels: usize,
        queue_ms: u32,
    ) -> Result<Arc<Self>, PeerError> {
        if !(8_000..=192_000).contains(&sample_rate) {
            return Err(PeerError::invalid(format!("sample rate {sample_rate} Hz is not between 8000 and 192000")));
        }
        if !(1..=8).contains(&channels) {
            return Err(PeerError::invalid(format!("{channels} channels; 1 to 8 are possible")));
        }
        let encoded_rate = if is_native_rate(sample_rate) { sample_rate } else { 48_000 };
        let encoded_channels = channels.min(2);
        let resampler = if encoded_rate == sample_rate {
            None
        } else {
            Some(Resampler::new(sample_rate, encoded_rate, encoded_channels)?)
        };
        let capacity = (encoded_rate as usize * queue_ms.max(1) as usize / 1000) * encoded_channels;
        Ok(Arc::new_cyclic(|weak: &Weak<Self>| Self {
            id,
            sample_rate,
            channels,
            encoded_rate,
            encoded_channels,
            capacity,
            events,
            task: pool.adopt(weak.clone()),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                resampler,
                outputs: Vec::new(),
                pace: Pace::Idle,
                rtp_time: 0,
                epoch: None,
                paused: true,
                quiet_frames: 0,
                refused: None,
                closed: false,
                frame: Vec::new(),
                scratch: Vec::new(),
            }),
        }))
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Queue interleaved samples at the input's rate: all or none. False: full, `Event::Room` tells when to try again.
    /// A frame longer than the queue is taken when the queue is empty.
    pub fn push(&self, pcm: &[i16]) -> Result<bool, PeerError> {
        if !pcm.len().is_multiple_of(self.channels) {
            return Err(PeerError::invalid(format!(
                "{} samples are not whole frames of {} channels",
                pcm.len(),
                self.channels
            )));
        }
        if pcm.is_empty() {
            return Ok(true);
        }
        let mut state = lock(&self.state);
        if state.closed {
            return Err(PeerError::state("the audio source is closed"));
        }
        let needed =
            pcm.len() / self.channels * self.encoded_rate as usize / self.sample_rate as usize * self.encoded_channels;
        if !state.queue.is_empty() && state.queue.len() + needed > self.capacity {
            state.refused = Some(needed);
            return Ok(false);
        }
        let mut scratch = std::mem::take(&mut state.scratch);
        scratch.clear();
        mix_channels(pcm, self.channels, self.encoded_channels, &mut scratch);
        match state.resampler.as_mut() {
            None => state.queue.extend(&scratch),
            Some(resampler) => {
                let mut resampled = Vec::with_capacity(needed + 1024);
                resampler.push(&scratch, &mut resampled)?;
                state.queue.extend(&resampled);
            }
        }
        state.scratch = scratch;
        let now = Instant::now();
        let complete = state.queue.len() >= self.frame_len();
        let wake = match state.pace {
            Pace::Idle | Pace::Waiting(_) if complete => {
                state.pace = Pace::Running(now);
                Some(now)
            }
            // The grid of silence is left at once for a new talk burst, unless that was done before: the RTP clock would
            // run ahead of the wall clock more and more.
            Pace::Hangover(..) if complete && state.lead(now) <= FRAME => {
                state.pace = Pace::Running(now);
                Some(now)
            }
            Pace::Idle => {
                state.pace = Pace::Waiting(now + FRAME + PATIENCE);
                Some(now + FRAME + PATIENCE)
            }
            Pace::Running(due) if complete && due <= now => Some(now),
            _ => None,
        };
        drop(state);
        if let Some(at) = wake {
            self.task.wake_at(at);
        }
        Ok(true)
    }

    fn frame_len(&self) -> usize {
        self.encoded_rate as usize / 50 * self.encoded_channels
    }

    /// Milliseconds that wait to be sent.
    pub fn queued_ms(&self) -> f64 {
        let samples = lock(&self.state).queue.len() / self.encoded_channels;
        samples as f64 * 1000.0 / f64::from(self.encoded_rate)
    }

    /// Drop what waits. A refused push may be tried again.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        state.queue.clear();
        let refused = state.refused.take().is_some();
        drop(state);
        if refused {
            self.events.push(Event::Room(self.id));
        }
    }

    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.queue.clear();
        state.outputs.clear();
    }

    pub(crate) fn attach(&self, target: Arc<dyn AudioTarget>, sending: AudioSending) -> Result<(), PeerError> {
        let encoder = Encoder::new(EncoderSettings {
            sample_rate: self.encoded_rate,
            channels: self.encoded_channels,
            bitrate: sending.bitrate,
            complexity: 5,
        })?;
        lock(&self.state).outputs.push(Output { target, encoder, dtx: sending.dtx, silent: false });
        Ok(())
    }
}

impl Task for AudioInput {
    fn run(&self, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let due = match state.pace {
            Pace::Idle => return None,
            Pace::Waiting(at) | Pace::Running(at) | Pace::Hangover(_, at) => at,
        };
        if due > now {
            return Some(due);
        }
        let frame_len = self.frame_len();
        let have = state.queue.len();
        // A thread that was not scheduled catches up at most this far.
        let stalled = now - due > FRAME * 5;
        let due = if stalled { now } else { due };
        state.paused |= stalled;
        let waits = matches!(state.pace, Pace::Running(_)) && now < due + PATIENCE;
        state.pace = if have >= frame_len {
            Pace::Running(due + FRAME)
        } else if waits {
            // The program is a little late. What it pushes wakes this task when the frame is complete.
            let until = due + PATIENCE;
            state.pace = Pace::Running(due);
            return Some(until);
        } else if have > 0 {
            Pace::Running(due + FRAME)
        } else {
            match state.pace {
                Pace::Hangover(count, _) if count + 1 >= HANGOVER_FRAMES => Pace::Idle,
                Pace::Hangover(count, _) => Pace::Hangover(count + 1, due + FRAME),
                _ => {
                    self.events.push(Event::Silent(self.id));
                    Pace::Hangover(0, due + FRAME)
                }
            }
        };
        let take = have.min(frame_len);
        let mut frame = std::mem::take(&mut state.frame);
        frame.clear();
        frame.extend(state.queue.drain(..take));
        frame.resize(frame_len, 0);
        if let Some(needed) = state.refused
            && (state.queue.is_empty() || state.queue.len() + needed <= self.capacity)
        {
            state.refused = None;
            self.events.push(Event::Room(self.id));
        }
        state.send(&frame, now);
        state.frame = frame;
        state.paused |= state.pace == Pace::Idle;
        match state.pace {
            Pace::Idle => None,
            Pace::Waiting(at) | Pace::Running(at) | Pace::Hangover(_, at) => Some(at),
        }
    }

    fn failed(&self) {
        self.close();
    }
}

fn rtp_clock(since: Duration) -> u64 {
    since.as_micros() as u64 * 48 / 1000
}

impl State {
    /// How far the RTP clock is ahead of the wall clock.
    fn lead(&self, now: Instant) -> Duration {
        let wall = self.epoch.map_or(0, |epoch| rtp_clock(now - epoch));
        Duration::from_micros(self.rtp_time.saturating_sub(wall) * 1000 / 48)
    }

    fn send(&mut self, frame: &[i16], now: Instant) {
        let talkspurt = std::mem::take(&mut self.paused);
        if talkspurt {
            // After a pause the RTP clock is where the wall clock is, so that listeners see the pause's length.
            let epoch = *self.epoch.get_or_insert(now);
            self.rtp_time = self.rtp_time.max(rtp_clock(now - epoch));
        }
        let rtp_time = self.rtp_time;
        self.rtp_time += 960;
        let level = level_dbov(frame);
        let voice = level > VOICE_DBOV;
        let was_quiet = self.quiet_frames >= HANGOVER_FRAMES;
        self.quiet_frames = if level <= NOTHING_DBOV { self.quiet_frames.saturating_add(1) } else { 0 };
        let quiet = self.quiet_frames >= HANGOVER_FRAMES;
        self.outputs.retain_mut(|output| {
            if quiet != was_quiet
                && output.dtx
                && let Err(error) = output.encoder.set_dtx(quiet)
            {
                log::warn!("DTX not switched: {error}");
            }
            let data = match output.encoder.encode(frame) {
                Ok(data) => data,
                Err(error) => {
                    log::warn!("audio frame not encoded: {error}");
                    return true;
                }
            };

            // One packet without sound says that silence begins; more would say nothing.
            let silent = is_dtx_packet(data);
            let packet = AudioPacket { data, rtp_time, at: now, level, voice, talkspurt };
            let sent = (silent && output.silent) || output.target.send(packet);
            output.silent = silent;
            sent
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Instant)>>);

    impl AudioTarget for Recorder {
        fn send(&self, packet: AudioPacket<'_>) -> bool {
            lock(&self.0).push((packet.rtp_time, packet.at));
            true
        }
    }

    /// Waits until the source has run empty.
    fn silent(events: &EventQueue) {
        loop {
            let mut poll = libc::pollfd { fd: events.fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd that lives.
            assert_eq!(unsafe { libc::poll(&mut poll, 1, 5000) }, 1, "the source never ran empty");
            if events.take().iter().any(|event| matches!(event, Event::Silent(_))) {
                return;
            }
        }
    }

    /// The RTP clock keeps every pause's length. If it did not, listeners would take the sender for later and later and
    /// wait for it longer and longer.
    #[test]
    fn the_rtp_clock_stays_with_the_wall_clock() {
        let pool = CodecPool::new(1).unwrap();
        let events = Arc::new(EventQueue::new().unwrap());
        let input = AudioInput::new(1, &pool, events.clone(), 48_000, 1, 1000).unwrap();
        let recorder = Arc::new(Recorder::default());
        input.attach(recorder.clone(), AudioSending { bitrate: 32_000, dtx: true }).unwrap();
        for round in 0..12u64 {
            let loud: Vec<i16> = (0..480 * 7).map(|n| (n % 100 * 200) as i16).collect();
            assert!(input.push(&loud).unwrap());
            silent(&events);
            // Shorter and longer than the silence that follows sound by itself; the pause is what is tested.
            std::thread::sleep(Duration::from_millis(30 + round * 25));
        }
        let packets = lock(&recorder.0);
        let (first_time, first_at) = packets[0];
        let drift = |(time, at): &(u64, Instant)| {
            (time - first_time) as i64 / 48 - at.duration_since(first_at).as_millis() as i64
        };
        let worst = packets.iter().map(drift).max_by_key(|drift| drift.abs()).unwrap();
        assert!(
            worst.abs() < 150,
            "{worst} ms between the clocks: {:?}",
            packets.iter().map(drift).collect::<Vec<_>>()
        );
        assert!(packets.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 960), "frames do not overlap");
    }
}
