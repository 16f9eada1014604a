//! One forwarded stream towards one subscriber: which layer it follows, its numbers, and what was sent lately.
use std::time::{Duration, Instant};

use greenroom_wire::ext::{ExtensionKind, MAX_SDES_LEN};
use greenroom_wire::rtcp::ReportBlock;
use greenroom_wire::seq::{diff32, extend16, newer32};

use crate::codec_map::{PayloadRule, payload_rules};
use crate::frame::FrameFacts;
use crate::history::History;
use crate::layer::Layer;
use crate::picture::{Picture, PictureContinuity};
use crate::sequence::Sequencer;
use crate::slab::Slab;
use crate::{Codec, Kind, Sender};

/// Extensions that travel from the publisher to the subscriber.
const FORWARDED: [ExtensionKind; 7] = [
    ExtensionKind::AudioLevel,
    ExtensionKind::AbsCaptureTime,
    ExtensionKind::VideoOrientation,
    ExtensionKind::PlayoutDelay,
    ExtensionKind::DependencyDescriptor,
    ExtensionKind::ColorSpace,
    ExtensionKind::VideoContentType,
];

/// Whether an extension is kept for subscribers.
pub(crate) fn is_forwarded(kind: ExtensionKind) -> bool {
    FORWARDED.contains(&kind)
}

/// A received packet on its way to subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inbound {
    pub(crate) layer: u32,
    pub(crate) spatial: u8,
    pub(crate) seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) pt: u8,
    pub(crate) clock_rate: u32,
    /// Payload and forwarded extension values, in bytes.
    pub(crate) size: u16,
    pub(crate) facts: FrameFacts,
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    First,
    /// RFC 4588, with this extended sequence number.
    Rtx(u64),
    /// The same bytes again.
    Again,
}

/// A packet waiting to be built for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Index of the send stream.
    pub(crate) stream: u32,
    pub(crate) layer: u32,
    pub(crate) seq: u64,
    pub(crate) out_seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) picture: Option<Picture>,
    pub(crate) size: u16,
    pub(crate) rule: PayloadRule,
    pub(crate) delivery: Delivery,
}

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

/// How long packets of the layer left at a switch still find their places, once they are recovered from loss.
const LATE: Duration = Duration::from_millis(500);

/// The numbers of the layer followed before a switch.
struct Former {
    layer: u32,
    until: Instant,
    sequencer: Sequencer,
    timestamp_shift: u32,
    pictures: PictureContinuity,
}

/// What is needed seldom.
pub(crate) struct Detail {
    pub(crate) spec: Sender,
    rules: Vec<PayloadRule>,
    pictures: PictureContinuity,
    former: Option<Former>,
    /// From the subscriber's newest report block.
    pub(crate) reported: ReportBlock,
    /// Middle of the NTP time of our newest sender report, and when it left.
    pub(crate) last_report: Option<(u32, Instant)>,
}

/// Everything a forwarded audio packet touches is here and fits three cache lines.
pub(crate) struct SendStream {
    /// Index of the subscriber.
    pub(crate) peer: u32,
    /// Index of the track.
    pub(crate) track: u32,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) kind: Kind,
    pub(crate) max_layer: u8,
    paused: bool,
    /// The subscriber is connected.
    pub(crate) ready: bool,
    /// It is being forwarded; otherwise a key frame of any layer starts it.
    pub(crate) started: bool,
    /// Index of the layer followed last.
    pub(crate) source: Option<u32>,
    /// The rule used last: publishers seldom change their codec.
    rule: PayloadRule,
    pub(crate) extensions: SendExtensions,
    mid_len: u8,
    mid: [u8; MAX_SDES_LEN],
    timestamp_shift: u32,
    newest: Option<(u32, Instant)>,
    sequencer: Sequencer,
    pub(crate) history: History,
    pub(crate) rtx_next: u64,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    pub(crate) detail: Box<Detail>,
}

