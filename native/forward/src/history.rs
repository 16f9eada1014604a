//! What was sent lately on one stream, as far as needed to send it again. Kept dense: each forwarded packet writes here,
//! for each subscriber, into memory that was not touched for a second.
use crate::Kind;
use crate::codec_map::PayloadRule;
use crate::picture::Picture;
use crate::send_stream::{Delivery, Outgoing};

/// Packets remembered, a power of two.
const AUDIO: usize = 128;
const VIDEO: usize = 512;

/// Values written the first time. A plain retransmission must be the same bytes, since its SRTP index is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) send_time: u32,
    pub(crate) transport_cc: u16,
    pub(crate) padding: u8,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    out_seq: u32,
    layer: u32,
    timestamp: u32,
    send_time: u32,
    /// When it was last sent again, milliseconds of the shard's clock.
    resent_ms: u32,
    transport_cc: u16,
    size: u16,
    picture: Picture,
    rule: PayloadRule,
    padding: u8,
    flags: u8,
}

const USED: u8 = 1;
const RESENT: u8 = 2;
const PICTURE: u8 = 4;

const VACANT: Entry = Entry {
    seq: 0,
    out_seq: 0,
    layer: 0,
    timestamp: 0,
    send_time: 0,
    resent_ms: 0,
    transport_cc: 0,
    size: 0,
    picture: Picture { id: 0, tl0: 0, key: 0 },
    rule: PayloadRule::NONE,
    padding: 0,
    flags: 0,
};

/// A ring by outgoing sequence number. Takes no memory before the first packet.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: Box<[Entry]>,
}

impl History {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(VACANT);
    }

    /// Remembers a packet that was sent for the first time.
    pub(crate) fn record(&mut self, kind: Kind, sent: &Outgoing, stamp: Stamp) {
        if self.entries.is_empty() {
            let len = if kind == Kind::Audio { AUDIO } else { VIDEO };
            self.entries = vec![VACANT; len].into_boxed_slice();
        }
        let slot = sent.out_seq as usize & (self.entries.len() - 1);
        self.entries[slot] = Entry {
            seq: sent.seq,
            out_seq: sent.out_seq as u32,
            layer: sent.layer,
            timestamp: sent.timestamp,
            send_time: stamp.send_time,
            resent_ms: 0,
            transport_cc: stamp.transport_cc,
            size: sent.size,
            picture: sent.picture.unwrap_or_default(),
            rule: sent.rule,
            padding: stamp.padding,
            flags: USED | if sent.picture.is_some() { PICTURE } else { 0 },
        };
    }

    fn entry(&self, out_seq: u64) -> Option<usize> {
        let slot = out_seq as usize & self.entries.len().checked_sub(1)?;
        let entry = &self.entries[slot];
        (entry.flags & USED != 0 && entry.out_seq == out_seq as u32).then_some(slot)
    }

    /// What a plain retransmission must repeat.
    pub(crate) fn stamp(&self, out_seq: u64) -> Option<Stamp> {
        let entry = &self.entries[self.entry(out_seq)?];
        Some(Stamp { send_time: entry.send_time, transport_cc: entry.transport_cc, padding: entry.padding })
    }

    /// The packet sent with this number, to be sent again; `None` when it is forgotten or was sent again less than
    /// `pause_ms` ago.
    pub(crate) fn again(&mut self, stream: u32, out_seq: u64, millis: u32, pause_ms: u32) -> Option<Outgoing> {
        let slot = self.entry(out_seq)?;
        let entry = &mut self.entries[slot];
        if entry.flags & RESENT != 0 && millis.wrapping_sub(entry.resent_ms) < pause_ms {
            return None;
        }
        entry.flags |= RESENT;
        entry.resent_ms = millis;
        Some(Outgoing {
            stream,
            layer: entry.layer,
            seq: entry.seq,
            out_seq,
            timestamp: entry.timestamp,
            picture: (entry.flags & PICTURE != 0).then_some(entry.picture),
            size: entry.size,
            rule: entry.rule,
            delivery: Delivery::Again,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(out_seq: u64) -> Outgoing {
        Outgoing {
            stream: 3,
            layer: 1,
            seq: out_seq + 70_000,
            out_seq,
            timestamp: 9,
            picture: Some(Picture { id: 5, tl0: 6, key: 7 }),
            size: 100,
            rule: PayloadRule::NONE,
            delivery: Delivery::First,
        }
    }

    #[test]
    fn gives_back_what_was_sent_once_per_pause() {
        let mut history = History::default();
        assert!(history.again(3, 5, 0, 10).is_none());
        let stamp = Stamp { send_time: 1, transport_cc: 2, padding: 3 };
        history.record(Kind::Audio, &outgoing(5), stamp);
        assert_eq!(history.stamp(5), Some(stamp));
        let again = history.again(3, 5, 1000, 10).unwrap();
        assert_eq!(again, Outgoing { delivery: Delivery::Again, ..outgoing(5) });
        assert!(history.again(3, 5, 1009, 10).is_none());
        assert!(history.again(3, 5, 1010, 10).is_some());
    }

    #[test]
    fn forgets_the_oldest_first() {
        let mut history = History::default();
        let stamp = Stamp { send_time: 1, transport_cc: 2, padding: 3 };
        for out_seq in 0..200 {
            history.record(Kind::Audio, &outgoing(out_seq), stamp);
        }
        assert!(history.stamp(71).is_none() && history.stamp(72).is_some() && history.stamp(200).is_none());
    }
}
