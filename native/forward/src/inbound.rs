//! One stream as it is received: everything that belongs to its SSRC and nothing else.
//!
//! Originals and retransmissions pass one window here, so that each extended sequence number is forwarded at most once:
//! what subscribers are sent is sealed under a number of its own for each, and no number may be sealed twice.
use std::time::{Duration, Instant};

use greenroom_congestion::{NackGenerator, NackList, ReceiveStats};
use greenroom_secure::srtp::RxSource;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock};
use greenroom_wire::rtp::RtpHeader;
use greenroom_wire::seq::diff32;

use crate::budget::Meter;
use crate::cache::{CacheLimits, CachedPacket, NewPacket, PacketCache};
use crate::slab::Key;
use crate::{Kind, Limits};

/// Bounds of the silence after which a stream counts as stopped: a few of its own frames, but within these.
const SILENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// Frames of silence that are no accident.
const SILENT_FRAMES: u32 = 3;
/// A key frame younger than this is worth sending to who comes later, rather than asking for another.
const FRESH: Duration = Duration::from_millis(500);
/// Packets sent at once to who comes later: a large key frame and what followed it.
const MAX_BACKFILL: u64 = 400;

/// The publisher's newest sender report of this stream.
#[derive(Debug, Clone, Copy)]
struct SenderClock {
    ntp: NtpTime,
    timestamp: u32,
    at: Instant,
}

/// The first packet of the newest key frame.
#[derive(Debug, Clone, Copy)]
struct KeyframeStart {
    seq: u64,
    at: Instant,
}

/// See the module.
pub(crate) struct Inbound {
    ssrc: u32,
    layer: Key,
    kind: Kind,
    meter: Meter,
    window: RxSource,
    cache: PacketCache,
    stats: ReceiveStats,
    /// `None` when the sender would not answer.
    nack: Option<NackGenerator>,
    /// Of [`NackGenerator::abandoned`], what was acted upon.
    unrepaired_seen: u64,
    clock: Option<SenderClock>,
    newest_timestamp: u32,
    last_packet: Option<Instant>,
    /// Smoothed time between frames.
    frame_interval: Duration,
    frame_at: Option<Instant>,
    pt: u8,
    keyframe: Option<KeyframeStart>,
    fraction_lost: u8,
}

impl Inbound {
    /// A stream of a layer. `before`: the highest number accepted when this SSRC was in use earlier on the same keys.
    pub(crate) fn new(
        ssrc: u32,
        layer: Key,
        kind: Kind,
        clock_rate: u32,
        nack: bool,
        before: Option<u64>,
        now: Instant,
    ) -> Self {
        Inbound {
            ssrc,
            layer,
            kind,
            meter: Meter::new(now),
            window: before.map_or_else(RxSource::default, RxSource::after),
            cache: PacketCache::new(match kind {
                Kind::Audio => CacheLimits::AUDIO,
                Kind::Video => CacheLimits::VIDEO,
            }),
            stats: ReceiveStats::new(Ssrc(ssrc), clock_rate),
            nack: nack.then(NackGenerator::new),
            unrepaired_seen: 0,
            clock: None,
            newest_timestamp: 0,
            last_packet: None,
            frame_interval: Duration::ZERO,
            frame_at: None,
            pt: 0,
            keyframe: None,
            fraction_lost: 0,
        }
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The layer it feeds.
    pub(crate) fn layer(&self) -> Key {
        self.layer
    }

    /// The highest number accepted.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.window.highest()
    }

    /// Payload type of the newest packet; `None` before the first.
    pub(crate) fn pt(&self) -> Option<u8> {
        self.last_packet.map(|_| self.pt)
    }

    /// When the newest packet came.
    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Whether lost packets may be asked for from now on.
    pub(crate) fn set_nack(&mut self, nack: bool) {
        if nack {
            self.nack.get_or_insert_with(NackGenerator::new);
        } else {
            self.nack = None;
        }
    }

    /// The extended sequence number that `seq` stands for.
    pub(crate) fn index_of(&self, seq: u16) -> u64 {
        self.window.estimate(seq)
    }

    /// Whether one more authentic packet is within what such a stream may send.
    #[inline]
    pub(crate) fn may_send(&mut self, now: Instant, limits: &Limits) -> bool {
        let rate = if self.kind == Kind::Audio { limits.audio_packets } else { limits.video_packets };
        self.meter.take(now, rate, 1)
    }

    /// Whether no packet with this number was accepted yet.
    #[inline]
    pub(crate) fn is_fresh(&self, index: u64) -> bool {
        self.window.is_fresh(index)
    }

    /// Whether an authenticated original is the first with its number; it is taken then.
    pub(crate) fn accept(&mut self, index: u64) -> bool {
        self.window.accept(index)
    }

