//! The state machine: datagrams, commands and time go in, datagrams, events and a deadline come out.
//!
//! What arrives is taken at once; what it makes us send waits until [`Shard::prepare`], so that all packets of a batch to
//! one destination are built next to each other: one cipher context, one run, one send.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_secure::dtls::Certificate;
use greenroom_wire::demux::{Kind as Protocol, classify};

use crate::arena::SendArena;
use crate::hash::Map;
use crate::layer::Layer;
use crate::peer::Peer;
use crate::room::Room;
use crate::send_stream::SendStream;
use crate::slab::Slab;
use crate::timers::{Owner, Timers};
use crate::track::Track;
use crate::{Counters, Event, Path, PeerId, RoomId, TrackId};

/// Built bytes after which [`Shard::prepare`] lets the caller send: about what stays in a second-level cache.
const PREPARE_BYTES: usize = 192 << 10;
/// Received packets or waiting packets after which the caller should send before it feeds more: caches must not wrap
/// over packets that still wait.
const BACKLOG_IN: usize = 128;
const BACKLOG_OUT: usize = 8192;

/// What a shard is made with.
pub struct ShardConfig {
    /// The certificate all its peers see.
    pub certificate: Certificate,
    /// Randomness for initial sequence numbers and SSRCs: one seed, one run.
    pub seed: u64,
    /// Unix time in microseconds at the `now` given to [`Shard::new`], for absolute send times and logs.
    pub unix_micros: u64,
    /// Whether runs of equal size are worth padding for: the sender has segmentation offload.
    pub pad_runs: bool,
}

/// See the module.
pub struct Shard {
    pub(crate) certificate: Certificate,
    pub(crate) random: u64,
    pub(crate) epoch: Instant,
    pub(crate) pad_runs: bool,
    pub(crate) peers: Slab<Peer>,
    pub(crate) peer_index: Map<PeerId, u32>,
    pub(crate) generation: u32,
    pub(crate) paths: Map<Path, u32>,
    /// Keyed by what strangers send: the standard, keyed hasher.
    pub(crate) ufrags: std::collections::HashMap<String, u32>,
    pub(crate) rooms: Map<RoomId, Room>,
    pub(crate) tracks: Slab<Track>,
    pub(crate) track_index: Map<TrackId, u32>,
    pub(crate) layers: Slab<Layer>,
    pub(crate) streams: Slab<SendStream>,
    pub(crate) timers: Timers,
    /// Peers with packets to build, each once.
    pub(crate) dirty: VecDeque<u32>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) arena: SendArena,
    pub(crate) counters: Counters,
    received: usize,
    pub(crate) waiting: usize,
    /// Something waits that must not be held back.
    pub(crate) urgent: bool,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        Shard {
            certificate: config.certificate,
            random: config.seed,
            // Absolute send time needs a phase only; real time makes captures readable.
            epoch: now.checked_sub(Duration::from_micros(config.unix_micros % 64_000_000)).unwrap_or(now),
            pad_runs: config.pad_runs,
            peers: Slab::default(),
            peer_index: Map::default(),
            generation: 0,
            paths: Map::default(),
            ufrags: std::collections::HashMap::new(),
            rooms: Map::default(),
            tracks: Slab::default(),
            track_index: Map::default(),
            layers: Slab::default(),
            streams: Slab::default(),
            timers: Timers::default(),
            dirty: VecDeque::new(),
            events: VecDeque::new(),
            arena: SendArena::with_capacity(PREPARE_BYTES * 2),
            counters: Counters::default(),
            received: 0,
            waiting: 0,
            urgent: false,
        }
    }

    /// Takes one datagram. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        self.counters.packets_in += 1;
        self.counters.bytes_in += data.len() as u64;
        let protocol = classify(data);
        if protocol == Protocol::Stun {
            return self.handle_stun(now, path, data);
        }
        let Some(&peer) = self.paths.get(&path) else {
            self.counters.dropped_address += 1;
            return;
        };
        match protocol {
            Protocol::Rtp => {
                self.received += 1;
                self.handle_rtp(now, peer, data);
            }
            Protocol::Rtcp => self.handle_rtcp(now, peer, data),
            Protocol::Dtls => self.handle_dtls(now, peer, path, data),
            _ => self.counters.dropped_unknown += 1,
        }
    }

    /// Lets everything act that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, owner)) = self.timers.pop_due(now) {
            match owner {
                Owner::Peer(index, generation) => {
                    let Some(peer) = self.peers.get_mut(index).filter(|p| p.generation == generation) else { continue };
                    if peer.armed != Some(at) {
                        continue;
                    }
                    peer.armed = None;
                    self.handle_peer_timeout(now, index);
                    self.arm(index);
                }
                Owner::Room(id) => self.handle_room_timeout(now, id),
            }
        }
    }

    /// When [`Shard::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the caller should send before it feeds more.
    pub fn is_backlogged(&self) -> bool {
        self.received >= BACKLOG_IN || self.waiting >= BACKLOG_OUT || self.arena.len() >= PREPARE_BYTES
    }

    /// Whether something waits, and all of it may wait a little longer: audio for its first time.
    pub fn is_patient(&self) -> bool {
        !self.urgent && self.arena.is_empty() && !self.dirty.is_empty()
    }

    /// Builds what waits to be sent, up to a bounded amount. While it returns `true`, send what is in
    /// [`Shard::outgoing`], call [`Shard::sent`], and call it again.
    pub fn prepare(&mut self, now: Instant) -> bool {
        while self.arena.len() < PREPARE_BYTES {
            let Some(index) = self.dirty.pop_front() else {
                self.received = 0;
                self.urgent = false;
                break;
            };
            self.build_burst(now, index);
        }
        !self.arena.is_empty()
    }

    /// What was prepared.
    pub fn outgoing(&self) -> &SendArena {
        &self.arena
    }

    /// The prepared datagrams were sent.
    pub fn sent(&mut self) {
        self.counters.packets_out += self.arena.sends().iter().map(|send| send.segments() as u64).sum::<u64>();
        self.counters.bytes_out += self.arena.len() as u64;
        self.arena.clear();
    }

    /// Totals since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How many addresses of peers are known.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// Puts the peer's next deadline into the heap, unless an earlier entry is there.
    pub(crate) fn arm(&mut self, index: u32) {
        let peer = &mut self.peers[index];
        if let Some(at) = peer.deadline()
            && peer.armed.is_none_or(|armed| at < armed)
        {
            peer.armed = Some(at);
            self.timers.push(at, Owner::Peer(index, peer.generation));
        }
    }

    /// Milliseconds of the shard's clock, wrapping.
    pub(crate) fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    /// The next number of the seeded generator (SplitMix64).
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
