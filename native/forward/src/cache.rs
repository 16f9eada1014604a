//! The recent packets of one received stream: every forwarding and every retransmission reads from here, so a packet is
//! kept once however many subscribers there are.
use std::collections::VecDeque;

use greenroom_wire::ext::ExtensionKind;

use crate::elements::FORWARDED;

/// Extension values kept per packet: one of each kind that is forwarded.
const MAX_EXTENSIONS: usize = FORWARDED.len();
/// A packet younger than this is worth more memory rather than being overwritten, in milliseconds.
const KEEP_MS: u32 = 1000;

/// How much a cache may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// Packets, a power of two.
    pub(crate) packets: usize,
    /// Bytes to begin with.
    pub(crate) bytes: usize,
    /// Bytes it may grow to while packets are overwritten too young.
    pub(crate) max_bytes: usize,
}

impl CacheLimits {
    pub(crate) const AUDIO: CacheLimits = CacheLimits { packets: 256, bytes: 32 << 10, max_bytes: 128 << 10 };
    pub(crate) const VIDEO: CacheLimits = CacheLimits { packets: 1024, bytes: 128 << 10, max_bytes: 2 << 20 };
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    at: u64,
    millis: u32,
    timestamp: u32,
    payload_len: u16,
    values_len: u16,
    pt: u8,
    marker: bool,
    count: u8,
    extensions: [(ExtensionKind, u8); MAX_EXTENSIONS],
}

const VACANT: Entry = Entry {
    seq: u64::MAX,
    at: 0,
    millis: 0,
    timestamp: 0,
    payload_len: 0,
    values_len: 0,
    pt: 0,
    marker: false,
    count: 0,
    extensions: [(ExtensionKind::Mid, 0); MAX_EXTENSIONS],
};

/// A packet as it is put in and taken out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedPacket<'a> {
    pub(crate) marker: bool,
    pub(crate) pt: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: &'a [u8],
    values: &'a [u8],
    extensions: &'a [(ExtensionKind, u8)],
}

impl<'a> CachedPacket<'a> {
    /// Payload and extension values, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.values.len() + self.payload.len()
    }

    /// The kept extension values, in order.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = (ExtensionKind, &'a [u8])> + use<'a> {
        let (values, mut at) = (self.values, 0);
        self.extensions.iter().map(move |(kind, len)| {
            let start = at;
            at += usize::from(*len);
            (*kind, &values[start..at])
        })
    }
}

/// What is to be kept of one packet.
pub(crate) struct NewPacket<'a> {
    pub(crate) seq: u64,
    pub(crate) marker: bool,
    pub(crate) pt: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: &'a [u8],
    pub(crate) extensions: &'a [(ExtensionKind, &'a [u8])],
}

/// A ring of packets over a ring of bytes.
pub(crate) struct PacketCache {
    limits: CacheLimits,
    entries: Box<[Entry]>,
    bytes: Box<[u8]>,
    /// Bytes ever written, gaps at the end of the ring included. Position in the ring: modulo its length.
    head: u64,
    /// Where each packet in the ring of bytes began, and when it came: oldest first. What is overwritten next is in front.
    order: VecDeque<(u64, u32)>,
}

impl PacketCache {
    /// Allocates nothing until the first packet.
    pub(crate) fn new(limits: CacheLimits) -> Self {
        PacketCache { limits, entries: Box::default(), bytes: Box::default(), head: 0, order: VecDeque::new() }
    }

    /// Keeps a packet. One with the same or a newer sequence number on its place is left alone when `seq` is older.
    pub(crate) fn insert(&mut self, millis: u32, packet: &NewPacket<'_>) {
        if self.entries.is_empty() {
            self.entries = vec![VACANT; self.limits.packets].into_boxed_slice();
            self.bytes = vec![0; self.limits.bytes].into_boxed_slice();
            self.order.reserve(self.limits.packets);
        }
        let slot = packet.seq as usize & (self.limits.packets - 1);
        if self.entries[slot].seq != u64::MAX && self.entries[slot].seq > packet.seq {
            return;
        }
        let count = packet.extensions.len().min(MAX_EXTENSIONS);
        let values_len: usize = packet.extensions[..count].iter().map(|(_, value)| value.len()).sum();
        let need = values_len + packet.payload.len();
        if need > usize::from(u16::MAX).min(self.limits.bytes / 2) {
            return;
        }
        let at = self.make_room(need, millis);
        let mut cursor = (at % self.bytes.len() as u64) as usize;
        let mut entry = Entry {
            seq: packet.seq,
            at,
            millis,
            timestamp: packet.timestamp,
            payload_len: packet.payload.len() as u16,
            values_len: values_len as u16,
            pt: packet.pt,
            marker: packet.marker,
            count: count as u8,
            ..VACANT
        };
        for (index, (kind, value)) in packet.extensions[..count].iter().enumerate() {
            entry.extensions[index] = (*kind, value.len() as u8);
            self.bytes[cursor..cursor + value.len()].copy_from_slice(value);
            cursor += value.len();
        }
        self.bytes[cursor..cursor + packet.payload.len()].copy_from_slice(packet.payload);
        self.entries[slot] = entry;
    }

