//! Who is speaking, from the audio-level extension (RFC 6464).

use std::time::Duration;

use greenroom_wire::ext::AudioLevel;

/// Time between two evaluations. Longer than a syllable, short enough for a highlight to feel immediate.
pub const SPEAKER_INTERVAL: Duration = Duration::from_millis(400);
/// Loudest level that still counts as silence is one above this, in -dBov.
const ACTIVE_LEVEL: u8 = 35;
/// Share of an interval that must be loud for it to count, in percent.
const MIN_PERCENTILE: u32 = 40;
/// Intervals the level is smoothed over.
const SMOOTH_INTERVALS: f32 = 2.0;
/// Steps a reported level is rounded up to, so that small changes are not sent to a whole room.
const STEPS: f32 = 8.0;
/// Silence on the wire (RFC 6464).
const SILENCE: u8 = 127;

/// A change worth telling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeakerChange {
    /// 0.0..=1.0 in eighths; 0 exactly when not active.
    pub level: f32,
    /// Speaking.
    pub active: bool,
}

/// Speaker state of one audio track.
///
/// Call [`observe`](Self::observe) for each packet and [`poll`](Self::poll) every [`SPEAKER_INTERVAL`]. A track that
/// sends nothing (muted, DTX) falls silent by itself.
#[derive(Clone, Debug)]
pub struct SpeakerLevel {
    loud: Duration,
    loudest: u8,
    smoothed: f32,
    reported: u8,
}

impl Default for SpeakerLevel {
    fn default() -> Self {
        SpeakerLevel { loud: Duration::ZERO, loudest: SILENCE, smoothed: 0.0, reported: 0 }
    }
}

impl SpeakerLevel {
    /// Silent.
    pub fn new() -> Self {
        SpeakerLevel::default()
    }

    /// A packet of `duration` of audio. The sender's voice flag is not used: clients set it by different rules.
    pub fn observe(&mut self, level: AudioLevel, duration: Duration) {
        if level.level <= ACTIVE_LEVEL {
            // Bounded, since the duration comes from timestamps a peer chose.
            self.loud = (self.loud + duration.min(SPEAKER_INTERVAL)).min(SPEAKER_INTERVAL);
            self.loudest = self.loudest.min(level.level);
        }
    }

    /// Ends the interval; returns what the room should be told, if it differs from what it was told last.
    pub fn poll(&mut self) -> Option<SpeakerChange> {
        let target = if self.loud >= SPEAKER_INTERVAL * MIN_PERCENTILE / 100 {
            // The loudest packet, discounted by how much of the interval was loud.
            amplitude(self.loudest) * self.loud.as_secs_f32() / SPEAKER_INTERVAL.as_secs_f32()
        } else {
            0.0
        };
        self.loud = Duration::ZERO;
        self.loudest = SILENCE;
        self.smoothed += (target - self.smoothed) * 2.0 / (SMOOTH_INTERVALS + 1.0);
        let active = self.smoothed >= amplitude(ACTIVE_LEVEL);
        let steps = if active { (self.smoothed * STEPS).ceil() as u8 } else { 0 };
        if steps == self.reported {
            return None;
        }
        self.reported = steps;
        Some(SpeakerChange { level: steps as f32 / STEPS, active })
    }

    /// What was reported last.
    pub fn current(&self) -> SpeakerChange {
        SpeakerChange { level: self.reported as f32 / STEPS, active: self.reported > 0 }
    }
}

/// Linear amplitude, 1.0 at full scale.
fn amplitude(level: u8) -> f32 {
    10f32.powf(-(level as f32) / 20.0)
}
