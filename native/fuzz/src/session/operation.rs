//! The operations of a program: four bytes each, every value of which means something, so that any mutation is a program.

use std::time::Duration;

use greenroom_forward::{Command, TrackId};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock, SenderInfo};

use super::publisher::{Content, Extensions, Packet, Repair};
use super::{ALICE, BOB, PICTURES, SOUND, Session};

/// SSRCs that streams of Alice may take: her own, another's of hers, Carol's, a subscriber's.
const NAMES: [u32; 8] = [500, 502, 600, 604, 610, 800, 9100, 0x7fff_fff0];
/// SSRCs that subscribers' sections may take: their own, others, one that was for retransmissions.
const SECTIONS: [u32; 6] = [9000, 9100, 9110, 9101, 9300, 9310];
/// Lengths of payloads.
const LENGTHS: [u16; 8] = [20, 60, 120, 500, 900, 1100, 1180, 1200];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Frames of a stream, with time between them.
    Frames {
        slot: u8,
        count: u8,
        packets: u8,
        len: u8,
        key: bool,
        pace_ms: u8,
    },
    /// The next packets of a stream are lost.
    Lose {
        slot: u8,
        count: u8,
    },
    /// A packet of before.
    Late {
        slot: u8,
        distance: u16,
    },
    /// A retransmission of a packet before or after the newest.
    Rtx {
        slot: u8,
        distance: i16,
        how: u8,
    },
    /// Retransmissions of many packets in a row.
    RtxRun {
        slot: u8,
        from: u16,
        count: u8,
    },
    /// A packet with header extensions.
    Extended { slot: u8, count: u8, id: u8, len: u8, different: bool, payload: u8 },
    /// Numbers left out.
    Jump {
        slot: u8,
        by: u16,
    },
    /// Another SSRC, by packet or by command.
    Rename {
        slot: u8,
        name: u8,
        by_command: bool,
    },
    /// Sections of the publisher.
    Publish {
        sound: bool,
        pictures: bool,
    },
    /// Whether packets carry their names.
    Named {
        slot: u8,
        named: bool,
    },
    /// What a subscriber wants.
    Wish {
        who: u8,
        video: bool,
        bits: u8,
        ssrc: u8,
    },
    Mute {
        video: bool,
        muted: bool,
    },
    Nack {
        who: u8,
        stream: u8,
        back: u8,
        bits: u8,
        times: u8,
    },
    /// The last hundreds of packets, again and again.
    NackStorm {
        who: u8,
        stream: u8,
        times: u8,
        pause_ms: u8,
    },
    KeyframeRequests {
        who: u8,
        stream: u8,
        times: u8,
        fir: bool,
    },
    /// A receiver report, with a round trip of anything.
    Report {
        who: u8,
        stream: u8,
        last_report: u8,
        delay: u8,
    },
    SenderReport {
        slot: u8,
        hours: u8,
        ticks: u8,
    },
    Time {
        ms: u8,
        tens: u8,
    },
    /// A datagram of any size.
    Large {
        slot: u8,
        len: u16,
    },
    /// A payload of any bytes under one of the negotiated types.
    Noise {
        slot: u8,
        pt: u8,
        seed: u8,
        len: u8,
    },
    /// The publisher changes its codec.
    Codec {
        slot: u8,
        which: u8,
    },
    Padding {
        slot: u8,
        count: u8,
    },
    RequestKeyframe,
    /// One frame of everything, as a good publisher sends it.
    Everything {
        count: u8,
        pace_ms: u8,
    },
}

impl Operation {
    pub fn read([code, a, b, c]: [u8; 4]) -> Operation {
        let (slot, wide) = (a % 3, u16::from_le_bytes([b, c]));
        match code % 28 {
            0..=2 => Operation::Frames {
                slot,
                count: 1 + b % 32,
                packets: 1 + (c >> 1) % 4,
                len: c >> 3 & 7,
                key: c & 1 == 1,
                pace_ms: [0, 5, 33, 100][usize::from(c >> 6)],
            },
            3 => Operation::Lose { slot, count: 1 + b % 8 },
            4 => Operation::Late { slot, distance: wide & 0xfff },
            5 | 6 => Operation::Rtx { slot, distance: wide as i16, how: a / 3 },
            7 => Operation::RtxRun { slot, from: wide & 0xfff, count: 1 + (a / 3) % 64 },
            8 => Operation::Extended {
                slot,
                count: 1 + (a / 3) % 8,
                id: b % 16,
                len: c,
                different: b & 0x80 != 0,
                payload: b >> 4 & 7,
            },
            9 => Operation::Jump { slot, by: wide & 0x7fff },
            10 => Operation::Rename { slot, name: b, by_command: c & 1 == 1 },
            11 => Operation::Publish { sound: a & 1 == 0, pictures: a & 2 == 0 },
            12 => Operation::Named { slot, named: b & 1 == 1 },
            13 | 14 => Operation::Wish { who: a, video: a & 2 == 2, bits: b, ssrc: c },
            15 => Operation::Mute { video: a & 1 == 1, muted: b & 1 == 1 },
            16 => Operation::Nack { who: a, stream: a / 2, back: b, bits: c, times: 1 + (a >> 4) % 4 },
            17 => Operation::NackStorm { who: a, stream: a / 2, times: 1 + b % 32, pause_ms: c % 32 },
            18 => Operation::KeyframeRequests { who: a, stream: a / 2, times: 1 + b % 32, fir: c & 1 == 1 },
            19 => Operation::Report { who: a, stream: a / 2, last_report: b, delay: c },
            20 => Operation::SenderReport { slot, hours: b, ticks: c },
            21 => Operation::Time { ms: b, tens: c },
            22 => Operation::Large { slot, len: wide },
            23 => Operation::Noise { slot, pt: a / 3, seed: b, len: c },
            24 => Operation::Codec { slot, which: b },
            25 => Operation::Padding { slot, count: 1 + b % 8 },
            26 => Operation::RequestKeyframe,
            _ => Operation::Everything { count: 1 + b % 64, pace_ms: [0, 10, 33, 50][usize::from(c % 4)] },
        }
    }

