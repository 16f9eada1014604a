//! One room: a shard, its participants, and the paths between them.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_forward::{Command, Event, Kind, Path, PeerId, Receiver, RoomId, Sender, Shard, ShardConfig};
use greenroom_secure::dtls::Certificate;
use greenroom_wire::demux::{Kind as Protocol, classify};

use crate::oracle::{self, Oracle};
use crate::{Conditions, Link, LinkStats, Participant, Random, section};

/// SSRC of what participant `index` receives of `track` is this plus `1000 * index + 2 * track`; its retransmissions
/// have the next number.
pub const ANSWER_SSRC: u32 = 500_000;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// To the shard, from this outside address.
    Up(SocketAddr),
    /// From the shard, to this outside address.
    Down(SocketAddr),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    order: u64,
    way: Way,
    bytes: Vec<u8>,
}

/// See the module.
pub struct World {
    /// Virtual time.
    pub now: Instant,
    /// The server.
    pub shard: Shard,
    /// Everybody, by index; the index is also the `PeerId`.
    pub participants: Vec<Participant>,
    /// What the shard reported, without messages and statistics.
    pub events: Vec<Event>,
    /// Messages are passed on to everybody else, as the room does it.
    pub relays_messages: bool,
    /// Watches everything that passes the shard.
    pub oracle: Oracle,
    links: Vec<[Link; 2]>,
    /// Whose address each one is or was.
    addresses: BTreeMap<SocketAddr, usize>,
    receivers: BTreeMap<usize, Vec<Receiver>>,
    senders: BTreeMap<usize, Vec<Sender>>,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
    certificate: Certificate,
    started: Instant,
    seed: u64,
    random: Random,
    next_port: u16,
}

const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 7882);
const ROOM: RoomId = RoomId(1);

impl World {
    /// An empty room in a run with `seed`.
    pub fn new(seed: u64) -> World {
        // str0m draws names from this generator of the thread.
        fastrand::seed(seed);
        let now = Instant::now();
        let certificate = Certificate::generate().expect("a certificate");
        let config =
            ShardConfig { certificate: certificate.clone(), seed, unix_micros: 1_700_000_000_000_000, pad_runs: true };
        World {
            now,
            shard: Shard::new(config, now),
            participants: Vec::new(),
            events: Vec::new(),
            relays_messages: true,
            oracle: Oracle::default(),
            links: Vec::new(),
            addresses: BTreeMap::new(),
            receivers: BTreeMap::new(),
            senders: BTreeMap::new(),
            flying: BinaryHeap::new(),
            order: 0,
            certificate,
            started: now,
            seed,
            random: Random::new(seed, 0),
            next_port: 50_000,
        }
    }

    /// A participant that begins to connect under these conditions, up and down. Returns its index.
    pub fn begin_join(&mut self, up: Conditions, down: Conditions) -> usize {
        let index = self.participants.len();
        let mut participant = Participant::new(self.now, index, SERVER.into());
        let peer = PeerId(index as u64);
        let (ufrag, pwd) = (format!("ufrag{index}"), format!("password-of-participant-{index}"));
        self.command(Command::AddPeer { peer, room: ROOM, ufrag: ufrag.clone(), pwd: pwd.clone() });
        let fingerprint = participant.fingerprint();
        let remote = Command::SetRemote { peer, ufrag: "unused".into(), pwd: "unused".into(), fingerprint };
        self.command(remote);
        let data = Command::SetData { peer, max_message_size: 65_536, channels: Vec::new() };
        self.command(data);
        participant.open_channel("_reliable", true);
        participant.open_channel("_lossy", false);
        participant.connect(self.now, &ufrag, &pwd, self.certificate.fingerprint().as_bytes());
        self.addresses.insert(participant.outside, index);
        self.participants.push(participant);
        let stream = 1 + 2 * index as u64;
        self.links.push([Link::new(self.seed, stream, up), Link::new(self.seed, stream + 1, down)]);
        index
    }

    /// A participant that has connected over a clean path, with its data channels open on both sides.
    pub fn join(&mut self) -> usize {
        let index = self.begin_join(Conditions::default(), Conditions::default());
        self.run_until(Duration::from_secs(5), |world| world.is_connected(index));
        self.run(Duration::from_millis(500));
        index
    }

    /// Whether both sides say so.
    pub fn is_connected(&self, index: usize) -> bool {
        self.events.contains(&Event::Connected(PeerId(index as u64))) && self.participants[index].is_connected()
    }

