//! What must hold for everything a shard sends, whatever it was sent. Every datagram both ways goes through here; the first
//! that breaks a rule ends the test, and the message names it. Shared by these tests, the fuzzer and the simulation.
//!
//! - One index, one ciphertext: a pair of SSRC and SRTP index, or SRTCP index, never stands for two different packets
//!   (RFC 7714, 8.1: with GCM two are enough to forge). The same bytes may be sent again.
//! - Numbers: first transmissions of a stream leave no gap that no publisher's gap explains.
//! - Time: timestamps of a stream go forward, over switches and pauses too, as long as publishers' do.
//! - Pictures: VP8 picture ids and TL0PICIDX step by one, as long as publishers' do.
//! - Sent again is what was sent: a retransmission carries the payload, timestamp and marker of its original.
//! - Size: no RTP datagram above [`LARGEST_OUT`], unless a publisher's own is nearly as large.
//! - Budget: retransmissions to a peer stay within [`RTX_BURST`] and [`RTX_PERCENT`] of the media it gets.
//! - Feedback: RTCP to a peer stays within what it sends and [`FEEDBACK_RATE`].
//!
//! Payloads are looked into where the keys are at hand. Tests that feed or drain the shard behind the oracle's back make it
//! blind, which it notices by the shard's counters; then it leaves out what needs a whole view.
#![allow(dead_code, reason = "each user uses its part")]

#[path = "rules.rs"]
mod rules;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use greenroom_forward::{CodecKind, Command, Counters, Kind, PeerId};
use greenroom_secure::srtp::{Profile, SrtpRx, estimate_index};
use greenroom_wire::demux::{Kind as Protocol, classify};
use greenroom_wire::rtp::RtpHeader;
use greenroom_wire::vp8::{Descriptor, PictureId};

pub use rules::Rules;

/// The largest RTP datagram that is taken, sealed, in bytes of UDP payload.
pub const LARGEST_IN: usize = 1500;
/// What a datagram may grow by on its way: extensions and numbers of our own, padding.
pub const GROWTH: usize = 64;
/// The largest RTP datagram that leaves.
pub const LARGEST_OUT: usize = 1500;
/// Retransmitted bytes that a peer may cause at once.
pub const RTX_BURST: u64 = 40_000;
/// And on top of it this share of the media bytes sent to it.
pub const RTX_PERCENT: u64 = 50;
/// What is counted differently here: a retransmission costs its payload there, its whole datagram here.
const RTX_HEADERS: u64 = 90;
/// Bytes of RTCP that a peer gets, beyond as many as it sends: at once.
pub const FEEDBACK_BURST: u64 = 20_000;
/// And in a second.
pub const FEEDBACK_RATE: u64 = 20_000;
/// Packets remembered of one stream.
const REMEMBERED: usize = 1 << 16;
/// A jump of an incoming stream beyond this is a new start, not loss.
const NEW_START: u64 = 1 << 12;

/// A packet that left the shard.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Of all packets, and when.
    ordinal: u64,
    at: Instant,
    len: u16,
    head: [u8; 12],
    /// Its last bytes, which authenticate it: different content has a different tag.
    tail: [u8; 16],
    /// Hash of the payload without padding, where it could be opened.
    payload: Option<u64>,
}

impl Seen {
    fn of(ordinal: u64, at: Instant, bytes: &[u8]) -> Seen {
        let (mut head, mut tail) = ([0; 12], [0; 16]);
        head.copy_from_slice(&bytes[..12]);
        let tag = &bytes[bytes.len().saturating_sub(16)..];
        tail[..tag.len()].copy_from_slice(tag);
        Seen { ordinal, at, len: bytes.len() as u16, head, tail, payload: None }
    }

    fn same_bytes(&self, other: &Seen) -> bool {
        (self.len, self.head, self.tail) == (other.len, other.head, other.tail)
    }

    fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]])
    }

    fn marker(&self) -> bool {
        self.head[1] & 0x80 != 0
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let (head, tail) = (hex(&self.head), hex(&self.tail));
        write!(f, "packet {} ({} bytes, {head}..{tail})", self.ordinal, self.len)
    }
}

/// VP8 numbers of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    id: u16,
    bits: u32,
    tl0: Option<u8>,
}

impl Numbers {
    fn read(payload: &[u8]) -> Option<Numbers> {
        let descriptor = Descriptor::parse(payload).ok()?;
        let id = descriptor.picture_id?;
        let bits = if matches!(id, PictureId::Short(_)) { 7 } else { 15 };
        Some(Numbers { id: id.value(), bits, tl0: descriptor.tl0_pic_idx })
    }

