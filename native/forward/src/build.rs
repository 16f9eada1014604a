//! RTP out: from the cache of a layer to sealed packets of a subscriber, written once, in runs of equal size.
use std::time::Instant;

use greenroom_secure::srtp::MAX_OVERHEAD;
use greenroom_wire::ext::AbsSendTime;
use greenroom_wire::rtp::{HeaderFields, write_header};
use greenroom_wire::vp8::Descriptor;
use greenroom_wire::{Ssrc, red};

use crate::arena::SendArena;
use crate::cache::CachedPacket;
use crate::codec_map::{PayloadRule, Treatment};
use crate::history::Stamp;
use crate::picture::Picture;
use crate::send_stream::{Delivery, Outgoing};
use crate::shard::Shard;

/// Padding spent to make a packet as long as its neighbours, in bytes: encoders split a frame into packets that differ
/// by one byte, and speakers' packets differ by a few. A run of one size is one send.
const MAX_PADDING: usize = 16;
/// Nor more than this part of the packet: padding is paid for on the subscriber's link.
const MAX_PADDING_SHARE: usize = 8;
/// Header, extension block and original sequence number.
const MAX_HEADER: usize = 12 + 4 + 256 + 2;

impl Shard {
    /// Builds everything that waits for one peer.
    pub(crate) fn build_burst(&mut self, now: Instant, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let mut pending = std::mem::take(&mut peer.pending);
        self.waiting = self.waiting.saturating_sub(pending.len());
        let (Some(tx), Some(path)) = (&mut peer.tx, peer.ice.selected()) else {
            pending.clear();
            peer.pending = pending;
            return;
        };
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let mut goal = Goal::default();
        for position in 0..pending.len() {
            let item = &pending[position];
            let Some(packet) = self.layers.get(item.layer).and_then(|layer| layer.cache.get(item.seq)) else {
                self.counters.dropped_cache += 1;
                continue;
            };
            let stream = &mut self.streams[item.stream];
            let rule = item.rule;
            let before = match item.delivery {
                Delivery::Again => stream.history.stamp(item.out_seq),
                _ => None,
            };
            let send_time = before.map_or_else(|| AbsSendTime::from_micros(micros).0, |b| b.send_time);
            let transport_cc = before.map_or(peer.next_transport_cc, |b| b.transport_cc);
            let ids = stream.extensions;
            let send_time_bytes = AbsSendTime(send_time).encode();
            let transport_cc_bytes = transport_cc.to_be_bytes();
            let mut extensions: [(u8, &[u8]); 10] = [(0, &[]); 10];
            let mut count = 0;
            if let Some(id) = ids.mid {
                extensions[count] = (id, stream.mid());
                count += 1;
            }
            if let Some(id) = ids.abs_send_time {
                extensions[count] = (id, &send_time_bytes);
                count += 1;
            }
            if let Some(id) = ids.transport_cc {
                extensions[count] = (id, &transport_cc_bytes);
                count += 1;
            }
            for (kind, value) in packet.extensions() {
                if let Some(id) = ids.forwarded(kind) {
                    extensions[count] = (id, value);
                    count += 1;
                }
            }
            let (payload_type, ssrc, srtp_index) = match item.delivery {
                Delivery::Rtx(seq) => (rule.rtx, stream.rtx_ssrc, seq),
                _ => (rule.to, stream.ssrc, item.out_seq),
            };
            let fields = HeaderFields {
                marker: packet.marker,
                payload_type,
                sequence_number: srtp_index as u16,
                timestamp: item.timestamp,
                ssrc: Ssrc(ssrc),
                padding: false,
            };
            let run = self.arena.open_run(path);
            let buf = self.arena.reserve(MAX_HEADER + packet.payload.len() + 8 + MAX_PADDING + MAX_OVERHEAD);
            let Ok(header_len) = write_header(buf, &fields, &extensions[..count]) else {
                self.counters.dropped_malformed += 1;
                continue;
            };
            let mut len = header_len;
            if let Delivery::Rtx(_) = item.delivery {
                buf[len..len + 2].copy_from_slice(&(item.out_seq as u16).to_be_bytes());
                len += 2;
            }
            let Some(payload_len) = write_payload(&mut buf[len..], &packet, &rule, item.picture) else {
                self.counters.dropped_malformed += 1;
                continue;
            };
            len += payload_len;
            let padding = match before {
                Some(before) => usize::from(before.padding),
                None if self.pad_runs => goal.padding(&pending, position, len + tx.profile().tag_len(), run),
                None => 0,
            };
            if padding > 0 {
                buf[0] |= 0x20;
                buf[len..len + padding].fill(0);
                buf[len + padding - 1] = padding as u8;
                len += padding;
            }
            let len = tx.seal_rtp(buf, header_len, len, srtp_index);
            self.arena.commit(path, len);
            self.counters.rtp_out += 1;
            if ids.transport_cc.is_some() && before.is_none() {
                peer.next_transport_cc = peer.next_transport_cc.wrapping_add(1);
            }
            match item.delivery {
                Delivery::First => {
                    stream.packets += 1;
                    stream.octets += payload_len as u64;
                    let stamp = Stamp { send_time, transport_cc, padding: padding as u8 };
                    stream.history.record(stream.kind, item, stamp);
                }
                _ => self.counters.rtx_out += 1,
            }
        }
        pending.clear();
        self.peers[index].pending = pending;
    }
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
        buf[written..written + rest.len()].copy_from_slice(rest);
        return Some(written + rest.len());
    }
    match rule.treatment {
        Treatment::Pass => buf[..payload.len()].copy_from_slice(payload),
        Treatment::PrimaryOnly => {
            let primary = red::primary(payload).ok()?.data;
            buf[..primary.len()].copy_from_slice(primary);
            return Some(primary.len());
        }
        Treatment::RenumberRed(pt) => {
            buf[..payload.len()].copy_from_slice(payload);
            let mut at = 0;
            while payload.get(at)? & 0x80 != 0 {
                buf[at] = 0x80 | pt;
                at += 4;
            }
            buf[at] = pt;
        }
    }
    Some(payload.len())
}

/// The size that the packets of a run are padded to.
#[derive(Default)]
struct Goal {
    /// Position after the last packet of the burst that belongs to the run.
    until: usize,
}

impl Goal {
    /// Padding for a packet whose sealed length would be `len`. `run`: the segment size of the run it could join.
    fn padding(&mut self, pending: &[Outgoing], position: usize, len: usize, run: Option<usize>) -> usize {
        let allowed = MAX_PADDING.min(len / MAX_PADDING_SHARE);
        if let Some(segment) = run
            && position < self.until
            && segment >= len
            && segment - len <= allowed
        {
            // The last packet of a run may be shorter.
            return if position + 1 == self.until { 0 } else { segment - len };
        }
        // A new run: as long as the longest of the packets that follow and are about as long.
        let first = pending[position].size;
        let alike = |item: &&Outgoing| usize::from(item.size.abs_diff(first)) <= allowed;
        let (mut longest, mut count) = (first, 0);
        for item in pending[position..].iter().take_while(alike) {
            longest = longest.max(item.size);
            count += 1;
        }
        self.until = position + count;
        if count > 1 { usize::from(longest - first) } else { 0 }
    }
}

impl SendArena {
    /// The segment size of the last run when it goes to `path` and could take another datagram.
    fn open_run(&self, path: crate::Path) -> Option<usize> {
        self.sends().last().filter(|last| last.path == path && last.len % last.segment == 0).map(|last| last.segment)
    }
}