    /// The packet with this extended sequence number, if it is still here. Inlined, because passing the view through
    /// memory stalls on the store of its last field: a tenth of the cost of a packet.
    #[inline(always)]
    pub(crate) fn get(&self, seq: u64) -> Option<CachedPacket<'_>> {
        let entry = self.entries.get(seq as usize & (self.limits.packets - 1))?;
        if entry.seq != seq || !self.holds(entry) {
            return None;
        }
        let start = (entry.at % self.bytes.len() as u64) as usize;
        let middle = start + usize::from(entry.values_len);
        Some(CachedPacket {
            marker: entry.marker,
            pt: entry.pt,
            timestamp: entry.timestamp,
            values: &self.bytes[start..middle],
            payload: &self.bytes[middle..middle + usize::from(entry.payload_len)],
            extensions: &entry.extensions[..usize::from(entry.count)],
        })
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.at + self.bytes.len() as u64 >= self.head
    }

    /// Advances the head by `need` contiguous bytes, growing the ring when that would overwrite what is young.
    fn make_room(&mut self, need: usize, millis: u32) -> u64 {
        loop {
            let size = self.bytes.len() as u64;
            let offset = self.head % size;
            let at = if offset + need as u64 > size { self.head + size - offset } else { self.head };
            let end = at + need as u64;
            // Packets that began before the new tail are lost; the oldest of them decides.
            let tail = end.saturating_sub(size);
            if self.bytes.len() < self.limits.max_bytes
                && self.order.front().is_some_and(|(at, came)| *at < tail && millis.wrapping_sub(*came) < KEEP_MS)
            {
                self.grow();
                continue;
            }
            while self.order.front().is_some_and(|(at, _)| *at < tail) {
                self.order.pop_front();
            }
            if self.order.len() == self.limits.packets {
                self.order.pop_front();
            }
            self.order.push_back((at, millis));
            self.head = end;
            return at;
        }
    }

    fn grow(&mut self) {
        let mut larger = PacketCache {
            limits: self.limits,
            entries: vec![VACANT; self.limits.packets].into_boxed_slice(),
            bytes: vec![0; self.bytes.len() * 2].into_boxed_slice(),
            head: 0,
            order: VecDeque::with_capacity(self.limits.packets),
        };
        let mut live: Vec<&Entry> = self.entries.iter().filter(|e| e.seq != u64::MAX && self.holds(e)).collect();
        live.sort_unstable_by_key(|e| e.at);
        for entry in live {
            let Some(packet) = self.get(entry.seq) else { continue };
            let values: Vec<_> = packet.extensions().collect();
            larger.insert(
                entry.millis,
                &NewPacket {
                    seq: entry.seq,
                    marker: entry.marker,
                    pt: entry.pt,
                    timestamp: entry.timestamp,
                    payload: packet.payload,
                    extensions: &values,
                },
            );
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &mut PacketCache, seq: u64, millis: u32, payload: &[u8]) {
        let level = [0x85];
        cache.insert(
            millis,
            &NewPacket {
                seq,
                marker: seq.is_multiple_of(2),
                pt: 96,
                timestamp: seq as u32 * 3000,
                payload,
                extensions: &[(ExtensionKind::AudioLevel, &level)],
            },
        );
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let mut cache = PacketCache::new(CacheLimits::AUDIO);
        assert!(cache.get(1).is_none());
        put(&mut cache, 65_536, 0, b"hello");
        let packet = cache.get(65_536).unwrap();
        assert_eq!((packet.payload, packet.marker), (&b"hello"[..], true));
        assert_eq!(packet.extensions().collect::<Vec<_>>(), [(ExtensionKind::AudioLevel, &[0x85][..])]);
        assert!(cache.get(65_537).is_none() && cache.get(65_536 + 256).is_none());
    }

    #[test]
    fn grows_for_young_packets_only_and_stays_bounded() {
        let limits = CacheLimits { packets: 256, bytes: 4096, max_bytes: 16_384 };
        let mut slow = PacketCache::new(limits);
        for seq in 0..100 {
            put(&mut slow, seq, seq as u32 * 2000, &[seq as u8; 1000]);
        }
        assert_eq!(slow.bytes.len(), 4096);
        let mut fast = PacketCache::new(limits);
        for seq in 0..100u64 {
            put(&mut fast, seq, seq as u32, &[seq as u8; 1000]);
            for back in 0..4.min(seq) {
                assert_eq!(fast.get(seq - back).unwrap().payload, [(seq - back) as u8; 1000], "{seq} {back}");
            }
        }
        assert_eq!(fast.bytes.len(), 16_384);
        assert!(fast.get(99 - 20).is_none());
    }

    #[test]
    fn a_late_packet_never_replaces_a_newer_one() {
        let mut cache = PacketCache::new(CacheLimits::AUDIO);
        put(&mut cache, 300, 0, b"new");
        put(&mut cache, 44, 0, b"old");
        assert_eq!(cache.get(300).unwrap().payload, b"new");
        assert!(cache.get(44).is_none());
    }
}
