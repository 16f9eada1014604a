//! The state of a session: the shard, what Alice publishes, what the subscribers want and what they got.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use greenroom_forward::{Codec, Command, Event, Extensions, Receiver, RoomId, TrackId};
use greenroom_wire::Ssrc;

use super::publisher::{Content, Honest, Stream};
use super::world::oracle::Rules;
use super::world::{self, Rtcp, World, codec};

pub(super) const SOUND: u64 = 7;
pub(super) const PICTURES: u64 = 8;

pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;
const CAROL: usize = 2;

/// Header extensions of publishers and of subscribers. Subscribers have ids that need the two-byte form, too.
const ELEMENTS: [(&str, u8, u8); 12] = [
    (world::LEVEL, 1, 6),
    (world::ABS_SEND_TIME, 2, 2),
    (world::TRANSPORT_CC, 3, 5),
    (world::MID, 4, 9),
    (world::RID, 10, 10),
    (world::REPAIRED_RID, 11, 11),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", 5, 7),
    ("urn:3gpp:video-orientation", 6, 8),
    ("http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", 7, 12),
    ("https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension", 8, 13),
    ("http://www.webrtc.org/experiments/rtp-hdrext/color-space", 9, 20),
    ("http://www.webrtc.org/experiments/rtp-hdrext/video-content-type", 12, 14),
];

/// All of them, as a publisher and as a subscriber number them.
pub fn publisher_extensions() -> Extensions {
    Extensions::new(ELEMENTS.map(|(uri, id, _)| (uri, id)))
}

/// See [`publisher_extensions`].
pub fn subscriber_extensions() -> Extensions {
    Extensions::new(ELEMENTS.map(|(uri, _, id)| (uri, id)))
}

/// What the head of a program chooses.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub honest: bool,
    /// 7-bit picture ids.
    pub short_ids: bool,
    /// The SDP names Alice's SSRCs.
    pub named: bool,
    /// One layer instead of two.
    pub single: bool,
    /// Carol takes H.264 only.
    pub mismatch: bool,
    /// Video waits for the end of its frame.
    pub patient: bool,
}

impl Head {
    pub fn read(byte: u8) -> Head {
        let bit = |n: u8| byte >> n & 1 == 1;
        Head { honest: bit(0), short_ids: bit(1), named: bit(2), single: bit(3), mismatch: bit(4), patient: bit(5) }
    }
}

/// What a subscriber wants of a track.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub present: bool,
    pub paused: bool,
    pub rtx: bool,
    pub max_layer: u8,
    /// Another mid, payload type and fewer extensions than before.
    pub renegotiated: bool,
    /// Carol's track in the place of Alice's.
    pub elsewhere: bool,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
}

pub struct Session {
    pub(super) world: World,
    pub(super) started: Instant,
    pub(super) head: Head,
    pub(super) streams: [Stream; 3],
    pub(super) honest: Honest,
    /// What is published: sound, pictures.
    pub(super) published: [bool; 2],
    /// Of bob's and carol's sound and pictures.
    pub(super) wishes: [[Wish; 2]; 2],
    /// Highest number each subscriber got on an SSRC, and how many.
    pub(super) got: HashMap<(usize, u32), (u64, u64)>,
    pub(super) datagrams: usize,
    pub(super) restarts: usize,
    /// Carol's sound, or pictures, may have stopped by what the room's owner told.
    pub(super) disturbed: [bool; 2],
}

fn wish(ssrc: u32, rtx: bool) -> Wish {
    Wish {
        present: true,
        paused: false,
        rtx,
        max_layer: 2,
        renegotiated: false,
        elsewhere: false,
        ssrc,
        rtx_ssrc: ssrc + 1,
    }
}

impl Session {
    pub(super) fn new(head: Head, rules: Rules) -> Session {
        let mut world = World::new(9);
        world.oracle.rules = rules;
        world.patient = head.patient;
        for expected in [ALICE, BOB, CAROL] {
            assert_eq!(world.join(), expected);
        }
        let pictures = Content::Vp8 { short: head.short_ids };
        let mut streams = [
            Stream::new(500, 0, "0", None, Content::Opus),
            Stream::new(600, 601, "1", Some("q"), pictures),
            Stream::new(610, 611, "1", Some("f"), pictures),
        ];
        if head.single {
            streams[1].rid = None;
        }
        let now = world.now;
        let mut session = Session {
            world,
            started: now,
            head,
            streams,
            honest: Honest::new(CAROL, now),
            published: [true; 2],
            wishes: [[wish(9000, false), wish(9100, true)], [wish(9200, false), wish(9300, false)]],
            got: HashMap::new(),
            datagrams: 0,
            restarts: 0,
            disturbed: [false; 2],
        };
        session.tell_receivers();
        let sound = session.receiver(9, "8", false, vec![(700, 0)], vec![]);
        let pictures = session.receiver(10, "9", true, vec![(800, 801)], vec![]);
        session.world.publish(CAROL, vec![sound, pictures]);
        session.tell_senders(BOB);
        session.tell_senders(CAROL);
        session
    }

