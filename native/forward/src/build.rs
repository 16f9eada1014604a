//! RTP out: from the cache of a stream to sealed packets of a subscriber, written once, in runs of equal size.
use std::time::Instant;

use greenroom_secure::srtp::MAX_OVERHEAD;
use greenroom_wire::ext::AbsSendTime;
use greenroom_wire::rtp::{HeaderFields, write_header};
use greenroom_wire::vp8::Descriptor;
use greenroom_wire::{Ssrc, red};

use crate::cache::CachedPacket;
use crate::codec_map::{PayloadRule, Treatment};
use crate::elements::FORWARDED;
use crate::history::Stamp;
use crate::outgoing::{Delivery, Outgoing};
use crate::picture::Picture;
use crate::runs::{Goal, MAX_PADDING};
use crate::shard::Shard;
use crate::slab::Key;

/// Extension elements of one packet: ours and those that came with it.
const MAX_ELEMENTS: usize = 3 + FORWARDED.len();
/// Bytes by which a payload may grow: a short VP8 picture id becomes a long one (RFC 7741, 4.2).
const MAX_GROWTH: usize = 1;

impl Shard {
    /// Builds everything that waits for one peer.
    pub(crate) fn build_burst(&mut self, now: Instant, key: Key, burst: &[Outgoing]) {
        let micros = self.micros(now);
        let Shard { peers, media, out, limits, pad_runs, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        let Some((tx, path)) = peer.link.sealer() else { return };
        let send_time_now = AbsSendTime::from_micros(micros).0;
        let mut goal = Goal::default();
        for (position, item) in burst.iter().enumerate() {
            let packet = media.inbounds.get(item.inbound).and_then(|inbound| inbound.packet(item.seq));
            let (Some(packet), Some(stream)) = (packet, media.outbounds.get_mut(item.outbound)) else {
                out.counters.dropped_cache += 1;
                continue;
            };
            let rule = item.rule;
            let before = match item.delivery {
                Delivery::Repeat => match stream.stamp(item.out_seq) {
                    Some(stamp) => Some(stamp),
                    None => {
                        // Forgotten since it was asked for: other bytes under its number would betray the key.
                        out.counters.dropped_cache += 1;
                        continue;
                    }
                },
                _ => None,
            };
            let send_time = before.map_or(send_time_now, |b| b.send_time);
            let transport_cc = before.map_or(peer.sending.transport_cc(), |b| b.transport_cc);
            let ids = stream.extensions();
            let send_time_bytes = AbsSendTime(send_time).encode();
            let transport_cc_bytes = transport_cc.to_be_bytes();
            let own = [
                (ids.mid, stream.mid()),
                (ids.abs_send_time, &send_time_bytes[..]),
                (ids.transport_cc, &transport_cc_bytes[..]),
            ];
            let came = packet.extensions().map(|(kind, value)| (ids.forwarded(kind), value));
            let mut elements: [(u8, &[u8]); MAX_ELEMENTS] = [(0, &[]); MAX_ELEMENTS];
            let mut count = 0;
            // 12 bytes and the head of the extension block.
            let mut room = 16;
            for (slot, element) in
                elements.iter_mut().zip(own.into_iter().chain(came).filter_map(|(id, value)| Some((id?, value))))
            {
                room += 2 + element.1.len();
                count += 1;
                *slot = element;
            }
            let (payload_type, ssrc, srtp_index) = match item.delivery {
                Delivery::Rtx(seq) => (rule.rtx, stream.rtx_ssrc(), seq),
                _ => (rule.to, stream.ssrc(), item.out_seq),
            };
            let fields = HeaderFields {
                marker: packet.marker,
                payload_type,
                sequence_number: srtp_index as u16,
                timestamp: item.timestamp,
                ssrc: Ssrc(ssrc),
                padding: false,
            };
            let run = out.arena.open_run(path);
            // The block is filled up to whole words; an RTX payload begins with the original sequence number.
            let room = room + 3 + 2 + packet.payload.len() + MAX_GROWTH;
            let buf = out.arena.reserve(room + MAX_PADDING + MAX_OVERHEAD);
            let written = write_packet(&mut buf[..room], &fields, &elements[..count], item, &packet);
            let Some((header_len, mut len, payload_len)) = written else {
                out.counters.dropped_malformed += 1;
                continue;
            };
            let padding = match before {
                Some(before) => usize::from(before.padding),
                None if *pad_runs => goal.padding(burst, position, len + tx.profile().tag_len(), run),
                None => 0,
            };
            if padding > 0 {
                buf[0] |= 0x20;
                buf[len..len + padding].fill(0);
                buf[len + padding - 1] = padding as u8;
                len += padding;
            }
            let len = tx.seal_rtp(buf, header_len, len, srtp_index);
            out.arena.commit(path, len);
            out.counters.rtp_out += 1;
            if ids.transport_cc.is_some() && before.is_none() {
                peer.sending.count_transport_cc();
            }
            if item.delivery == Delivery::Original {
                stream.record(item, Stamp { send_time, transport_cc, padding: padding as u8 }, payload_len);
                peer.sending.earn_rtx(limits, len);
            } else {
                out.counters.rtx_out += 1;
            }
        }
    }
}

/// Header, for a retransmission the original sequence number, and the payload as the subscriber shall see it. Returns the
/// length of the header, of all, and of the payload; `None` when the payload is malformed.
#[inline(always)]
fn write_packet(
    buf: &mut [u8],
    fields: &HeaderFields,
    elements: &[(u8, &[u8])],
    item: &Outgoing,
    packet: &CachedPacket<'_>,
) -> Option<(usize, usize, usize)> {
    let header_len = write_header(buf, fields, elements).ok()?;
    let mut len = header_len;
    if let Delivery::Rtx(_) = item.delivery {
        buf.get_mut(len..len + 2)?.copy_from_slice(&(item.out_seq as u16).to_be_bytes());
        len += 2;
    }
    let payload_len = write_payload(buf.get_mut(len..)?, packet, &item.rule, item.picture)?;
    Some((header_len, len + payload_len, payload_len))
}

/// Writes the payload as the subscriber shall see it; `None` when it is malformed.
fn write_payload(
    buf: &mut [u8],
    packet: &CachedPacket<'_>,
    rule: &PayloadRule,
    picture: Option<Picture>,
) -> Option<usize> {
    let payload = packet.payload;
    if let Some(picture) = picture {
        let mut descriptor = Descriptor::parse(payload).ok()?;
        let rest = &payload[descriptor.len..];
        picture.apply(&mut descriptor);
        let written = descriptor.write(buf).ok()?;
        return Some(written + put(buf.get_mut(written..)?, rest)?);
    }
    match rule.treatment {
        Treatment::Pass => put(buf, payload),
        Treatment::PrimaryOnly => put(buf, red::primary(payload).ok()?.data),
        Treatment::RenumberRed(pt) => {
            let len = put(buf, payload)?;
            let mut at = 0;
            while payload.get(at)? & 0x80 != 0 {
                buf[at] = 0x80 | pt;
                at += 4;
            }
            buf[at] = pt;
            Some(len)
        }
    }
}

/// Copies `bytes` to the beginning of `buf`; `None` when they do not fit.
#[inline(always)]
fn put(buf: &mut [u8], bytes: &[u8]) -> Option<usize> {
    buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}
