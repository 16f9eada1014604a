//! What forwarding a packet costs the core itself: a shard between load peers in one thread, on virtual time, without
//! sockets. Prints one JSON line. Run it under `valgrind --tool=callgrind --toggle-collect='*measured_*'` to count
//! instructions: only what the shard does in the measured part is collected.
//!
//! Usage: `forward_cost audio|video PUBLISHERS SUBSCRIBERS SECONDS`

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use greenroom_forward::{
    Codec, Command, Event, Extensions, Kind, Path, PeerId, Receiver, RoomId, Sender, Shard, ShardConfig, TrackId,
};
use greenroom_load::outbox::Outbox;
use greenroom_load::{CameraSpec, LoadPeer, Media, Pace, Reception, Remote, SourceSpec};
use greenroom_secure::dtls::Certificate;

const TICK: Duration = Duration::from_millis(1);
const WARM_UP: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";

/// Counts allocations while the shard works in the measured part.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Batch = Vec<(Path, Vec<u8>)>;

/// Two functions that do the same, so that a profiler can tell the measured part from the rest by name.
#[inline(never)]
fn measured_step(shard: &mut Shard, now: Instant, batch: &mut Batch) -> bool {
    // Equal functions would be merged into one.
    std::hint::black_box("measured");
    step(shard, now, batch)
}

#[inline(never)]
fn preparing_step(shard: &mut Shard, now: Instant, batch: &mut Batch) -> bool {
    step(shard, now, batch)
}

/// One turn of a shard's loop: timers, what arrived, what goes out. Whether there is something to send.
#[inline(always)]
fn step(shard: &mut Shard, now: Instant, batch: &mut Batch) -> bool {
    shard.handle_timeout(now);
    for (path, bytes) in batch.iter_mut() {
        shard.handle_datagram(now, *path, bytes);
    }
    shard.prepare(now)
}

struct World {
    now: Instant,
    shard: Shard,
    peers: Vec<LoadPeer>,
    outs: Vec<Outbox>,
    batch: Batch,
    measuring: bool,
    spent: Duration,
}

fn path(peer: usize) -> Path {
    Path { local: 0, remote: SocketAddr::from(([10, 0, (peer >> 8) as u8, peer as u8], 5000)) }
}