    /// The extended number of a retransmitted packet, if it is missing and was asked for. Others are bandwidth probes,
    /// answers that crossed their packet, or an attempt.
    pub(crate) fn accept_repair(&mut self, original: u16) -> Option<u64> {
        let wanted = self.nack.as_ref().is_some_and(|nack| nack.is_missing(original));
        let index = self.index_of(original);
        (wanted && self.accept(index)).then_some(index)
    }

    /// Accounts for an accepted packet. Returns when feedback to the publisher is due.
    pub(crate) fn account(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        index: u64,
        payload_len: usize,
        clock_rate: u32,
    ) -> Option<Instant> {
        if self.last_packet.is_none() {
            // Until now the clock was a guess.
            self.stats = ReceiveStats::new(Ssrc(self.ssrc), clock_rate);
        }
        self.stats.received(now, header.sequence_number, header.timestamp, payload_len);
        self.pt = header.payload_type;
        let newer = self.last_packet.is_none() || diff32(header.timestamp, self.newest_timestamp) > 0;
        if newer && self.window.highest() == Some(index) {
            self.newest_timestamp = header.timestamp;
            if let Some(before) = self.frame_at.replace(now) {
                // Bounded, so that a pause does not make the stream a slow one for long.
                let interval = now.saturating_duration_since(before).min(Duration::from_secs(1));
                self.frame_interval = (self.frame_interval * 7 + interval) / 8;
            }
        }
        self.last_packet = Some(now);
        let nack = self.nack.as_mut()?;
        nack.received(now, header.sequence_number);
        if nack.tracked() > 0 { nack.poll_timeout() } else { None }
    }

    /// Keeps a packet for forwarding and retransmission.
    pub(crate) fn keep(&mut self, now: Instant, millis: u32, packet: &NewPacket<'_>, starts_keyframe: bool) {
        self.cache.insert(millis, packet);
        if starts_keyframe && self.keyframe.is_none_or(|newest| newest.seq < packet.seq) {
            self.keyframe = Some(KeyframeStart { seq: packet.seq, at: now });
        }
    }

