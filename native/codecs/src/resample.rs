//! Sample-rate conversion of interleaved 16-bit PCM, as a stream: push what is there, take what is ready.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use crate::CodecError;

/// Rates between which the stream converts. Anything else is a mistake of the caller.
pub const RATES: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// A stream of interleaved samples at one rate turned into a stream at another. The delay of the filter (about 5 ms) is
/// cut off at the start, so that sample n of the output belongs to the instant of sample n of the input.
pub struct Resampler {
    engine: Option<Fft<f32>>,
    input_rate: u32,
    output_rate: u32,
    channels: usize,
    /// Samples that wait for a whole block.
    pending: Vec<f32>,
    block_out: Vec<f32>,
    skip_frames: usize,
    frames_in: u64,
    frames_out: u64,
}

impl Resampler {
    pub fn new(input_rate: u32, output_rate: u32, channels: usize) -> Result<Self, CodecError> {
        for rate in [input_rate, output_rate] {
            if !RATES.contains(&rate) {
                return Err(CodecError::new(format!("sample rate {rate} Hz is not between 4000 and 192000")));
            }
        }
        if !(1..=32).contains(&channels) {
            return Err(CodecError::new(format!("{channels} channels; 1 to 32 are possible")));
        }
        let mut resampler = Self {
            engine: None,
            input_rate,
            output_rate,
            channels,
            pending: Vec::new(),
            block_out: Vec::new(),
            skip_frames: 0,
            frames_in: 0,
            frames_out: 0,
        };
        resampler.reset()?;
        Ok(resampler)
    }

    fn reset(&mut self) -> Result<(), CodecError> {
        self.pending.clear();
        (self.frames_in, self.frames_out, self.skip_frames) = (0, 0, 0);
        if self.input_rate != self.output_rate {
            // Blocks of about 10 ms: half of that is the delay.
            let (input, output) = (self.input_rate as usize, self.output_rate as usize);
            let engine = Fft::<f32>::new_custom(
                input,
                output,
                input / 100,
                1,
                self.channels,
                rubato::WindowFunction::BlackmanHarris2,
                FixedSync::Both,
            )
            .map_err(|error| CodecError::new(format!("no resampler from {input} to {output} Hz: {error}")))?;
            self.skip_frames = engine.output_delay();
            self.block_out = vec![0.0; engine.output_frames_max() * self.channels];
            self.engine = Some(engine);
        }
        Ok(())
    }

    pub fn input_rate(&self) -> u32 {
        self.input_rate
    }

    pub fn output_rate(&self) -> u32 {
        self.output_rate
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Append to `out` what `pcm` makes ready. `pcm` holds whole frames.
    pub fn push(&mut self, pcm: &[i16], out: &mut Vec<i16>) -> Result<(), CodecError> {
        if !pcm.len().is_multiple_of(self.channels) {
            return Err(CodecError::new(format!("{} samples are not whole frames of {}", pcm.len(), self.channels)));
        }
        if self.engine.is_none() {
            out.extend_from_slice(pcm);
            return Ok(());
        }
        self.frames_in += (pcm.len() / self.channels) as u64;
        self.pending.extend(pcm.iter().map(|s| *s as f32 / 32768.0));
        self.run(u64::MAX, out)
    }

    /// Append the rest, so that the whole output is as long as the whole input was; then start anew.
    pub fn flush(&mut self, out: &mut Vec<i16>) -> Result<(), CodecError> {
        if self.engine.is_none() {
            return Ok(());
        }
        let wanted = (self.frames_in * self.output_rate as u64).div_ceil(self.input_rate as u64);
        while self.frames_out < wanted {
            let block = self.engine.as_ref().map_or(1, |engine| engine.input_frames_next()) * self.channels;
            self.pending.resize(self.pending.len().next_multiple_of(block).max(block), 0.0);
            self.run(wanted, out)?;
        }
        self.reset()
    }

    fn run(&mut self, limit: u64, out: &mut Vec<i16>) -> Result<(), CodecError> {
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        let failed = |error: &dyn std::fmt::Display| CodecError::new(format!("resampling failed: {error}"));
        let mut used = 0;
        loop {
            let frames_in = engine.input_frames_next();
            let frames_out = engine.output_frames_next();
            let Some(block) = self.pending.get(used..used + frames_in * self.channels) else { break };
            let input = InterleavedSlice::new(block, self.channels, frames_in).map_err(|e| failed(&e))?;
            let mut output =
                InterleavedSlice::new_mut(&mut self.block_out, self.channels, frames_out).map_err(|e| failed(&e))?;
            let (read, written) = engine.process_into_buffer(&input, &mut output, None).map_err(|e| failed(&e))?;
            used += read * self.channels;
            let skipped = self.skip_frames.min(written);
            self.skip_frames -= skipped;
            let take = ((written - skipped) as u64).min(limit.saturating_sub(self.frames_out)) as usize;
            self.frames_out += take as u64;
            let samples = &self.block_out[skipped * self.channels..(skipped + take) * self.channels];
            out.extend(samples.iter().map(|s| (s * 32768.0).round().clamp(-32768.0, 32767.0) as i16));
        }
        self.pending.drain(..used);
        Ok(())
    }
}
