//! One I/O thread for any number of peers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use str0m::config::CryptoProvider;

use crate::audio::input::AudioInput;
use crate::error::PeerError;
use crate::event::{EventQueue, Id};
use crate::lock;
use crate::peer::Peer;
use crate::pool::CodecPool;
use crate::reactor::{NEVER, WAKE};
use crate::shared::{Host, PeerShared};
use crate::sockets;
use crate::video::input::VideoInput;

/// Sockets of a peer in epoll's name of it.
const SOCKET_BITS: u32 = 8;

/// What the engine and its thread share.
struct EngineShared {
    host: Arc<Host>,
    peers: Mutex<HashMap<Id, Arc<PeerShared>>>,
    /// Changes whenever `peers` does, so that the thread need not look.
    generation: AtomicU64,
    stopping: AtomicBool,
}

impl EngineShared {
    /// Lets go of peers that are closed.
    fn drop_closed(&self) {
        let closed = self.host.reactor.take_closed();
        if !closed.is_empty() {
            let mut peers = lock(&self.peers);
            closed.iter().for_each(|id| drop(peers.remove(id)));
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The participant's native core: make it after a fork, never before. Dropping it closes everything.
pub struct Engine {
    shared: Arc<EngineShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    addresses: Vec<IpAddr>,
}

impl Engine {
    pub fn new(codec_threads: usize) -> std::io::Result<Self> {
        Self::with_addresses(codec_threads, sockets::local_addresses())
    }

    /// Only these local addresses become candidates.
    pub fn with_addresses(codec_threads: usize, addresses: Vec<IpAddr>) -> std::io::Result<Self> {
        let certificate = crypto()
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| std::io::Error::other("no DTLS certificate could be made"))?;
        let shared = Arc::new(EngineShared {
            host: Arc::new(Host::new(CodecPool::new(codec_threads)?, certificate)?),
            peers: Mutex::default(),
            generation: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("gr-peer-io".into()).spawn(move || run(&shared))?
        };
        Ok(Self { shared, thread: Mutex::new(Some(thread)), addresses })
    }

    pub fn events(&self) -> &Arc<EventQueue> {
        &self.shared.host.events
    }

    pub fn add_peer(&self) -> Result<Peer, PeerError> {
        if self.shared.stopping.load(Ordering::SeqCst) {
            return Err(PeerError::state("the engine is closed"));
        }
        let failed = |error: std::io::Error| PeerError::state(format!("no UDP socket: {error}"));
        let sockets = sockets::bind_all(&self.addresses).map_err(failed)?;
        let host = &self.shared.host;
        let id = host.next_id();
        let peer = Arc::new(PeerShared::new(id, host.clone(), sockets));
        lock(&self.shared.peers).insert(id, peer.clone());
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for (index, socket) in peer.sockets.iter().enumerate() {
            host.reactor.watch(socket.socket.as_raw_fd(), id << SOCKET_BITS | index as u64).map_err(failed)?;
        }
        host.reactor.wake();
        Ok(Peer::new(peer))
    }

    pub fn audio_input(&self, sample_rate: u32, channels: usize, queue_ms: u32) -> Result<Arc<AudioInput>, PeerError> {
        let host = &self.shared.host;
        AudioInput::new(host.next_id(), &host.pool, host.events.clone(), sample_rate, channels, queue_ms)
    }

    pub fn video_input(&self, screencast: bool) -> Arc<VideoInput> {
        let host = &self.shared.host;
        VideoInput::new(host.next_id(), &host.pool, screencast)
    }

    /// Close all peers and end all threads. Twice is fine.
    pub fn close(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            let peers: Vec<_> = lock(&self.shared.peers).values().cloned().collect();
            peers.iter().for_each(|peer| peer.close());
            self.shared.host.reactor.wake();
        }
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
        self.shared.drop_closed();
        self.shared.host.pool.stop();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn crypto() -> &'static CryptoProvider {
    static PROVIDER: OnceLock<CryptoProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let provider = str0m::crypto::from_feature_flags();
        provider.clone().install_process_default();
        provider
    })
}

fn run(shared: &EngineShared) {
    let reactor = &shared.host.reactor;
    let mut peers: HashMap<Id, Arc<PeerShared>> = HashMap::new();
    let mut generation = u64::MAX;
    let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let mut buf = vec![0u8; 2048];
    while !shared.stopping.load(Ordering::SeqCst) {
        // From here on whoever sets an earlier deadline wakes this thread, even before it sleeps.
        reactor.set_sleep(NEVER);
        shared.drop_closed();
        let current = shared.generation.load(Ordering::SeqCst);
        if current != generation {
            peers.clone_from(&lock(&shared.peers));
            generation = current;
        }
        let next = peers.values().map(|peer| peer.deadline.load(Ordering::SeqCst)).min().unwrap_or(NEVER);
        reactor.set_sleep(next);
        let count = reactor.wait(next, &mut ready);
        reactor.set_sleep(0);
        for event in &ready[..count] {
            let name = event.u64;
            if name == WAKE {
                reactor.clear_wake();
            } else if let Some(peer) = peers.get(&(name >> SOCKET_BITS)) {
                peer.receive((name & ((1 << SOCKET_BITS) - 1)) as usize, &mut buf);
            }
        }
        let now = reactor.now();
        for peer in peers.values().filter(|peer| peer.deadline.load(Ordering::SeqCst) <= now) {
            // Driving is all there is to do; what fails has reported itself.
            let _ = peer.with(|_, _| Ok(()));
        }
    }
}