    /// Whether a publisher that keeps the rules does this.
    fn is_honest(self) -> bool {
        use Operation::*;
        !matches!(
            self,
            Lose { .. }
                | Late { .. }
                | Rtx { .. }
                | RtxRun { .. }
                | Jump { .. }
                | Large { .. }
                | Noise { .. }
                | Named { .. }
        )
    }
}

impl Session {
    pub(super) fn perform(&mut self, operation: Operation) {
        if self.head.honest && !operation.is_honest() {
            return;
        }
        let (started, honest) = (self.started, self.head.honest);
        match operation {
            Operation::Frames { slot, count, packets, len, key, pace_ms } => {
                for number in 0..count {
                    let stream = &mut self.streams[usize::from(slot)];
                    let key = (key && number == 0) || (honest && std::mem::take(&mut stream.key_wanted));
                    let len = LENGTHS[usize::from(len)];
                    let packets = if slot == 0 { 1 } else { packets };
                    stream.send_frame(&mut self.world, ALICE, started, packets, len, key);
                    self.datagrams += usize::from(packets);
                    self.pass(Duration::from_millis(u64::from(pace_ms)));
                }
            }
            Operation::Everything { count, pace_ms } => {
                for _ in 0..count {
                    self.publish_frame();
                    self.datagrams += 3;
                    self.pass(Duration::from_millis(u64::from(pace_ms)));
                }
            }
            Operation::Lose { slot, count } => self.streams[usize::from(slot)].lose(u32::from(count)),
            Operation::Late { slot, distance } => {
                self.datagrams += 1;
                self.streams[usize::from(slot)].send_late(&mut self.world, ALICE, distance);
            }
            Operation::Rtx { slot, distance, how } => {
                let how =
                    [Repair::Right, Repair::Right, Repair::Altered, Repair::Bare, Repair::WrongType, Repair::MediaType]
                        [usize::from(how % 6)];
                self.datagrams += 1;
                self.streams[usize::from(slot)].send_rtx(&mut self.world, ALICE, distance, how);
            }
            Operation::RtxRun { slot, from, count } => {
                for distance in (0..i16::from(count)).map(|n| from as i16 - n).filter(|distance| *distance >= 0) {
                    self.datagrams += 1;
                    self.streams[usize::from(slot)].send_rtx(&mut self.world, ALICE, distance, Repair::Right);
                }
            }
            Operation::Extended { slot, count, id, len, different, payload } => {
                // Names that are not the stream's own would make it another.
                let id = if honest && matches!(id, 3 | 4 | 10 | 11) { 1 } else { id };
                let extensions = Extensions { count, id, len, different: different && !honest };
                let len = LENGTHS[usize::from(payload)];
                self.send_one(slot, |packet| Packet { extensions, len, ..packet });
            }
            Operation::Jump { slot, by } => self.streams[usize::from(slot)].jump(by),
            Operation::Rename { slot, name, by_command } => {
                let names = if honest { [500, 600, 610].map(|own| own + u32::from(name % 4) * 2) } else { [0; 3] };
                let ssrc = if honest { names[usize::from(slot)] } else { NAMES[usize::from(name) % NAMES.len()] };
                self.rename(usize::from(slot), ssrc, by_command);
            }
            Operation::Publish { sound, pictures } => {
                self.published = [sound, pictures];
                self.tell_receivers();
            }
            Operation::Named { slot, named } => self.streams[usize::from(slot)].named = named,
            Operation::Wish { who, video, bits, ssrc } => {
                self.change_wish(BOB + usize::from(who & 1), video, bits, ssrc)
            }
            Operation::Mute { video, muted } => {
                let track = TrackId(if video { PICTURES } else { SOUND });
                self.command(Command::SetMuted { track, muted });
            }
            Operation::Nack { who, stream, back, bits, times } => {
                let who = BOB + usize::from(who & 1);
                let (media, highest) = self.reported(who, stream);
                let newest = highest.saturating_sub(u64::from(back)) as u16;
                let lost: Vec<u16> =
                    (0..8).filter(|n| bits >> n & 1 == 1).map(|n| newest.wrapping_sub(n)).rev().collect();
                for _ in 0..times {
                    self.report(who, |b| drop(b.nack(Ssrc(1), media, lost.iter().copied())));
                }
            }
            Operation::NackStorm { who, stream, times, pause_ms } => {
                let who = BOB + usize::from(who & 1);
                for _ in 0..times {
                    let (media, highest) = self.reported(who, stream);
                    let lost = (0..500u16).map(|n| (highest as u16).wrapping_sub(499 - n));
                    self.report(who, |b| drop(b.nack(Ssrc(1), media, lost)));
                    self.pass(Duration::from_millis(u64::from(pause_ms)));
                }
            }
            Operation::KeyframeRequests { who, stream, times, fir } => {
                let who = BOB + usize::from(who & 1);
                let (media, _) = self.reported(who, stream);
                for number in 0..times {
                    self.report(who, |b| match fir {
                        true => drop(b.fir(Ssrc(1), media, number)),
                        false => drop(b.pli(Ssrc(1), media)),
                    });
                }
            }
            Operation::Report { who, stream, last_report, delay } => {
                let who = BOB + usize::from(who & 1);
                let (ssrc, highest) = self.reported(who, stream);
                let block = ReportBlock {
                    ssrc,
                    highest_sequence: highest as u32,
                    last_sr: u32::from(last_report) << 16,
                    delay_since_last_sr: u32::from(delay) << 24 | u32::from(delay),
                    ..ReportBlock::default()
                };
                self.report(who, |b| drop(b.receiver_report(Ssrc(1), &[block])));
                self.report(who, |b| drop(b.remb(Ssrc(1), u64::from(delay) << 20, &[ssrc])));
            }
            Operation::SenderReport { slot, hours, ticks } => {
                let stream = &self.streams[usize::from(slot)];
                let (mut ntp, mut rtp_timestamp) = stream.clock(started, self.world.now);
                let ssrc = Ssrc(stream.ssrc);
                if !honest {
                    ntp = ntp.wrapping_add(u64::from(hours) * 3600 << 32);
                    rtp_timestamp = rtp_timestamp.wrapping_add(u32::from(ticks) << 24);
                }
                let info = SenderInfo { ssrc, ntp: NtpTime(ntp), rtp_timestamp, packets: 1, octets: 1 };
                self.report(ALICE, |b| drop(b.sender_report(&info, &[])));
            }
            Operation::Time { ms, tens } => {
                self.pass(Duration::from_millis(u64::from(ms) + 10 * u64::from(tens)));
            }
            Operation::Large { slot, len } => {
                self.send_one(slot, |packet| Packet { len: len.min(64_000), key: true, marker: true, ..packet });
            }
            Operation::Noise { slot, pt, seed, len } => {
                let pt = [96, 97, 98, 99, 111, 63, 101, 20][usize::from(pt) % 8];
                let content = Content::Noise(seed);
                self.send_one(slot, |packet| Packet { pt, content, len: u16::from(len), ..packet });
            }
            Operation::Codec { slot, which } => {
                let vp8 = Content::Vp8 { short: self.head.short_ids };
                let sounds = [Content::Opus, Content::Red, Content::Event];
                let pictures = [vp8, Content::H264, vp8];
                let contents = if slot == 0 { sounds } else { pictures };
                let stream = &mut self.streams[usize::from(slot)];
                stream.content = contents[usize::from(which) % 3];
                stream.key_wanted = true;
            }
            Operation::Padding { slot, count } => {
                for _ in 0..count {
                    let stream = &mut self.streams[usize::from(slot)];
                    let packet = stream.next(Content::Padding, 0);
                    stream.send(&mut self.world, ALICE, packet);
                    self.datagrams += 1;
                }
            }
            Operation::RequestKeyframe => self.command(Command::RequestKeyframe { track: TrackId(PICTURES) }),
        }
    }