    /// Whether a packet with these follows one with `before`, in the same picture or the next.
    fn follow(&self, before: &Numbers, same_picture: bool) -> bool {
        let mask = (1u16 << self.bits.min(before.bits)) - 1;
        let step = self.id.wrapping_sub(before.id) & mask;
        let tl0 = self.tl0.zip(before.tl0).map_or(0, |(now, then)| now.wrapping_sub(then));
        if same_picture { step == 0 && tl0 == 0 } else { step == 1 && tl0 <= 1 }
    }
}

/// One SSRC, received or sent.
#[derive(Default)]
struct Stream {
    highest: Option<u64>,
    lowest: u64,
    seen: HashMap<u64, Seen>,
    /// Numbers up to the highest that were not seen when a higher one came.
    gaps: u64,
    /// Of the packet with the highest number.
    timestamp: u32,
    marker: bool,
    numbers: Option<Numbers>,
}

impl Stream {
    fn index(&self, number: u16) -> u64 {
        self.highest.map_or(u64::from(number), |highest| estimate_index(highest, number))
    }

    fn remember(&mut self, index: u64, seen: Seen) {
        if self.seen.len() >= REMEMBERED {
            let oldest = self.highest.unwrap_or(0).saturating_sub(REMEMBERED as u64 / 2);
            self.seen.retain(|index, _| *index >= oldest);
        }
        self.seen.insert(index, seen);
    }
}

/// What a section said about the stream with an SSRC.
struct Section {
    kind: Kind,
    codecs: HashMap<u8, CodecKind>,
}

#[derive(Default)]
struct Peer {
    sent: HashMap<u32, Stream>,
    received: HashMap<u32, Stream>,
    rtcp: HashMap<(u32, u32), Seen>,
    sections: HashMap<u32, Section>,
    /// Retransmission SSRCs ever named, with that of the media.
    repairs: HashMap<u32, u32>,
    /// Codecs by payload type of what it publishes.
    publishes: HashMap<u8, CodecKind>,
    /// Retransmitted bytes it may still cause, in hundredths of a byte.
    budget: Option<u64>,
    /// When it was first heard, bytes it sent, and bytes of RTCP it got.
    first: Option<Instant>,
    bytes_in: u64,
    feedback: u64,
}

/// See the module.
#[derive(Default)]
pub struct Oracle {
    peers: HashMap<usize, Peer>,
    started: Option<Instant>,
    ordinal: u64,
    /// Datagrams and RTP packets that came by, to be compared with the shard's counters.
    datagrams_in: u64,
    rtp_out: u64,
    blind: bool,
    /// Packets that publishers' numbers left out, and packets that the shard says it dropped.
    gaps_in: u64,
    dropped: u64,
    /// Publishers keep their clocks and pictures in order.
    clocks_turned: bool,
    /// Some publisher used a number twice, as two streams do that share an SSRC: what it left out cannot be told.
    numbers_reused: bool,
    pictures_jumped: bool,
    /// Some picture ids have 7 bits: a loss may be longer than they tell.
    short_ids: bool,
    largest_in: usize,
    last_input: Vec<u8>,
    /// Streams with gaps of our own making, and where they were seen.
    suspects: Vec<(usize, u32, String)>,
    /// Those that hold.
    pub rules: Rules,
    /// Bytes of first transmissions that may wait for a peer from one drain to the next: see [`Oracle::settle`].
    pub held: u64,
}

impl Oracle {
    /// Learns what belongs together.
    pub fn command(&mut self, command: &Command) {
        match command {
            Command::SetSenders { peer, senders } => {
                let peer = self.peer(*peer);
                for sender in senders {
                    peer.repairs.remove(&sender.ssrc);
                    if sender.rtx_ssrc != 0 {
                        peer.repairs.insert(sender.rtx_ssrc, sender.ssrc);
                    }
                    let codecs = sender.codecs.iter().map(|codec| (codec.pt, codec.kind())).collect();
                    let section = Section { kind: sender.kind, codecs };
                    peer.sections.insert(sender.ssrc, section);
                }
            }
            Command::SetReceivers { peer, receivers } => {
                let codecs = receivers.iter().flat_map(|r| &r.codecs).map(|codec| (codec.pt, codec.kind()));
                self.peer(*peer).publishes.extend(codecs);
            }
            // The next one with this name has other keys.
            Command::RemovePeer { peer } => drop(self.peers.remove(&(peer.0 as usize))),
            _ => {}
        }
    }

    fn peer(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.entry(peer.0 as usize).or_default()
    }

