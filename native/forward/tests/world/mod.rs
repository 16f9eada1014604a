//! A shard and its clients on virtual time, over a seeded network that loses, delays and reorders.
#![allow(dead_code, reason = "each test file uses its part")]

mod client;
pub mod oracle;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test file uses its part")]
pub use client::{Client, ReceivedRtp, Rtcp, Source, vp8};
use greenroom_forward::{
    Codec, Command, Event, Extensions, Kind, Path, PeerId, Receiver, RoomId, Sender, Shard, ShardConfig, TrackId,
};
use greenroom_secure::dtls::Certificate;
use greenroom_wire::demux::{Kind as Protocol, classify};
use oracle::Oracle;

pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
pub const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";

/// How the network treats datagrams, both ways.
#[derive(Clone, Copy)]
pub struct Network {
    pub delay: Duration,
    pub jitter: Duration,
    /// Of 1,000 datagrams.
    pub loss: u64,
}

/// How long a patient shard waits for the end of a frame, and for how many packets.
const PATIENCE: Duration = Duration::from_millis(12);
const RUN: usize = 16;
/// Of a datagram, in bytes.
const LARGEST: usize = 1500;

pub const CLEAN: Network = Network { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0 };

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    order: u64,
    to_shard: bool,
    client: usize,
    bytes: Vec<u8>,
}

pub struct World {
    pub now: Instant,
    pub shard: Shard,
    pub clients: Vec<Client>,
    pub network: Network,
    pub events: Vec<Event>,
    pub random: u64,
    /// Video waits for the end of its frame, as in a busy shard. Otherwise everything leaves at once.
    pub patient: bool,
    held_since: Option<Instant>,
    /// Watches everything that passes.
    pub oracle: Oracle,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
}

pub fn path(client: usize) -> Path {
    Path { local: 0, remote: ([10, 0, 0, 1], 1000 + client as u16).into() }
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with_network(seed, CLEAN)
    }

    pub fn with_network(seed: u64, network: Network) -> World {
        let now = Instant::now();
        let certificate = Certificate::generate().unwrap();
        let config = ShardConfig { certificate, seed, unix_micros: 1_700_000_000_000_000, pad_runs: true };
        World {
            now,
            shard: Shard::new(config, now),
            clients: Vec::new(),
            network,
            events: Vec::new(),
            random: seed,
            patient: false,
            held_since: None,
            oracle: Oracle::default(),
            flying: BinaryHeap::new(),
            order: 0,
        }
    }

    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// A new peer of room 1, not connected yet. Returns its index, which is also its `PeerId`.
    pub fn add(&mut self) -> usize {
        self.add_to(RoomId(1))
    }

    /// The same in another room.
    pub fn add_to(&mut self, room: RoomId) -> usize {
        let index = self.clients.len();
        let client = Client::new(index, self.now);
        let peer = PeerId(index as u64);
        self.command(Command::AddPeer { peer, room, ufrag: client.ufrag.clone(), pwd: client.pwd.clone() });
        let fingerprint = *client.fingerprint.as_bytes();
        self.command(Command::SetRemote { peer, ufrag: "r".into(), pwd: "r".into(), fingerprint });
        self.clients.push(client);
        index
    }

    /// A new peer that has done its handshake.
    pub fn join(&mut self) -> usize {
        self.join_room(RoomId(1))
    }

    /// The same in another room.
    pub fn join_room(&mut self, room: RoomId) -> usize {
        let index = self.add_to(room);
        self.clients[index].start();
        let connected = |world: &World| world.events.contains(&Event::Connected(PeerId(index as u64)));
        self.run_until(Duration::from_secs(20), |world| connected(world) && world.clients[index].is_connected());
        index
    }

    pub fn command(&mut self, command: Command) {
        if self.patient {
            // What waits belongs to the state before the command.
            self.pass_on(true);
        }
        self.oracle.command(&command);
        self.shard.handle_command(self.now, command);
        self.collect();
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "not within {limit:?}; events: {:?}", self.events);
        }
    }

    /// Moves to the next moment at which something happens, at most `end`; `false` when that is reached.
    fn step(&mut self, end: Instant) -> bool {
        self.collect();
        let clients = self.clients.iter().filter_map(|c| c.poll_timeout()).min();
        let network = self.flying.peek().map(|f| f.0.at);
        let held = self.held_since.map(|since| since + PATIENCE);
        let next = [clients, network, self.shard.poll_timeout(), held].into_iter().flatten().min();
        let Some(next) = next.filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        while self.flying.peek().is_some_and(|f| f.0.at <= self.now) {
            let mut datagram = self.flying.pop().unwrap().0;
            if datagram.to_shard {
                self.hand_over(datagram.client, &mut datagram.bytes);
            } else {
                self.clients[datagram.client].handle(self.now, &mut datagram.bytes);
            }
        }
        for client in &mut self.clients {
            client.handle_timeout(self.now);
        }
        self.shard.handle_timeout(self.now);
        self.collect();
        oracle::assert_ahead(self.now, self.shard.poll_timeout());
        true
    }

    /// Gives the shard a datagram of a client.
    fn hand_over(&mut self, client: usize, bytes: &mut [u8]) {
        self.oracle.received(self.now, client, bytes, self.clients[client].echo());
        self.shard.handle_datagram(self.now, path(client), bytes);
    }

    /// Puts what everybody sent onto the network.
    pub fn collect(&mut self) {
        self.pass_on(false);
    }

    /// The same; `everything`: no frame waits for its end.
    fn pass_on(&mut self, everything: bool) {
        self.oracle.held = if self.patient { (RUN * LARGEST) as u64 } else { 0 };
        while let Some(event) = self.shard.poll_event() {
            self.events.push(event);
        }
        let sent = self.send(everything);
        let mut sent: Vec<_> = sent.into_iter().map(|(client, bytes)| (false, client, bytes)).collect();
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.poll(self.now);
            sent.extend(client.outbox.drain(..).map(|bytes| (true, index, bytes)));
        }
        for (to_shard, client, bytes) in sent {
            if self.random() % 1000 < self.network.loss {
                continue;
            }
            let jitter = self.network.jitter.as_micros() as u64;
            let jitter = if jitter == 0 { 0 } else { self.random() % jitter };
            let at = self.now + self.network.delay + Duration::from_micros(jitter);
            self.order += 1;
            self.flying.push(Reverse(Flying { at, order: self.order, to_shard, client, bytes }));
        }
    }

    /// What the shard sends now, and to whom.
    fn send(&mut self, everything: bool) -> Vec<(usize, Vec<u8>)> {
        let mut sent = Vec::new();
        self.take_built(&mut sent);
        let everything = everything || self.is_due();
        while if everything { self.shard.prepare(self.now) } else { self.shard.prepare_audio(self.now) } {
            self.take_built(&mut sent);
        }
        let rtp = sent.iter().filter(|(_, bytes)| classify(bytes) == Protocol::Rtp).count();
        self.oracle.drained(self.shard.counters(), rtp);
        for (client, bytes) in &sent {
            let keys = self.clients.get_mut(*client).and_then(Client::opener);
            self.oracle.sent(self.now, *client, bytes, keys);
        }
        self.oracle.settle();
        sent
    }

    fn take_built(&mut self, sent: &mut Vec<(usize, Vec<u8>)>) {
        let datagrams = self.shard.outgoing().datagrams();
        sent.extend(datagrams.map(|(to, bytes)| (usize::from(to.remote.port() - 1000), bytes.to_vec())));
        self.shard.sent();
    }

    /// Whether video should leave, too.
    fn is_due(&mut self) -> bool {
        let waiting = self.shard.waiting();
        let complete = waiting.frame || waiting.repairs || waiting.longest >= RUN;
        let since = *self.held_since.get_or_insert(self.now);
        let due = !self.patient || !waiting.video || complete || self.now >= since + PATIENCE;
        if due {
            self.held_since = None;
        }
        due
    }

    /// A datagram from `client`'s address, at once.
    pub fn inject(&mut self, client: usize, mut bytes: Vec<u8>) {
        self.hand_over(client, &mut bytes);
        self.collect();
    }

    pub fn publish(&mut self, client: usize, receivers: Vec<Receiver>) {
        self.command(Command::SetReceivers { peer: PeerId(client as u64), receivers });
    }

    pub fn subscribe(&mut self, client: usize, senders: Vec<Sender>) {
        self.command(Command::SetSenders { peer: PeerId(client as u64), senders });
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        self.collect();
        std::mem::take(&mut self.events).into_iter().filter(|e| !matches!(e, Event::Stats(..))).collect()
    }
}

