//! One received stream: an audio track, a video track, or one simulcast layer of it.
use std::time::{Duration, Instant};

use greenroom_congestion::{KeyframeThrottle, NackGenerator, ReceiveStats};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::NtpTime;

use crate::cache::{CacheLimits, PacketCache};
use crate::{Codec, CodecKind, Kind, Receiver};

/// A video layer without packets for this long is not there to be switched to.
const STALE: Duration = Duration::from_millis(1500);

/// How a payload type of the publisher is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PayloadFormat {
    pub(crate) pt: u8,
    pub(crate) rtx_pt: u8,
    pub(crate) codec: CodecKind,
    pub(crate) clock_rate: u32,
}

/// The publisher's newest sender report of this stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderClock {
    pub(crate) ntp: NtpTime,
    pub(crate) timestamp: u32,
    pub(crate) at: Instant,
}

pub(crate) struct Layer {
    /// Index of the publishing peer.
    pub(crate) peer: u32,
    /// Index of the track.
    pub(crate) track: u32,
    pub(crate) kind: Kind,
    /// Spatial layer.
    pub(crate) spatial: u8,
    pub(crate) rid: String,
    /// 0 until a packet told it.
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) formats: Vec<PayloadFormat>,
    pub(crate) cache: PacketCache,
    pub(crate) stats: ReceiveStats,
    /// `None` when the sender would not answer.
    pub(crate) nack: Option<NackGenerator>,
    pub(crate) throttle: KeyframeThrottle,
    /// Asked for and not yet seen.
    pub(crate) keyframe_wanted: bool,
    pub(crate) clock: Option<SenderClock>,
    /// Extended sequence number and timestamp of the newest packet.
    pub(crate) highest: u64,
    pub(crate) newest_timestamp: u32,
    pub(crate) last_packet: Option<Instant>,
    pub(crate) fraction_lost: u8,
    /// Told upstairs.
    pub(crate) announced: bool,
}

impl Layer {
    pub(crate) fn new(peer: u32, track: u32, receiver: &Receiver, rid: &str, spatial: u8, ssrcs: (u32, u32)) -> Self {
        let limits = match receiver.kind {
            Kind::Audio => CacheLimits::AUDIO,
            Kind::Video => CacheLimits::VIDEO,
        };
        let interval = if spatial == 0 { KeyframeThrottle::LOW } else { KeyframeThrottle::HIGH };
        let mut layer = Layer {
            peer,
            track,
            kind: receiver.kind,
            spatial,
            rid: rid.to_owned(),
            ssrc: ssrcs.0,
            rtx_ssrc: ssrcs.1,
            formats: Vec::new(),
            cache: PacketCache::new(limits),
            stats: ReceiveStats::new(Ssrc(ssrcs.0), 90_000),
            nack: None,
            throttle: KeyframeThrottle::new(interval),
            keyframe_wanted: false,
            clock: None,
            highest: 0,
            newest_timestamp: 0,
            last_packet: None,
            fraction_lost: 0,
            announced: false,
        };
        layer.update(receiver);
        layer
    }

    /// Takes over what may change in a renegotiation.
    pub(crate) fn update(&mut self, receiver: &Receiver) {
        let format =
            |c: &Codec| PayloadFormat { pt: c.pt, rtx_pt: c.rtx_pt, codec: c.kind(), clock_rate: c.clock_rate };
        self.formats = receiver.codecs.iter().map(format).collect();
        if receiver.nack {
            self.nack.get_or_insert_with(NackGenerator::new);
        } else {
            self.nack = None;
        }
    }

    /// The format of a payload type.
    pub(crate) fn format(&self, pt: u8) -> Option<PayloadFormat> {
        self.formats.iter().find(|format| format.pt == pt).copied()
    }

    /// The format whose retransmissions have this payload type.
    pub(crate) fn repaired(&self, rtx_pt: u8) -> Option<PayloadFormat> {
        self.formats.iter().find(|format| format.rtx_pt == rtx_pt && rtx_pt != 0).copied()
    }

    /// Learns, or changes, the SSRC of this stream. A changed one is a new stream.
    pub(crate) fn adopt(&mut self, ssrc: u32, clock_rate: u32) {
        if self.ssrc != ssrc || self.last_packet.is_none() {
            self.ssrc = ssrc;
            self.stats = ReceiveStats::new(Ssrc(ssrc), clock_rate);
            self.cache = PacketCache::new(match self.kind {
                Kind::Audio => CacheLimits::AUDIO,
                Kind::Video => CacheLimits::VIDEO,
            });
            if let Some(nack) = &mut self.nack {
                nack.reset();
            }
            self.clock = None;
            self.highest = 0;
            self.last_packet = None;
        }
    }

    /// Whether packets arrive.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.last_packet.is_some_and(|at| now < at + STALE)
    }

    /// The media clock of the publisher at `now`, extrapolated from its newest report.
    pub(crate) fn clock_at(&self, now: Instant, clock_rate: u32) -> Option<(NtpTime, u32)> {
        let clock = self.clock?;
        let micros = now.saturating_duration_since(clock.at).as_micros() as u64;
        let ticks = (micros * u64::from(clock_rate) / 1_000_000) as u32;
        let ntp = NtpTime(clock.ntp.0.wrapping_add((micros << 32) / 1_000_000));
        Some((ntp, clock.timestamp.wrapping_add(ticks)))
    }
}
