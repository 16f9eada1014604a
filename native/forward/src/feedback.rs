//! RTCP in: reports, retransmission requests, key-frame requests.
use std::time::{Duration, Instant};

use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{self, Packet, ReportBlock, XrBlock};

use crate::layer::SenderClock;
use crate::peer::{ReferenceTime, SourceKind};
use crate::shard::Shard;

/// Retransmissions served from one NACK packet.
const MAX_NACKED: usize = 512;
/// A packet is not sent again within this time, nor within half a round trip: the request crossed the answer.
const MIN_RESEND_MS: u32 = 10;

impl Shard {
    /// One SRTCP packet from a known path.
    pub(crate) fn handle_rtcp(&mut self, now: Instant, index: u32, data: &mut [u8]) {
        let Some(rx) = &mut self.peers[index].rx else {
            self.counters.dropped_early += 1;
            return;
        };
        let len = match rx.open_rtcp(data) {
            Ok(len) => len,
            Err(greenroom_secure::srtp::SrtpError::Replay) => {
                self.counters.dropped_replay += 1;
                return;
            }
            Err(_) => {
                self.counters.dropped_auth += 1;
                return;
            }
        };
        self.note_heard(now, index);
        let Ok(compound) = rtcp::parse(&data[..len]) else {
            self.counters.dropped_rtcp += 1;
            return;
        };
        for packet in compound {
            match packet {
                Ok(packet) => self.take_report(now, index, packet),
                Err(_) => self.counters.dropped_rtcp += 1,
            }
        }
        self.arm(index);
    }

    fn take_report(&mut self, now: Instant, index: u32, packet: Packet<'_>) {
        match packet {
            Packet::SenderReport(report) => {
                if let Some(layer) = self.media_layer(index, report.info.ssrc) {
                    let layer = &mut self.layers[layer];
                    layer.stats.sender_report(now, report.info.ntp);
                    layer.clock =
                        Some(SenderClock { ntp: report.info.ntp, timestamp: report.info.rtp_timestamp, at: now });
                }
                report.reports.for_each(|block| self.take_block(now, index, &block));
            }
            Packet::ReceiverReport(report) => report.reports.for_each(|block| self.take_block(now, index, &block)),
            Packet::Nack(nack) => {
                if let Some(&stream) = self.peers[index].senders.get(&nack.media.0) {
                    for number in nack.sequence_numbers().take(MAX_NACKED) {
                        self.resend(now, stream, number);
                    }
                }
            }
            Packet::Pli(pli) => self.subscriber_wants_keyframe(now, index, pli.media),
            Packet::Fir(fir) => fir.entries().for_each(|(ssrc, _)| self.subscriber_wants_keyframe(now, index, ssrc)),
            Packet::Remb(remb) => self.peers[index].remb = Some(remb.bitrate_bps),
            Packet::Xr(report) => {
                for block in report.blocks() {
                    if let XrBlock::Rrtr(ntp) = block {
                        let reference = ReferenceTime { ssrc: report.sender, middle: ntp.middle(), at: now };
                        self.peers[index].reference = Some(reference);
                    }
                }
            }
            Packet::Twcc(_) | Packet::Sdes(_) | Packet::Bye(_) | Packet::Unknown { .. } => {}
        }
    }

    fn media_layer(&self, peer: u32, ssrc: Ssrc) -> Option<u32> {
        match self.peers[peer].sources.get(&ssrc.0)?.kind {
            SourceKind::Media(layer) => Some(layer),
            SourceKind::Rtx(_) => None,
        }
    }

    fn take_block(&mut self, now: Instant, index: u32, block: &ReportBlock) {
        let peer = &mut self.peers[index];
        let Some(&stream) = peer.senders.get(&block.ssrc.0) else { return };
        let stream = &mut self.streams[stream];
        stream.detail.reported = *block;
        if let Some((middle, at)) = stream.detail.last_report
            && middle == block.last_sr
        {
            let held = Duration::from_micros(u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536);
            let rtt = now.saturating_duration_since(at).saturating_sub(held).min(Duration::from_secs(10));
            peer.rtt = Some(peer.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
        }
    }

    /// Sends one packet again, if it is remembered and was not just sent again.
    fn resend(&mut self, now: Instant, index: u32, number: u16) {
        self.counters.nacks_in += 1;
        let millis = self.millis(now);
        let stream = &mut self.streams[index];
        if !stream.wants_media() {
            return;
        }
        let peer = &mut self.peers[stream.peer];
        let pause = MIN_RESEND_MS.max(peer.rtt.map_or(0, |rtt| rtt.as_millis() as u32 / 2));
        let Some(outgoing) = stream.again(index, number, millis, pause) else { return };
        if peer.pending.is_empty() {
            self.dirty.push_back(stream.peer);
        }
        peer.pending.push(outgoing);
        self.waiting += 1;
        self.urgent = true;
    }

    fn subscriber_wants_keyframe(&mut self, now: Instant, index: u32, ssrc: Ssrc) {
        self.counters.plis_in += 1;
        if let Some(&stream) = self.peers[index].senders.get(&ssrc.0) {
            self.want_keyframe(now, stream);
        }
    }

    /// A send stream needs a key frame: of the layer it follows, else of the one it should follow.
    pub(crate) fn want_keyframe(&mut self, now: Instant, stream: u32) {
        let stream = &self.streams[stream];
        if !stream.wants_media() || stream.kind == crate::Kind::Audio {
            return;
        }
        let track = &self.tracks[stream.track];
        let layer = stream.source.filter(|_| stream.started).or_else(|| {
            let target = track.target(stream.max_layer)?;
            track.layers.iter().copied().find(|l| self.layers[*l].spatial == target)
        });
        if let Some(layer) = layer.filter(|_| !track.muted) {
            self.request_keyframe(now, layer);
        }
    }

    /// Asks the publisher for a key frame of one layer, as often as the throttle allows.
    pub(crate) fn request_keyframe(&mut self, now: Instant, index: u32) {
        let layer = &mut self.layers[index];
        if layer.ssrc == 0 || layer.kind == crate::Kind::Audio {
            return;
        }
        layer.keyframe_wanted = true;
        let publisher = layer.peer;
        if layer.throttle.request(now) {
            self.send_pli(index);
        } else if let Some(at) = layer.throttle.poll_timeout() {
            self.peers[publisher].feedback_by(at);
            self.arm(publisher);
        }
    }

    /// Writes a PLI to the publisher of a layer.
    pub(crate) fn send_pli(&mut self, index: u32) {
        let layer = &self.layers[index];
        let media = Ssrc(layer.ssrc);
        let peer = &mut self.peers[layer.peer];
        let sender = peer.ssrc;
        self.counters.plis_out += 1;
        peer.send_rtcp(&mut self.arena, |builder| builder.pli(sender, media).map(|_| ()));
    }
}
