//! The publisher of a session: streams that count by themselves, a log of what was sent, and every way to send it wrongly.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use greenroom_wire::Ssrc;
use greenroom_wire::rtp::HeaderFields;

use super::world::{Client, World};

/// Packets a stream can send late, again or by RTX.
const LOG: usize = 4096;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Opus,
    Red,
    Vp8 {
        /// 7-bit picture ids.
        short: bool,
    },
    H264,
    /// Telephone events: negotiated by the publisher only.
    Event,
    /// RTP padding only.
    Padding,
    /// Bytes of no meaning.
    Noise(u8),
}

/// Header extensions of a packet besides those that name its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    pub count: u8,
    pub id: u8,
    pub len: u8,
    /// Each next element has the next id.
    pub different: bool,
}

/// From this a packet is made, the first time and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub index: u64,
    pub timestamp: u32,
    pub picture: u16,
    pub pt: u8,
    pub content: Content,
    pub key: bool,
    pub first: bool,
    pub marker: bool,
    pub len: u16,
    pub extensions: Extensions,
}

impl Packet {
    fn payload(&self, ssrc: u32) -> Vec<u8> {
        let mut payload = match self.content {
            Content::Opus => vec![0x78],
            Content::Red => vec![111],
            Content::Vp8 { short } => {
                let mut payload = vec![0x80 | u8::from(self.first) << 4, 0xf0];
                match short {
                    true => payload.push(self.picture as u8 & 0x7f),
                    false => payload.extend((self.picture | 0x8000).to_be_bytes()),
                }
                // TL0PICIDX, TID and KEYIDX, then the frame tag.
                payload.extend([self.picture as u8, self.picture as u8 & 0x1f, u8::from(!self.key)]);
                payload
            }
            // A key frame of one IDR slice with its parameter sets in a STAP-A, or a slice.
            Content::H264 if self.key && self.first => vec![0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1, 0, 2, 0x65, 1],
            Content::H264 => vec![0x61, 1],
            Content::Event => vec![1, 10, 0, 160],
            Content::Padding => return vec![4; 4],
            Content::Noise(seed) => {
                let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) ^ self.index as u32;
                let next = |_| {
                    state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                    (state >> 24) as u8
                };
                return (0..self.len).map(next).collect();
            }
        };
        payload.extend(self.index.to_be_bytes());
        payload.extend(ssrc.to_be_bytes());
        payload.resize(payload.len().max(usize::from(self.len)), 0x5a);
        payload
    }
}

/// Numbers of one SSRC: they go on when it is used again.
#[derive(Clone, Copy)]
struct Counters {
    index: u64,
    timestamp: u32,
    picture: u16,
}

/// One of the publisher's streams.
pub struct Stream {
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    pub clock_rate: u32,
    pub mid: &'static str,
    pub rid: Option<&'static str>,
    /// Whether packets carry mid and rid.
    pub named: bool,
    pub content: Content,
    pub key_wanted: bool,
    counters: HashMap<u32, Counters>,
    log: VecDeque<(u32, Packet)>,
    /// Next packets that are lost on the way.
    lose: u32,
}

impl Stream {
    pub fn new(ssrc: u32, rtx_ssrc: u32, mid: &'static str, rid: Option<&'static str>, content: Content) -> Stream {
        let clock_rate = if content == Content::Opus { 48_000 } else { 90_000 };
        Stream {
            ssrc,
            rtx_ssrc,
            clock_rate,
            mid,
            rid,
            named: true,
            content,
            key_wanted: true,
            counters: HashMap::new(),
            log: VecDeque::new(),
            lose: 0,
        }
    }

    fn counters(&mut self, ssrc: u32) -> &mut Counters {
        let first =
            || Counters { index: 100, timestamp: ssrc.wrapping_mul(0x0101_0101), picture: ssrc as u16 & 0x7fff };
        self.counters.entry(ssrc).or_insert_with(first)
    }

    pub fn lose(&mut self, count: u32) {
        self.lose = count;
    }

