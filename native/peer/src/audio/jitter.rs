//! The jitter buffer: packets come in at any time and in any order, and are taken out one after the other at the pace
//! of the clock. Time is an argument; nothing here knows a codec.
//!
//! Three decisions shape it. No sample is stretched: a recogniser hears what was said. A packet that is merely late is
//! waited for (the sound is extended and the delay grows), while one that others have overtaken is given up. Delay is
//! won back where nobody hears it, by leaving out silent packets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLOCK: u64 = 48_000;
/// Silence and extension are made in this step, which is also how exactly a new talk burst is placed.
const STEP: u32 = 480;
/// Twelve seconds of 20 ms packets: more is a stream that nobody plays.
const MAX_PACKETS: usize = 600;
/// Sound is extended this long when packets stay away; then it is silent.
const MAX_EXTENSION: u32 = 48 * 80;
/// Frames in a row that are made up before a hole is left silent.
const MAX_CONCEALED: u64 = 5;
/// A hole longer than this is jumped over.
const MAX_HOLE: u64 = 50;
const MIN_TARGET: Duration = Duration::from_millis(20);
const MAX_TARGET: Duration = Duration::from_millis(400);
const START_TARGET: Duration = Duration::from_millis(30);
/// Delay above the target that is not worth cutting.
const SLACK: Duration = Duration::from_millis(25);
/// Delay above the target that is cut even from speech: a stall whose backlog arrived at once.
const TOO_LATE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Packet {
    /// Extended sequence number.
    pub seq: u64,
    /// Extended RTP time, 48 kHz.
    pub time: u64,
    /// Duration in 48 kHz samples.
    pub samples: u32,
    pub arrival: Instant,
    pub data: Arc<[u8]>,
    /// A packet that carries no sound (discontinuous transmission).
    pub silent: bool,
}