    /// A datagram that is about to be given to the shard, and with what to open it.
    pub fn received(&mut self, now: Instant, peer_id: usize, bytes: &[u8], keys: Option<&mut SrtpRx>) {
        self.datagrams_in += 1;
        self.started.get_or_insert(now);
        self.last_input.clear();
        self.last_input.extend_from_slice(&bytes[..bytes.len().min(24)]);
        let peer = self.peers.entry(peer_id).or_default();
        peer.first.get_or_insert(now);
        peer.bytes_in += bytes.len() as u64;
        if classify(bytes) != Protocol::Rtp {
            return;
        }
        let Ok(header) = RtpHeader::parse(bytes) else { return };
        let Oracle { peers, gaps_in, clocks_turned, numbers_reused, pictures_jumped, short_ids, largest_in, .. } = self;
        let peer = peers.entry(peer_id).or_default();
        let stream = peer.received.entry(header.ssrc.0).or_default();
        let index = stream.index(header.sequence_number);
        let payload = match keys.map(|keys| open(keys, bytes, &header, index)) {
            // Nothing came, as far as the shard is concerned.
            Some(None) => return,
            Some(Some(payload)) => Some(payload),
            None => None,
        };
        if bytes.len() <= LARGEST_IN {
            *largest_in = bytes.len().max(*largest_in);
        }
        let codec = peer.publishes.get(&header.payload_type).copied();
        let read = |payload: &Vec<u8>| codec.filter(|c| *c == CodecKind::Vp8).and_then(|_| Numbers::read(payload));
        let numbers = payload.as_ref().and_then(read);
        *short_ids |= numbers.is_some_and(|numbers| numbers.bits == 7);
        let seen = Seen::of(0, now, bytes);
        match stream.seen.get(&index) {
            None => stream.remember(index, seen),
            // Who uses a number twice has no order to keep.
            Some(former) if !former.same_bytes(&seen) => {
                (*clocks_turned, *pictures_jumped, *numbers_reused) = (true, true, true);
            }
            Some(_) => {}
        }
        let highest = stream.highest.unwrap_or(index);
        if stream.highest.is_none() {
            stream.lowest = index;
        }
        if index < stream.lowest {
            // The first to come was not the first that was sent.
            *gaps_in += (stream.lowest - index - 1).min(NEW_START);
            stream.lowest = index;
        }
        if stream.highest.is_some() && index > highest {
            let missing = index - highest - 1;
            *gaps_in += missing.min(NEW_START);
        }
        if payload.as_ref().is_some_and(|payload| payload.is_empty()) {
            // Padding has no time of its own.
            stream.highest = stream.highest.max(Some(index));
            return;
        }
        if stream.highest.is_some() && index > highest {
            let missing = index - highest - 1;
            let forward = header.timestamp.wrapping_sub(stream.timestamp);
            let repeated = forward == 0 && stream.marker;
            *clocks_turned |= missing > NEW_START || forward > u32::MAX / 2 || repeated;
            if let Some((before, now)) = stream.numbers.zip(numbers) {
                *pictures_jumped |= missing == 0 && !now.follow(&before, forward == 0);
            }
        }
        // Of two packets with one number the shard takes the first.
        if stream.highest.is_none() || index > highest {
            stream.highest = Some(index);
            stream.timestamp = header.timestamp;
            stream.marker = header.marker;
            // Of another codec in between some subscribers know nothing.
            stream.numbers = numbers.or(stream.numbers);
        }
    }

    /// The shard was drained, of so many RTP packets: was it fed or drained behind our back before? Call before they are
    /// [`Oracle::sent`].
    pub fn drained(&mut self, counters: &Counters, rtp_packets: usize) {
        let rtp_out = self.rtp_out + rtp_packets as u64;
        self.blind |= counters.packets_in != self.datagrams_in || counters.rtp_out != rtp_out;
        // Whatever is dropped after its number is known leaves a gap that is the publisher's.
        self.dropped = counters.named().iter().filter(|(name, _)| name.starts_with("dropped")).map(|(_, n)| n).sum();
    }

    /// A datagram that the shard sends to `peer`, and with what to open it.
    pub fn sent(&mut self, now: Instant, peer: usize, bytes: &[u8], keys: Option<&mut SrtpRx>) {
        self.ordinal += 1;
        match classify(bytes) {
            Protocol::Rtp => self.sent_rtp(now, peer, bytes, keys),
            Protocol::Rtcp => self.sent_rtcp(now, peer, bytes, keys),
            _ => {}
        }
    }