    /// Numbers left out on purpose.
    pub fn jump(&mut self, by: u16) {
        self.counters(self.ssrc).index += u64::from(by);
    }

    /// The media clock goes on; frames differ by one tick at least.
    pub fn tick(&mut self, started: Instant, now: Instant) {
        let micros = now.saturating_duration_since(started).as_micros() as u64;
        let (rate, base) = (u64::from(self.clock_rate), self.ssrc.wrapping_mul(0x0101_0101));
        let clock = base.wrapping_add((micros * rate / 1_000_000) as u32);
        let counters = self.counters(self.ssrc);
        let ahead = clock.wrapping_sub(counters.timestamp) as i32;
        counters.timestamp = if ahead > 0 { clock } else { counters.timestamp.wrapping_add(1) };
        counters.picture = (counters.picture + 1) & 0x7fff;
    }

    /// The next packet of this stream, not sent yet.
    pub fn next(&mut self, content: Content, len: u16) -> Packet {
        let counters = self.counters(self.ssrc);
        let Counters { index, timestamp, picture } = *counters;
        counters.index += 1;
        let pt = match content {
            Content::Opus | Content::Noise(_) if self.rid.is_none() => 111,
            Content::Red => 63,
            Content::Event => 101,
            Content::H264 => 98,
            Content::Padding if self.rid.is_none() => 111,
            _ => 96,
        };
        let extensions = Extensions::default();
        Packet { index, timestamp, picture, pt, content, key: false, first: true, marker: false, len, extensions }
    }

    /// Seals a packet. The SRTP index is the packet's, so the bytes are the same each time.
    pub fn seal(&self, client: &mut Client, ssrc: u32, packet: &Packet) -> Vec<u8> {
        let payload = packet.payload(ssrc);
        self.seal_payload(client, ssrc, packet, packet.index, &payload)
    }

    fn seal_payload(&self, client: &mut Client, ssrc: u32, packet: &Packet, index: u64, payload: &[u8]) -> Vec<u8> {
        let fields = HeaderFields {
            marker: packet.marker,
            payload_type: packet.pt,
            sequence_number: index as u16,
            timestamp: packet.timestamp,
            ssrc: Ssrc(ssrc),
            padding: packet.content == Content::Padding,
        };
        let number = (index as u16).to_be_bytes();
        let value = [packet.index as u8; 255];
        let mut elements: Vec<(u8, &[u8])> = vec![(3, &number)];
        if self.named {
            elements.push((4, self.mid.as_bytes()));
            let repair = ssrc == self.rtx_ssrc;
            elements.extend(self.rid.map(|rid| (if repair { 11 } else { 10 }, rid.as_bytes())));
        }
        let more = packet.extensions;
        for step in 0..more.count {
            let id = if more.different { more.id.wrapping_add(step) } else { more.id };
            elements.push((id.max(1), &value[..usize::from(more.len)]));
        }
        client.seal_rtp(&fields, index, &elements, payload)
    }

