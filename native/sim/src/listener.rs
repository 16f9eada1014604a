//! Hears a section: the jitter buffer and decoder of a participant, on virtual time.
use std::time::{Duration, Instant};

use greenroom_codecs::opus::{Decoder, is_dtx_packet, packet_samples_48k};
use greenroom_codecs::pcm::level_dbov;
use greenroom_peer::audio::jitter::{Action, JitterBuffer, JitterStats, Packet};

/// 48 kHz mono out of Opus packets.
pub struct Listener {
    jitter: JitterBuffer,
    decoder: Decoder,
    pcm: Vec<i16>,
    heard: Vec<i16>,
    /// Samples that were made up.
    pub concealed: u64,
}

impl Listener {
    pub(crate) fn new(now: Instant) -> Self {
        let decoder = Decoder::new(48_000, 1).expect("48 kHz mono is Opus");
        Listener { jitter: JitterBuffer::new(now), decoder, pcm: Vec::new(), heard: Vec::new(), concealed: 0 }
    }

    pub(crate) fn packet(&mut self, seq: u64, time: u64, arrival: Instant, data: std::sync::Arc<[u8]>) {
        let Some(samples) = packet_samples_48k(&data) else { return };
        let silent = is_dtx_packet(&data);
        self.jitter.insert(Packet { seq, time, samples: samples as u32, arrival, data, silent });
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.jitter.due()
    }

    pub(crate) fn play(&mut self, now: Instant) {
        while self.jitter.due().is_some_and(|due| due <= now) {
            let made_up = match self.jitter.next(now) {
                Action::Play { skip: true, .. } => continue,
                Action::Play { packet, .. } => {
                    self.decoder.decode(&packet.data, &mut self.pcm).expect("what arrives is what was sent");
                    0
                }
                Action::Recover { next, samples } => {
                    self.decoder.decode_fec(&next.data, samples as usize, &mut self.pcm).expect("redundancy");
                    samples
                }
                Action::Conceal { samples } => {
                    self.decoder.conceal(samples as usize, &mut self.pcm).expect("concealment");
                    samples
                }
                Action::Silence { samples } => {
                    self.pcm.clear();
                    self.pcm.resize(samples as usize, 0);
                    samples
                }
            };
            self.concealed += u64::from(made_up);
            self.heard.extend_from_slice(&self.pcm);
        }
    }

    /// All that was heard.
    pub fn heard(&self) -> Duration {
        Duration::from_micros(self.heard.len() as u64 * 1_000_000 / 48_000)
    }

    /// The longest stretch more than 12 dB below the tone, after the first half second, in steps of 5 ms.
    pub fn longest_gap(&self) -> Duration {
        let mut longest = 0;
        let mut gap = 0;
        for step in self.heard.chunks(240).skip(100) {
            gap = if level_dbov(step) < crate::Microphone::LEVEL - 12 { gap + 1 } else { 0 };
            longest = longest.max(gap);
        }
        Duration::from_millis(5 * longest)
    }

    /// Share of the sound that was made up.
    pub fn concealed_share(&self) -> f64 {
        self.concealed as f64 / self.heard.len().max(1) as f64
    }

    /// Counters of the jitter buffer.
    pub fn stats(&self) -> JitterStats {
        self.jitter.stats()
    }

    /// The sum of what was heard, sample for sample.
    pub(crate) fn digest(&self) -> u64 {
        let bytes: Vec<u8> = self.heard.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        crate::source::checksum(&bytes)
    }
}
