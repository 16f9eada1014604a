//! RTP in: open, recognise, account, keep, and hand to whoever subscribed.
use std::time::{Duration, Instant};

use greenroom_wire::ext::ExtensionKind;
use greenroom_wire::rtp::{self, RtpHeader};

use crate::cache::NewPacket;
use crate::elements::{Elements, FORWARDED};
use crate::frame;
use crate::inbound::Inbound;
use crate::outgoing::Arrival;
use crate::receiving::{Claim, Route};
use crate::room::Admission;
use crate::shard::Shard;
use crate::slab::Key;
use crate::{Event, Kind, Path};

/// A packet that came before may be a bandwidth probe when it is no older than this, in packets. Older ones are replays,
/// whose transport-wide numbers would be taken for new ones.
const MAX_PROBE_AGE: u64 = 512;
/// Time between two looks at which simulcast layers have stopped.
const LAYERS_INTERVAL: Duration = Duration::from_millis(50);

impl Shard {
    /// One SRTP packet from a known path.
    pub(crate) fn handle_rtp(&mut self, now: Instant, key: Key, path: Path, data: &mut [u8]) {
        let Shard { peers, media, out, limits, .. } = self;
        let peer = &mut peers[key];
        let Ok(header) = RtpHeader::parse(data) else {
            out.counters.dropped_malformed += 1;
            return;
        };
        let (route, index) = peer.receiving.route(&media.inbounds, header.ssrc.0, header.sequence_number);
        let Some(rx) = peer.link.opener() else {
            out.counters.dropped_early += 1;
            return;
        };
        let Ok(len) = rx.open_rtp(data, header.header_len, index) else {
            out.counters.dropped_auth += 1;
            return;
        };
        out.counters.rtp_in += 1;
        // After it is known to be the peer's: nobody else can use up its budget.
        if !peer.link.may_send_rtp(now, limits, data.len()) {
            out.counters.dropped_budget += 1;
            return;
        }
        let age = peer.receiving.age_of_replay(&media.inbounds, header.ssrc.0, index);
        if age.is_some_and(|age| age > MAX_PROBE_AGE) {
            out.counters.dropped_replay += 1;
            return;
        }
        let change = if age.is_none() { peer.link.note_heard(now, path, out) } else { None };
        let packet = &data[..len];
        let elements = Elements::read(&header, packet, peer.receiving.dictionary());
        // Firefox probes with packets sent before: they count for the bandwidth estimate, and for nothing else.
        let feedback = elements
            .transport_cc
            .and_then(|number| peer.receiving.note_transport_cc(now, header.ssrc, number, header.marker));
        if let Some(at) = feedback {
            self.feedback_by(key, at);
        }
        if change.is_some() {
            self.link_changed(now, key, change);
        }
        if let Route::Media(inbound) = route
            && age.is_none()
            && !(self.peers[key].receiving.may_forward(now, &self.limits)
                && self.media.inbounds[inbound].may_send(now, &self.limits))
        {
            self.out.counters.dropped_budget += 1;
            return;
        }
        match route {
            Route::Media(inbound) if self.media.inbounds[inbound].accept(index) => {
                self.take_media(now, inbound, &header, index, packet, &elements);
            }
            Route::Repair(layer) if self.peers[key].receiving.accept_repair(header.ssrc.0, index) => {
                self.take_rtx(now, layer, &header, len, data);
            }
            Route::Media(_) | Route::Repair(_) => self.out.counters.dropped_replay += 1,
            Route::Unclaimed => match self.claim(now, key, &header, &elements) {
                Some(Route::Media(inbound)) if self.media.inbounds[inbound].accept(index) => {
                    self.take_media(now, inbound, &header, index, packet, &elements);
                    // Whoever followed the stream before it needs a key frame of this one.
                    let track = self.media.layers[self.media.inbounds[inbound].layer()].track;
                    self.retarget(now, track);
                }
                Some(Route::Repair(layer)) if self.peers[key].receiving.accept_repair(header.ssrc.0, index) => {
                    self.take_rtx(now, layer, &header, len, data);
                }
                _ => {
                    self.peers[key].receiving.note_unclaimed(header.ssrc.0, index);
                    self.out.counters.dropped_ssrc += 1;
                }
            },
        }
    }

    /// A packet of an SSRC that is not in use: the layer it names takes it, if the peer may change SSRCs now.
    #[cold]
    fn claim(&mut self, now: Instant, key: Key, header: &RtpHeader, elements: &Elements<'_>) -> Option<Route> {
        let Shard { peers, media, limits, out, .. } = self;
        let receiving = &mut peers[key].receiving;
        if !receiving.may_look(now, limits) {
            out.counters.dropped_budget += 1;
            return None;
        }
        let Claim { layer, repair, clock_rate } = receiving.claim(&media.layers, header, elements)?;
        let former = match repair {
            true => media.layers[layer].rtx_ssrc != 0,
            false => media.layers[layer].inbound.is_some(),
        };
        if former && !receiving.may_change(now, limits) {
            out.counters.dropped_budget += 1;
            return None;
        }
        if repair {
            return self.adopt_repair(layer, header.ssrc.0).then_some(Route::Repair(layer));
        }
        let inbound = self.adopt(now, layer, header.ssrc.0, clock_rate)?;
        Some(Route::Media(inbound))
    }

