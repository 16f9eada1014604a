//! Where decoded sound is read: frames of one size at one rate.

use std::sync::Arc;

use greenroom_codecs::pcm::mix_channels;
use greenroom_codecs::resample::Resampler;

use crate::error::PeerError;
use crate::ring::FrameRing;

/// int16, interleaved.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    pub pcm: Arc<[i16]>,
    pub sample_rate: u32,
    pub channels: usize,
    /// Some of it was made up by loss concealment.
    pub concealed: bool,
}

impl AudioFrame {
    pub fn samples_per_channel(&self) -> usize {
        self.pcm.len() / self.channels
    }
}

/// What a program wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFormat {
    pub sample_rate: u32,
    pub channels: usize,
    pub frame_ms: u32,
}

impl AudioFormat {
    pub fn check(&self) -> Result<(), PeerError> {
        if !(8_000..=48_000).contains(&self.sample_rate) {
            return Err(PeerError::invalid(format!(
                "sample rate {} Hz is not between 8000 and 48000",
                self.sample_rate
            )));
        }
        if !(1..=8).contains(&self.channels) {
            return Err(PeerError::invalid(format!("{} channels; 1 to 8 are possible", self.channels)));
        }
        if !(10..=100).contains(&self.frame_ms) {
            return Err(PeerError::invalid(format!("frames of {} ms; 10 to 100 are possible", self.frame_ms)));
        }
        Ok(())
    }

    /// Samples per channel in a frame. Rates that do not divide evenly are rounded down.
    pub fn frame_samples(&self) -> usize {
        (self.sample_rate as usize * self.frame_ms as usize) / 1000
    }
}

/// The most that an unread sink holds, in milliseconds.
pub const HARD_LIMIT_MS: usize = 10_000;

pub type AudioRing = FrameRing<AudioFrame>;

/// One sink as the decoder sees it: converts what is decoded and cuts it into frames.
pub(crate) struct SinkFeed {
    pub ring: Arc<AudioRing>,
    pub format: AudioFormat,
    resampler: Option<Resampler>,
    mixed: Vec<i16>,
    frame: Vec<i16>,
    concealed: bool,
}

impl SinkFeed {
    pub fn new(ring: Arc<AudioRing>, format: AudioFormat) -> Self {
        Self { ring, format, resampler: None, mixed: Vec::new(), frame: Vec::new(), concealed: false }
    }

    pub fn push(&mut self, pcm: &[i16], rate: u32, channels: usize, concealed: bool) {
        let to = self.format;
        self.concealed |= concealed;
        if rate == to.sample_rate && channels == to.channels {
            self.resampler = None;
            self.cut(pcm);
            return;
        }
        let mut mixed = std::mem::take(&mut self.mixed);
        mixed.clear();
        mix_channels(pcm, channels, to.channels, &mut mixed);
        if rate == to.sample_rate {
            self.cut(&mixed);
        } else {
            let mut resampled = Vec::with_capacity(mixed.len() * to.sample_rate as usize / rate as usize + to.channels);
            if self.resample(&mixed, rate, &mut resampled) {
                self.cut(&resampled);
            }
        }
        self.mixed = mixed;
    }

    fn resample(&mut self, pcm: &[i16], rate: u32, out: &mut Vec<i16>) -> bool {
        let to = self.format;
        if self.resampler.as_ref().is_none_or(|r| r.input_rate() != rate) {
            self.resampler = Resampler::new(rate, to.sample_rate, to.channels).ok();
        }
        // Rates and sizes were checked when the sink was made, so that neither step can fail.
        self.resampler.as_mut().is_some_and(|resampler| resampler.push(pcm, out).is_ok())
    }

    fn cut(&mut self, mut pcm: &[i16]) {
        let size = self.format.frame_samples() * self.format.channels;
        while !pcm.is_empty() {
            if self.frame.is_empty() && pcm.len() >= size {
                let (whole, rest) = pcm.split_at(size);
                self.emit(Arc::from(whole));
                pcm = rest;
                continue;
            }
            let take = (size - self.frame.len()).min(pcm.len());
            self.frame.extend_from_slice(&pcm[..take]);
            pcm = &pcm[take..];
            if self.frame.len() == size {
                let whole = Arc::from(self.frame.as_slice());
                self.frame.clear();
                self.emit(whole);
            }
        }
    }

    fn emit(&mut self, pcm: Arc<[i16]>) {
        let AudioFormat { sample_rate, channels, .. } = self.format;
        let concealed = std::mem::take(&mut self.concealed);
        self.ring.push(AudioFrame { pcm, sample_rate, channels, concealed });
    }
}
