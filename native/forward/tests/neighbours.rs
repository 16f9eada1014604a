//! Nothing that one participant sends may hurt another: an attacker and his audience in room A, people who talk in room B, one
//! shard for both.
//!
//! The network and its clock are virtual, the shard's work is real: what it takes is read from the processor time of this
//! thread, so that a busy machine changes nothing, and the kernel's part is added as it was measured ([`Kernel`]). Datagrams
//! wait in one socket buffer of the size that the shard asks for, and what does not fit is lost, whoever it is from. The
//! delay of room B is from the arrival at the socket to the departure. With `--nocapture` the figures are printed.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_forward::{Limits, RoomId};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::Builder;

use crate::world::*;

/// What system calls cost beside the shard's own work, on the slow side of what was measured on loopback.
struct Kernel;

impl Kernel {
    const RECEIVE: Duration = Duration::from_nanos(600);
    const SEND: Duration = Duration::from_nanos(1500);
    const SEGMENT: Duration = Duration::from_nanos(300);
}

/// Datagrams taken in one system call, and bytes that fit the socket buffer.
const BATCH: usize = 32;
const SOCKET_BUFFER: usize = 8 << 20;
/// How long an attack goes on.
const TIME: Duration = Duration::from_secs(2);
/// The attacker's own audience.
const AUDIENCE: usize = 20;

struct Arriving {
    at: Instant,
    client: usize,
    bytes: Vec<u8>,
}

struct Town {
    world: World,
    attacker: usize,
    talkers: Vec<usize>,
}

/// What room B noticed.
#[derive(Debug)]
struct Notice {
    sent: usize,
    heard: usize,
    delays: Vec<Duration>,
}