    /// Makes an SSRC the stream of a layer. `None` when the SSRC is something else, or the peer has used up what can be
    /// remembered.
    pub(crate) fn adopt(&mut self, now: Instant, layer_key: Key, ssrc: u32, clock_rate: u32) -> Option<Key> {
        let Shard { peers, media, .. } = self;
        let receiving = &mut peers[media.layers[layer_key].publisher].receiving;
        let before = receiving.before(ssrc)?;
        let old = media.layers[layer_key].inbound.take();
        if let Some((ssrc, highest)) = old.and_then(|old| media.leave(old)) {
            receiving.retire(ssrc, highest);
        }
        let layer = &mut media.layers[layer_key];
        let inbound = Inbound::new(ssrc, layer_key, layer.kind, clock_rate, layer.nack(), before, now);
        let inbound = media.inbounds.insert(inbound);
        layer.inbound = Some(inbound);
        receiving.set_media(ssrc, inbound);
        Some(inbound)
    }

    /// Makes an SSRC the retransmissions of a layer; `false` as above.
    pub(crate) fn adopt_repair(&mut self, layer_key: Key, ssrc: u32) -> bool {
        let layer = &mut self.media.layers[layer_key];
        let receiving = &mut self.peers[layer.publisher].receiving;
        if !receiving.set_repair(ssrc, layer_key) {
            return false;
        }
        let former = std::mem::replace(&mut layer.rtx_ssrc, ssrc);
        if former != ssrc {
            receiving.retire_repair(former, layer_key);
        }
        true
    }

    /// A retransmission (RFC 4588): the original packet with its sequence number in front of its payload.
    fn take_rtx(&mut self, now: Instant, layer: Key, header: &RtpHeader, len: usize, data: &mut [u8]) {
        let layer = &self.media.layers[layer];
        let (Some(format), Ok(body)) = (layer.repaired(header.payload_type), header.payload(&data[..len])) else {
            self.out.counters.dropped_malformed += 1;
            return;
        };
        // Without a body it is padding to probe bandwidth, without a stream a repair of nothing.
        let (&[high, low, _, ..], Some(key)) = (body, layer.inbound) else { return };
        let original = u16::from_be_bytes([high, low]);
        let publisher = layer.publisher;
        let inbound = &mut self.media.inbounds[key];
        let Some(index) = inbound.accept_repair(original) else {
            self.out.counters.dropped_unasked += 1;
            return;
        };
        let ssrc = inbound.ssrc();
        data.copy_within(..header.header_len, 2);
        let packet = &mut data[2..len];
        rtp::set_sequence_number(packet, original);
        rtp::set_payload_type(packet, format.pt);
        rtp::set_ssrc(packet, greenroom_wire::Ssrc(ssrc));
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let packet = &data[2..len];
        let elements = Elements::read(&header, packet, self.peers[publisher].receiving.dictionary());
        self.out.counters.recovered_in += 1;
        self.take_media(now, key, &header, index, packet, &elements);
    }

