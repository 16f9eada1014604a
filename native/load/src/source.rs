//! What a peer publishes: RTP packets of a steady rate and shape, made without an encoder.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_secure::srtp::SrtpTx;
use greenroom_wire::rtp::{HeaderFields, write_header};
use greenroom_wire::vp8::{Descriptor, PictureId, Temporal};
use greenroom_wire::{Ssrc, ext};

use crate::camera::{Camera, CameraSpec, MIN_PACKET_LEN, Planned};
use crate::outbox::Outbox;
use crate::random::Random;

/// Sealed packets kept for retransmission.
const HISTORY: usize = 512;
/// Room for the largest packet with its authentication tag.
const BUFFER: usize = 1500;
/// An encoder answers the requests of many receivers with one key frame.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(300);
/// After a stall, what could not be sent for longer than this is skipped instead of sent in one burst.
const MAX_BACKLOG: Duration = Duration::from_millis(500);
/// Between audio packets, and what that is on their clock of 48 kHz.
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const AUDIO_CLOCK: u32 = 48_000;
const AUDIO_TICKS: u32 = AUDIO_CLOCK / 50;
/// Ends a packet, before the time it was sent: lets a receiver of the same process measure the delay.
pub(crate) const STAMP: [u8; 8] = *b"grm-load";
/// The stamp with its time in microseconds.
pub(crate) const STAMP_LEN: usize = 16;

/// What kind of packets.
#[derive(Debug, Clone)]
pub enum Media {
    /// One packet every 20 ms: the payloads in turn, so that real Opus can be decoded at the other end.
    Audio {
        /// RTP payloads. At least one.
        payloads: Vec<Vec<u8>>,
        /// Audio level in -dBov (RFC 6464), 0 loudest to 127 silent.
        level: u8,
        /// Put the time of sending at the end of each payload, for receivers of this process. It is no Opus then.
        stamp: bool,
    },
    /// VP8 frames as a camera and a browser send them.
    Video(CameraSpec),
}

/// A stream to publish.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// What kind of packets.
    pub media: Media,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload type as negotiated.
    pub payload_type: u8,
    /// Value of the `sdes:mid` extension and its id.
    pub mid: Option<(u8, String)>,
    /// Id of the audio-level extension.
    pub level_id: Option<u8>,
    /// Id of the transport-wide sequence number extension.
    pub twcc_id: Option<u8>,
}

/// Counts of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Packets sent, without retransmissions.
    pub packets: u64,
    /// Bytes of RTP before sealing.
    pub bytes: u64,
    /// Packets sent again on request.
    pub retransmitted: u64,
    /// Key frames sent.
    pub keyframes: u64,
    /// Packets not sent because the generator was behind by more than half a second.
    pub skipped: u64,
}

/// What is due when.
enum Clock {
    /// When the next packet is due, its timestamp, and how many went before.
    Audio {
        due: Instant,
        timestamp: u32,
        packets: u64,
    },
    Video(Camera),
}

/// One published stream.
pub struct Source {
    spec: SourceSpec,
    /// What stamps count from; one for all peers of a process.
    epoch: Instant,
    clock: Clock,
    /// Unwrapped sequence number: the index for SRTP.
    index: u64,
    last_keyframe: Option<Instant>,
    history: VecDeque<(u16, Vec<u8>)>,
    filler: Vec<u8>,
    stats: SourceStats,
}

impl Source {
    pub(crate) fn new(now: Instant, epoch: Instant, spec: SourceSpec, random: &mut Random) -> Self {
        let interval = match &spec.media {
            Media::Audio { .. } => AUDIO_INTERVAL,
            Media::Video(camera) => Camera::interval(camera),
        };
        // Publishers do not beat in time with each other.
        let phase = Duration::from_nanos(random.below(interval.as_nanos().max(1) as u64));
        let clock = match &spec.media {
            Media::Audio { .. } => Clock::Audio { due: now + phase, timestamp: random.next() as u32, packets: 0 },
            Media::Video(camera) => Clock::Video(Camera::new(now, phase, *camera, Random::new(random.next()))),
        };
        Self {
            epoch,
            clock,
            index: random.below(0x8000),
            last_keyframe: None,
            history: VecDeque::with_capacity(HISTORY),
            filler: (0..BUFFER).map(|_| random.next() as u8).collect(),
            stats: SourceStats::default(),
            spec,
        }
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.spec.ssrc
    }

