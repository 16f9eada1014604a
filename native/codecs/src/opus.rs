//! Opus (RFC 6716) for speech and music in 20 ms packets, its RTP clock always 48 kHz (RFC 7587).

use crate::CodecError;

/// Rates at which libopus takes and gives PCM without a resampler in front.
pub const NATIVE_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// The longest packet Opus can carry, in milliseconds (RFC 6716 section 2.1.4).
pub const MAX_PACKET_MS: usize = 120;

/// What an RTP packet of 20 ms at the highest sensible rate needs; libopus never writes more than it is given.
const MAX_PACKET_BYTES: usize = 1275;

pub fn is_native_rate(rate: u32) -> bool {
    NATIVE_RATES.contains(&rate)
}

/// The duration of a packet in 48 kHz samples, read from its first bytes; None when it is not an Opus packet.
pub fn packet_samples_48k(packet: &[u8]) -> Option<usize> {
    if packet.is_empty() {
        return None;
    }
    ::opus::packet::get_nb_samples(packet, 48_000).ok().filter(|n| *n > 0 && *n <= 48 * MAX_PACKET_MS)
}

/// A packet that says "no sound now": discontinuous transmission leaves at most the TOC and one byte (RFC 6716 2.1.9).
pub fn is_dtx_packet(packet: &[u8]) -> bool {
    packet.len() <= 2
}

fn layout(channels: usize) -> Result<::opus::Channels, CodecError> {
    match channels {
        1 => Ok(::opus::Channels::Mono),
        2 => Ok(::opus::Channels::Stereo),
        n => Err(CodecError::new(format!("Opus carries 1 or 2 channels here, not {n}"))),
    }
}

/// How an encoder is set up. `bitrate` in bits per second, 0 leaves it to libopus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderSettings {
    pub sample_rate: u32,
    pub channels: usize,
    pub bitrate: u32,
    /// 0 to 10; 5 costs a quarter less than 9 for a difference that speech hardly shows.
    pub complexity: i32,
}

pub struct Encoder {
    inner: ::opus::Encoder,
    settings: EncoderSettings,
    packet: [u8; MAX_PACKET_BYTES],
}

impl Encoder {
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        if !is_native_rate(settings.sample_rate) {
            return Err(CodecError::new(format!("Opus does not take {} Hz", settings.sample_rate)));
        }
        // VoIP mode keeps in-band FEC useful at speech rates; music rates (above 64 kbit/s a channel) sound better in the
        // general mode.
        let music = settings.bitrate as usize > 64_000 * settings.channels;
        let application = if music { ::opus::Application::Audio } else { ::opus::Application::Voip };
        let mut inner = ::opus::Encoder::new(settings.sample_rate, layout(settings.channels)?, application)?;
        if settings.bitrate > 0 {
            inner.set_bitrate(::opus::Bitrate::Bits(settings.bitrate.clamp(6_000, 510_000) as i32))?;
        }
        inner.set_complexity(settings.complexity.clamp(0, 10))?;
        inner.set_inband_fec(true)?;
        // The encoder spends bits on redundancy only when told to expect loss.
        inner.set_packet_loss_perc(5)?;
        Ok(Self { inner, settings, packet: [0; MAX_PACKET_BYTES] })
    }

    pub fn settings(&self) -> EncoderSettings {
        self.settings
    }

    /// Samples per channel of a 20 ms frame.
    pub fn frame_samples(&self) -> usize {
        self.settings.sample_rate as usize / 50
    }

    pub fn set_expected_loss(&mut self, percent: i32) -> Result<(), CodecError> {
        Ok(self.inner.set_packet_loss_perc(percent.clamp(0, 100))?)
    }

    /// Discontinuous transmission: while on, frames that libopus takes for background become packets of two bytes at most
    /// (`is_dtx_packet`). At low complexity it takes steady tones for background too, so the caller decides when.
    pub fn set_dtx(&mut self, dtx: bool) -> Result<(), CodecError> {
        Ok(self.inner.set_dtx(dtx)?)
    }

    /// One frame of interleaved samples (10, 20, 40 or 60 ms) to one packet.
    pub fn encode(&mut self, pcm: &[i16]) -> Result<&[u8], CodecError> {
        let len = self.inner.encode(pcm, &mut self.packet)?;
        Ok(&self.packet[..len])
    }
}

pub struct Decoder {
    inner: ::opus::Decoder,
    sample_rate: u32,
    channels: usize,
}

impl Decoder {
    pub fn new(sample_rate: u32, channels: usize) -> Result<Self, CodecError> {
        if !is_native_rate(sample_rate) {
            return Err(CodecError::new(format!("Opus does not give {sample_rate} Hz")));
        }
        Ok(Self { inner: ::opus::Decoder::new(sample_rate, layout(channels)?)?, sample_rate, channels })
    }

    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Decode a packet into `out` (replaced). Returns samples per channel.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<usize, CodecError> {
        let room = self.sample_rate as usize * MAX_PACKET_MS / 1000;
        self.run(packet, false, room, out)
    }

    /// The lost frame of `samples_48k` before `next`, from the redundancy that `next` carries (RFC 6716 section 2.1.7).
    /// Without redundancy in it libopus conceals.
    pub fn decode_fec(&mut self, next: &[u8], samples_48k: usize, out: &mut Vec<i16>) -> Result<usize, CodecError> {
        self.run(next, true, self.scaled(samples_48k), out)
    }

    /// Make up `samples_48k` of sound that fits what came before.
    pub fn conceal(&mut self, samples_48k: usize, out: &mut Vec<i16>) -> Result<usize, CodecError> {
        self.run(&[], false, self.scaled(samples_48k), out)
    }

    fn scaled(&self, samples_48k: usize) -> usize {
        samples_48k * self.sample_rate as usize / 48_000
    }

    fn run(&mut self, packet: &[u8], fec: bool, samples: usize, out: &mut Vec<i16>) -> Result<usize, CodecError> {
        out.clear();
        out.resize(samples * self.channels, 0);
        let samples = self.inner.decode(packet, out, fec)?;
        out.truncate(samples * self.channels);
        Ok(samples)
    }
}