impl Notice {
    fn p99(&self) -> Duration {
        self.delays[(self.delays.len() * 99 / 100).min(self.delays.len() - 1)]
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Town {
    /// Attacker with an audience in room 1, three people who hear each other in room 2.
    fn new() -> Town {
        let mut world = World::new(1);
        let attacker = world.join();
        world.publish(attacker, vec![audio_receiver(1, "0", &[(500, 0)]), video_receiver(2, "1", &[(600, 601)], &[])]);
        for n in 0..AUDIENCE {
            let member = world.join();
            let mut senders = vec![audio_sender(1, "3", 9000), video_sender(2, "4", 9100, 9101)];
            if n == 0 {
                // One of them is the attacker's second connection.
                senders[1].rtx_ssrc = 0;
            }
            world.subscribe(member, senders);
        }
        let talkers: Vec<usize> = (0..3).map(|_| world.join_room(RoomId(2))).collect();
        for (n, talker) in talkers.iter().enumerate() {
            world.publish(*talker, vec![audio_receiver(10 + n as u64, "0", &[(500, 0)])]);
        }
        for (n, talker) in talkers.iter().enumerate() {
            let others = (0..3).filter(|other| *other != n);
            world.subscribe(
                *talker,
                others.map(|m| audio_sender(10 + m as u64, &m.to_string(), 9000 + m as u32)).collect(),
            );
        }
        Town { world, attacker, talkers }
    }

    /// Room B's packets of `TIME`, 20 ms apart.
    fn talk(&mut self) -> Vec<Arriving> {
        let start = self.world.now;
        let mut arriving = Vec::new();
        for (n, talker) in self.talkers.clone().into_iter().enumerate() {
            let mut source = Source::new(500, 111, &[]);
            for packet in 0..(TIME.as_millis() / 20) as u32 {
                let at = start + Duration::from_millis(20) * packet + Duration::from_micros(6_700) * n as u32;
                let (fields, index) = source.next(false);
                source.timestamp = source.timestamp.wrapping_add(960);
                let bytes = self.world.clients[talker].seal_rtp(
                    &fields,
                    index,
                    &[],
                    &at.duration_since(start).as_nanos().to_be_bytes(),
                );
                arriving.push(Arriving { at, client: talker, bytes });
            }
        }
        arriving
    }

    /// Plays what arrives, in the order of time, through one socket and one thread.
    fn play(&mut self, mut arriving: Vec<Arriving>) -> Notice {
        let start = self.world.now;
        arriving.sort_by_key(|datagram| datagram.at);
        let talkers = self.talkers.clone();
        let mut notice = Notice { sent: 0, heard: 0, delays: Vec::new() };
        notice.sent = arriving.iter().filter(|datagram| talkers.contains(&datagram.client)).count() * 2;
        let mut arriving = VecDeque::from(arriving);
        let mut socket: VecDeque<Arriving> = VecDeque::new();
        let mut waiting = 0;
        let mut now = start;
        while !arriving.is_empty() || !socket.is_empty() {
            if socket.is_empty() {
                now = now.max(arriving[0].at);
            }
            while arriving.front().is_some_and(|datagram| datagram.at <= now) {
                let datagram = arriving.pop_front().unwrap();
                if waiting + datagram.bytes.len() <= SOCKET_BUFFER {
                    waiting += datagram.bytes.len();
                    socket.push_back(datagram);
                }
            }
            let mut batch: Vec<Arriving> = Vec::new();
            while batch.len() < BATCH
                && !self.world.shard.is_backlogged()
                && let Some(datagram) = socket.pop_front()
            {
                waiting -= datagram.bytes.len();
                batch.push(datagram);
            }
            let before = thread_time();
            for datagram in &mut batch {
                self.world.shard.handle_datagram(now, path(datagram.client), &mut datagram.bytes);
            }
            self.world.shard.handle_timeout(now);
            let more = self.world.shard.prepare(now);
            now += thread_time() - before + Kernel::RECEIVE * batch.len() as u32;
            if more {
                for send in self.world.shard.outgoing().sends() {
                    now += Kernel::SEND + Kernel::SEGMENT * send.segments() as u32;
                }
                self.deliver(now, start, &talkers, &mut notice);
            }
            while self.world.shard.poll_event().is_some() {}
        }
        self.world.now = now + Duration::from_secs(5);
        notice.delays.sort_unstable();
        notice
    }

    fn deliver(&mut self, now: Instant, start: Instant, talkers: &[usize], notice: &mut Notice) {
        let datagrams: Vec<(usize, Vec<u8>)> = self
            .world
            .shard
            .outgoing()
            .datagrams()
            .map(|(to, bytes)| (usize::from(to.remote.port() - 1000), bytes.to_vec()))
            .filter(|(client, _)| talkers.contains(client))
            .collect();
        self.world.shard.sent();
        for (client, mut bytes) in datagrams {
            let client = &mut self.world.clients[client];
            client.handle(now, &mut bytes);
            for packet in client.rtp.drain(..) {
                let nanos = u128::from_be_bytes(packet.payload.try_into().expect("the time it was sent"));
                notice.heard += 1;
                notice.delays.push(now.duration_since(start + Duration::from_nanos(nanos as u64)));
            }
        }
    }

    /// `count` datagrams of the attack, evenly over the time.
    fn spread(&self, client: usize, count: u32, mut make: impl FnMut(u32) -> Vec<u8>) -> Vec<Arriving> {
        let start = self.world.now;
        (0..count).map(|n| Arriving { at: start + TIME * n / count, client, bytes: make(n) }).collect()
    }
}

fn rtcp(write: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut buf = vec![0; 1400];
    let mut builder = Builder::new(&mut buf);
    write(&mut builder);
    let len = builder.len();
    buf.truncate(len);
    buf
}

type Attack = fn(&mut Town) -> Vec<Arriving>;

const ATTACKS: [(&str, Attack); 9] = [
    ("nothing", |_| Vec::new()),
    ("audio, 50,000 packets a second", |town| {
        let mut source = Source::new(500, 111, &[]);
        let client = town.attacker;
        let mut sealed = Vec::new();
        for _ in 0..100_000 {
            let (fields, index) = source.next(false);
            sealed.push(town.world.clients[client].seal_rtp(
                &fields,
                index,
                &[(1, &[5; 170]), (1, &[5; 170])],
                &[7; 60],
            ));
        }
        town.spread(client, 100_000, |n| std::mem::take(&mut sealed[n as usize]))
    }),
    ("video, 10,000 packets of 1,400 bytes a second", |town| {
        let mut source = Source::new(600, 96, &[]);
        let client = town.attacker;
        let mut sealed = Vec::new();
        for n in 0..20_000u16 {
            let (fields, index) = source.next(false);
            let payload = vp8(n >> 2, n % 100 == 0, n % 4 == 0, 1350);
            sealed.push(town.world.clients[client].seal_rtp(&fields, index, &[], &payload));
        }
        town.spread(client, 20_000, |n| std::mem::take(&mut sealed[n as usize]))
    }),
    ("datagrams of 60 kB", |town| {
        let mut source = Source::new(500, 111, &[]);
        let client = town.attacker;
        let (fields, index) = source.next(false);
        let sealed = town.world.clients[client].seal_rtp(&fields, index, &[], &[7; 60_000]);
        town.spread(client, 4_000, |_| sealed.clone())
    }),
    ("a new SSRC with every packet", |town| {
        let client = town.attacker;
        let mut sealed = Vec::new();
        for n in 0..40_000 {
            let (fields, index) = Source::new(10_000 + n, 96, &[]).next(true);
            sealed.push(town.world.clients[client].seal_rtp(&fields, index, &[(4, b"1")], &vp8(10, true, true, 100)));
        }
        town.spread(client, 40_000, |n| std::mem::take(&mut sealed[n as usize]))
    }),
    ("a storm of NACKs", |town| {
        let client = town.attacker + 1;
        let mut all = Vec::new();
        let mut source = Source::new(600, 96, &[]);
        let publisher = town.attacker;
        let mut sealed = Vec::new();
        for n in 0..600u16 {
            let (fields, index) = source.next(false);
            sealed.push(town.world.clients[publisher].seal_rtp(&fields, index, &[], &vp8(n, n % 30 == 0, true, 1000)));
        }
        all.extend(town.spread(publisher, 600, |n| std::mem::take(&mut sealed[n as usize])));
        let nack = rtcp(|b| {
            b.nack(Ssrc(1), Ssrc(9100), 0..512).unwrap();
        });
        let mut storm: Vec<Vec<u8>> = (0..20_000).map(|_| town.world.clients[client].seal_rtcp(&nack)).collect();
        all.extend(town.spread(client, 20_000, |n| std::mem::take(&mut storm[n as usize])));
        all
    }),
    ("requests for key frames and reports", |town| {
        let client = town.attacker + 1;
        let pli = rtcp(|b| {
            for _ in 0..50 {
                b.pli(Ssrc(1), Ssrc(9100)).unwrap();
            }
        });
        let mut storm: Vec<Vec<u8>> = (0..40_000).map(|_| town.world.clients[client].seal_rtcp(&pli)).collect();
        town.spread(client, 40_000, |n| std::mem::take(&mut storm[n as usize]))
    }),
    ("checks with the right password", |town| {
        let client = town.attacker;
        let check = town.world.clients[client].check(true);
        town.spread(client, 40_000, |_| check.clone())
    }),
    ("garbage on a known address", |town| {
        let client = town.attacker;
        town.spread(client, 100_000, |n| {
            let mut bytes = vec![n as u8; 200];
            bytes[0] = [0x80, 0x90, 0x16, 0x81, 0x40][n as usize % 5];
            bytes
        })
    }),
];

#[test]
fn people_in_another_room_lose_nothing_and_wait_no_longer() {
    let mut calm = None;
    println!("attack in room A; room B: lost, p50, p99, longest");
    for (name, attack) in ATTACKS {
        let mut town = Town::new();
        let mut arriving = attack(&mut town);
        arriving.extend(town.talk());
        let notice = town.play(arriving);
        let (p50, p99) = (notice.delays[notice.delays.len() / 2], notice.p99());
        let longest = notice.delays[notice.delays.len() - 1];
        println!("{name}: {} lost, {p50:?}, {p99:?}, {longest:?}", notice.sent - notice.heard);
        assert_eq!(notice.heard, notice.sent, "{name}");
        let calm = *calm.get_or_insert(p99);
        // A thirtieth of a frame of audio: far below what anybody hears, and above what one batch costs.
        assert!(p99 < calm + Duration::from_micros(650), "{name}: p99 {p99:?}, without an attack {calm:?}");
    }
}

/// What the budgets are worth: without them the attacker makes the shard do many times the work.
#[test]
fn without_budgets_an_attacker_keeps_the_shard_busy() {
    let sent = |limits: Limits| {
        let mut town = Town::new();
        town.world.shard.set_limits(limits);
        let mut arriving = ATTACKS[1].1(&mut town);
        arriving.extend(town.talk());
        town.play(arriving);
        town.world.shard.counters().rtp_out
    };
    let (with, without) = (sent(Limits::default()), sent(Limits::UNLIMITED));
    assert!(without > 20 * with, "{without} packets sent without budgets, {with} with them");
}
