//! What was sent lately on one stream, as far as needed to send it again. Kept dense: each forwarded packet writes here,
//! for each subscriber, into memory that was not touched for a second.
use crate::Kind;
use crate::codec_map::PayloadRule;
use crate::outgoing::{Delivery, Outgoing};
use crate::picture::Picture;
use crate::slab::Key;

/// Packets remembered, a power of two.
const AUDIO: usize = 128;
const VIDEO: usize = 512;

/// How often one packet is sent again. Whoever asks more often has a path that repeats nothing, or no path in mind.
const MAX_TRIES: u8 = 3;

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
    inbound: Key,
    timestamp: u32,
    send_time: u32,
    /// When it was last sent again, milliseconds of the shard's clock.
    resent_ms: u32,
    transport_cc: u16,
    size: u16,
    picture: Picture,
    rule: PayloadRule,
    padding: u8,
    /// Times it was sent again.
    tries: u8,
    used: bool,
    has_picture: bool,
}

const VACANT: Entry = Entry {
    seq: 0,
    out_seq: 0,
    inbound: Key::NOWHERE,
    timestamp: 0,
    send_time: 0,
    resent_ms: 0,
    transport_cc: 0,
    size: 0,
    picture: Picture { id: 0, tl0: 0, key: 0 },
    rule: PayloadRule::NONE,
    padding: 0,
    tries: 0,
    used: false,
    has_picture: false,
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
            inbound: sent.inbound,
            timestamp: sent.timestamp,
            send_time: stamp.send_time,
            resent_ms: 0,
            transport_cc: stamp.transport_cc,
            size: sent.size,
            picture: sent.picture.unwrap_or_default(),
            rule: sent.rule,
            padding: stamp.padding,
            tries: 0,
            used: true,
            has_picture: sent.picture.is_some(),
        };
    }

    fn entry(&self, out_seq: u64) -> Option<usize> {
        let slot = out_seq as usize & self.entries.len().checked_sub(1)?;
        let entry = &self.entries[slot];
        (entry.used && entry.out_seq == out_seq as u32).then_some(slot)
    }

    /// What a plain retransmission must repeat.
    pub(crate) fn stamp(&self, out_seq: u64) -> Option<Stamp> {
        let entry = &self.entries[self.entry(out_seq)?];
        Some(Stamp { send_time: entry.send_time, transport_cc: entry.transport_cc, padding: entry.padding })
    }

    /// A packet that may be sent again: not forgotten, not sent again less than `pause_ms` ago, nor often enough.
    fn resendable(&self, out_seq: u64, millis: u32, pause_ms: u32) -> Option<usize> {
        let slot = self.entry(out_seq)?;
        let entry = &self.entries[slot];
        let too_soon = entry.tries > 0 && millis.wrapping_sub(entry.resent_ms) < pause_ms;
        (!too_soon && entry.tries < MAX_TRIES).then_some(slot)
    }

    /// The size of the packet sent with this number, if it may be sent again: payload and extension values, in bytes.
    pub(crate) fn size(&self, out_seq: u64, millis: u32, pause_ms: u32) -> Option<usize> {
        self.resendable(out_seq, millis, pause_ms).map(|slot| usize::from(self.entries[slot].size))
    }

    /// The packet sent with this number, to be sent again, if it may be.
    pub(crate) fn again(&mut self, outbound: Key, out_seq: u64, millis: u32, pause_ms: u32) -> Option<Outgoing> {
        let slot = self.resendable(out_seq, millis, pause_ms)?;
        let entry = &mut self.entries[slot];
        entry.tries += 1;
        entry.resent_ms = millis;
        Some(Outgoing {
            outbound,
            inbound: entry.inbound,
            seq: entry.seq,
            out_seq,
            timestamp: entry.timestamp,
            picture: entry.has_picture.then_some(entry.picture),
            size: entry.size,
            rule: entry.rule,
            delivery: Delivery::Repeat,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(out_seq: u64) -> Outgoing {
        Outgoing {
            outbound: Key::NOWHERE,
            inbound: Key::NOWHERE,
            seq: out_seq + 70_000,
            out_seq,
            timestamp: 9,
            picture: Some(Picture { id: 5, tl0: 6, key: 7 }),
            size: 100,
            rule: PayloadRule::NONE,
            delivery: Delivery::Original,
        }
    }

    #[test]
    fn gives_back_what_was_sent_once_per_pause() {
        let mut history = History::default();
        assert!(history.again(Key::NOWHERE, 5, 0, 10).is_none());
        let stamp = Stamp { send_time: 1, transport_cc: 2, padding: 3 };
        history.record(Kind::Audio, &outgoing(5), stamp);
        assert_eq!(history.stamp(5), Some(stamp));
        let again = history.again(Key::NOWHERE, 5, 1000, 10).unwrap();
        assert_eq!(again, Outgoing { delivery: Delivery::Repeat, ..outgoing(5) });
        assert!(history.again(Key::NOWHERE, 5, 1009, 10).is_none());
        assert!(history.again(Key::NOWHERE, 5, 1010, 10).is_some());
        assert!(history.again(Key::NOWHERE, 5, 1020, 10).is_some());
        assert!(history.again(Key::NOWHERE, 5, 9999, 10).is_none(), "three times are enough");
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