    /// A frame of one packet, changed.
    fn send_one(&mut self, slot: u8, change: impl FnOnce(Packet) -> Packet) {
        let stream = &mut self.streams[usize::from(slot)];
        stream.tick(self.started, self.world.now);
        let packet = stream.next(stream.content, 60);
        let packet = change(Packet { marker: true, ..packet });
        stream.send(&mut self.world, ALICE, packet);
        self.datagrams += 1;
    }

    fn change_wish(&mut self, who: usize, video: bool, bits: u8, ssrc: u8) {
        let honest = self.head.honest;
        let other = self.wishes[who - BOB][usize::from(!video)].ssrc;
        let wish = &mut self.wishes[who - BOB][usize::from(video)];
        wish.present = bits & 1 == 0;
        wish.paused = bits & 2 == 2;
        wish.rtx = bits & 4 == 4 && who == BOB;
        wish.max_layer = bits >> 3 & 3;
        let ssrc = SECTIONS[usize::from(ssrc) % SECTIONS.len()];
        // The room gives each section SSRCs of its own, though one may have been for retransmissions before.
        if bits & 0xc0 == 0xc0 && ssrc.abs_diff(other) > 1 && !honest {
            (wish.ssrc, wish.rtx_ssrc) = (ssrc, ssrc + 1);
        }
        self.tell_senders(who);
    }
}
