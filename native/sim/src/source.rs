//! What participants send: a tone, and frames that look like VP8 and can be checked.
use std::f64::consts::TAU;
use std::time::Duration;

use greenroom_codecs::opus::{Encoder, EncoderSettings};

use crate::Random;

/// A 440 Hz tone in Opus, 20 ms a packet, with in-band redundancy.
pub struct Microphone {
    encoder: Encoder,
    sample: u64,
}

const SAMPLE_RATE: u32 = 48_000;

impl Microphone {
    /// Time between packets.
    pub const PACE: Duration = Duration::from_millis(20);
    /// Level of the tone, in dBov.
    pub const LEVEL: i8 = -15;

    pub(crate) fn new() -> Self {
        let settings = EncoderSettings { sample_rate: SAMPLE_RATE, channels: 1, bitrate: 32_000, complexity: 5 };
        let mut encoder = Encoder::new(settings).expect("48 kHz mono is Opus");
        encoder.set_expected_loss(10).expect("a share");
        Microphone { encoder, sample: 0 }
    }

    /// RTP time and payload of the next packet.
    pub(crate) fn packet(&mut self) -> (u64, Vec<u8>) {
        let begins = self.sample;
        let pcm: Vec<i16> = (begins..begins + 960).map(|n| (tone(n) * 8_000.0) as i16).collect();
        self.sample += 960;
        (begins, self.encoder.encode(&pcm).expect("20 ms of sound").to_vec())
    }
}

fn tone(sample: u64) -> f64 {
    (sample as f64 * 440.0 * TAU / f64::from(SAMPLE_RATE)).sin()
}

/// Frames of one simulcast layer with the outside of VP8: a real frame tag, then a number and noise.
pub struct Camera {
    pub(crate) rid: Option<&'static str>,
    /// Bytes of a frame between key frames; a key frame has four times as many.
    pub(crate) size: usize,
    pub(crate) key_wanted: bool,
    /// Produces nothing for now.
    pub paused: bool,
    /// Shows a slide: produces nothing but the key frames it is asked for.
    pub still: bool,
    /// Frames made.
    pub frames: u64,
    /// Key frames made.
    pub keyframes: u64,
    random: Random,
}

impl Camera {
    /// Time between frames: 30 a second.
    pub const PACE: Duration = Duration::from_nanos(33_333_333);
    /// 90 kHz ticks between frames.
    pub const TICKS: u64 = 3_000;

    pub(crate) fn new(seed: u64, rid: Option<&'static str>, size: usize) -> Self {
        let random = Random::new(seed, size as u64);
        Camera { rid, size, key_wanted: true, paused: false, still: false, frames: 0, keyframes: 0, random }
    }

    /// Whether it has something to send.
    pub(crate) fn is_active(&self) -> bool {
        !self.paused && (!self.still || self.key_wanted)
    }

    /// The frame with this number, which all layers share.
    pub(crate) fn frame(&mut self, number: u64) -> Vec<u8> {
        let key = std::mem::replace(&mut self.key_wanted, false);
        self.frames += 1;
        self.keyframes += u64::from(key);
        // RFC 6386, 9.1: frame tag, start code and dimensions of a key frame.
        let mut frame = if key { vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 0, 64, 0] } else { vec![0x11, 0, 0] };
        frame.extend(number.to_be_bytes());
        let size = if key { self.size * 4 } else { self.size };
        let len = size / 2 + self.random.below(size as u64) as usize;
        frame.extend((0..len).map(|_| self.random.next() as u8));
        let sum = checksum(&frame);
        frame.extend(sum.to_be_bytes());
        frame
    }

    /// Whether a key frame, and its number; `None` if the frame is not as it was made.
    pub(crate) fn read(frame: &[u8]) -> Option<(bool, u64)> {
        let (body, sum) = frame.split_last_chunk::<8>()?;
        let key = body.first()? & 1 == 0;
        let number = body.get(if key { 10 } else { 3 }..)?.first_chunk::<8>()?;
        (checksum(body) == u64::from_be_bytes(*sum)).then(|| (key, u64::from_be_bytes(*number)))
    }
}

/// FNV-1a.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_back_and_damage_is_seen() {
        let mut camera = Camera::new(1, None, 500);
        let (first, mut second) = (camera.frame(7), camera.frame(8));
        assert_eq!((Camera::read(&first), Camera::read(&second)), (Some((true, 7)), Some((false, 8))));
        second[20] ^= 1;
        assert_eq!(Camera::read(&second), None);
    }
}
