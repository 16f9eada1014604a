//! What forwarding a packet costs the core itself: a shard between load peers in one thread, on virtual time, without
//! sockets. Prints one JSON line. Run it under `valgrind --tool=callgrind --toggle-collect='*measured_*'` to count
//! instructions: only what the shard does in the measured part is collected, in three functions: `measured_ingest` takes
//! RTP, `measured_build` makes what is sent, `measured_rest` is everything else (timers, RTCP, checks).
//!
//! Usage: `forward_cost audio|video PUBLISHERS SUBSCRIBERS SECONDS`. What arrives within a millisecond is one batch.

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
use greenroom_wire::demux::{Kind as Protocol, classify};

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

/// Two of each, so that a profiler can tell the measured part from the rest by name. Equal functions would be merged.
macro_rules! twins {
    ($measured:ident, $preparing:ident, |$shard:ident $(, $name:ident: $kind:ty)*| -> $result:ty $body:block) => {
        #[inline(never)]
        fn $measured($shard: &mut Shard, $($name: $kind),*) -> $result {
            std::hint::black_box("measured");
            $body
        }

        #[inline(never)]
        fn $preparing($shard: &mut Shard, $($name: $kind),*) -> $result {
            $body
        }
    };
}

twins!(measured_ingest, preparing_ingest, |shard, now: Instant, path: Path, bytes: &mut [u8]| -> () {
    shard.handle_datagram(now, path, bytes);
});
twins!(measured_rest, preparing_rest, |shard, now: Instant, other: Option<(Path, &mut [u8])>| -> () {
    match other {
        Some((path, bytes)) => shard.handle_datagram(now, path, bytes),
        None => shard.handle_timeout(now),
    }
});
twins!(measured_build, preparing_build, |shard, now: Instant| -> bool { shard.prepare(now) });

/// Nanoseconds spent in each.
#[derive(Default)]
struct Spent {
    ingest: u128,
    build: u128,
    rest: u128,
}

/// Runs work with allocations counted, and its nanoseconds.
fn counted<R>(work: impl FnOnce() -> R) -> (R, u128) {
    COUNTING.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let result = work();
    let spent = started.elapsed().as_nanos();
    COUNTING.store(false, Ordering::Relaxed);
    (result, spent)
}

struct World {
    now: Instant,
    shard: Shard,
    peers: Vec<LoadPeer>,
    outs: Vec<Outbox>,
    batch: Batch,
    measuring: bool,
    spent: Spent,
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
    fn new(certificate: Certificate) -> Self {
        let now = Instant::now();
        let config = ShardConfig { certificate, seed: 1, unix_micros: 1_700_000_000_000_000, pad_runs: true };
        Self {
            now,
            shard: Shard::new(config, now),
            peers: vec![],
            outs: vec![],
            batch: vec![],
            measuring: false,
            spent: Spent::default(),
        }
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

    /// One turn of a shard's loop: timers, what arrived, what goes out. Whether there is something to send.
    fn turn(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        self.rest(None);
        for (path, bytes) in &mut batch {
            if classify(bytes) == Protocol::Rtp {
                self.ingest(*path, bytes);
            } else {
                self.rest(Some((*path, bytes)));
            }
        }
        self.batch = batch;
        self.build()
    }

    fn ingest(&mut self, path: Path, bytes: &mut [u8]) {
        if !self.measuring {
            return preparing_ingest(&mut self.shard, self.now, path, bytes);
        }
        let (_, spent) = counted(|| measured_ingest(&mut self.shard, self.now, path, bytes));
        self.spent.ingest += spent;
    }

    fn rest(&mut self, other: Option<(Path, &mut [u8])>) {
        if !self.measuring {
            return preparing_rest(&mut self.shard, self.now, other);
        }
        let (_, spent) = counted(|| measured_rest(&mut self.shard, self.now, other));
        self.spent.rest += spent;
    }

    fn build(&mut self) -> bool {
        if !self.measuring {
            return preparing_build(&mut self.shard, self.now);
        }
        let (more, spent) = counted(|| measured_build(&mut self.shard, self.now));
        self.spent.build += spent;
        more
    }
}

/// Payloads of an encoder with a variable bitrate, 126 bytes on average.
fn audio_payloads(seed: usize) -> Vec<Vec<u8>> {
    (0..41).map(|at| vec![7; 106 + (17 * at + 29 * seed) % 41]).collect()
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
    let server = Certificate::generate().expect("a certificate can be made");
    let mut world = World::new(server.clone());

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
            Media::Audio { payloads: audio_payloads(number), level: 30, stamp: false }
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
    let sent = |world: &World| {
        let counters = world.shard.counters();
        (counters.rtp_in, counters.rtp_out)
    };
    let (in_before, out_before) = sent(&world);
    world.measuring = true;
    world.run(Duration::from_secs(seconds as u64), |_| false);
    let (in_after, out_after) = sent(&world);
    let (ingested, forwarded) = (in_after - in_before, out_after - out_before);
    let Spent { ingest, build, rest } = world.spent;
    let per = |nanos: u128, packets: u64| nanos as f64 / packets.max(1) as f64;
    println!(
        "{{\"ingested\": {ingested}, \"forwarded\": {forwarded}, \"ns_per_forwarded\": {:.1}, \"ingest_ns\": {:.1}, \
         \"build_ns\": {:.1}, \"rest_ns\": {:.1}, \"allocations\": {}}}",
        per(ingest + build + rest, forwarded),
        per(ingest, ingested),
        per(build, forwarded),
        per(rest, forwarded),
        ALLOCATIONS.load(Ordering::Relaxed)
    );
    ExitCode::SUCCESS
}