    fn receiver(&self, track: u64, mid: &str, video: bool, ssrcs: Vec<(u32, u32)>, rids: Vec<&str>) -> Receiver {
        let mut receiver = match video {
            true => world::video_receiver(track, mid, &ssrcs, &[]),
            false => world::audio_receiver(track, mid, &ssrcs),
        };
        if video {
            receiver.codecs.push(h264(98, 99));
            receiver.layers = rids.iter().zip([0, 2]).map(|(rid, layer)| (rid.to_string(), layer)).collect();
        } else {
            receiver.codecs.push(codec(101, "telephone-event", 0));
        }
        receiver.extensions = publisher_extensions();
        receiver
    }

    /// Tells the shard what Alice publishes.
    pub(super) fn tell_receivers(&mut self) {
        let [sound, low, high] = &self.streams;
        let named = self.head.named;
        let mut receivers = Vec::new();
        if self.published[0] {
            receivers.push(self.receiver(
                SOUND,
                "0",
                false,
                if named { vec![(sound.ssrc, 0)] } else { vec![] },
                vec![],
            ));
        }
        if self.published[1] {
            let (mut ssrcs, mut rids) = (vec![(low.ssrc, low.rtx_ssrc), (high.ssrc, high.rtx_ssrc)], vec!["q", "f"]);
            if self.head.single {
                ssrcs.truncate(1);
                rids.clear();
            }
            receivers.push(self.receiver(PICTURES, "1", true, if named { ssrcs } else { vec![] }, rids));
        }
        self.world.publish(ALICE, receivers);
    }

    /// Tells the shard what a subscriber wants.
    pub(super) fn tell_senders(&mut self, who: usize) {
        let mut senders = Vec::new();
        let wishes = self.wishes[who - BOB];
        for (wish, (track, mid)) in wishes.iter().zip([(SOUND, "3"), (PICTURES, "4")]).filter(|(wish, _)| wish.present)
        {
            let video = track == PICTURES;
            let mut sender = match video {
                true => world::video_sender(track, mid, wish.ssrc, if wish.rtx { wish.rtx_ssrc } else { 0 }),
                false => world::audio_sender(track, mid, wish.ssrc),
            };
            match (who, video) {
                (BOB, false) => sender.codecs.push(codec(62, "red", 0)),
                (BOB, true) => sender.codecs.push(h264(122, 123)),
                (_, true) if self.head.mismatch => sender.codecs = vec![h264(122, 0)],
                _ => {}
            }
            sender.paused = wish.paused;
            sender.max_layer = wish.max_layer;
            sender.extensions = subscriber_extensions();
            if wish.renegotiated {
                sender.mid = format!("again {mid}");
                sender.codecs[0].pt = 118;
                sender.extensions = world::subscriber_extensions();
            }
            if wish.elsewhere {
                sender.track = TrackId(if video { 10 } else { 9 });
            }
            senders.push(sender);
        }
        if who == BOB {
            let mut others = [world::audio_sender(9, "5", 9500), world::video_sender(10, "6", 9600, 9601)];
            others.iter_mut().for_each(|sender| sender.extensions = subscriber_extensions());
            senders.extend(others);
        }
        self.world.subscribe(who, senders);
    }

    pub(super) fn command(&mut self, command: Command) {
        self.world.command(command);
    }

