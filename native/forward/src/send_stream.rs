//! One forwarded stream towards one subscriber: which layer it follows, its numbers, and what was sent lately.
use std::time::Instant;

use greenroom_wire::ext::ExtensionKind;
use greenroom_wire::seq::{diff32, extend16, newer32};

use crate::codec_map::{PayloadRule, payload_rules};
use crate::frame::FrameFacts;
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    /// Index of the send stream.
    pub(crate) stream: u32,
    pub(crate) layer: u32,
    pub(crate) seq: u64,
    pub(crate) out_seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) picture: Option<Picture>,
    pub(crate) size: u16,
    pub(crate) rule: u8,
    pub(crate) delivery: Delivery,
}

/// A packet that was sent, as far as needed to send it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) outgoing: Outgoing,
    /// Values written the first time: a plain retransmission must be the same bytes, since its SRTP index is the same.
    pub(crate) send_time: u32,
    pub(crate) transport_cc: u16,
    pub(crate) padding: u8,
    /// When it was last sent again, milliseconds of the shard's clock.
    pub(crate) resent_ms: Option<u32>,
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

pub(crate) struct SendStream {
    /// Index of the subscriber.
    pub(crate) peer: u32,
    /// Index of the track.
    pub(crate) track: u32,
    pub(crate) spec: Sender,
    pub(crate) extensions: SendExtensions,
    pub(crate) rules: Vec<PayloadRule>,
    /// The subscriber is connected.
    pub(crate) ready: bool,
    /// Index of the layer followed last.
    pub(crate) source: Option<u32>,
    /// It is being forwarded; otherwise a key frame of any layer starts it.
    pub(crate) started: bool,
    sequencer: Sequencer,
    timestamp_shift: u32,
    newest: Option<(u32, Instant)>,
    pictures: PictureContinuity,
    history: Vec<Option<Sent>>,
    pub(crate) rtx_next: u64,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// From the subscriber's newest report block.
    pub(crate) reported_lost: i32,
    pub(crate) reported_fraction: u8,
    pub(crate) reported_jitter: u32,
    /// Middle of the NTP time of our newest sender report, and when it left.
    pub(crate) last_report: Option<(u32, Instant)>,
}

impl SendStream {
    /// `first` and `rtx_first` are the extended sequence numbers to begin with.
    pub(crate) fn new(peer: u32, track: u32, spec: Sender, first: u64, rtx_first: u64) -> Self {
        SendStream {
            peer,
            track,
            extensions: SendExtensions::new(&spec),
            spec,
            rules: Vec::new(),
            ready: false,
            source: None,
            started: false,
            sequencer: Sequencer::new(first),
            timestamp_shift: 0,
            newest: None,
            pictures: PictureContinuity::default(),
            history: Vec::new(),
            rtx_next: rtx_first,
            packets: 0,
            octets: 0,
            reported_lost: 0,
            reported_fraction: 0,
            reported_jitter: 0,
            last_report: None,
        }
    }

    /// Extended numbers to continue with when this SSRC is used again: an SRTP index must not repeat.
    pub(crate) fn next_numbers(&self) -> (u64, u64) {
        (self.sequencer.next(), self.rtx_next)
    }

    /// Takes a changed section with the same SSRC.
    pub(crate) fn update(&mut self, track: u32, spec: Sender, publisher: Option<&[Codec]>) {
        let extensions = SendExtensions::new(&spec);
        if extensions != self.extensions || spec.codecs != self.spec.codecs || spec.mid != self.spec.mid {
            // What was sent could not be sent again with the same bytes.
            self.history.clear();
        }
        if track != self.track {
            self.forget_source();
        } else if spec.paused != self.spec.paused {
            self.restart();
        }
        self.track = track;
        self.extensions = extensions;
        self.spec = spec;
        self.set_publisher(publisher);
    }

    /// Learns what the publisher sends; `None` while there is none.
    pub(crate) fn set_publisher(&mut self, codecs: Option<&[Codec]>) {
        let rules = codecs.map_or_else(Vec::new, |codecs| payload_rules(codecs, &self.spec.codecs));
        if rules != self.rules {
            self.history.clear();
            self.rules = rules;
        }
    }

    /// The next packet starts anew: for video a key frame.
    pub(crate) fn restart(&mut self) {
        self.started = false;
        self.sequencer.reset();
    }

    /// The layers of the track are gone, or others.
    pub(crate) fn forget_source(&mut self) {
        self.restart();
        self.source = None;
        self.history.clear();
    }

    /// Whether packets would be forwarded if there were any.
    pub(crate) fn wants_media(&self) -> bool {
        self.ready && !self.spec.paused
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
        let rule = self.rules.iter().position(|rule| rule.from == packet.pt)?;
        if !self.started || self.source != Some(packet.layer) {
            let better = is_target || !self.started;
            if !better || !packet.facts.keyframe {
                return None;
            }
            self.switch(now, packet, layers);
        }
        let out_seq = self.sequencer.map(packet.seq)?;
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_shift);
        if self.newest.is_none_or(|(newest, _)| newer32(timestamp, newest)) {
            self.newest = Some((timestamp, now));
        }
        let picture = packet.facts.picture.and_then(|picture| self.pictures.map(picture));
        Some(Outgoing {
            stream: index,
            layer: packet.layer,
            seq: packet.seq,
            out_seq,
            timestamp,
            picture,
            size: packet.size,
            rule: rule as u8,
            delivery: Delivery::First,
        })
    }

    /// A packet of the followed layer that is not forwarded (padding only).
    pub(crate) fn skip(&mut self, layer: u32, seq: u64) {
        if self.started && self.source == Some(layer) {
            self.sequencer.skip(seq);
        }
    }

    /// Follows the packet's layer from this packet on, with continuous numbers.
    fn switch(&mut self, now: Instant, packet: &Inbound, layers: &Slab<Layer>) {
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
        if let Some(picture) = packet.facts.picture {
            self.pictures.switch(picture);
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

    /// Remembers a packet that was sent.
    pub(crate) fn record(&mut self, sent: Sent) {
        if self.history.is_empty() {
            let len = match self.spec.kind {
                Kind::Audio => 128,
                Kind::Video => 512,
            };
            self.history.resize(len, None);
        }
        let slot = sent.outgoing.out_seq as usize & (self.history.len() - 1);
        self.history[slot] = Some(sent);
    }

    /// The packet sent with this number, if it is remembered.
    pub(crate) fn sent(&mut self, low: u16) -> Option<&mut Sent> {
        let out_seq = extend16(self.sequencer.next().checked_sub(1)?, low);
        let mask = self.history.len().checked_sub(1)?;
        self.history[out_seq as usize & mask].as_mut().filter(|sent| sent.outgoing.out_seq == out_seq)
    }
}