    fn sent_rtcp(&mut self, now: Instant, peer_id: usize, bytes: &[u8], keys: Option<&mut SrtpRx>) {
        let profile = keys.map_or(Profile::AeadAes256Gcm, |keys| keys.profile());
        // RFC 7714, 9.2 has the index at the end, RFC 3711, 3.4 before the tag.
        let at = if profile == Profile::Aes128CmSha1_80 { bytes.len() - 14 } else { bytes.len() - 4 };
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (ssrc, index) = (word(4), word(at) & !(1 << 31));
        assert!(word(at) >> 31 == 1, "peer {peer_id}: SRTCP in clear: {bytes:02x?}");
        let mut seen = Seen::of(self.ordinal, now, &bytes[..at]);
        seen.len = bytes.len() as u16;
        let peer = self.peers.entry(peer_id).or_default();
        if let Some(former) = peer.rtcp.insert((ssrc, index), seen) {
            let same = former.same_bytes(&seen);
            let same = same || !self.rules.ciphertext;
            assert!(same, "peer {peer_id}: SRTCP index {index} of {ssrc} twice: {former:?}, then {seen:?}");
        }
        peer.feedback += bytes.len() as u64;
        let seconds = peer.first.map_or(0.0, |first| now.saturating_duration_since(first).as_secs_f64());
        let allowed = FEEDBACK_BURST + (seconds * FEEDBACK_RATE as f64) as u64 + peer.bytes_in;
        let within = peer.feedback <= allowed || !self.rules.feedback;
        assert!(within, "peer {peer_id} got {} bytes of RTCP, {allowed} would be right", peer.feedback);
        if peer.rtcp.len() > REMEMBERED {
            peer.rtcp.retain(|(_, old), _| *old + REMEMBERED as u32 / 2 > index);
        }
    }

    fn sent_rtp(&mut self, now: Instant, peer_id: usize, bytes: &[u8], keys: Option<&mut SrtpRx>) {
        self.rtp_out += 1;
        let last_input = self.last_input.clone();
        let since = now.saturating_duration_since(self.started.unwrap_or(now));
        let case = move |ssrc: u32, index: u64| {
            format!(
                "peer {peer_id}, SSRC {ssrc}, index {index}, {since:?} after the start, after input {last_input:02x?}"
            )
        };
        let header = RtpHeader::parse(bytes).expect("the shard writes RTP");
        let ssrc = header.ssrc.0;
        let largest = (self.largest_in + GROWTH).max(LARGEST_OUT);
        assert!(bytes.len() <= largest || !self.rules.size, "{} bytes: {}", bytes.len(), case(ssrc, 0));

        let mut seen = Seen::of(self.ordinal, now, bytes);
        let peer = self.peers.entry(peer_id).or_default();
        let stream = peer.sent.entry(ssrc).or_default();
        let index = stream.index(header.sequence_number);
        let mut numbers = None;
        if let Some(keys) = keys {
            let payload = open(keys, bytes, &header, index);
            let payload = payload.unwrap_or_else(|| panic!("does not open: {}", case(ssrc, index)));
            seen.payload = Some(hash(&payload));
            if let Some(original) = peer.repairs.get(&ssrc).copied() {
                let repaired = Repair { header: &header, payload: &payload };
                if self.rules.repeats {
                    repaired.check(peer.sent.get(&original), || case(ssrc, index));
                }
            } else if let Some(CodecKind::Vp8) =
                peer.sections.get(&ssrc).and_then(|s| s.codecs.get(&header.payload_type)).copied()
            {
                numbers = Numbers::read(&payload);
            }
        }
        let is_repair = peer.repairs.contains_key(&ssrc);
        let video = peer.sections.get(&ssrc).is_some_and(|section| section.kind == Kind::Video);
        let stream = peer.sent.entry(ssrc).or_default();
        let former = stream.seen.get(&index).copied();
        if let Some(former) = former {
            let same = former.same_bytes(&seen) || !self.rules.ciphertext;
            assert!(same, "one index, two ciphertexts: {former:?}, then {seen:?}: {}", case(ssrc, index));
        } else {
            stream.remember(index, seen);
        }
        let budget = peer.budget.get_or_insert(RTX_BURST * 100);
        if former.is_some() || is_repair {
            let cost = (bytes.len() as u64).saturating_sub(RTX_HEADERS) * 100;
            let within = *budget >= cost || !self.rules.budget;
            assert!(within, "retransmissions beyond the budget: {}", case(ssrc, index));
            *budget = budget.saturating_sub(cost);
        } else {
            *budget += bytes.len() as u64 * RTX_PERCENT;
        }
        if former.is_some() {
            return;
        }
        // A first transmission.
        let Some(highest) = stream.highest else {
            stream.highest = Some(index);
            (stream.timestamp, stream.marker, stream.numbers) = (header.timestamp, header.marker, numbers);
            return;
        };
        if index < highest {
            stream.gaps = stream.gaps.saturating_sub(1);
            return;
        }
        let gap = index - highest - 1;
        stream.gaps += gap;
        let whole_view = !self.blind;
        let told = whole_view && !self.numbers_reused;
        if told && self.rules.numbers && stream.gaps > self.gaps_in + self.dropped {
            // What is sent along with it may fill the gap.
            self.suspects.push((peer_id, ssrc, case(ssrc, index)));
        }
        if whole_view && !self.clocks_turned && !is_repair {
            let forward = header.timestamp.wrapping_sub(stream.timestamp);
            let repeated = forward == 0 && stream.marker && video;
            let turned = forward > u32::MAX / 2 || repeated;
            let (before, after) = (stream.timestamp, header.timestamp);
            assert!(!turned || !self.rules.time, "time goes from {before} to {after}: {}", case(ssrc, index));
            let told = !self.pictures_jumped && (!self.short_ids || self.gaps_in + self.dropped == 0);
            if let Some((before, after)) = stream.numbers.zip(numbers).filter(|_| gap == 0 && told) {
                let follows = after.follow(&before, forward == 0) || !self.rules.pictures;
                assert!(follows, "{after:?} after {before:?}: {}", case(ssrc, index));
            }
        }
        stream.highest = Some(index);
        (stream.timestamp, stream.marker, stream.numbers) = (header.timestamp, header.marker, numbers);
    }