/// What to do for the next piece of time. Sample counts are at 48 kHz.
#[derive(Debug, Clone)]
pub enum Action {
    /// Decode. `may_skip`: leave it out if it turns out silent; `skip`: leave it out anyway. A skipped packet takes no time.
    Play {
        packet: Packet,
        may_skip: bool,
        skip: bool,
    },
    /// The packet is lost; the next one may carry it a second time.
    Recover {
        next: Packet,
        samples: u32,
    },
    Conceal {
        samples: u32,
    },
    Silence {
        samples: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing has been heard yet.
    Empty,
    Playing,
    /// The buffer is empty; so many samples were made up.
    Extending(u32),
    /// Nothing is expected.
    Silent,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct JitterStats {
    pub received: u64,
    /// Came after its time.
    pub late: u64,
    pub lost: u64,
    pub recovered: u64,
    /// Left out to win back delay.
    pub skipped: u64,
}

#[derive(Debug)]
pub struct JitterBuffer {
    packets: BTreeMap<u64, Packet>,
    mode: Mode,
    next_seq: u64,
    next_time: u64,
    frame: u32,
    due: Instant,
    concealed_in_row: u64,
    delay: DelayEstimate,
    stats: JitterStats,
}

impl JitterBuffer {
    pub fn new(now: Instant) -> Self {
        Self {
            packets: BTreeMap::new(),
            mode: Mode::Empty,
            next_seq: 0,
            next_time: 0,
            frame: 960,
            due: now,
            concealed_in_row: 0,
            delay: DelayEstimate::new(now),
            stats: JitterStats::default(),
        }
    }

    /// When `next` is to be called; None before the first packet.
    pub fn due(&self) -> Option<Instant> {
        (self.mode != Mode::Empty).then_some(self.due)
    }

    pub fn target(&self) -> Duration {
        self.delay.target
    }

    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    pub fn insert(&mut self, packet: Packet) {
        self.stats.received += 1;
        if self.mode == Mode::Empty {
            self.restart(&packet);
        } else if packet.seq + 3000 < self.next_seq || packet.seq > self.next_seq + 3000 {
            // Another source, or one that began anew.
            self.packets.clear();
            self.delay = DelayEstimate::new(packet.arrival);
            self.restart(&packet);
        }
        self.delay.observe(packet.arrival, packet.time);
        if packet.seq < self.next_seq {
            if self.mode == Mode::Playing
                && self.stats.received < 8
                && self.stats.lost == 0
                && packet.arrival < self.due
            {
                // The very first packets arrived in the wrong order.
                self.next_seq = packet.seq;
                self.next_time = packet.time;
            } else {
                self.stats.late += 1;
                return;
            }
        }
        self.packets.insert(packet.seq, packet);
        if self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
        }
    }

    fn restart(&mut self, first: &Packet) {
        self.mode = Mode::Playing;
        self.next_seq = first.seq;
        self.next_time = first.time;
        self.due = first.arrival + self.delay.target;
        self.concealed_in_row = 0;
    }

    /// What fills the time from `due` on. To be called when `due` has come.
    pub fn next(&mut self, now: Instant) -> Action {
        if now.saturating_duration_since(self.due) > Duration::from_millis(100) {
            // This thread did not run for a while; the time is gone, not the packets.
            self.due = now;
        }
        let action = self.decide();
        let samples = match &action {
            Action::Play { packet, skip, .. } => {
                if *skip {
                    0
                } else {
                    packet.samples
                }
            }
            Action::Recover { samples, .. } | Action::Conceal { samples } | Action::Silence { samples } => *samples,
        };
        self.due += Duration::from_nanos(u64::from(samples) * 1_000_000_000 / CLOCK);
        action
    }

    /// The packet played last was left out because it was silent: its time is given back.
    pub fn skipped(&mut self, samples: u32) {
        self.stats.skipped += 1;
        self.due -= Duration::from_nanos(u64::from(samples) * 1_000_000_000 / CLOCK);
    }

    /// What was played last turned out silent: should nothing follow, that is a pause and not a loss.
    pub fn heard_nothing(&mut self) {
        if self.mode == Mode::Playing && self.packets.is_empty() {
            self.mode = Mode::Silent;
        }
    }

    fn decide(&mut self) -> Action {
        let Some((&first_seq, first)) = self.packets.first_key_value() else { return self.starve() };
        if self.mode == Mode::Silent {
            // A new talk burst: the delay can be set anew, nobody hears it.
            if self.due < first.arrival + self.delay.target {
                return Action::Silence { samples: STEP };
            }
            (self.next_seq, self.next_time) = (first_seq, first.time);
            self.mode = Mode::Playing;
        }
        if first_seq == self.next_seq {
            // The sender was silent in between (its clock ran on, its numbers did not): keep the pause's length, but
            // never wait longer than the packet itself needs to.
            let pause = first.time.saturating_sub(self.next_time);
            if pause > 0 && self.due + Duration::from_millis(5) < first.arrival + self.delay.target {
                self.next_time += u64::from(STEP).min(pause);
                return Action::Silence { samples: STEP };
            }
            return self.play(first_seq);
        }
        // Others have overtaken what is due.
        self.mode = Mode::Playing;
        let missing = first_seq - self.next_seq;
        if missing > MAX_HOLE {
            self.stats.lost += missing;
            self.next_seq = first_seq;
            self.next_time = first.time;
            return self.play(first_seq);
        }
        self.stats.lost += 1;
        self.next_seq += 1;
        self.next_time += u64::from(self.frame);
        self.concealed_in_row += 1;
        let samples = self.frame;
        if missing == 1 {
            self.stats.recovered += 1;
            return Action::Recover { next: first.clone(), samples };
        }
        if self.concealed_in_row > MAX_CONCEALED { Action::Silence { samples } } else { Action::Conceal { samples } }
    }

    fn play(&mut self, seq: u64) -> Action {
        // The caller looked the packet up.
        let Some(packet) = self.packets.remove(&seq) else { return Action::Silence { samples: STEP } };
        self.mode = if packet.silent { Mode::Silent } else { Mode::Playing };
        self.next_seq = packet.seq + 1;
        self.next_time = packet.time + u64::from(packet.samples);
        self.frame = packet.samples;
        self.concealed_in_row = 0;
        let excess = self.delay.played_late(self.due, packet.time).saturating_sub(self.delay.target);
        let skip = excess > TOO_LATE;
        self.stats.skipped += u64::from(skip);
        Action::Play { packet, may_skip: excess > SLACK, skip }
    }

    fn starve(&mut self) -> Action {
        let extended = match self.mode {
            Mode::Silent | Mode::Empty => return Action::Silence { samples: STEP },
            Mode::Playing => 0,
            Mode::Extending(samples) => samples,
        };
        if extended >= MAX_EXTENSION {
            self.mode = Mode::Silent;
            return Action::Silence { samples: STEP };
        }
        self.mode = Mode::Extending(extended + STEP);
        Action::Conceal { samples: STEP }
    }
}

/// How late packets are compared with the fastest: a histogram that forgets, whose upper quantile is the target delay.
#[derive(Debug)]
struct DelayEstimate {
    epoch: Instant,
    /// The fastest transit of the current and of the previous window, microseconds relative to the clocks' offset.
    fastest: [Option<i64>; 2],
    window_end: Instant,
    bins: [f32; DelayEstimate::BINS],
    count: u32,
    target: Duration,
}

impl DelayEstimate {
    const BINS: usize = 100;
    const BIN_US: i64 = 5_000;
    const WINDOW: Duration = Duration::from_secs(5);
    /// About 10 s of 20 ms packets.
    const MEMORY: f32 = 500.0;
    const QUANTILE: f32 = 0.97;

    fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            fastest: [None; 2],
            window_end: now + Self::WINDOW,
            bins: [0.0; Self::BINS],
            count: 0,
            target: START_TARGET,
        }
    }

    fn transit(&self, at: Instant, time: u64) -> i64 {
        let local = match at.checked_duration_since(self.epoch) {
            Some(after) => after.as_micros() as i64,
            None => -(self.epoch.duration_since(at).as_micros() as i64),
        };
        local - (time as i128 * 1_000_000 / i128::from(CLOCK)) as i64
    }

    fn floor(&self) -> Option<i64> {
        self.fastest.iter().flatten().min().copied()
    }

    /// How long after the fastest possible moment `time` is played when it is played at `at`.
    fn played_late(&self, at: Instant, time: u64) -> Duration {
        let late = self.floor().map_or(0, |floor| self.transit(at, time) - floor);
        Duration::from_micros(late.max(0) as u64)
    }

    fn observe(&mut self, arrival: Instant, time: u64) {
        let transit = self.transit(arrival, time);
        if arrival >= self.window_end {
            self.fastest = [None, self.fastest[0]];
            self.window_end = arrival + Self::WINDOW;
        }
        self.fastest[0] = Some(self.fastest[0].map_or(transit, |fastest| fastest.min(transit)));
        let late = transit - self.floor().unwrap_or(transit);
        let bin = ((late / Self::BIN_US) as usize).min(Self::BINS - 1);
        self.count = self.count.saturating_add(1);
        let weight = 1.0 / (self.count as f32).min(Self::MEMORY);
        self.bins.iter_mut().for_each(|b| *b *= 1.0 - weight);
        self.bins[bin] += weight;
        // A few packets say little.
        if self.count >= 10 {
            self.target = self.quantile();
        }
    }

    fn quantile(&self) -> Duration {
        let mut sum = 0.0;
        let bin = self.bins.iter().position(|b| {
            sum += b;
            sum >= Self::QUANTILE
        });
        let upper = Duration::from_micros((bin.unwrap_or(Self::BINS - 1) as u64 + 1) * Self::BIN_US as u64);
        // 10 ms for this thread's own lateness.
        (upper + Duration::from_millis(10)).clamp(MIN_TARGET, MAX_TARGET)
    }
}