pub fn codec(pt: u8, name: &str, rtx_pt: u8) -> Codec {
    let clock_rate = if matches!(name, "opus" | "red") { 48_000 } else { 90_000 };
    Codec { pt, name: name.into(), clock_rate, rtx_pt, fmtp: String::new() }
}

/// Extension ids of publishers.
pub fn publisher_extensions() -> Extensions {
    Extensions::new([(LEVEL, 1), (TRANSPORT_CC, 3), (MID, 4), (RID, 10), (REPAIRED_RID, 11)])
}

/// Extension ids of subscribers: others than those of publishers.
pub fn subscriber_extensions() -> Extensions {
    Extensions::new([(LEVEL, 6), (ABS_SEND_TIME, 2), (MID, 9)])
}

pub fn audio_receiver(track: u64, mid: &str, ssrcs: &[(u32, u32)]) -> Receiver {
    Receiver {
        track: TrackId(track),
        mid: mid.into(),
        kind: Kind::Audio,
        codecs: vec![codec(111, "opus", 0), codec(63, "red", 0)],
        extensions: publisher_extensions(),
        layers: vec![],
        ssrcs: ssrcs.to_vec(),
        nack: true,
        transport_cc: true,
    }
}

pub fn video_receiver(track: u64, mid: &str, ssrcs: &[(u32, u32)], layers: &[(&str, u8)]) -> Receiver {
    Receiver {
        kind: Kind::Video,
        codecs: vec![codec(96, "vp8", 97)],
        layers: layers.iter().map(|(rid, layer)| (rid.to_string(), *layer)).collect(),
        ..audio_receiver(track, mid, ssrcs)
    }
}

pub fn audio_sender(track: u64, mid: &str, ssrc: u32) -> Sender {
    Sender {
        mid: mid.into(),
        track: TrackId(track),
        kind: Kind::Audio,
        ssrc,
        rtx_ssrc: 0,
        codecs: vec![codec(109, "opus", 0)],
        extensions: subscriber_extensions(),
        paused: false,
        max_layer: 2,
        max_temporal: 3,
        cname: "PA_publisher".into(),
    }
}

pub fn video_sender(track: u64, mid: &str, ssrc: u32, rtx_ssrc: u32) -> Sender {
    Sender { kind: Kind::Video, rtx_ssrc, codecs: vec![codec(120, "vp8", 121)], ..audio_sender(track, mid, ssrc) }
}