    /// When the next packet is due.
    pub fn next_timeout(&self) -> Instant {
        match &self.clock {
            Clock::Audio { due, .. } => *due,
            Clock::Video(camera) => camera.next_timeout(),
        }
    }

    /// Counts so far.
    pub fn stats(&self) -> SourceStats {
        self.stats
    }

    /// The RTP timestamp that belongs to `now`, for sender reports.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        match &self.clock {
            Clock::Audio { due, timestamp, .. } => {
                let behind = now.saturating_duration_since(*due).as_secs_f64()
                    - due.saturating_duration_since(now).as_secs_f64();
                timestamp.wrapping_add((behind * f64::from(AUDIO_CLOCK)) as i64 as u32)
            }
            Clock::Video(camera) => camera.timestamp_at(now),
        }
    }

    /// Sends what is due. `twcc` counts the packets of the transport.
    pub(crate) fn handle_timeout(&mut self, now: Instant, tx: &mut SrtpTx, twcc: &mut u16, out: &mut Outbox) {
        if let Clock::Audio { due, timestamp, .. } = &mut self.clock {
            let late = now.saturating_duration_since(*due);
            if late > MAX_BACKLOG {
                let packets = (late.as_nanos() / AUDIO_INTERVAL.as_nanos()) as u32;
                *due += AUDIO_INTERVAL * packets;
                *timestamp = timestamp.wrapping_add(packets.wrapping_mul(AUDIO_TICKS));
                self.stats.skipped += u64::from(packets);
            }
        }
        while let Clock::Audio { due, timestamp, packets } = &mut self.clock
            && *due <= now
        {
            let (at, number) = (*timestamp, *packets);
            *due += AUDIO_INTERVAL;
            *timestamp = timestamp.wrapping_add(AUDIO_TICKS);
            *packets += 1;
            self.send_audio(now, at, number, tx, twcc, out);
        }
        if let Clock::Video(camera) = &mut self.clock {
            self.stats.skipped += camera.skip(now, MAX_BACKLOG);
        }
        while let Clock::Video(camera) = &mut self.clock
            && let Some(packet) = camera.poll(now)
        {
            self.send_video(now, &packet, tx, twcc, out);
        }
    }

    /// A receiver asked for a picture that stands alone.
    pub fn request_keyframe(&mut self, now: Instant) {
        let due = self.last_keyframe.is_none_or(|last| now.saturating_duration_since(last) >= KEYFRAME_INTERVAL);
        if due && let Clock::Video(camera) = &mut self.clock {
            camera.request_keyframe();
        }
    }

    /// A receiver misses `sequence`: the same bytes again, if they are still here.
    pub fn retransmit(&mut self, sequence: u16, out: &mut Outbox) {
        let Some(&(oldest, _)) = self.history.front() else { return };
        let Some((found, packet)) = self.history.get(usize::from(sequence.wrapping_sub(oldest))) else { return };
        if *found == sequence {
            out.push(packet);
            self.stats.retransmitted += 1;
        }
    }

    fn send_audio(
        &mut self,
        now: Instant,
        timestamp: u32,
        number: u64,
        tx: &mut SrtpTx,
        twcc: &mut u16,
        out: &mut Outbox,
    ) {
        let Media::Audio { payloads, level, stamp } = &self.spec.media else { return };
        let mut packet = [0; BUFFER];
        let payload = payloads.get((number as usize) % payloads.len().max(1)).map_or(&[][..], Vec::as_slice);
        let header_len = self.header(&mut packet, number == 0, timestamp, Some(*level), twcc);
        let len = header_len + payload.len().min(BUFFER - header_len - 32);
        packet[header_len..len].copy_from_slice(&payload[..len - header_len]);
        if *stamp {
            write_stamp(&mut packet[header_len..len], self.micros(now));
        }
        self.send(&mut packet, header_len, len, tx, out);
    }

    fn send_video(&mut self, now: Instant, planned: &Planned, tx: &mut SrtpTx, twcc: &mut u16, out: &mut Outbox) {
        if planned.keyframe && planned.first {
            self.last_keyframe = Some(now);
            self.stats.keyframes += 1;
        }
        let mut packet = [0; BUFFER];
        let header_len = self.header(&mut packet, planned.last, planned.timestamp, None, twcc);
        let len = planned.len.clamp(MIN_PACKET_LEN, BUFFER - 32);
        self.video_payload(&mut packet[header_len..len], planned, self.micros(now));
        self.send(&mut packet, header_len, len, tx, out);
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    fn header(&self, packet: &mut [u8], marker: bool, timestamp: u32, level: Option<u8>, twcc: &mut u16) -> usize {
        let fields = HeaderFields {
            marker,
            payload_type: self.spec.payload_type,
            sequence_number: self.index as u16,
            timestamp,
            ssrc: Ssrc(self.spec.ssrc),
            padding: false,
        };
        let level = level.map(|level| ext::AudioLevel { voice: level < 60, level }.encode());
        let sequence = twcc.to_be_bytes();
        let mut exts: [(u8, &[u8]); 3] = [(0, &[]); 3];
        let mut used = 0;
        let mut add = |id: u8, data| {
            exts[used] = (id, data);
            used += 1;
        };
        if let Some((id, mid)) = &self.spec.mid {
            add(*id, mid.as_bytes());
        }
        if let (Some(id), Some(level)) = (self.spec.level_id, &level) {
            add(id, level.as_slice());
        }
        if let Some(id) = self.spec.twcc_id {
            add(id, sequence.as_slice());
            *twcc = twcc.wrapping_add(1);
        }
        // Only an id of 0 or a full buffer fails here, and `LoadPeer::publish` has refused the former.
        write_header(packet, &fields, &exts[..used]).unwrap_or(12)
    }

    fn video_payload(&self, payload: &mut [u8], planned: &Planned, micros: u64) {
        let descriptor = Descriptor {
            non_reference: false,
            start_of_partition: planned.first,
            partition: 0,
            picture_id: Some(PictureId::Long(planned.frame as u16 & 0x7fff)),
            tl0_pic_idx: Some(planned.frame as u8),
            temporal: Some(Temporal { tid: 0, layer_sync: false }),
            key_idx: Some(self.stats.keyframes as u8 & 0x1f),
            keyframe: planned.keyframe,
            len: 0,
        };
        payload.copy_from_slice(&self.filler[..payload.len()]);
        let len = descriptor.write(payload).unwrap_or(0);
        let body = &mut payload[len..];
        if planned.first {
            // Frame tag (RFC 6386, 9.1): bit 0 is clear in a key frame, bit 4 shows the frame.
            body[0] = 0x10 | u8::from(!planned.keyframe);
            if planned.keyframe {
                // Start code, 640 by 360.
                body[3..10].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
            }
        }
        write_stamp(body, micros);
    }

    /// Seals and queues one packet, and remembers it.
    fn send(&mut self, packet: &mut [u8], header_len: usize, len: usize, tx: &mut SrtpTx, out: &mut Outbox) {
        let sealed = tx.seal_rtp(packet, header_len, len, self.index);
        out.push(&packet[..sealed]);
        let mut kept = if self.history.len() == HISTORY {
            self.history.pop_front().map(|(_, bytes)| bytes).unwrap_or_default()
        } else {
            Vec::new()
        };
        kept.clear();
        kept.extend_from_slice(&packet[..sealed]);
        self.history.push_back((self.index as u16, kept));
        self.index += 1;
        self.stats.packets += 1;
        self.stats.bytes += len as u64;
    }
}

/// Ends `payload` with a stamp, where it is long enough for one.
fn write_stamp(payload: &mut [u8], micros: u64) {
    if let Some(end) = payload.len().checked_sub(STAMP_LEN) {
        payload[end..end + STAMP.len()].copy_from_slice(&STAMP);
        payload[end + STAMP.len()..].copy_from_slice(&micros.to_be_bytes());
    }
}