fn peer_at(path: &Path) -> usize {
    match path.remote {
        SocketAddr::V4(address) => {
            usize::from(u16::from_be_bytes([address.ip().octets()[2], address.ip().octets()[3]]))
        }
        SocketAddr::V6(_) => 0,
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("a certificate can be made");
        let config = ShardConfig { certificate, seed: 1, unix_micros: 1_700_000_000_000_000, pad_runs: true };
        let shard = Shard::new(config, now);
        Self { now, shard, peers: vec![], outs: vec![], batch: vec![], measuring: false, spent: Duration::ZERO }
    }

    fn add(&mut self, certificate: &Certificate, server: &Certificate) -> PeerId {
        let index = self.peers.len();
        let id = PeerId(index as u64 + 1);
        let mut peer = LoadPeer::new(self.now, 1_700_000_000_000_000, certificate.clone(), index as u64 + 7);
        let (ufrag, pwd) = (format!("ufrag{index}"), format!("password-of-peer-number-{index}"));
        self.shard.handle_command(
            self.now,
            Command::AddPeer { peer: id, room: RoomId(1), ufrag: ufrag.clone(), pwd: pwd.clone() },
        );
        let own = peer.credentials().clone();
        self.shard.handle_command(
            self.now,
            Command::SetRemote {
                peer: id,
                ufrag: own.ufrag,
                pwd: own.pwd,
                fingerprint: *peer.fingerprint().as_bytes(),
            },
        );
        let credentials = greenroom_load::ice::Credentials { ufrag, pwd };
        let (address, fingerprint) = (SocketAddr::from(([10, 1, 0, 1], 7882)), server.fingerprint());
        peer.connect(self.now, Remote { address, credentials, fingerprint, controlling: true, dtls_client: true });
        self.peers.push(peer);
        self.outs.push(Outbox::default());
        id
    }

    fn run(&mut self, time: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + time;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.now += TICK;
            self.tick();
        }
        false
    }

    fn tick(&mut self) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if peer.next_timeout().is_some_and(|due| due <= self.now) {
                peer.handle_timeout(self.now, &mut self.outs[index]);
            }
        }
        // Handshakes take a few rounds; media takes one.
        for _ in 0..4 {
            self.batch.clear();
            for (index, out) in self.outs.iter_mut().enumerate() {
                self.batch.extend(out.datagrams().map(|datagram| (path(index), datagram.to_vec())));
                out.clear();
            }
            while self.turn() {
                for (to, bytes) in self.shard.outgoing().datagrams() {
                    let index = peer_at(&to);
                    let mut bytes = bytes.to_vec();
                    self.peers[index].handle_datagram(self.now, self.now, &mut bytes, &mut self.outs[index]);
                }
                self.shard.sent();
                self.batch.clear();
            }
            while let Some(event) = self.shard.poll_event() {
                assert!(!matches!(event, Event::Failed(..)), "{event:?}");
            }
            if self.outs.iter().all(Outbox::is_empty) {
                return;
            }
        }
    }

    fn turn(&mut self) -> bool {
        if !self.measuring {
            return preparing_step(&mut self.shard, self.now, &mut self.batch);
        }
        COUNTING.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let more = measured_step(&mut self.shard, self.now, &mut self.batch);
        self.spent += started.elapsed();
        COUNTING.store(false, Ordering::Relaxed);
        more
    }

    fn received(&self) -> u64 {
        self.peers.iter().flat_map(|peer| peer.stats().received).map(|(_, stats)| stats.packets).sum()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (Some(kind @ ("audio" | "video")), &[publishers, subscribers, seconds]) =
        (arguments.first().map(String::as_str), numbers.as_slice())
    else {
        eprintln!("usage: forward_cost audio|video PUBLISHERS SUBSCRIBERS SECONDS");
        return ExitCode::from(2);
    };
    let video = kind == "video";
    let kind = if video { Kind::Video } else { Kind::Audio };
    let (pt, clock_rate) = if video { (96, 90_000) } else { (111, 48_000) };
    let codec = Codec {
        pt,
        name: if video { "vp8" } else { "opus" }.into(),
        clock_rate,
        rtx_pt: if video { 97 } else { 0 },
        fmtp: String::new(),
    };

    let certificate = Certificate::generate().expect("a certificate can be made");
    let mut world = World::new();
    let server = Certificate::generate().expect("a certificate can be made");
    let config =
        ShardConfig { certificate: server.clone(), seed: 1, unix_micros: 1_700_000_000_000_000, pad_runs: true };
    world.shard = Shard::new(config, world.now);

    for number in 0..publishers {
        let peer = world.add(&certificate, &server);
        let ssrc = 0x1000 + number as u32;
        let receiver = Receiver {
            track: TrackId(number as u64 + 1),
            mid: "1".into(),
            kind,
            codecs: vec![codec.clone()],
            extensions: Extensions::new([
                (MID, 4),
                (if video { TRANSPORT_CC } else { LEVEL }, if video { 3 } else { 1 }),
            ]),
            layers: vec![],
            ssrcs: vec![(ssrc, 0)],
            nack: true,
            transport_cc: video,
        };
        world.shard.handle_command(world.now, Command::SetReceivers { peer, receivers: vec![receiver] });
        let media = if video {
            Media::Video(CameraSpec { bitrate: 2_000_000, frame_rate: 30, packet_len: 1100, pace: Pace::Runs })
        } else {
            Media::Audio { payloads: vec![vec![7; 126]], level: 30, stamp: false }
        };
        let mid = Some((4, "1".to_owned()));
        let (level_id, twcc_id) = if video { (None, Some(3)) } else { (Some(1), None) };
        let spec = SourceSpec { media, ssrc, payload_type: pt, mid, level_id, twcc_id };
        if let Err(why) = world.peers[number].publish(world.now, spec) {
            eprintln!("forward_cost: {why}");
            return ExitCode::FAILURE;
        }
    }
    for number in 0..subscribers {
        let peer = world.add(&certificate, &server);
        let senders = (0..publishers).map(|track| Sender {
            mid: track.to_string(),
            track: TrackId(track as u64 + 1),
            kind,
            ssrc: 0x10_0000 + (number * publishers + track) as u32,
            rtx_ssrc: if video { 0x20_0000 + (number * publishers + track) as u32 } else { 0 },
            codecs: vec![codec.clone()],
            extensions: Extensions::new(if video { vec![(ABS_SEND_TIME, 3)] } else { vec![] }),
            paused: false,
            max_layer: 2,
            max_temporal: 3,
            cname: "load".into(),
        });
        world.shard.handle_command(world.now, Command::SetSenders { peer, senders: senders.collect() });
        let codecs = vec![(pt, greenroom_load::Codec { clock: clock_rate, apt: None, nack: true })];
        let reception = Reception { codecs, remb_bps: video.then_some(100_000_000), ..Reception::default() };
        world.peers[publishers + number].set_reception(reception);
    }

    let flowing =
        |world: &World| world.peers[publishers..].iter().all(|peer| peer.stats().received.len() == publishers);
    if !world.run(CONNECT_LIMIT, flowing) {
        eprintln!("forward_cost: not every subscriber received every stream");
        return ExitCode::FAILURE;
    }
    world.run(WARM_UP, |_| false);
    let before = world.received();
    world.measuring = true;
    world.run(Duration::from_secs(seconds as u64), |_| false);
    let packets = world.received() - before;
    println!(
        "{{\"packets\": {packets}, \"ns_per_packet\": {:.1}, \"allocations\": {}}}",
        world.spent.as_nanos() as f64 / packets.max(1) as f64,
        ALLOCATIONS.load(Ordering::Relaxed)
    );
    ExitCode::SUCCESS
}
