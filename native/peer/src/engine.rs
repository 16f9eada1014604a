//! One I/O thread for any number of peers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert};

use crate::audio::input::AudioInput;
use crate::error::PeerError;
use crate::event::{self, EventQueue, Id};
use crate::lock;
use crate::peer::Peer;
use crate::pool::CodecPool;
use crate::shared::{NEVER, PeerShared};
use crate::sockets;
use crate::video::input::VideoInput;

/// Epoll's name for the wake-up descriptor; peers' names are smaller.
const WAKE: u64 = u64::MAX;
/// Sockets of a peer in epoll's name of it.
const SOCKET_BITS: u32 = 8;

pub(crate) struct EngineShared {
    pub events: Arc<EventQueue>,
    pub pool: CodecPool,
    pub certificate: DtlsCert,
    epoch: Instant,
    ids: AtomicU64,
    peers: Mutex<HashMap<Id, Arc<PeerShared>>>,
    /// Changes whenever `peers` does, so that the thread need not look.
    generation: AtomicU64,
    epoll: OwnedFd,
    wake: OwnedFd,
    /// Until when the thread sleeps; it must be woken for anything earlier.
    sleeps_until: AtomicU64,
    stopping: AtomicBool,
}

impl EngineShared {
    pub fn next_id(&self) -> Id {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Engine time, rounded up so that a deadline has come when its microsecond has.
    pub fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos().div_ceil(1000).min(u128::from(NEVER - 1)) as u64
    }

    pub fn note_deadline(&self, deadline: u64) {
        if deadline < self.sleeps_until.load(Ordering::SeqCst) {
            event::signal(&self.wake);
        }
    }

    pub fn forget(&self, peer: Id) {
        lock(&self.peers).remove(&peer);
        self.generation.fetch_add(1, Ordering::SeqCst);
        event::signal(&self.wake);
    }

    fn watch(&self, fd: RawFd, name: u64) -> std::io::Result<()> {
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: name };
        // SAFETY: both descriptors live; the event is read during the call only.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut interest) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn unwatch(&self, fd: RawFd) {
        // SAFETY: the descriptor lives. One that is not watched any more is no error worth telling.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
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
        // SAFETY: plain system call; the descriptor is checked and owned from here on.
        let epoll = match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            fd if fd < 0 => return Err(std::io::Error::last_os_error()),
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let shared = Arc::new(EngineShared {
            events: Arc::new(EventQueue::new()?),
            pool: CodecPool::new(codec_threads)?,
            certificate,
            epoch: Instant::now(),
            ids: AtomicU64::new(1),
            peers: Mutex::default(),
            generation: AtomicU64::new(0),
            epoll,
            wake: event::eventfd()?,
            sleeps_until: AtomicU64::new(NEVER),
            stopping: AtomicBool::new(false),
        });
        shared.watch(shared.wake.as_raw_fd(), WAKE)?;
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("gr-peer-io".into()).spawn(move || run(&shared))?
        };
        Ok(Self { shared, thread: Mutex::new(Some(thread)), addresses })
    }

    pub fn events(&self) -> &Arc<EventQueue> {
        &self.shared.events
    }

    pub fn add_peer(&self) -> Result<Peer, PeerError> {
        if self.shared.stopping.load(Ordering::SeqCst) {
            return Err(PeerError::state("the engine is closed"));
        }
        let failed = |error: std::io::Error| PeerError::state(format!("no UDP socket: {error}"));
        let sockets = sockets::bind_all(&self.addresses).map_err(failed)?;
        let id = self.shared.next_id();
        let peer = Arc::new(PeerShared::new(id, self.shared.clone(), sockets));
        lock(&self.shared.peers).insert(id, peer.clone());
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for (index, socket) in peer.sockets.iter().enumerate() {
            self.shared.watch(socket.socket.as_raw_fd(), id << SOCKET_BITS | index as u64).map_err(failed)?;
        }
        event::signal(&self.shared.wake);
        Ok(Peer::new(peer))
    }

    pub fn audio_input(&self, sample_rate: u32, channels: usize, queue_ms: u32) -> Result<Arc<AudioInput>, PeerError> {
        let shared = &self.shared;
        AudioInput::new(shared.next_id(), &shared.pool, shared.events.clone(), sample_rate, channels, queue_ms)
    }

    pub fn video_input(&self, screencast: bool) -> Arc<VideoInput> {
        VideoInput::new(self.shared.next_id(), &self.shared.pool, screencast)
    }

    /// Close all peers and end all threads. Twice is fine.
    pub fn close(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            let peers: Vec<_> = lock(&self.shared.peers).values().cloned().collect();
            peers.iter().for_each(|peer| peer.close());
            event::signal(&self.shared.wake);
        }
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
        self.shared.pool.stop();
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
    let mut peers: HashMap<Id, Arc<PeerShared>> = HashMap::new();
    let mut generation = u64::MAX;
    let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let mut buf = vec![0u8; 2048];
    while !shared.stopping.load(Ordering::SeqCst) {
        // From here on whoever sets an earlier deadline wakes this thread, even before it sleeps.
        shared.sleeps_until.store(NEVER, Ordering::SeqCst);
        let current = shared.generation.load(Ordering::SeqCst);
        if current != generation {
            peers.clone_from(&lock(&shared.peers));
            generation = current;
        }
        let next = peers.values().map(|peer| peer.deadline.load(Ordering::SeqCst)).min().unwrap_or(NEVER);
        shared.sleeps_until.store(next, Ordering::SeqCst);
        let count = wait(shared, next, &mut ready);
        shared.sleeps_until.store(0, Ordering::SeqCst);
        for event in &ready[..count] {
            let name = event.u64;
            if name == WAKE {
                event::clear(&shared.wake);
            } else if let Some(peer) = peers.get(&(name >> SOCKET_BITS)) {
                peer.receive((name & ((1 << SOCKET_BITS) - 1)) as usize, &mut buf);
            }
        }
        let now = shared.epoch.elapsed().as_micros() as u64;
        for peer in peers.values().filter(|peer| peer.deadline.load(Ordering::SeqCst) <= now) {
            // Driving is all there is to do; what fails has reported itself.
            let _ = peer.with(|_, _| Ok(()));
        }
    }
}

fn wait(shared: &EngineShared, deadline: u64, ready: &mut [libc::epoll_event]) -> usize {
    let timeout = if deadline == NEVER {
        -1
    } else {
        let left = Duration::from_micros(deadline).saturating_sub(shared.epoch.elapsed());
        left.as_micros().div_ceil(1000).min(60_000) as libc::c_int
    };
    // SAFETY: the array is writable for the count given.
    let count =
        unsafe { libc::epoll_wait(shared.epoll.as_raw_fd(), ready.as_mut_ptr(), ready.len() as libc::c_int, timeout) };
    count.max(0) as usize
}