    /// Changes the conditions of a participant's path.
    pub fn set_conditions(&mut self, index: usize, up: Conditions, down: Conditions) {
        let [link_up, link_down] = &mut self.links[index];
        (link_up.conditions, link_down.conditions) = (up, down);
    }

    /// What became of a participant's datagrams, up and down.
    pub fn link_stats(&self, index: usize) -> [LinkStats; 2] {
        [self.links[index][0].stats(), self.links[index][1].stats()]
    }

    /// The participant's address changes, as behind a router that forgot it. What is under way to the old one is lost.
    pub fn change_route(&mut self, index: usize) {
        self.next_port += 1;
        let outside = ([198, 51, 100, 7], self.next_port).into();
        self.participants[index].outside = outside;
        self.addresses.insert(outside, index);
    }

    /// Publishes a tone as `track`.
    pub fn publish_sound(&mut self, index: usize, track: u64) {
        let (mid, ssrc) = (format!("s{track}"), 1000 + track as u32 * 10);
        self.participants[index].publish_sound(self.now, &mid, ssrc);
        self.add_receiver(index, section::receiver(track, &mid, Kind::Audio, &[(ssrc, 0)], &[]));
    }

    /// Publishes pictures as `track`, 30 a second of `size` bytes on average.
    pub fn publish_pictures(&mut self, index: usize, track: u64, size: usize) {
        let (mid, ssrc) = (format!("p{track}"), 1000 + track as u32 * 10);
        let ssrcs = [(ssrc, ssrc + 1)];
        self.participants[index].publish_pictures(self.now, &mid, &ssrcs, &[(None, size)], &mut self.random);
        self.add_receiver(index, section::receiver(track, &mid, Kind::Video, &ssrcs, &[]));
    }

    /// Publishes pictures as `track` in three layers q, h, f. The server knows their streams by name only.
    pub fn publish_simulcast(&mut self, index: usize, track: u64, sizes: [usize; 3]) {
        let (mid, ssrc) = (format!("p{track}"), 1000 + track as u32 * 10);
        let rids = ["q", "h", "f"];
        let ssrcs = [0, 2, 4].map(|n| (ssrc + n, ssrc + n + 1));
        let layers: Vec<_> = rids.into_iter().map(Some).zip(sizes).collect();
        self.participants[index].publish_pictures(self.now, &mid, &ssrcs, &layers, &mut self.random);
        self.add_receiver(index, section::receiver(track, &mid, Kind::Video, &[], &rids));
    }

    fn add_receiver(&mut self, index: usize, receiver: Receiver) {
        let receivers = self.receivers.entry(index).or_default();
        receivers.push(receiver);
        let receivers = receivers.clone();
        self.command(Command::SetReceivers { peer: PeerId(index as u64), receivers });
    }

    /// Receives `track`; returns the mid of the section.
    pub fn subscribe(&mut self, index: usize, track: u64, kind: Kind) -> String {
        let mid = format!("r{track}");
        let ssrc = ANSWER_SSRC + 1000 * index as u32 + 2 * track as u32;
        let rtx = if kind == Kind::Video { ssrc + 1 } else { 0 };
        self.participants[index].receive(self.now, &mid, kind, ssrc, rtx);
        self.senders.entry(index).or_default().push(section::sender(track, &mid, kind, ssrc, rtx));
        self.tell_senders(index);
        mid
    }

    /// Changes what a participant wants of the section `mid`.
    pub fn update_subscription(&mut self, index: usize, mid: &str, change: impl FnOnce(&mut Sender)) {
        let sender = self.senders.get_mut(&index).and_then(|senders| senders.iter_mut().find(|s| s.mid == mid));
        change(sender.expect("a section that was subscribed"));
        self.tell_senders(index);
    }

    fn tell_senders(&mut self, index: usize) {
        let senders = self.senders[&index].clone();
        self.command(Command::SetSenders { peer: PeerId(index as u64), senders });
    }