    /// An accepted media packet.
    fn take_media(
        &mut self,
        now: Instant,
        key: Key,
        header: &RtpHeader,
        seq: u64,
        packet: &[u8],
        elements: &Elements<'_>,
    ) {
        let millis = self.millis(now);
        let Shard { media, out, .. } = self;
        let inbound = &mut media.inbounds[key];
        let layer_key = inbound.layer();
        let layer = &mut media.layers[layer_key];
        let (Some(format), Ok(payload)) = (layer.format(header.payload_type), header.payload(packet)) else {
            out.counters.dropped_malformed += 1;
            return;
        };
        let (publisher, track_key) = (layer.publisher, layer.track);
        let late = inbound.highest().is_some_and(|highest| seq < highest);
        let feedback = inbound.account(now, header, seq, payload.len(), format.clock_rate);
        if payload.is_empty() {
            for stream in &media.tracks[track_key].subscribers {
                media.outbounds[*stream].skip(key, seq);
            }
            return;
        }
        let mut facts = frame::inspect(format, payload);
        // Who began here would not get all that came since.
        facts.start &= !inbound.is_far_behind(seq);
        let is_video = layer.kind == Kind::Video;
        if facts.keyframe && is_video {
            layer.throttle.keyframe_received();
        }
        let mut extensions = [(ExtensionKind::Mid, &[][..]); FORWARDED.len()];
        let (mut size, mut count) = (payload.len(), 0);
        for (slot, element) in extensions.iter_mut().zip(elements.forwarded()) {
            size += element.1.len();
            count += 1;
            *slot = element;
        }
        let new = NewPacket {
            seq,
            marker: header.marker,
            pt: header.payload_type,
            timestamp: header.timestamp,
            payload,
            extensions: &extensions[..count],
        };
        let track = &mut media.tracks[track_key];
        if !track.muted {
            // What comes during a mute is not for anybody, not later either.
            inbound.keep(now, millis, &new, facts.start && is_video);
        }
        let unrepaired = is_video && inbound.poll_unrepaired();
        if !std::mem::replace(&mut layer.announced, true) {
            let (ssrc, pt) = (header.ssrc.0, header.payload_type);
            out.events.push_back(Event::Track { track: track.id, layer: layer.spatial, ssrc, pt });
        }
        let (spatial, simulcast) = (layer.spatial, layer.simulcast);
        let newly_live = track.note_live(spatial);
        if let Some(at) = feedback {
            self.feedback_by(publisher, at);
        }
        if simulcast && self.peers[publisher].schedule.layers.is_none() {
            self.peers[publisher].schedule.layers = Some(now + LAYERS_INTERVAL);
            self.arm_at(publisher, now + LAYERS_INTERVAL);
        }
        if !is_video && !self.is_on_stage(now, track_key, header.timestamp, format.clock_rate, elements) {
            return;
        }
        if self.media.tracks[track_key].muted {
            return;
        }
        let arrival = Arrival {
            inbound: key,
            spatial,
            seq,
            timestamp: header.timestamp,
            pt: header.payload_type,
            clock_rate: format.clock_rate,
            completes: is_video && (header.marker || late),
            size: size.min(usize::from(u16::MAX)) as u16,
            facts,
        };
        let copies = self.media.fan_out(now, track_key, &arrival);
        self.peers[publisher].receiving.note_copies(now, &self.limits, copies);
        if newly_live {
            self.retarget(now, track_key);
        }
        if unrepaired {
            self.mend(now, layer_key);
        }
    }

    /// Notes how loud an audio packet is, and whether its track is among those the room forwards.
    fn is_on_stage(
        &mut self,
        now: Instant,
        key: Key,
        timestamp: u32,
        clock_rate: u32,
        elements: &Elements<'_>,
    ) -> bool {
        let track = &mut self.media.tracks[key];
        if let Some(level) = elements.level {
            track.note_level(level, timestamp, clock_rate);
        }
        let Some(room) = track.room.and_then(|id| self.media.rooms.get_mut(&id)) else { return true };
        match room.admit(now, key, track.publisher, elements.level.map(|level| level.level)) {
            Admission::OnStage => true,
            Admission::Offstage => false,
            Admission::Enters => {
                // What was left out is no loss.
                for stream in &track.subscribers {
                    self.media.outbounds[*stream].restart();
                }
                true
            }
        }
    }

    /// Asks to be called for a peer's feedback.
    pub(crate) fn feedback_by(&mut self, key: Key, at: Instant) {
        self.peers[key].schedule.feedback_by(at);
        self.arm_at(key, at);
    }

    /// Packets of a video layer were lost for good: a key frame mends it for those who follow it.
    pub(crate) fn mend(&mut self, now: Instant, layer: Key) {
        let state = &self.media.layers[layer];
        let followed = state.inbound.is_some()
            && self.media.tracks[state.track]
                .subscribers
                .iter()
                .any(|stream| self.media.outbounds[*stream].following() == state.inbound);
        if followed {
            self.request_keyframe(now, layer);
        }
    }

    /// Looks at which layers of a peer's tracks have packets, and where subscribers should go then.
    pub(crate) fn refresh_layers(&mut self, now: Instant, key: Key) {
        let tracks: Vec<Key> = self.peers[key]
            .receiving
            .publications()
            .iter()
            .filter(|publication| publication.layers.len() > 1)
            .map(|publication| publication.track)
            .collect();
        let mut recent = false;
        for track in tracks {
            let Shard { media, .. } = self;
            recent |= media.tracks[track].layers.iter().any(|layer| {
                let inbound = media.layers[*layer].inbound.and_then(|inbound| media.inbounds.get(inbound));
                let last = inbound.and_then(Inbound::last_packet);
                last.is_some_and(|at| now < at + Duration::from_secs(2))
            });
            if media.tracks[track].refresh_live(&media.layers, &media.inbounds) {
                self.retarget(now, track);
            }
        }
        // Without packets nothing changes; the next one begins again.
        self.peers[key].schedule.layers = recent.then_some(now + LAYERS_INTERVAL);
    }

    /// Asks for key frames of the layers that subscribers should follow and do not.
    pub(crate) fn retarget(&mut self, now: Instant, track: Key) {
        let lacking = self.media.lacking(track);
        if lacking == 0 {
            return;
        }
        for position in 0..self.media.tracks[track].layers.len() {
            let layer = self.media.tracks[track].layers[position];
            if lacking & (1 << self.media.layers[layer].spatial.min(7)) != 0 {
                self.request_keyframe(now, layer);
            }
        }
    }
}
