//! When a camera's packets leave: an encoder's frames, cut into packets of about equal size, let go by a pacer.
//!
//! The shape is that of a browser: frames differ in size, a key frame is several times as large, a frame is cut so that
//! its packets differ by one byte at most (the shorter ones first), and the pacer lets a frame go in short runs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::random::Random;

/// The pacer sends this many times the bitrate, so that a frame is gone well before the next one: Chromium's factor.
const PACING_FACTOR: f64 = 2.5;
/// The pacer's clock: it lets go at once what the rate allows in this time.
const PACER_TICK: Duration = Duration::from_millis(5);
/// Frames are this much smaller and larger than the mean, in percent.
const SPREAD_PERCENT: u64 = 25;
/// A key frame is this many times as large as the mean of the others.
const KEYFRAME_FACTOR: u64 = 4;
/// Shorter packets than this have no room for a header, a payload descriptor and a stamp.
pub(crate) const MIN_PACKET_LEN: usize = 100;
/// RTP clock of video in Hz.
pub(crate) const CLOCK: u32 = 90_000;

/// How the packets of a frame are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The whole frame at once.
    Burst,
    /// Runs of a few packets every 5 ms: what a rate of 2.5 times the bitrate carries in that time.
    Runs,
    /// Runs as above, each packet behind the one before by the time it takes on an uplink of so many bits per second.
    Uplink(u64),
}

/// One camera.
#[derive(Debug, Clone, Copy)]
pub struct CameraSpec {
    /// Bits per second of RTP packets (headers included, SRTP tags not), key frames left out.
    pub bitrate: u64,
    /// Frames per second.
    pub frame_rate: u32,
    /// Longest RTP packet in bytes, header included.
    pub packet_len: usize,
    /// How the packets of a frame are spread.
    pub pace: Pace,
}

/// A packet to be sent at `due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) due: Instant,
    /// RTP packet in bytes, header included.
    pub(crate) len: usize,
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) keyframe: bool,
    /// Frames before this one.
    pub(crate) frame: u64,
    pub(crate) timestamp: u32,
}

/// Plans the packets of one camera.
#[derive(Debug)]
pub(crate) struct Camera {
    spec: CameraSpec,
    interval: Duration,
    random: Random,
    /// When the next frame is due.
    frame_due: Instant,
    timestamp: u32,
    frames: u64,
    keyframe_wanted: bool,
    queue: VecDeque<Planned>,
    /// When the pacer may let go the next run, and what the run before it has overdrawn, in bytes.
    run_due: Instant,
    debt: f64,
}

impl Camera {
    /// Starts with a key frame, `phase` after `now`.
    pub(crate) fn new(now: Instant, phase: Duration, spec: CameraSpec, mut random: Random) -> Self {
        Self {
            interval: Self::interval(&spec),
            frame_due: now + phase,
            timestamp: random.next() as u32,
            random,
            frames: 0,
            keyframe_wanted: true,
            queue: VecDeque::new(),
            run_due: now,
            debt: 0.0,
            spec,
        }
    }

    /// Time from frame to frame.
    pub(crate) fn interval(spec: &CameraSpec) -> Duration {
        Duration::from_secs(1) / spec.frame_rate.max(1)
    }

    /// When a frame or a packet is due.
    pub(crate) fn next_timeout(&self) -> Instant {
        self.queue.front().map_or(self.frame_due, |packet| packet.due.min(self.frame_due))
    }