    /// Lets `time` pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets time pass until `done`, at most `limit`; panics after it.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "seed {}: not within {limit:?}; events: {:?}", self.seed, self.events);
        }
    }

    /// Goes to the next instant at which something happens; `false` when that is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.collect();
        let participants = self.participants.iter().map(Participant::poll_timeout);
        let network = self.flying.peek().map(|flying| flying.0.at);
        let next = participants.chain(network).chain(self.shard.poll_timeout()).min();
        let Some(next) = next.filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while self.flying.peek().is_some_and(|flying| flying.0.at <= now) {
            let Some(Reverse(mut datagram)) = self.flying.pop() else { break };
            match datagram.way {
                Way::Up(remote) => {
                    self.oracle.received(now, self.addresses[&remote], &datagram.bytes, None);
                    self.shard.handle_datagram(now, Path { local: 0, remote }, &mut datagram.bytes);
                }
                Way::Down(outside) => {
                    if let Some(participant) = self.participants.iter_mut().find(|p| p.outside == outside) {
                        participant.handle_datagram(now, &datagram.bytes);
                    }
                }
            }
        }
        for participant in self.participants.iter_mut().filter(|p| p.poll_timeout() <= now) {
            participant.handle_timeout(now);
        }
        self.shard.handle_timeout(now);
        oracle::assert_ahead(now, self.shard.poll_timeout());
        true
    }

    fn command(&mut self, command: Command) {
        self.oracle.command(&command);
        self.shard.handle_command(self.now, command);
    }

    /// Puts what everybody sent on its way.
    fn collect(&mut self) {
        self.take_events();
        let mut sent = Vec::new();
        while self.shard.prepare(self.now) {
            for (path, bytes) in self.shard.outgoing().datagrams() {
                sent.push((path.remote, bytes.to_vec()));
            }
            self.shard.sent();
        }
        let rtp = sent.iter().filter(|(_, bytes)| classify(bytes) == Protocol::Rtp).count();
        self.oracle.drained(self.shard.counters(), rtp);
        for (outside, bytes) in &sent {
            self.oracle.sent(self.now, self.addresses[outside], bytes, None);
        }
        self.oracle.settle();
        sent.sort_by_key(|(_, bytes)| stream_of(bytes));
        for (outside, bytes) in sent {
            // To an address nobody has any more: into the void.
            let Some(index) = self.participants.iter().position(|p| p.outside == outside) else { continue };
            self.launch(index, 1, Way::Down(outside), bytes);
        }
        for index in 0..self.participants.len() {
            let outside = self.participants[index].outside;
            let mut sent = std::mem::take(&mut self.participants[index].outbox);
            sent.sort_by_key(|bytes| stream_of(bytes));
            for bytes in sent {
                self.launch(index, 0, Way::Up(outside), bytes);
            }
        }
    }

    fn launch(&mut self, index: usize, direction: usize, way: Way, bytes: Vec<u8>) {
        let arrivals = self.links[index][direction].carry(self.now, bytes.len());
        for at in arrivals.into_iter().flatten() {
            self.order += 1;
            self.flying.push(Reverse(Flying { at, order: self.order, way, bytes: bytes.clone() }));
        }
    }

    /// What the room server's Python side would do with events: messages go to everybody else.
    fn take_events(&mut self) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Data { peer, label, payload, .. } if self.relays_messages => {
                    let all = 0..self.participants.len() as u64;
                    let peers = all.map(PeerId).filter(|other| *other != peer).collect();
                    let payload: Arc<[u8]> = payload.into();
                    self.command(Command::SendData { peers, label, payload });
                }
                Event::Stats(..) => {}
                event => self.events.push(event),
            }
        }
    }

    /// Datagrams that `index` sends within `time`, kept from the shard, and when after the begin. Everything else goes on.
    pub fn intercept(&mut self, index: usize, time: Duration) -> Vec<(Duration, Vec<u8>)> {
        let begin = self.now;
        let end = begin + time;
        let mut kept = Vec::new();
        loop {
            let after = self.now - begin;
            kept.extend(self.participants[index].outbox.drain(..).map(|bytes| (after, bytes)));
            if !self.step(end) {
                return kept;
            }
        }
    }

    /// The path on which the shard knows a participant.
    pub fn path(&self, index: usize) -> Path {
        Path { local: 0, remote: self.participants[index].outside }
    }

    /// Everything that reached anybody and what the shard counted, in one number: equal for equal seeds.
    pub fn digest(&self) -> u64 {
        let participants: Vec<u64> = self.participants.iter().map(Participant::digest).collect();
        // Bytes are left out: signatures in handshakes vary in length.
        let counters = self.shard.counters().named().into_iter().filter(|(name, _)| !name.starts_with("bytes"));
        let text = format!("{:?} {participants:?} {:?}", self.now - self.started, counters.collect::<Vec<_>>());
        crate::source::checksum(text.as_bytes())
    }
}

/// What kind of datagram, and whose if it is media. Within an instant datagrams leave in this order (each stream in its
/// own): str0m keeps its streams in hash tables with a random order, which must not decide what is lost.
fn stream_of(bytes: &[u8]) -> (u8, u32) {
    let protocol = classify(bytes);
    let ssrc = if protocol == Protocol::Rtp { bytes.get(8..12) } else { None };
    (protocol as u8, ssrc.map_or(0, |ssrc| u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]])))
}
