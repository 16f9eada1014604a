//! One stream as it is sent to one subscriber: which received stream it follows, its numbers, and what was sent lately.
use std::time::{Duration, Instant};

use greenroom_wire::Ssrc;
use greenroom_wire::ext::{ExtensionKind, MAX_SDES_LEN};
use greenroom_wire::rtcp::{NtpTime, ReportBlock, SenderInfo};
use greenroom_wire::seq::{diff32, extend16, newer32};

use crate::budget::{Limits, Meter};
use crate::codec_map::{PayloadRule, payload_rules};
use crate::elements::FORWARDED;
use crate::history::{History, Stamp};
use crate::inbound::Inbound;
use crate::outgoing::{Arrival, Delivery, Outgoing};
use crate::picture::{Picture, PictureContinuity};
use crate::sending::Continuation;
use crate::sequence::Sequencer;
use crate::slab::{Key, Slab};
use crate::{Codec, Kind, Sender};

/// The ids a subscriber negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SendExtensions {
    pub(crate) mid: Option<u8>,
    pub(crate) abs_send_time: Option<u8>,
    pub(crate) transport_cc: Option<u8>,
    forwarded: [u8; FORWARDED.len()],
}

impl SendExtensions {
    fn new(sender: &Sender) -> Self {
        let id = |kind| sender.extensions.id(kind);
        SendExtensions {
            mid: id(ExtensionKind::Mid),
            abs_send_time: id(ExtensionKind::AbsSendTime),
            transport_cc: id(ExtensionKind::TransportCc),
            forwarded: FORWARDED.map(|kind| id(kind).unwrap_or(0)),
        }
    }

    /// The subscriber's id of an extension that came with the packet.
    pub(crate) fn forwarded(&self, kind: ExtensionKind) -> Option<u8> {
        let index = FORWARDED.iter().position(|k| *k == kind)?;
        Some(self.forwarded[index]).filter(|id| *id != 0)
    }
}

/// How long packets of the stream left at a switch still find their places, once they are recovered from loss.
const LATE: Duration = Duration::from_millis(500);

/// The numbers of the stream followed before a switch.
struct Previous {
    inbound: Key,
    until: Instant,
    sequencer: Sequencer,
    timestamp_shift: u32,
    pictures: PictureContinuity,
}

/// What is needed seldom.
struct Detail {
    spec: Sender,
    rules: Vec<PayloadRule>,
    pictures: PictureContinuity,
    previous: Option<Previous>,
    keyframes: Meter,
    /// From the subscriber's newest report block.
    reported: ReportBlock,
    /// Middle of the NTP time of our newest sender report, and when it left.
    last_report: Option<(u32, Instant)>,
}

/// What becomes of a received packet.
pub(crate) struct Accepted {
    pub(crate) outgoing: Outgoing,
    /// The stream begins, or switches, with this packet: what came earlier and belongs after it should follow.
    pub(crate) begins: bool,
}

/// Everything a forwarded audio packet touches is here and fits three cache lines.
pub(crate) struct Outbound {
    /// The subscriber.
    peer: Key,
    track: Key,
    ssrc: u32,
    rtx_ssrc: u32,
    kind: Kind,
    max_layer: u8,
    paused: bool,
    /// The subscriber is connected.
    ready: bool,
    /// It is being forwarded; otherwise a key frame of any layer starts it.
    started: bool,
    /// The received stream followed last.
    source: Option<Key>,
    /// The rule used last: publishers seldom change their codec.
    rule: PayloadRule,
    extensions: SendExtensions,
    mid_len: u8,
    mid: [u8; MAX_SDES_LEN],
    timestamp_shift: u32,
    newest: Option<(u32, Instant)>,
    sequencer: Sequencer,
    history: History,
    rtx_next: u64,
    packets: u64,
    octets: u64,
    detail: Box<Detail>,
}

impl Outbound {
    /// `begin` and `rtx_begin`: where the SSRCs go on from.
    pub(crate) fn new(
        peer: Key,
        track: Key,
        spec: Sender,
        begin: Continuation,
        rtx_begin: Continuation,
        now: Instant,
    ) -> Self {
        let mut stream = Outbound {
            peer,
            track,
            ssrc: spec.ssrc,
            rtx_ssrc: spec.rtx_ssrc,
            kind: spec.kind,
            max_layer: spec.max_layer,
            paused: spec.paused,
            ready: false,
            started: false,
            source: None,
            rule: PayloadRule::NONE,
            extensions: SendExtensions::default(),
            mid_len: 0,
            mid: [0; MAX_SDES_LEN],
            timestamp_shift: 0,
            newest: begin.newest,
            sequencer: Sequencer::new(begin.next),
            history: History::default(),
            rtx_next: rtx_begin.next,
            packets: 0,
            octets: 0,
            detail: Box::new(Detail {
                spec,
                rules: Vec::new(),
                pictures: PictureContinuity::after(begin.pictures),
                previous: None,
                keyframes: Meter::new(now),
                reported: ReportBlock::default(),
                last_report: None,
            }),
        };
        stream.read_spec();
        stream
    }

