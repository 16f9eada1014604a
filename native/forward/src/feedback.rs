//! RTCP in: reports, retransmission requests, key-frame requests.
use std::time::Instant;

use greenroom_secure::srtp::SrtpError;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{self, Packet, ReportBlock, XrBlock};

use crate::peer::ReferenceTime;
use crate::shard::Shard;
use crate::slab::Key;
use crate::{Kind, Path};

/// Retransmissions looked up for one datagram.
const MAX_NACKED: usize = 512;
/// A packet is not sent again within this time, nor within half a round trip: the request crossed the answer.
const MIN_RESEND_MS: u32 = 10;
/// Header, extensions of ours, padding and tag of a packet sent again, in bytes: about what they are at the most.
const PACKET_OVERHEAD: usize = 72;

impl Shard {
    /// One SRTCP packet from a known path.
    pub(crate) fn handle_rtcp(&mut self, now: Instant, key: Key, path: Path, data: &mut [u8]) {
        let Shard { peers, out, limits, .. } = self;
        let link = &mut peers[key].link;
        let len = match link.open_rtcp(data) {
            Some(Ok(len)) => len,
            Some(Err(SrtpError::Replay)) => {
                out.counters.dropped_replay += 1;
                return;
            }
            Some(Err(_)) => {
                out.counters.dropped_auth += 1;
                return;
            }
            None => {
                out.counters.dropped_early += 1;
                return;
            }
        };
        // After it is known to be the peer's: nobody else can use up its budget.
        if !link.may_send_rtcp(now, limits) {
            out.counters.dropped_budget += 1;
            return;
        }
        let change = link.note_heard(now, path, out);
        self.link_changed(now, key, change);
        let Ok(compound) = rtcp::parse(&data[..len]) else {
            self.out.counters.dropped_rtcp += 1;
            return;
        };
        let mut answers = MAX_NACKED;
        for packet in compound {
            match packet {
                Ok(packet) => self.take_report(now, key, packet, &mut answers),
                Err(_) => self.out.counters.dropped_rtcp += 1,
            }
        }
        self.arm(key);
    }

    /// `answers`: retransmissions that may still be looked up for the datagram.
    fn take_report(&mut self, now: Instant, key: Key, packet: Packet<'_>, answers: &mut usize) {
        match packet {
            Packet::SenderReport(report) => {
                if let Some(inbound) = self.peers[key].receiving.media(report.info.ssrc.0) {
                    self.media.inbounds[inbound].sender_report(now, report.info.ntp, report.info.rtp_timestamp);
                }
                report.reports.for_each(|block| self.take_block(now, key, &block));
            }
            Packet::ReceiverReport(report) => report.reports.for_each(|block| self.take_block(now, key, &block)),
            Packet::Nack(nack) => {
                if let Some(stream) = self.peers[key].sending.stream(nack.media.0) {
                    for number in nack.sequence_numbers().take(*answers) {
                        *answers -= 1;
                        self.resend(now, stream, number);
                    }
                }
            }
            Packet::Pli(pli) => self.subscriber_wants_keyframe(now, key, pli.media),
            Packet::Fir(fir) => fir.entries().for_each(|(ssrc, _)| self.subscriber_wants_keyframe(now, key, ssrc)),
            Packet::Xr(report) => {
                for block in report.blocks() {
                    if let XrBlock::Rrtr(ntp) = block {
                        let reference = ReferenceTime { ssrc: report.sender, middle: ntp.middle(), at: now };
                        self.peers[key].reference = Some(reference);
                    }
                }
            }
            Packet::Remb(_) | Packet::Twcc(_) | Packet::Sdes(_) | Packet::Bye(_) | Packet::Unknown { .. } => {}
        }
    }

    fn take_block(&mut self, now: Instant, key: Key, block: &ReportBlock) {
        let peer = &mut self.peers[key];
        let Some(stream) = peer.sending.stream(block.ssrc.0) else { return };
        if let Some(rtt) = self.media.outbounds[stream].take_report(now, block) {
            peer.note_rtt(rtt);
        }
    }

    /// Sends one packet again, if it is remembered, was not just sent again, and is within the subscriber's share.
    fn resend(&mut self, now: Instant, key: Key, number: u16) {
        self.out.counters.nacks_in += 1;
        let millis = self.millis(now);
        let stream = &mut self.media.outbounds[key];
        if !stream.wants_media() {
            return;
        }
        let peer = &mut self.peers[stream.peer()];
        let pause = MIN_RESEND_MS.max(peer.rtt().map_or(0, |rtt| rtt.as_millis() as u32 / 2));
        let Some(size) = stream.resendable(number, millis, pause) else { return };
        if !peer.sending.may_resend(&self.limits, size + PACKET_OVERHEAD) {
            self.out.counters.dropped_rtx += 1;
            return;
        }
        if let Some(outgoing) = stream.again(key, number, millis, pause) {
            self.media.backlog.push(stream.peer(), stream.kind(), outgoing);
        }
    }

    fn subscriber_wants_keyframe(&mut self, now: Instant, key: Key, ssrc: Ssrc) {
        self.out.counters.plis_in += 1;
        let Some(stream) = self.peers[key].sending.stream(ssrc.0) else { return };
        if self.media.outbounds[stream].may_ask(now, &self.limits) {
            self.want_keyframe(now, stream);
        } else {
            self.out.counters.dropped_budget += 1;
        }
    }

    /// A stream needs a key frame. One that has none yet may get it from the cache.
    pub(crate) fn want_keyframe(&mut self, now: Instant, stream: Key) {
        let Some(layer) = self.media.helpful_layer(stream) else { return };
        let Shard { peers, media, limits, .. } = self;
        let sending = &mut peers[media.outbounds[stream].peer()].sending;
        if sending.may_show(now, limits) {
            let packets = media.show_kept_picture(now, stream);
            if packets > 0 {
                return sending.note_shown(now, limits, packets);
            }
        }
        self.request_keyframe(now, layer);
    }

    /// Asks the publisher for a key frame of one layer, as often as the throttle allows.
    pub(crate) fn request_keyframe(&mut self, now: Instant, key: Key) {
        let layer = &mut self.media.layers[key];
        if layer.inbound.is_none() || layer.kind == Kind::Audio {
            return;
        }
        let publisher = layer.publisher;
        if layer.throttle.request(now) {
            self.send_pli(key);
        } else if let Some(at) = layer.throttle.poll_timeout() {
            self.feedback_by(publisher, at);
        }
    }

    /// Writes a PLI to the publisher of a layer.
    pub(crate) fn send_pli(&mut self, key: Key) {
        let layer = &self.media.layers[key];
        let Some(inbound) = layer.inbound else { return };
        let media = Ssrc(self.media.inbounds[inbound].ssrc());
        let peer = &mut self.peers[layer.publisher];
        let sender = peer.ssrc;
        self.out.counters.plis_out += 1;
        peer.link.send_rtcp(&mut self.out.arena, |builder| builder.pli(sender, media).map(|_| ()));
    }
}
