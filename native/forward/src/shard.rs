//! The state machine: datagrams, commands and time go in, datagrams, events and a deadline come out.
//!
//! What arrives is taken at once; what it makes us send waits until [`Shard::prepare`], so that all packets of a batch to
//! one destination are built next to each other: one cipher context, one run, one send.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_congestion::SPEAKER_INTERVAL;
use greenroom_secure::dtls::Certificate;
use greenroom_wire::demux::{Kind as Protocol, classify};

use crate::arena::SendArena;
use crate::backlog::Waiting;
use crate::hash::Map;
use crate::link::Output;
use crate::media::Media;
use crate::peer::Peer;
use crate::runs::arrange;
use crate::slab::{Key, Slab};
use crate::timers::{Owner, Timers};
use crate::{Counters, Event, Kind, Limits, Path, PeerId};

/// Built bytes after which [`Shard::prepare`] lets the caller send: about what stays in a second-level cache.
const PREPARE_BYTES: usize = 192 << 10;
/// Received packets after which the caller should send before it feeds more: caches must not wrap over packets that
/// still wait.
const BACKLOG_IN: usize = 128;

/// Largest RTP or RTCP datagram taken: more does not travel as one packet on the way here, and would not on the way on.
const MAX_MEDIA: usize = 1500;
/// The same for DTLS, whose implementations guess the path's limit.
const MAX_DTLS: usize = 2048;

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
    pub(crate) limits: Limits,
    pub(crate) pad_runs: bool,
    pub(crate) peers: Slab<Peer>,
    pub(crate) peer_index: Map<PeerId, Key>,
    pub(crate) paths: Map<Path, Key>,
    /// Keyed by what strangers send: the standard, keyed hasher.
    pub(crate) ufrags: std::collections::HashMap<String, Key>,
    pub(crate) media: Media,
    pub(crate) timers: Timers,
    pub(crate) out: Output,
    /// Layers found to need a key frame while something else was looked at. Empty between calls; they keep their memory.
    pub(crate) requests: Vec<Key>,
    pub(crate) unrepaired: Vec<Key>,
    random: u64,
    epoch: Instant,
    received: usize,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        let out = Output {
            arena: SendArena::with_capacity(PREPARE_BYTES * 2),
            events: VecDeque::new(),
            counters: Counters::default(),
        };
        Shard {
            certificate: config.certificate,
            limits: Limits::default(),
            pad_runs: config.pad_runs,
            peers: Slab::default(),
            peer_index: Map::default(),
            paths: Map::default(),
            ufrags: std::collections::HashMap::new(),
            media: Media::default(),
            timers: Timers::default(),
            out,
            requests: Vec::new(),
            unrepaired: Vec::new(),
            random: config.seed,
            // Absolute send time needs a phase only; real time makes captures readable.
            epoch: now.checked_sub(Duration::from_micros(config.unix_micros % 64_000_000)).unwrap_or(now),
            received: 0,
        }
    }

    /// Other limits than the default ones, for peers added from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one datagram. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        self.out.counters.packets_in += 1;
        self.out.counters.bytes_in += data.len() as u64;
        let protocol = classify(data);
        if protocol == Protocol::Stun {
            return self.handle_stun(now, path, data);
        }
        let Some(&peer) = self.paths.get(&path) else {
            self.out.counters.dropped_address += 1;
            return;
        };
        let largest = if protocol == Protocol::Dtls { MAX_DTLS } else { MAX_MEDIA };
        if data.len() > largest {
            self.out.counters.dropped_oversize += 1;
            return;
        }
        match protocol {
            Protocol::Rtp => {
                self.received += 1;
                self.handle_rtp(now, peer, path, data);
            }
            Protocol::Rtcp => self.handle_rtcp(now, peer, path, data),
            Protocol::Dtls => self.handle_dtls(now, peer, path, data),
            _ => self.out.counters.dropped_unknown += 1,
        }
    }

    /// Lets everything act that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, owner)) = self.timers.pop_due(now) {
            match owner {
                Owner::Peer(key) => {
                    let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.schedule.armed == Some(at)) else {
                        continue;
                    };
                    peer.schedule.armed = None;
                    self.handle_peer_timeout(now, key);
                    self.arm(key);
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
        self.out.events.pop_front()
    }

    /// Whether the caller should send before it feeds more.
    pub fn is_backlogged(&self) -> bool {
        self.received >= BACKLOG_IN || self.media.backlog.is_full() || self.out.arena.len() >= PREPARE_BYTES
    }

    /// What waits for [`Shard::prepare`].
    pub fn waiting(&self) -> Waiting {
        let mut waiting = self.media.backlog.holds();
        waiting.repairs |= !self.out.arena.is_empty();
        waiting
    }

    /// Builds what waits to be sent, up to a bounded amount. While it returns `true`, send what is in
    /// [`Shard::outgoing`], call [`Shard::sent`], and call it again.
    pub fn prepare(&mut self, now: Instant) -> bool {
        self.build_waiting(now, Kind::Audio);
        if self.build_waiting(now, Kind::Video) {
            self.received = 0;
            self.media.forget_left();
        }
        !self.out.arena.is_empty()
    }

    /// The same for what waits of audio alone.
    pub fn prepare_audio(&mut self, now: Instant) -> bool {
        self.build_waiting(now, Kind::Audio);
        !self.out.arena.is_empty()
    }

    /// `true`: nothing of the kind waits any more.
    fn build_waiting(&mut self, now: Instant, kind: Kind) -> bool {
        while self.out.arena.len() < PREPARE_BYTES {
            let Some((peer, mut burst)) = self.media.backlog.pop(kind) else { return true };
            if self.pad_runs {
                arrange(&mut burst);
            }
            self.build_burst(now, peer, &burst);
            burst.clear();
            self.media.backlog.reuse(peer, kind, burst);
        }
        false
    }

    /// What was prepared.
    pub fn outgoing(&self) -> &SendArena {
        &self.out.arena
    }

    /// The prepared datagrams were sent.
    pub fn sent(&mut self) {
        let Output { arena, counters, .. } = &mut self.out;
        counters.packets_out += arena.sends().iter().map(|send| send.segments() as u64).sum::<u64>();
        counters.bytes_out += arena.len() as u64;
        arena.clear();
    }

    /// Totals since start.
    pub fn counters(&self) -> &Counters {
        &self.out.counters
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How many addresses of peers are known.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// Mends what a panic may have left half done: timers that were taken out and not put back. For whoever catches
    /// panics; call it after each.
    pub fn recover(&mut self, now: Instant) {
        self.requests.clear();
        self.unrepaired.clear();
        self.timers.clear();
        for key in self.peers.keys() {
            self.peers[key].schedule.armed = None;
            self.arm(key);
        }
        for (id, room) in &mut self.media.rooms {
            room.armed = !room.audio.is_empty();
            if room.armed {
                self.timers.push(now + SPEAKER_INTERVAL, Owner::Room(*id));
            }
        }
    }

    /// Puts the peer's next deadline into the heap, unless an earlier entry is there.
    pub(crate) fn arm(&mut self, key: Key) {
        if let Some(at) = self.peers[key].deadline() {
            self.arm_at(key, at);
        }
    }

    /// The same for a deadline that is known to be the peer's.
    pub(crate) fn arm_at(&mut self, key: Key, at: Instant) {
        let armed = &mut self.peers[key].schedule.armed;
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.timers.push(at, Owner::Peer(key));
        }
    }

    /// Milliseconds of the shard's clock, wrapping.
    pub(crate) fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    /// Microseconds of the shard's clock.
    pub(crate) fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
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
