//! RTP in: open, recognise, account, keep, and hand to whoever subscribed.
use std::time::{Duration, Instant};

use greenroom_secure::srtp::{ReplayWindow, estimate_index};
use greenroom_wire::ext::{AudioLevel, ExtensionKind, parse_sdes, parse_transport_cc};
use greenroom_wire::rtp::{self, RtpHeader};
use greenroom_wire::seq::{diff32, extend16};

use crate::cache::NewPacket;
use crate::frame;
use crate::layer::Layer;
use crate::peer::{Publication, Source, SourceKind};
use crate::send_stream::{Inbound, is_forwarded};
use crate::shard::Shard;
use crate::slab::Slab;
use crate::{Event, Kind};

/// Header extensions of one packet, by position.
#[derive(Default)]
struct Elements<'a> {
    mid: Option<&'a str>,
    rid: Option<&'a str>,
    repaired_rid: Option<&'a str>,
    transport_cc: Option<u16>,
    level: Option<AudioLevel>,
    forwarded: [Option<(ExtensionKind, &'a [u8])>; 6],
    forwarded_len: usize,
}

impl<'a> Elements<'a> {
    fn read(header: &RtpHeader, packet: &'a [u8], kinds: &[Option<ExtensionKind>; 256]) -> Self {
        let mut elements = Elements::default();
        if !header.has_extension_block() {
            return elements;
        }
        for element in header.extensions(packet) {
            let Some(kind) = kinds[usize::from(element.id)] else { continue };
            match kind {
                ExtensionKind::Mid => elements.mid = parse_sdes(element.data).ok(),
                ExtensionKind::RtpStreamId => elements.rid = parse_sdes(element.data).ok(),
                ExtensionKind::RepairedRtpStreamId => elements.repaired_rid = parse_sdes(element.data).ok(),
                ExtensionKind::TransportCc => elements.transport_cc = parse_transport_cc(element.data).ok(),
                ExtensionKind::AudioLevel => elements.level = AudioLevel::parse(element.data).ok(),
                _ => {}
            }
            if is_forwarded(kind) && elements.forwarded_len < elements.forwarded.len() {
                elements.forwarded[elements.forwarded_len] = Some((kind, element.data));
                elements.forwarded_len += 1;
            }
        }
        elements
    }
}

impl Shard {
    /// One SRTP packet from a known path.
    pub(crate) fn handle_rtp(&mut self, now: Instant, index: u32, data: &mut [u8]) {
        let Ok(header) = RtpHeader::parse(data) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let peer = &mut self.peers[index];
        let Some(rx) = &mut peer.rx else {
            self.counters.dropped_early += 1;
            return;
        };
        let known = peer.sources.get(&header.ssrc.0);
        let seq = header.sequence_number;
        let srtp_index =
            known.and_then(|s| s.window.highest()).map_or(u64::from(seq), |highest| estimate_index(highest, seq));
        let Ok(len) = rx.open_rtp(data, header.header_len, srtp_index) else {
            self.counters.dropped_auth += 1;
            return;
        };
        self.counters.rtp_in += 1;
        if peer.link == crate::peer::Link::Up {
            peer.heard = now;
        } else {
            self.note_heard(now, index);
        }
        let peer = &mut self.peers[index];
        let packet = &data[..len];
        let elements = Elements::read(&header, packet, &peer.extensions);
        // Firefox probes with packets sent before: they count for the bandwidth estimate, and for nothing else.
        if let Some(number) = elements.transport_cc.filter(|_| peer.transport_cc) {
            peer.twcc.record(now, header.ssrc, number, header.marker);
            if let Some(at) = peer.twcc.poll_timeout() {
                peer.feedback_by(at);
            }
        }
        let kind = match peer.sources.get_mut(&header.ssrc.0) {
            Some(source) if !source.window.is_fresh(srtp_index) => {
                self.counters.dropped_replay += 1;
                self.arm(index);
                return;
            }
            Some(source) => {
                source.window.accept(srtp_index);
                source.kind
            }
            None => {
                let Some(kind) = self.identify(index, &header, &elements) else {
                    self.counters.dropped_ssrc += 1;
                    self.arm(index);
                    return;
                };
                let mut window = ReplayWindow::default();
                window.accept(srtp_index);
                self.peers[index].sources.insert(header.ssrc.0, Source { kind, window });
                kind
            }
        };
        match kind {
            SourceKind::Media(layer) => self.take_media(now, layer, &header, srtp_index, packet, &elements),
            SourceKind::Rtx(layer) => self.take_rtx(now, layer, &header, len, data),
        }
        self.arm(index);
    }

    /// Finds out which layer an SSRC not seen before belongs to: by mid and rid where the packet carries them, else by a
    /// payload type that only one waiting section knows.
    fn identify(&mut self, index: u32, header: &RtpHeader, elements: &Elements<'_>) -> Option<SourceKind> {
        let peer = &self.peers[index];
        let rid = elements.rid.or(elements.repaired_rid);
        let by_mid = elements.mid.and_then(|mid| peer.publications.iter().find(|p| p.spec.mid == mid));
        let publication = match (by_mid, rid) {
            (Some(publication), _) => Some(publication),
            (None, Some(rid)) => {
                only(peer.publications.iter().filter(|p| p.layers.iter().any(|l| self.layers[*l].rid == rid)))
            }
            (None, None) => only(peer.publications.iter().filter(|p| may_carry(p, &self.layers, header.payload_type))),
        }?;
        let layer = match rid {
            Some(rid) => *publication.layers.iter().find(|l| self.layers[**l].rid == rid)?,
            None => only(publication.layers.iter().copied())?,
        };
        let state = &mut self.layers[layer];
        let is_rtx = elements.repaired_rid.is_some() || state.repaired(header.payload_type).is_some();
        if is_rtx {
            let old = std::mem::replace(&mut state.rtx_ssrc, header.ssrc.0);
            self.forget_source(index, old);
            return Some(SourceKind::Rtx(layer));
        }
        let format = state.format(header.payload_type)?;
        let old = state.ssrc;
        if old != header.ssrc.0 {
            state.adopt(header.ssrc.0, format.clock_rate);
            self.forget_source(index, old);
            let track = self.layers[layer].track;
            for stream in &self.tracks[track].subscribers {
                self.streams[*stream].forget_layer(layer);
            }
        }
        Some(SourceKind::Media(layer))
    }

    fn forget_source(&mut self, peer: u32, ssrc: u32) {
        if ssrc != 0 {
            self.peers[peer].sources.remove(&ssrc);
        }
    }

    /// A retransmission (RFC 4588): the original packet with its sequence number in front of its payload.
    fn take_rtx(&mut self, now: Instant, layer: u32, header: &RtpHeader, len: usize, data: &mut [u8]) {
        let state = &self.layers[layer];
        let Some(format) = state.repaired(header.payload_type) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let body = match header.payload(&data[..len]) {
            Ok(body) if body.len() > 2 && state.last_packet.is_some() => body,
            // Padding to probe bandwidth, or a repair of nothing.
            Ok(_) => return,
            Err(_) => {
                self.counters.dropped_malformed += 1;
                return;
            }
        };
        let original = u16::from_be_bytes([body[0], body[1]]);
        let seq = extend16(state.highest, original);
        if self.layers[layer].cache.get(seq).is_some() {
            // Sent again to probe bandwidth, or by a NACK that crossed the packet.
            return;
        }
        data.copy_within(..header.header_len, 2);
        let packet = &mut data[2..len];
        rtp::set_sequence_number(packet, original);
        rtp::set_payload_type(packet, format.pt);
        rtp::set_ssrc(packet, greenroom_wire::Ssrc(state.ssrc));
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let packet = &data[2..len];
        let elements = Elements::read(&header, packet, &self.peers[state.peer].extensions);
        self.counters.recovered_in += 1;
        self.take_media(now, layer, &header, seq, packet, &elements);
    }

    /// A media packet with its extended sequence number.
    fn take_media(
        &mut self,
        now: Instant,
        index: u32,
        header: &RtpHeader,
        seq: u64,
        packet: &[u8],
        elements: &Elements<'_>,
    ) {
        let millis = self.millis(now);
        let layer = &mut self.layers[index];
        let Some(format) = layer.format(header.payload_type) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let Ok(payload) = header.payload(packet) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        let publisher = layer.peer;
        if layer.last_packet.is_none() {
            layer.adopt(header.ssrc.0, format.clock_rate);
        }
        layer.stats.received(now, header.sequence_number, header.timestamp, payload.len());
        if let Some(nack) = &mut layer.nack {
            nack.received(now, header.sequence_number);
            if nack.tracked() > 0
                && let Some(at) = nack.poll_timeout()
            {
                self.peers[publisher].feedback_by(at);
            }
        }
        let layer = &mut self.layers[index];
        layer.last_packet = Some(now);
        if seq >= layer.highest {
            layer.highest = seq;
            layer.newest_timestamp = header.timestamp;
        }
        let track_index = layer.track;
        if payload.is_empty() {
            for stream in &self.tracks[track_index].subscribers {
                self.streams[*stream].skip(index, seq);
            }
            return;
        }
        let facts = frame::inspect(format.codec, payload);
        if facts.keyframe && layer.kind == Kind::Video {
            layer.keyframe_wanted = false;
            layer.throttle.keyframe_received();
        }
        let mut extensions = [(ExtensionKind::Mid, &[][..]); 6];
        let mut size = payload.len();
        for (slot, element) in extensions.iter_mut().zip(elements.forwarded.iter().flatten()) {
            *slot = *element;
            size += element.1.len();
        }
        layer.cache.insert(
            millis,
            &NewPacket { seq, marker: header.marker, payload, extensions: &extensions[..elements.forwarded_len] },
        );
        let (spatial, ssrc) = (layer.spatial, layer.ssrc);
        let track = &mut self.tracks[track_index];
        if !layer.announced {
            layer.announced = true;
            self.events.push_back(Event::Track { track: track.id, layer: spatial, ssrc, pt: header.payload_type });
        }
        if let Some(level) = elements.level.filter(|_| layer.kind == Kind::Audio) {
            let last = track.last_level_timestamp.replace(header.timestamp).unwrap_or(header.timestamp);
            let ticks = diff32(header.timestamp, last).clamp(0, (format.clock_rate / 2) as i32) as u64;
            track
                .speaker
                .observe(level, Duration::from_micros(ticks * 1_000_000 / u64::from(format.clock_rate.max(1))));
        }
        let bit = 1u8 << spatial.min(7);
        let newly_live = track.live & bit == 0;
        track.live |= bit;
        if track.muted {
            return;
        }
        let inbound = Inbound {
            layer: index,
            spatial,
            seq,
            timestamp: header.timestamp,
            pt: header.payload_type,
            clock_rate: format.clock_rate,
            size: size.min(usize::from(u16::MAX)) as u16,
            facts,
        };
        self.fan_out(now, track_index, &inbound);
        if newly_live {
            self.retarget(now, track_index);
        }
    }

    /// Queues a packet for every subscriber that follows its layer.
    fn fan_out(&mut self, now: Instant, track: u32, packet: &Inbound) {
        let track = &self.tracks[track];
        for &index in &track.subscribers {
            let stream = &mut self.streams[index];
            let is_target = track.target(stream.max_layer) == Some(packet.spatial);
            let Some(outgoing) = stream.accept(now, index, packet, is_target, &self.layers) else { continue };
            let peer = &mut self.peers[stream.peer];
            if peer.pending.is_empty() {
                self.dirty.push_back(stream.peer);
            }
            peer.pending.push(outgoing);
            self.waiting += 1;
            self.urgent |= stream.kind == Kind::Video;
        }
    }

    /// Asks for key frames of the layers that subscribers should follow and do not.
    pub(crate) fn retarget(&mut self, now: Instant, index: u32) {
        let track = &self.tracks[index];
        let mut wanted = 0u8;
        for stream in track.subscribers.iter().map(|index| &self.streams[*index]).filter(|stream| stream.wants_media())
        {
            let Some(target) = track.target(stream.max_layer) else { continue };
            let follows = stream.source.filter(|_| stream.started).and_then(|l| self.layers.get(l)).map(|l| l.spatial);
            if follows != Some(target) {
                wanted |= 1 << target.min(7);
            }
        }
        if wanted == 0 || track.muted {
            return;
        }
        for position in 0..track.layers.len() {
            let layer = self.tracks[index].layers[position];
            if wanted & (1 << self.layers[layer].spatial.min(7)) != 0 {
                self.request_keyframe(now, layer);
            }
        }
    }
}

/// Whether a section could be where an unannounced SSRC belongs.
fn may_carry(publication: &Publication, layers: &Slab<Layer>, pt: u8) -> bool {
    publication.layers.len() == 1
        && publication.layers.iter().map(|index| &layers[*index]).any(|layer| {
            (layer.format(pt).is_some() && layer.ssrc == 0) || (layer.repaired(pt).is_some() && layer.rtx_ssrc == 0)
        })
}

/// The only item, if there is exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
