//! What each operation does to a session.

use std::time::Duration;

use greenroom_forward::{Command, PeerId, RoomId, TrackId};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock, SenderInfo};

use super::operation::Operation;
use super::publisher::{Content, Extensions, Packet, Repair};
use super::state::{ALICE, BOB, PICTURES, SOUND, Session};

/// SSRCs that streams of Alice may take: her own, another's of hers, Carol's, a subscriber's.
const NAMES: [u32; 8] = [500, 502, 600, 604, 610, 800, 9100, 0x7fff_fff0];
/// SSRCs that subscribers' sections may take: their own, others, one that was for retransmissions.
const SECTIONS: [u32; 6] = [9000, 9100, 9110, 9101, 9300, 9310];
/// Lengths of payloads.
const LENGTHS: [u16; 8] = [20, 60, 120, 500, 900, 1100, 1180, 1200];

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
                self.change_wish(BOB + usize::from(who & 1), video, bits, ssrc);
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
                    ntp = ntp.wrapping_add((u64::from(hours) * 3600) << 32);
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
            Operation::Away { who, seconds } => {
                let who = usize::from(who);
                self.disturbed[0] |= who == BOB;
                self.disturbed[1] |= who == BOB;
                self.world.clients[who].stop_checks();
                self.pass(Duration::from_secs(u64::from(seconds)));
                self.world.clients[who].start();
            }
            Operation::Stage { places } => {
                // Alice may be louder.
                self.disturbed[0] |= places.is_some();
                self.command(Command::SetRoom { room: RoomId(1), top_speakers: places.map(usize::from) });
            }
            Operation::RestartIce { who } => self.restart_ice(usize::from(who)),
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
        wish.renegotiated = bits >> 5 & 1 == 1;
        wish.elsewhere = ssrc >> 7 == 1;
        let ssrc = SECTIONS[usize::from(ssrc) % SECTIONS.len()];
        // The room gives each section SSRCs of its own, though one may have been for retransmissions before.
        if bits & 0xc0 == 0xc0 && ssrc.abs_diff(other) > 1 && !honest {
            (wish.ssrc, wish.rtx_ssrc) = (ssrc, ssrc + 1);
        }
        self.tell_senders(who);
    }

    /// New credentials, as both sides get them from the signalling.
    fn restart_ice(&mut self, who: usize) {
        self.restarts += 1;
        let client = &mut self.world.clients[who];
        (client.ufrag, client.pwd) =
            (format!("again{}-{who}", self.restarts), format!("password-number-{}", self.restarts));
        let (peer, ufrag, pwd) = (PeerId(who as u64), client.ufrag.clone(), client.pwd.clone());
        self.command(Command::RestartIce { peer, ufrag, pwd });
    }
}