    /// A publisher sends two streams under one SSRC: there is no order of numbers, time and pictures to keep.
    pub fn lose_order(&mut self) {
        (self.clocks_turned, self.pictures_jumped, self.numbers_reused) = (true, true, true);
    }

    /// All that was drained has been [`Oracle::sent`].
    ///
    /// Budgets are cut to their bound here and not at each packet: repairs pay when they are asked for, first transmissions
    /// earn when they leave, and what leaves at one instant is not in the order of that.
    pub fn settle(&mut self) {
        let most = RTX_BURST * 100 + self.held * RTX_PERCENT;
        for budget in self.peers.values_mut().filter_map(|peer| peer.budget.as_mut()) {
            *budget = most.min(*budget);
        }
        let explained = self.gaps_in + self.dropped;
        for (peer, ssrc, case) in std::mem::take(&mut self.suspects) {
            let left_out = self.missing(peer, ssrc);
            assert!(left_out <= explained, "{left_out} numbers left out, publishers left out {explained}: {case}");
        }
    }

    /// Numbers that are missing now in what `peer` was sent on `ssrc`.
    pub fn missing(&self, peer: usize, ssrc: u32) -> u64 {
        self.peers.get(&peer).and_then(|peer| peer.sent.get(&ssrc)).map_or(0, |stream| stream.gaps)
    }

    /// Whether a rule that needs a whole view is left out.
    pub fn is_blind(&self) -> bool {
        self.blind
    }
}

/// A retransmission (RFC 4588) and what it says it repeats.
struct Repair<'a> {
    header: &'a RtpHeader,
    payload: &'a [u8],
}

impl Repair<'_> {
    fn check(&self, original: Option<&Stream>, case: impl Fn() -> String) {
        let Some((number, payload)) = self.payload.split_first_chunk::<2>() else {
            panic!("a retransmission of nothing: {}", case());
        };
        let number = u16::from_be_bytes(*number);
        let original = original.and_then(|stream| stream.seen.get(&stream.index(number)));
        let Some(original) = original else { panic!("a retransmission of {number}, which was not sent: {}", case()) };
        let facts = (self.header.timestamp, self.header.marker);
        let same = (original.timestamp(), original.marker()) == facts;
        let same = same && original.payload.is_none_or(|sent| sent == hash(payload));
        assert!(same, "a retransmission of {number}, {original:?}, with other content: {}", case());
    }
}

/// The payload of a sealed packet without padding; `None` when it is not authentic.
fn open(keys: &mut SrtpRx, bytes: &[u8], header: &RtpHeader, index: u64) -> Option<Vec<u8>> {
    let mut copy = bytes.to_vec();
    let len = keys.open_rtp(&mut copy, header.header_len, index).ok()?;
    Some(header.payload(&copy[..len]).map_or(Vec::new(), <[u8]>::to_vec))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// What a deadline is after everything that is due was done.
pub fn assert_ahead(now: Instant, deadline: Option<Instant>) {
    assert!(deadline.is_none_or(|at| at > now), "the shard wants to be called again at once");
}
