//! What a peer publishes: RTP packets of a steady rate and shape, made without an encoder.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_secure::srtp::SrtpTx;
use greenroom_wire::rtp::{HeaderFields, write_header};
use greenroom_wire::vp8::{Descriptor, PictureId, Temporal};
use greenroom_wire::{Ssrc, ext};

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
    /// VP8 frames of a fixed number of packets, all of one length.
    Video {
        /// Bits per second of RTP packets (headers included, SRTP tags not).
        bitrate: u64,
        /// Length of an RTP packet in bytes, header included.
        packet_len: usize,
        /// Packets per frame.
        packets_per_frame: u32,
    },
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

/// One published stream.
pub struct Source {
    spec: SourceSpec,
    /// What stamps count from; one for all peers of a process.
    epoch: Instant,
    /// When the next packet (audio) or frame (video) is due.
    due: Instant,
    interval: Duration,
    /// Unwrapped sequence number: the index for SRTP.
    index: u64,
    timestamp: u32,
    /// Audio packets or video frames so far.
    units: u64,
    keyframe_wanted: bool,
    last_keyframe: Option<Instant>,
    history: VecDeque<(u16, Vec<u8>)>,
    filler: Vec<u8>,
    stats: SourceStats,
}

impl Source {
    pub(crate) fn new(now: Instant, epoch: Instant, spec: SourceSpec, random: &mut Random) -> Self {
        let interval = match &spec.media {
            Media::Audio { .. } => Duration::from_millis(20),
            Media::Video { bitrate, packet_len, packets_per_frame } => {
                let bits = 8 * *packet_len as u64 * u64::from(*packets_per_frame);
                Duration::from_nanos(bits * 1_000_000_000 / (*bitrate).max(1))
            }
        };
        // Publishers do not beat in time with each other.
        let phase = Duration::from_nanos(random.below(interval.as_nanos().max(1) as u64));
        Self {
            epoch,
            due: now + phase,
            interval,
            index: random.below(0x8000),
            timestamp: random.next() as u32,
            units: 0,
            keyframe_wanted: true,
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
        self.due
    }

    /// Counts so far.
    pub fn stats(&self) -> SourceStats {
        self.stats
    }

    /// The RTP timestamp that belongs to `now`, for sender reports.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        let behind = now.saturating_duration_since(self.due).as_secs_f64() - self.interval.as_secs_f64();
        self.timestamp.wrapping_add((behind * f64::from(self.clock())) as i64 as u32)
    }

    fn clock(&self) -> u32 {
        if matches!(self.spec.media, Media::Audio { .. }) { 48_000 } else { 90_000 }
    }

    /// Sends what is due. `twcc` counts the packets of the transport.
    pub(crate) fn handle_timeout(&mut self, now: Instant, tx: &mut SrtpTx, twcc: &mut u16, out: &mut Outbox) {
        if now.saturating_duration_since(self.due) > MAX_BACKLOG {
            let units = now.saturating_duration_since(self.due).as_nanos() / self.interval.as_nanos().max(1);
            let per_unit = match self.spec.media {
                Media::Audio { .. } => 1,
                Media::Video { packets_per_frame, .. } => u64::from(packets_per_frame),
            };
            self.stats.skipped += units as u64 * per_unit;
            self.due = now;
        }
        while self.due <= now {
            self.unit(now, tx, twcc, out);
            self.due += self.interval;
            self.units += 1;
            self.timestamp =
                self.timestamp.wrapping_add((self.interval.as_secs_f64() * f64::from(self.clock())).round() as u32);
        }
    }

    /// A receiver asked for a picture that stands alone.
    pub fn request_keyframe(&mut self, now: Instant) {
        if self.last_keyframe.is_none_or(|last| now.saturating_duration_since(last) >= KEYFRAME_INTERVAL) {
            self.keyframe_wanted = true;
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

    fn unit(&mut self, now: Instant, tx: &mut SrtpTx, twcc: &mut u16, out: &mut Outbox) {
        let mut packet = [0; BUFFER];
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        match &self.spec.media {
            Media::Audio { payloads, level, stamp } => {
                let at = (self.units as usize) % payloads.len().max(1);
                let payload: &[u8] = payloads.get(at).map_or(&[], Vec::as_slice);
                let header_len = self.header(&mut packet, self.units == 0, Some(*level), twcc);
                let len = header_len + payload.len().min(BUFFER - header_len - 32);
                packet[header_len..len].copy_from_slice(&payload[..len - header_len]);
                if *stamp {
                    write_stamp(&mut packet[header_len..len], micros);
                }
                self.send(&mut packet, header_len, len, tx, out);
            }
            Media::Video { packet_len, packets_per_frame, .. } => {
                let (packet_len, count) = ((*packet_len).min(BUFFER - 32), *packets_per_frame);
                let keyframe = std::mem::take(&mut self.keyframe_wanted);
                if keyframe {
                    self.last_keyframe = Some(now);
                    self.stats.keyframes += 1;
                }
                for at in 0..count {
                    let header_len = self.header(&mut packet, at + 1 == count, None, twcc);
                    let len = packet_len.max(header_len + 64);
                    self.video_payload(&mut packet[header_len..len], at, keyframe, micros);
                    self.send(&mut packet, header_len, len, tx, out);
                }
            }
        }
    }

    fn header(&self, packet: &mut [u8], marker: bool, level: Option<u8>, twcc: &mut u16) -> usize {
        let fields = HeaderFields {
            marker,
            payload_type: self.spec.payload_type,
            sequence_number: self.index as u16,
            timestamp: self.timestamp,
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

    fn video_payload(&self, payload: &mut [u8], at: u32, keyframe: bool, micros: u64) {
        let descriptor = Descriptor {
            non_reference: false,
            start_of_partition: at == 0,
            partition: 0,
            picture_id: Some(PictureId::Long(self.units as u16 & 0x7fff)),
            tl0_pic_idx: Some(self.units as u8),
            temporal: Some(Temporal { tid: 0, layer_sync: false }),
            key_idx: Some(self.stats.keyframes as u8 & 0x1f),
            keyframe,
            len: 0,
        };
        payload.copy_from_slice(&self.filler[..payload.len()]);
        let len = descriptor.write(payload).unwrap_or(0);
        let body = &mut payload[len..];
        if at == 0 {
            // Frame tag (RFC 6386, 9.1): bit 0 is clear in a key frame, bit 4 shows the frame.
            body[0] = 0x10 | u8::from(!keyframe);
            if keyframe {
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