impl SendStream {
    /// `first` and `rtx_first` are the extended sequence numbers to begin with.
    pub(crate) fn new(peer: u32, track: u32, spec: Sender, first: u64, rtx_first: u64) -> Self {
        let mut stream = SendStream {
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
            newest: None,
            sequencer: Sequencer::new(first),
            history: History::default(),
            rtx_next: rtx_first,
            packets: 0,
            octets: 0,
            detail: Box::new(Detail {
                spec,
                rules: Vec::new(),
                pictures: PictureContinuity::default(),
                former: None,
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
        self.rtx_ssrc = spec.rtx_ssrc;
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

    /// The value of the mid extension.
    pub(crate) fn mid(&self) -> &[u8] {
        &self.mid[..usize::from(self.mid_len)]
    }

    /// Extended numbers to continue with when this SSRC is used again: an SRTP index must not repeat.
    pub(crate) fn next_numbers(&self) -> (u64, u64) {
        (self.sequencer.next(), self.rtx_next)
    }

    /// Takes a changed section with the same SSRC.
    pub(crate) fn update(&mut self, track: u32, spec: Sender, publisher: Option<&[Codec]>) {
        let before = &self.detail.spec;
        if spec.extensions != before.extensions || spec.codecs != before.codecs || spec.mid != before.mid {
            // What was sent could not be sent again with the same bytes.
            self.history.clear();
        }
        if track != self.track {
            self.forget_source();
        } else if spec.paused != before.paused {
            self.restart();
        }
        self.track = track;
        self.detail.spec = spec;
        self.read_spec();
        self.set_publisher(publisher);
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
        self.detail.former = None;
    }

    /// The layers of the track are gone, or others.
    pub(crate) fn forget_source(&mut self) {
        self.restart();
        self.source = None;
        self.history.clear();
    }

    /// A layer is gone, or another stream from now on.
    pub(crate) fn forget_layer(&mut self, layer: u32) {
        if self.source == Some(layer) {
            self.forget_source();
        }
        self.detail.former = None;
        // What was sent of it cannot be sent again.
        self.history.clear();
    }

    /// Whether packets would be forwarded if there were any.
    pub(crate) fn wants_media(&self) -> bool {
        self.ready && !self.paused
    }

    /// The rule for a payload type of the publisher; `None`: the subscriber cannot take it.
    fn rule_for(&mut self, pt: u8) -> Option<PayloadRule> {
        if self.rule.from != pt {
            self.rule = *self.detail.rules.iter().find(|rule| rule.from == pt)?;
        }
        Some(self.rule)
    }

    /// Decides about one packet. `is_target`: its layer is the one this stream should follow. `layers` gives the clocks
    /// of both layers at a switch.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        index: u32,
        packet: &Inbound,
        is_target: bool,
        layers: &Slab<Layer>,
    ) -> Option<Outgoing> {
        if !self.wants_media() {
            return None;
        }
        let rule = self.rule_for(packet.pt)?;
        if !self.started || self.source != Some(packet.layer) {
            let better = is_target || !self.started;
            if !better || !packet.facts.keyframe {
                let (out_seq, timestamp, picture) = self.place_late(now, packet)?;
                return Some(outgoing(index, packet, rule, out_seq, timestamp, picture));
            }
            self.switch(now, packet, layers);
        }
        let out_seq = self.sequencer.map(packet.seq)?;
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_shift);
        if self.newest.is_none_or(|(newest, _)| newer32(timestamp, newest)) {
            self.newest = Some((timestamp, now));
        }
        let picture = packet.facts.picture.and_then(|picture| self.detail.pictures.map(picture));
        Some(outgoing(index, packet, rule, out_seq, timestamp, picture))
    }

    /// The place of a packet of the layer left at the last switch, when it fills a gap from before the switch. Left open,
    /// receivers would wait for it before they show the new layer's key frame.
    fn place_late(&mut self, now: Instant, packet: &Inbound) -> Option<(u64, u32, Option<Picture>)> {
        let former = self.detail.former.as_mut().filter(|former| former.layer == packet.layer && now < former.until)?;
        let out_seq = former.sequencer.place(packet.seq)?;
        let picture = packet.facts.picture.and_then(|picture| former.pictures.map(picture));
        Some((out_seq, packet.timestamp.wrapping_add(former.timestamp_shift), picture))
    }

    /// A packet of the followed layer that is not forwarded (padding only).
    pub(crate) fn skip(&mut self, layer: u32, seq: u64) {
        if self.started && self.source == Some(layer) {
            self.sequencer.skip(seq);
        }
    }

    /// Follows the packet's layer from this packet on, with continuous numbers.
    fn switch(&mut self, now: Instant, packet: &Inbound, layers: &Slab<Layer>) {
        let former = self.source.filter(|layer| self.started && *layer != packet.layer).map(|layer| Former {
            layer,
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
                .by_clock(now, packet, layers)
                // Clocks of one publisher that disagree by seconds are not to be trusted.
                .filter(|t| diff32(*t, by_arrival).unsigned_abs() < 3 * packet.clock_rate && newer32(*t, newest))
                .unwrap_or(by_arrival);
            self.timestamp_shift = timestamp.wrapping_sub(packet.timestamp);
        }
        self.detail.former = former;
        if let Some(picture) = packet.facts.picture {
            self.detail.pictures.switch(picture);
        }
        self.sequencer.reset();
        self.source = Some(packet.layer);
        self.started = true;
    }

    /// Whether the packet comes from the layer followed before a pause, on the same media clock.
    fn continues(&self, packet: &Inbound, newest: u32) -> bool {
        self.source == Some(packet.layer) && newer32(packet.timestamp.wrapping_add(self.timestamp_shift), newest)
    }

    /// The outgoing timestamp of the first packet of another layer by the publisher's sender reports, which tie both
    /// layers' media clocks to one wall clock.
    fn by_clock(&self, now: Instant, packet: &Inbound, layers: &Slab<Layer>) -> Option<u32> {
        let old = layers.get(self.source?)?;
        let new = layers.get(packet.layer)?;
        let (old_ntp, old_timestamp) = old.clock_at(now, packet.clock_rate)?;
        let (new_ntp, new_timestamp) = new.clock_at(now, packet.clock_rate)?;
        // Both clocks extrapolated to now; what their wall clocks differ by is drift between the two extrapolations.
        let drift = new_ntp.0.wrapping_sub(old_ntp.0) as i64;
        let drift_ticks = ((i128::from(drift) * i128::from(packet.clock_rate)) >> 32) as i32;
        let since_now = diff32(packet.timestamp, new_timestamp);
        let in_old = old_timestamp.wrapping_add_signed(since_now).wrapping_add_signed(drift_ticks);
        Some(in_old.wrapping_add(self.timestamp_shift))
    }

    /// A timestamp of the followed layer in the subscriber's numbers.
    pub(crate) fn translate(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.timestamp_shift)
    }

    /// The packet sent with this sequence number, to be sent again: see [`History::again`].
    pub(crate) fn again(&mut self, index: u32, low: u16, millis: u32, pause_ms: u32) -> Option<Outgoing> {
        let out_seq = extend16(self.sequencer.next().checked_sub(1)?, low);
        let mut outgoing = self.history.again(index, out_seq, millis, pause_ms)?;
        if self.rtx_ssrc != 0 && outgoing.rule.rtx != 0 {
            outgoing.delivery = Delivery::Rtx(self.rtx_next);
            self.rtx_next += 1;
        }
        Some(outgoing)
    }
}

fn outgoing(
    stream: u32,
    packet: &Inbound,
    rule: PayloadRule,
    out_seq: u64,
    timestamp: u32,
    picture: Option<Picture>,
) -> Outgoing {
    Outgoing {
        stream,
        layer: packet.layer,
        seq: packet.seq,
        out_seq,
        timestamp,
        picture,
        size: packet.size,
        rule,
        delivery: Delivery::First,
    }
}