    /// Lets time pass, in which Carol goes on.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        loop {
            let next = self.honest.next().min(end);
            self.world.run(next.saturating_duration_since(self.world.now));
            self.honest.act(&mut self.world);
            self.listen();
            if self.world.now >= end {
                return;
            }
        }
    }

    /// Takes in what everybody got.
    fn listen(&mut self) {
        for client in [BOB, CAROL] {
            for packet in std::mem::take(&mut self.world.clients[client].rtp) {
                let (highest, count) = self.got.entry((client, packet.header.ssrc.0)).or_insert((packet.index, 0));
                *highest = packet.index.max(*highest);
                *count += 1;
            }
        }
        for (client, asked) in [ALICE, CAROL].map(|client| (client, self.world.clients[client].take_feedback())) {
            for packet in asked {
                match packet {
                    Rtcp::Pli(800) if client == CAROL => self.honest.want_key(),
                    Rtcp::Pli(ssrc) if client == ALICE => {
                        self.streams.iter_mut().filter(|s| s.ssrc == ssrc).for_each(|s| s.key_wanted = true);
                    }
                    _ => {}
                }
            }
        }
        self.world.clients[BOB].rtcp.clear();
    }

    /// Bounds on what one operation may cause.
    pub(super) fn judge(&mut self) {
        let told = self.world.events.iter().filter(|event| !matches!(event, Event::Stats(..))).count();
        let bound = 256 + 4 * std::mem::take(&mut self.datagrams);
        assert!(told <= bound, "{told} events for one operation, {:?}", self.world.events.last());
        self.world.events.clear();
        assert_eq!(self.world.shard.peer_count(), 3);
        assert!(!self.world.shard.is_backlogged(), "everything was drained");
    }

    /// Everybody behaves from now on: what Carol sent is all there, and Alice's pictures flow again.
    pub(super) fn end(&mut self, rules: Rules) {
        self.pass(Duration::from_millis(100));
        for ((ssrc, sent), disturbed) in [9500, 9600].into_iter().zip(self.honest.sent).zip(self.disturbed) {
            let (_, got) = self.got.get(&(BOB, ssrc)).copied().unwrap_or_default();
            // What was sent in the last 10 ms is under way.
            let complete = disturbed || (got <= sent && got + 3 >= sent);
            assert!(complete || !rules.isolation, "of {sent} packets on {ssrc} that others have no part in {got} came");
        }
        self.honest.rest(self.world.now);
        self.command(Command::SetRoom { room: RoomId(1), top_speakers: None });
        for track in [SOUND, PICTURES] {
            self.command(Command::SetMuted { track: TrackId(track), muted: false });
        }
        // New SSRCs, as after a restart of the encoder, announced by the means that the program uses.
        for (stream, ssrc) in self.streams.iter_mut().zip([520u32, 620, 630]) {
            (stream.ssrc, stream.named, stream.key_wanted) = (ssrc, true, true);
            stream.rtx_ssrc = if stream.rtx_ssrc == 0 { 0 } else { ssrc + 1 };
            stream.lose(0);
            stream.content = if ssrc == 520 { Content::Opus } else { Content::Vp8 { short: self.head.short_ids } };
        }
        self.head.mismatch = false;
        self.published = [true; 2];
        self.tell_receivers();
        for (who, wishes) in
            [(BOB, [wish(9000, false), wish(9100, true)]), (CAROL, [wish(9200, false), wish(9300, false)])]
        {
            self.wishes[who - BOB] = wishes;
            self.tell_senders(who);
        }
        let mut before = HashMap::new();
        for turn in 0..60 {
            if turn == 40 {
                before = self.got.clone();
            }
            self.publish_frame();
            self.pass(Duration::from_millis(50));
        }
        for (who, ssrc) in [(BOB, 9000), (BOB, 9100), (CAROL, 9200), (CAROL, 9300)] {
            let count = |got: &HashMap<(usize, u32), (u64, u64)>| got.get(&(who, ssrc)).map_or(0, |(_, count)| *count);
            let came = count(&self.got) - count(&before);
            assert!(came >= 18 || !rules.recovery, "peer {who}, SSRC {ssrc}: {came} of 20 packets, 2 s after the end");
        }
    }

    /// A packet of each of Alice's streams, as an honest publisher sends it.
    pub(super) fn publish_frame(&mut self) {
        for slot in 0..3 {
            if slot == 2 && self.head.single {
                continue;
            }
            let key = std::mem::take(&mut self.streams[slot].key_wanted) && slot > 0;
            self.streams[slot].send_frame(&mut self.world, ALICE, self.started, 1, 100, key);
        }
    }

    /// Seals and delivers RTCP of a peer.
    pub(super) fn report(&mut self, who: usize, write: impl FnOnce(&mut greenroom_wire::rtcp::Builder<'_>)) {
        let mut buf = [0; 1400];
        let mut builder = greenroom_wire::rtcp::Builder::new(&mut buf);
        write(&mut builder);
        let len = builder.len();
        if len > 0 {
            let bytes = self.world.clients[who].seal_rtcp(&buf[..len]);
            self.datagrams += 1;
            self.world.inject(who, bytes);
        }
    }

    /// The stream a subscriber's report is about.
    pub(super) fn reported(&self, who: usize, which: u8) -> (Ssrc, u64) {
        let [sound, pictures] = self.wishes[who - BOB];
        let ssrc = match which % 5 {
            0 => sound.ssrc,
            1 | 2 => pictures.ssrc,
            3 => 9500,
            _ => 9600,
        };
        (Ssrc(ssrc), self.got.get(&(who, ssrc)).map_or(0, |(highest, _)| *highest))
    }

    pub(super) fn rename(&mut self, slot: usize, ssrc: u32, by_command: bool) {
        let stream = &mut self.streams[slot];
        stream.ssrc = ssrc;
        stream.key_wanted = true;
        if stream.rtx_ssrc != 0 {
            stream.rtx_ssrc = ssrc + 1;
        }
        if self.streams.iter().filter(|stream| stream.ssrc == ssrc).count() > 1 {
            self.world.oracle.lose_order();
        }
        if by_command {
            self.tell_receivers();
        }
    }
}

fn h264(pt: u8, rtx_pt: u8) -> Codec {
    Codec { fmtp: "packetization-mode=1;profile-level-id=42e01f".into(), ..codec(pt, "h264", rtx_pt) }
}