    /// The RTP timestamp that belongs to `now`.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        let behind = now.saturating_duration_since(self.frame_due).as_secs_f64()
            - self.frame_due.saturating_duration_since(now).as_secs_f64();
        self.timestamp.wrapping_add((behind * f64::from(CLOCK)) as i64 as u32)
    }

    /// The next frame shall be a key frame.
    pub(crate) fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// Forgets what is more than `backlog` late. Returns how many packets that are, about.
    pub(crate) fn skip(&mut self, now: Instant, backlog: Duration) -> u64 {
        let late = now.saturating_duration_since(self.frame_due);
        if late <= backlog {
            return 0;
        }
        let frames = (late.as_nanos() / self.interval.as_nanos().max(1)) as u32;
        self.frame_due += self.interval * frames;
        self.timestamp = self.timestamp.wrapping_add(frames.wrapping_mul(CLOCK / self.spec.frame_rate.max(1)));
        // A decoder cannot go on after a hole; that is what the next key frame is for.
        self.keyframe_wanted = true;
        let waiting = self.queue.len() as u64;
        self.queue.clear();
        waiting + u64::from(frames) * self.mean_frame().div_ceil(self.packet_len()) as u64
    }

    /// The next packet that is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Planned> {
        while self.frame_due <= now {
            self.plan_frame();
        }
        let due = self.queue.front().is_some_and(|packet| packet.due <= now);
        if due { self.queue.pop_front() } else { None }
    }

    fn packet_len(&self) -> usize {
        self.spec.packet_len.max(MIN_PACKET_LEN)
    }

    fn mean_frame(&self) -> usize {
        (self.spec.bitrate / 8 / u64::from(self.spec.frame_rate.max(1))) as usize
    }

    fn plan_frame(&mut self) {
        let keyframe = std::mem::take(&mut self.keyframe_wanted);
        let percent = 100 - SPREAD_PERCENT + self.random.below(2 * SPREAD_PERCENT + 1);
        let factor = if keyframe { KEYFRAME_FACTOR } else { 1 };
        let size = (self.mean_frame() as u64 * percent * factor / 100) as usize;
        let count = size.div_ceil(self.packet_len()).max(1);
        let (len, longer) = (size / count, size % count);
        for at in 0..count {
            let len = (len + usize::from(at >= count - longer)).max(MIN_PACKET_LEN);
            let packet = Planned {
                due: self.pace(len),
                len,
                first: at == 0,
                last: at + 1 == count,
                keyframe,
                frame: self.frames,
                timestamp: self.timestamp,
            };
            self.queue.push_back(packet);
        }
        self.frames += 1;
        self.frame_due += self.interval;
        self.timestamp = self.timestamp.wrapping_add(CLOCK / self.spec.frame_rate.max(1));
    }

    /// When a packet of `len` bytes of the frame that is due leaves.
    fn pace(&mut self, len: usize) -> Instant {
        if self.spec.pace == Pace::Burst {
            return self.frame_due;
        }
        let per_tick = PACING_FACTOR * self.spec.bitrate as f64 / 8.0 * PACER_TICK.as_secs_f64();
        if self.run_due < self.frame_due {
            (self.run_due, self.debt) = (self.frame_due, 0.0);
        }
        while self.debt >= per_tick {
            self.run_due += PACER_TICK;
            self.debt -= per_tick;
        }
        self.debt += len as f64;
        let Pace::Uplink(rate) = self.spec.pace else { return self.run_due };
        let time = Duration::from_nanos(8 * len as u64 * 1_000_000_000 / rate.max(1));
        self.queue.back().map_or(self.run_due, |last| self.run_due.max(last.due + time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: CameraSpec = CameraSpec { bitrate: 2_000_000, frame_rate: 30, packet_len: 1100, pace: Pace::Runs };

    /// Everything sent in `seconds`, looked at every 100 us.
    fn sent(spec: CameraSpec, seconds: u64) -> Vec<(Duration, Planned)> {
        let start = Instant::now();
        let mut camera = Camera::new(start, Duration::ZERO, spec, Random::new(1));
        let mut all = Vec::new();
        for step in 0..seconds * 10_000 {
            let now = start + Duration::from_micros(100 * step);
            while let Some(packet) = camera.poll(now) {
                all.push((now - start, packet));
            }
        }
        all
    }

    /// Lengths of what left together, the key frame at the start left out.
    fn runs(sent: &[(Duration, Planned)]) -> Vec<usize> {
        let others: Vec<_> = sent.iter().filter(|(_, packet)| packet.frame > 5).collect();
        others.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect()
    }

    #[test]
    fn the_bitrate_is_kept_and_frames_are_cut_about_equally() {
        let sent = sent(SPEC, 20);
        let bits: usize = sent.iter().filter(|(_, packet)| !packet.keyframe).map(|(_, packet)| 8 * packet.len).sum();
        assert!((1_900_000..2_100_000).contains(&(bits / 20)), "{bits}");
        assert_eq!(sent.last().unwrap().1.frame, 599);
        for frame in sent.chunk_by(|a, b| a.1.frame == b.1.frame) {
            let lens: Vec<usize> = frame.iter().map(|(_, packet)| packet.len).collect();
            assert!(
                lens.is_sorted() && lens[lens.len() - 1] - lens[0] <= 1 && lens[lens.len() - 1] <= 1100,
                "{lens:?}"
            );
            assert!(frame[0].1.first && frame[frame.len() - 1].1.last);
            assert_eq!(frame[0].1.timestamp.wrapping_sub(sent[0].1.timestamp), frame[0].1.frame as u32 * 3000);
        }
    }

    #[test]
    fn a_pacer_sends_two_to_four_packets_every_five_milliseconds() {
        let runs = runs(&sent(SPEC, 10));
        let short = runs.iter().filter(|run| **run < 2).count();
        assert!(runs.iter().all(|run| (1..=4).contains(run)), "{runs:?}");
        assert!(short * 5 < runs.len(), "the rest of a frame may be one packet: {short} of {}", runs.len());
    }

    #[test]
    fn a_burst_is_a_frame_and_an_uplink_sends_one_packet_at_a_time() {
        let burst = runs(&sent(CameraSpec { pace: Pace::Burst, ..SPEC }, 10));
        assert!(burst.iter().all(|run| (5..=10).contains(run)), "{burst:?}");
        let uplink = sent(CameraSpec { pace: Pace::Uplink(10_000_000), ..SPEC }, 10);
        assert!(runs(&uplink).iter().all(|run| *run == 1));
        let late = uplink
            .iter()
            .filter(|(at, packet)| !packet.keyframe && *at > Duration::from_secs(1))
            .map(|(at, packet)| *at - Duration::from_nanos(packet.frame * 1_000_000_000 / 30));
        assert!(late.max().unwrap() < Duration::from_millis(20), "a frame is gone before the next one comes");
    }

    #[test]
    fn after_a_stall_the_backlog_is_skipped_and_a_key_frame_follows() {
        let start = Instant::now();
        let mut camera = Camera::new(start, Duration::ZERO, SPEC, Random::new(1));
        while camera.poll(start).is_some() {}
        let later = start + Duration::from_secs(3);
        assert_eq!(camera.skip(start + Duration::from_millis(400), Duration::from_millis(500)), 0);
        assert!(camera.skip(later, Duration::from_millis(500)) > 500);
        let packet = camera.poll(later).unwrap();
        assert!(packet.keyframe && packet.first && packet.due + Duration::from_millis(34) > later);
        assert!(camera.timestamp_at(later).wrapping_sub(packet.timestamp) <= 3000);
    }
}