    /// Copies what packets need out of the section.
    fn read_spec(&mut self) {
        let spec = &self.detail.spec;
        self.kind = spec.kind;
        self.max_layer = spec.max_layer;
        self.paused = spec.paused;
        self.extensions = SendExtensions::new(spec);
        // One that does not fit the header extension is told by the SDP alone.
        let mid = Some(spec.mid.as_bytes()).filter(|mid| mid.len() <= MAX_SDES_LEN).unwrap_or_default();
        self.mid[..mid.len()].copy_from_slice(mid);
        self.mid_len = mid.len() as u8;
        if mid.is_empty() {
            self.extensions.mid = None;
        }
    }

    pub(crate) fn peer(&self) -> Key {
        self.peer
    }

    pub(crate) fn track(&self) -> Key {
        self.track
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(crate) fn rtx_ssrc(&self) -> u32 {
        self.rtx_ssrc
    }

    pub(crate) fn max_layer(&self) -> u8 {
        self.max_layer
    }

    pub(crate) fn extensions(&self) -> SendExtensions {
        self.extensions
    }

    pub(crate) fn cname(&self) -> &str {
        &self.detail.spec.cname
    }

    /// The value of the mid extension.
    pub(crate) fn mid(&self) -> &[u8] {
        &self.mid[..usize::from(self.mid_len)]
    }

    /// Where to go on when its SSRCs are used again: an SRTP index must not repeat, time and pictures go
    /// forward.
    pub(crate) fn continuations(&self) -> [(u32, Continuation); 2] {
        let from = |next| Continuation { next, newest: self.newest, pictures: self.detail.pictures.newest() };
        [(self.ssrc, from(self.sequencer.next())), (self.rtx_ssrc, from(self.rtx_next))]
    }

    /// The received stream forwarded last.
    pub(crate) fn source(&self) -> Option<Key> {
        self.source
    }

    /// The received stream being forwarded.
    pub(crate) fn following(&self) -> Option<Key> {
        self.source.filter(|_| self.started)
    }

    /// Whether packets would be forwarded if there were any.
    pub(crate) fn wants_media(&self) -> bool {
        self.ready && !self.paused
    }

    /// Takes a changed section with the same SSRCs.
    pub(crate) fn update(&mut self, track: Key, spec: Sender, publisher: Option<&[Codec]>) {
        let before = &self.detail.spec;
        if spec.extensions != before.extensions || spec.codecs != before.codecs || spec.mid != before.mid {
            // What was sent could not be sent again with the same bytes.
            self.history.clear();
        }
        if track != self.track {
            self.restart();
            self.source = None;
        } else if spec.paused != before.paused {
            self.restart();
        }
        self.track = track;
        self.detail.spec = spec;
        self.read_spec();
        self.set_publisher(publisher);
    }

    /// Whether the subscriber can be sent to. Whoever comes back after a silence starts anew.
    pub(crate) fn set_ready(&mut self, ready: bool) {
        if std::mem::replace(&mut self.ready, ready) != ready {
            self.restart();
        }
    }

    /// Learns what the publisher sends; `None` while there is none.
    pub(crate) fn set_publisher(&mut self, codecs: Option<&[Codec]>) {
        let rules = codecs.map_or_else(Vec::new, |codecs| payload_rules(codecs, &self.detail.spec.codecs));
        if rules != self.detail.rules {
            self.history.clear();
            self.rule = PayloadRule::NONE;
            self.detail.rules = rules;
        }
    }

    /// The next packet starts anew: for video a key frame.
    pub(crate) fn restart(&mut self) {
        self.started = false;
        self.sequencer.reset();
        self.detail.previous = None;
    }

    /// Whether the subscriber can take what has this payload type of the publisher's; any, where none is named.
    pub(crate) fn can_take(&self, pt: Option<u8>) -> bool {
        match pt {
            Some(pt) => self.detail.rules.iter().any(|rule| rule.from == pt),
            None => !self.detail.rules.is_empty(),
        }
    }

    /// The rule for a payload type of the publisher; `None`: the subscriber cannot take it.
    fn rule_for(&mut self, pt: u8) -> Option<PayloadRule> {
        if self.rule.from != pt {
            self.rule = *self.detail.rules.iter().find(|rule| rule.from == pt)?;
        }
        Some(self.rule)
    }

    /// Whether the subscriber may ask for a key frame once more.
    pub(crate) fn may_ask(&mut self, now: Instant, limits: &Limits) -> bool {
        self.detail.keyframes.take(now, limits.keyframes, 1)
    }

    /// Decides about one packet. `me` is the key of this stream. `is_target`: the packet's layer is the one this stream
    /// should follow. `inbounds` gives the clocks of both streams at a switch.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        me: Key,
        packet: &Arrival,
        is_target: bool,
        inbounds: &Slab<Inbound>,
    ) -> Option<Accepted> {
        if !self.wants_media() {
            return None;
        }
        let Some(rule) = self.rule_for(packet.pt) else {
            // What the subscriber cannot take (telephone events, another codec for a while) is no loss.
            self.skip(packet.inbound, packet.seq);
            return None;
        };
        let begins = !self.started || self.source != Some(packet.inbound);
        if begins {
            let better = is_target || !self.started;
            if !better || !packet.facts.start {
                let (out_seq, timestamp, picture) = self.place_before_switch(now, packet)?;
                return Some(Accepted {
                    outgoing: outgoing(me, packet, rule, out_seq, timestamp, picture),
                    begins: false,
                });
            }
            self.switch(now, packet, inbounds);
        }
        let out_seq = self.sequencer.map(packet.seq)?;
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_shift);
        if self.newest.is_none_or(|(newest, _)| newer32(timestamp, newest)) {
            self.newest = Some((timestamp, now));
        }
        let picture = packet.facts.picture.and_then(|picture| self.detail.pictures.map(picture, packet.facts.is_short));
        Some(Accepted { outgoing: outgoing(me, packet, rule, out_seq, timestamp, picture), begins })
    }

    /// The place of a packet of the stream left at the last switch, when it fills a gap from before the switch. Left
    /// open, receivers would wait for it before they show the new layer's key frame.
    fn place_before_switch(&mut self, now: Instant, packet: &Arrival) -> Option<(u64, u32, Option<Picture>)> {
        let previous =
            self.detail.previous.as_mut().filter(|former| former.inbound == packet.inbound && now < former.until)?;
        let out_seq = previous.sequencer.place(packet.seq)?;
        let picture = packet.facts.picture.and_then(|picture| previous.pictures.map(picture, packet.facts.is_short));
        Some((out_seq, packet.timestamp.wrapping_add(previous.timestamp_shift), picture))
    }

    /// A packet of the followed stream that is not forwarded (padding only).
    pub(crate) fn skip(&mut self, inbound: Key, seq: u64) {
        if self.following() == Some(inbound) {
            self.sequencer.skip(seq);
        }
    }

    /// Follows the packet's stream from this packet on, with continuous numbers.
    fn switch(&mut self, now: Instant, packet: &Arrival, inbounds: &Slab<Inbound>) {
        let previous = self.following().filter(|inbound| *inbound != packet.inbound).map(|inbound| Previous {
            inbound,
            until: now + LATE,
            sequencer: self.sequencer.clone(),
            timestamp_shift: self.timestamp_shift,
            pictures: self.detail.pictures,
        });
        if let Some((newest, at)) = self.newest.filter(|(newest, _)| !self.continues(packet, *newest)) {
            let elapsed = now.saturating_duration_since(at).as_micros() as u64;
            let ticks = (elapsed * u64::from(packet.clock_rate) / 1_000_000) as u32;
            let by_arrival = newest.wrapping_add(ticks.max(1));
            let timestamp = self
                .by_clock(now, packet, inbounds)
                // Clocks of one publisher that disagree by seconds are not to be trusted.
                .filter(|t| diff32(*t, by_arrival).unsigned_abs() < 3 * packet.clock_rate && newer32(*t, newest))
                .unwrap_or(by_arrival);
            self.timestamp_shift = timestamp.wrapping_sub(packet.timestamp);
        }
        self.detail.previous = previous;
        if let Some(picture) = packet.facts.picture {
            self.detail.pictures.switch(picture);
        }
        self.sequencer.reset();
        self.source = Some(packet.inbound);
        self.started = true;
    }

    /// Whether the packet comes from the stream followed before a pause, on the same media clock.
    fn continues(&self, packet: &Arrival, newest: u32) -> bool {
        self.source == Some(packet.inbound) && newer32(packet.timestamp.wrapping_add(self.timestamp_shift), newest)
    }

    /// The outgoing timestamp of the first packet of another layer by the publisher's sender reports, which tie both
    /// layers' media clocks to one wall clock.
    fn by_clock(&self, now: Instant, packet: &Arrival, inbounds: &Slab<Inbound>) -> Option<u32> {
        let old = inbounds.get(self.source?)?;
        let new = inbounds.get(packet.inbound)?;
        let (old_ntp, old_timestamp) = old.clock_at(now, packet.clock_rate)?;
        let (new_ntp, new_timestamp) = new.clock_at(now, packet.clock_rate)?;
        // Both clocks extrapolated to now; what their wall clocks differ by is drift between the two extrapolations.
        let drift = new_ntp.0.wrapping_sub(old_ntp.0) as i64;
        let drift_ticks = ((i128::from(drift) * i128::from(packet.clock_rate)) >> 32) as i32;
        let since_now = diff32(packet.timestamp, new_timestamp);
        let in_old = old_timestamp.wrapping_add_signed(since_now).wrapping_add_signed(drift_ticks);
        Some(in_old.wrapping_add(self.timestamp_shift))
    }

    /// A packet was built for the first time: `payload_len` bytes of payload.
    #[inline]
    pub(crate) fn record(&mut self, sent: &Outgoing, stamp: Stamp, payload_len: usize) {
        self.packets += 1;
        self.octets += payload_len as u64;
        self.history.record(self.kind, sent, stamp);
    }

    /// What a plain retransmission must repeat to be the same bytes.
    pub(crate) fn stamp(&self, out_seq: u64) -> Option<Stamp> {
        self.history.stamp(out_seq)
    }

    /// The size of the packet sent with this sequence number, if it may be sent again: see [`History::size`].
    pub(crate) fn resendable(&self, low: u16, millis: u32, pause_ms: u32) -> Option<usize> {
        self.history.size(self.sent_as(low)?, millis, pause_ms)
    }

    /// The extended number sent last that ends in `low`.
    fn sent_as(&self, low: u16) -> Option<u64> {
        Some(extend16(self.sequencer.next().checked_sub(1)?, low))
    }

    /// The packet sent with this sequence number, to be sent again: see [`History::again`].
    pub(crate) fn again(&mut self, me: Key, low: u16, millis: u32, pause_ms: u32) -> Option<Outgoing> {
        let out_seq = self.sent_as(low)?;
        let mut outgoing = self.history.again(me, out_seq, millis, pause_ms)?;
        if self.rtx_ssrc != 0 && outgoing.rule.rtx != 0 {
            outgoing.delivery = Delivery::Rtx(self.rtx_next);
            self.rtx_next += 1;
        }
        Some(outgoing)
    }

    /// A block of the subscriber's receiver report. Returns the round trip it shows.
    pub(crate) fn take_report(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        self.detail.reported = *block;
        let (middle, at) = self.detail.last_report?;
        if middle != block.last_sr {
            return None;
        }
        let held = Duration::from_micros(u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536);
        Some(now.saturating_duration_since(at).saturating_sub(held).min(Duration::from_secs(10)))
    }

    /// What the subscriber reported last.
    pub(crate) fn reported(&self) -> &ReportBlock {
        &self.detail.reported
    }

    /// Packets and payload bytes sent for the first time.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.packets, self.octets)
    }

    /// A sender report on the publisher's clock; `None` before anything was sent.
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: NtpTime, timestamp: u32) -> Option<SenderInfo> {
        if self.packets == 0 {
            return None;
        }
        self.detail.last_report = Some((ntp.middle(), now));
        Some(SenderInfo {
            ssrc: Ssrc(self.ssrc),
            ntp,
            rtp_timestamp: timestamp.wrapping_add(self.timestamp_shift),
            packets: self.packets as u32,
            octets: self.octets as u32,
        })
    }
}

fn outgoing(
    outbound: Key,
    packet: &Arrival,
    rule: PayloadRule,
    out_seq: u64,
    timestamp: u32,
    picture: Option<Picture>,
) -> Outgoing {
    Outgoing {
        outbound,
        inbound: packet.inbound,
        seq: packet.seq,
        out_seq,
        timestamp,
        picture,
        size: packet.size,
        rule,
        delivery: Delivery::Original,
    }
}