    /// A kept packet.
    #[inline(always)]
    pub(crate) fn packet(&self, seq: u64) -> Option<CachedPacket<'_>> {
        self.cache.get(seq)
    }

    /// Packets that came before `start`, the first of a key frame, but belong after it.
    pub(crate) fn after(&self, start: u64) -> std::ops::Range<u64> {
        let end = self.highest().map_or(start, |highest| highest + 1);
        start + 1..end.clamp(start + 1, start + MAX_BACKFILL)
    }

    /// Whether more came since a packet than [`Inbound::after`] gives.
    pub(crate) fn is_far_behind(&self, seq: u64) -> bool {
        self.highest().is_some_and(|highest| highest >= seq + MAX_BACKFILL)
    }

    /// A whole run of kept packets from the newest key frame on, where that is worth more than a new key frame: it is
    /// just here, or nothing followed it for a while (a slide).
    pub(crate) fn picture(&self, now: Instant) -> Option<std::ops::Range<u64>> {
        let keyframe = self.keyframe?;
        let quiet = self.last_packet.is_some_and(|at| now >= at + SILENCE.0);
        let run = keyframe.seq..self.highest()? + 1;
        let worth = (quiet || now < keyframe.at + FRESH) && run.end - run.start <= MAX_BACKFILL;
        (worth && run.clone().all(|seq| self.cache.get(seq).is_some())).then_some(run)
    }

    /// What was sent before now is not for anybody who comes later.
    pub(crate) fn forget_picture(&mut self) {
        self.keyframe = None;
    }

    /// How long it may be silent before it counts as stopped.
    pub(crate) fn patience(&self) -> Duration {
        (self.frame_interval * SILENT_FRAMES).clamp(SILENCE.0, SILENCE.1)
    }

    /// Numbers to ask the publisher for now.
    pub(crate) fn poll_nacks(&mut self, now: Instant, rtt: Duration) -> Option<NackList> {
        self.nack.as_mut().filter(|nack| nack.tracked() > 0)?.poll_nacks(now, rtt)
    }

    /// When [`Inbound::poll_nacks`] has something.
    pub(crate) fn nack_timeout(&self) -> Option<Instant> {
        self.nack.as_ref().filter(|nack| nack.tracked() > 0)?.poll_timeout()
    }

    /// Whether packets were given up since the last call that no key frame came after: the picture stands still.
    pub(crate) fn poll_unrepaired(&mut self) -> bool {
        let Some(nack) = &self.nack else { return false };
        let newest = nack.newest_abandoned().map(|seq| self.window.estimate(seq));
        let grown = std::mem::replace(&mut self.unrepaired_seen, nack.abandoned()) < nack.abandoned();
        grown && newest.is_some_and(|newest| self.keyframe.is_none_or(|keyframe| keyframe.seq <= newest))
    }

    /// The publisher's report of this stream.
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: NtpTime, timestamp: u32) {
        self.stats.sender_report(now, ntp);
        self.clock = Some(SenderClock { ntp, timestamp, at: now });
    }

    /// The media clock of the publisher at `now`, extrapolated from its newest report.
    pub(crate) fn clock_at(&self, now: Instant, clock_rate: u32) -> Option<(NtpTime, u32)> {
        let clock = self.clock?;
        let micros = now.saturating_duration_since(clock.at).as_micros();
        let ticks = (micros * u128::from(clock_rate) / 1_000_000) as u32;
        let ntp = NtpTime(clock.ntp.0.wrapping_add(((micros << 32) / 1_000_000) as u64));
        Some((ntp, clock.timestamp.wrapping_add(ticks)))
    }

    /// The report block for the publisher, once there is something to report.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let block = self.stats.report(now)?;
        self.fraction_lost = block.fraction_lost;
        Some(block)
    }

    pub(crate) fn stats(&self) -> &ReceiveStats {
        &self.stats
    }

    /// Share lost in the last report interval, 0..1.
    pub(crate) fn fraction_lost(&self) -> f64 {
        f64::from(self.fraction_lost) / 256.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u16, timestamp: u32) -> RtpHeader {
        let mut packet = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        packet[2..4].copy_from_slice(&seq.to_be_bytes());
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        RtpHeader::parse(&packet).unwrap()
    }

    fn video() -> Inbound {
        Inbound::new(1, Key::NOWHERE, Kind::Video, 90_000, true, None, Instant::now())
    }

    fn take(inbound: &mut Inbound, now: Instant, seq: u16) {
        let index = inbound.index_of(seq);
        assert!(inbound.accept(index));
        inbound.account(now, &header(seq, u32::from(seq) * 3000), index, 100, 90_000);
    }

    #[test]
    fn originals_and_repairs_share_one_window() {
        let now = Instant::now();
        let mut inbound = video();
        take(&mut inbound, now, 10);
        assert_eq!(inbound.accept_repair(9), None, "nobody asked");
        take(&mut inbound, now, 13);
        assert_eq!(inbound.accept_repair(12), Some(12));
        inbound.account(now, &header(12, 0), 12, 100, 90_000);
        assert_eq!(inbound.accept_repair(12), None, "twice");
        assert!(!inbound.accept(12), "the original after its repair");
        assert!(inbound.accept(11) && inbound.accept_repair(11).is_none(), "the repair after its original");
    }

    #[test]
    fn an_ssrc_that_comes_back_goes_on_counting() {
        let mut inbound = Inbound::new(1, Key::NOWHERE, Kind::Audio, 48_000, true, Some(70_000), Instant::now());
        assert_eq!(inbound.index_of(4465), 70_001);
        assert!(!inbound.accept(70_000) && !inbound.accept(69_500), "what may have been seen is a replay");
        assert!(inbound.accept(70_001));
    }

    #[test]
    fn patience_follows_the_frames_within_bounds() {
        let start = Instant::now();
        for (interval, expected) in [(33, 500), (200, 600), (1000, 2000)] {
            let mut inbound = video();
            for frame in 0..100u16 {
                take(&mut inbound, start + Duration::from_millis(interval * u64::from(frame)), frame);
            }
            let patience = inbound.patience().as_millis() as i64;
            assert!((patience - expected).abs() <= 1, "{interval}: {patience}");
        }
    }

    #[test]
    fn a_media_clock_is_extrapolated_over_hours() {
        let start = Instant::now();
        let mut inbound = video();
        inbound.sender_report(start, NtpTime(5 << 32), 100);
        let (ntp, timestamp) = inbound.clock_at(start + Duration::from_secs(3 * 3600), 90_000).unwrap();
        assert_eq!((ntp.0 >> 32, timestamp), (5 + 3 * 3600, 100 + 3 * 3600 * 90_000));
    }

    #[test]
    fn a_picture_is_whole_or_nothing() {
        let start = Instant::now();
        let mut inbound = video();
        let put = |inbound: &mut Inbound, seq: u64| {
            let packet = NewPacket { seq, marker: true, pt: 96, timestamp: 0, payload: b"picture", extensions: &[] };
            inbound.accept(seq);
            inbound.account(start, &header(seq as u16, 0), seq, 7, 90_000);
            inbound.keep(start, 0, &packet, seq == 5);
        };
        (4..8).for_each(|seq| put(&mut inbound, seq));
        assert_eq!(inbound.picture(start), Some(5..8));
        put(&mut inbound, 9);
        assert_eq!(inbound.picture(start), None, "8 is missing");
        put(&mut inbound, 8);
        assert_eq!(inbound.picture(start + Duration::from_secs(60)), Some(5..10), "a slide");
        inbound.forget_picture();
        assert_eq!(inbound.picture(start), None);
    }
}