    /// Sends a packet, unless it is lost on the way, and remembers it.
    pub fn send(&mut self, world: &mut World, from: usize, packet: Packet) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((self.ssrc, packet));
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        let bytes = self.seal(&mut world.clients[from], self.ssrc, &packet);
        world.inject(from, bytes);
    }

    /// Sends a frame of `packets` packets.
    pub fn send_frame(&mut self, world: &mut World, from: usize, started: Instant, packets: u8, len: u16, key: bool) {
        self.tick(started, world.now);
        let content = self.content;
        for position in 0..packets {
            let packet = self.next(content, len);
            let (first, marker) = (position == 0, position + 1 == packets);
            self.send(world, from, Packet { key, first, marker, ..packet });
        }
    }

    fn logged(&self, distance: u16) -> Option<(u32, Packet)> {
        self.log.len().checked_sub(1 + usize::from(distance)).map(|at| self.log[at])
    }

    /// Sends a packet of before as it was: late if it had been lost, else a replay.
    pub fn send_late(&mut self, world: &mut World, from: usize, distance: u16) {
        let Some((ssrc, packet)) = self.logged(distance) else { return };
        let bytes = self.seal(&mut world.clients[from], ssrc, &packet);
        world.inject(from, bytes);
    }

    /// Sends an RTX packet for the packet `distance` back; beyond the log, and ahead of the newest, it is made up.
    pub fn send_rtx(&mut self, world: &mut World, from: usize, distance: i16, how: Repair) {
        let ssrc = self.ssrc;
        let newest = self.counters(ssrc).index as i64 - 1;
        let known = u16::try_from(distance).ok().and_then(|distance| self.logged(distance));
        let (original, mut packet) = known.unwrap_or_else(|| {
            let index = (newest - i64::from(distance)).max(0) as u64;
            let Counters { timestamp, picture, .. } = *self.counters(ssrc);
            let (content, extensions) = (self.content, Extensions::default());
            let marker = true;
            (
                ssrc,
                Packet {
                    index,
                    timestamp,
                    picture,
                    pt: 96,
                    content,
                    key: false,
                    first: true,
                    marker,
                    len: 80,
                    extensions,
                },
            )
        });
        let mut payload = (packet.index as u16).to_be_bytes().to_vec();
        if how != Repair::Bare {
            payload.extend(packet.payload(original));
        }
        if how == Repair::Altered {
            payload.push(0xee);
        }
        packet.pt = match how {
            Repair::WrongType => 112,
            Repair::MediaType => packet.pt,
            _ => packet.pt + 1,
        };
        let rtx_ssrc = self.rtx_ssrc;
        let counters = self.counters(rtx_ssrc);
        counters.index += 1;
        let index = counters.index;
        let bytes = self.seal_payload(&mut world.clients[from], rtx_ssrc, &packet, index, &payload);
        world.inject(from, bytes);
    }

    /// NTP time and RTP time of a sender report that tells the truth.
    pub fn clock(&self, started: Instant, now: Instant) -> (u64, u32) {
        let since = now.saturating_duration_since(started);
        let ntp = ((3_900_000_000 + since.as_secs()) << 32) | ((u64::from(since.subsec_micros()) << 32) / 1_000_000);
        let ticks = (since.as_micros() as u64 * u64::from(self.clock_rate) / 1_000_000) as u32;
        (ntp, self.ssrc.wrapping_mul(0x0101_0101).wrapping_add(ticks))
    }
}

/// How an RTX packet is wrong, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    Right,
    Altered,
    /// Only the number.
    Bare,
    WrongType,
    MediaType,
}

/// A participant that behaves: sound and pictures at a steady pace, whatever else happens.
pub struct Honest {
    client: usize,
    sound: Stream,
    pictures: Stream,
    next: Instant,
    started: Instant,
    turn: u32,
    pub sent: [u64; 2],
}

impl Honest {
    pub const PACE: Duration = Duration::from_millis(40);

    pub fn new(client: usize, now: Instant) -> Honest {
        let sound = Stream::new(700, 0, "8", None, Content::Opus);
        let pictures = Stream::new(800, 801, "9", None, Content::Vp8 { short: false });
        Honest { client, sound, pictures, next: now, started: now, turn: 0, sent: [0; 2] }
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    /// Sends what is due.
    pub fn act(&mut self, world: &mut World) {
        while self.next <= world.now {
            self.next += Honest::PACE;
            self.turn += 1;
            self.sound.send_frame(world, self.client, self.started, 1, 60, false);
            self.sent[0] += 1;
            if self.turn % 2 == 1 {
                let key = std::mem::take(&mut self.pictures.key_wanted);
                self.pictures.send_frame(world, self.client, self.started, 2, 300, key);
                self.sent[1] += 2;
            }
        }
    }

    /// Sends nothing more.
    pub fn rest(&mut self, now: Instant) {
        self.next = now + Duration::from_secs(3600);
    }

    pub fn want_key(&mut self) {
        self.pictures.key_wanted = true;
    }
}
