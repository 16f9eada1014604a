//! The thread that gives peers sockets and time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenroom_secure::dtls::{Certificate, Fingerprint};

use crate::ice::Credentials;
use crate::outbox::Outbox;
use crate::peer::{LoadPeer, PeerStats, Reception, Remote};
use crate::receive::Delays;
use crate::socket::Socket;
use crate::source::SourceSpec;

/// The token of the wake-up descriptor.
const WAKE: u64 = u64::MAX;
/// Messages taken from one socket before the others have their turn.
const BURST: usize = 128;
/// The largest coalesced message.
const MESSAGE: usize = 65_536;
/// Wake up at least this often.
const IDLE: Duration = Duration::from_secs(1);
/// How often connected peers look for what arrived. They are not woken for it: on loopback the sender pays for waking
/// its receivers, which no server does on a real network. The kernel notes when packets arrive.
const SWEEP: Duration = Duration::from_millis(4);

type Command = Box<dyn FnOnce(&mut Core) + Send>;

/// What all peers of an engine together counted.
#[derive(Debug, Clone, Default)]
pub struct EngineStats {
    /// Every peer by its id.
    pub peers: Vec<(u64, PeerStats)>,
    /// How long stamped packets were under way, since [`Engine::mark`]: p50, p99 and p999 in microseconds.
    pub delay_us: Option<[f64; 3]>,
    /// The same for the last packets of video frames only: what is added until a frame can be decoded.
    pub frame_delay_us: Option<[f64; 3]>,
    /// Datagrams that the kernel did not take.
    pub send_failures: u64,
    /// The worst delay of a timer since [`Engine::mark`], in microseconds: how far the generator fell behind.
    pub worst_lag_us: u64,
}

/// Any number of peers in one thread of their own.
pub struct Engine {
    commands: Mutex<Sender<Command>>,
    wake: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
    next_id: AtomicU64,
    fingerprint: Fingerprint,
}

/// The engine is closed, or its thread has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Engine {
    /// Starts the thread. `coalesce`: use the kernel's receive offload.
    pub fn new(coalesce: bool) -> io::Result<Engine> {
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let fingerprint = certificate.fingerprint();
        // SAFETY: plain system calls; the descriptors are owned at once.
        let (wake, poller) = unsafe {
            (
                owned(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))?,
                owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?,
            )
        };
        watch(&poller, wake.as_raw_fd(), WAKE)?;
        let wake = Arc::new(wake);
        let (commands, inbox) = mpsc::channel();
        let mut core = Core {
            poller,
            wake: Arc::clone(&wake),
            inbox,
            coalesce,
            certificate,
            epoch: Instant::now(),
            epoch_unix_micros: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64),
            slots: HashMap::new(),
            swept: Vec::new(),
            next_sweep: Instant::now(),
            timers: BinaryHeap::new(),
            out: Outbox::default(),
            buf: vec![0; MESSAGE],
            send_failures: 0,
            worst_lag: Duration::ZERO,
            closing: false,
        };
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || core.run())?;
        Ok(Engine {
            commands: Mutex::new(commands),
            wake,
            thread: Mutex::new(Some(thread)),
            next_id: AtomicU64::new(1),
            fingerprint,
        })
    }

    /// The fingerprint of all peers, for SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A new peer: its id and what its SDP has to say.
    pub fn add_peer(&self) -> Result<(u64, Credentials), Closed> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.call(move |core| (id, core.add_peer(id)))
    }

    /// Starts connecting; a socket that cannot be made is an error. An unknown id is ignored.
    pub fn connect(&self, id: u64, remote: Remote) -> Result<io::Result<()>, Closed> {
        self.call(move |core| core.connect(id, remote))
    }

    /// How a peer is to understand what arrives. An unknown id is ignored.
    pub fn set_reception(&self, id: u64, reception: Reception) -> Result<(), Closed> {
        self.call(move |core| {
            if let Some(slot) = core.slots.get_mut(&id) {
                slot.peer.set_reception(reception);
            }
        })
    }

    /// Publishes a stream, see [`LoadPeer::publish`]. An unknown id is ignored.
    pub fn publish(&self, id: u64, spec: SourceSpec) -> Result<Result<(), &'static str>, Closed> {
        self.call(move |core| {
            let Some(slot) = core.slots.get_mut(&id) else { return Ok(()) };
            let result = slot.peer.publish(Instant::now(), spec);
            core.flush(id);
            result
        })
    }

    /// Stops publishing a stream.
    pub fn unpublish(&self, id: u64, ssrc: u32) -> Result<(), Closed> {
        self.call(move |core| {
            if let Some(slot) = core.slots.get_mut(&id) {
                slot.peer.unpublish(ssrc);
            }
        })
    }

    /// Closes and forgets a peer.
    pub fn remove(&self, id: u64) -> Result<(), Closed> {
        self.call(move |core| core.remove(id))
    }

    /// Starts measuring delays and lag anew.
    pub fn mark(&self) -> Result<(), Closed> {
        self.call(|core| {
            core.worst_lag = Duration::ZERO;
            core.slots.values_mut().for_each(|slot| slot.peer.delays().iter_mut().for_each(Delays::clear));
        })
    }

    /// Counts so far.
    pub fn stats(&self) -> Result<EngineStats, Closed> {
        self.call(|core| core.stats())
    }

    /// Closes all peers and ends the thread. Twice is fine.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(thread) = thread else { return };
        // A thread that has ended already has nothing left to close.
        let _ = self.call(|core| core.closing = true);
        let _ = thread.join();
    }

    fn call<R: Send + 'static>(&self, run: impl FnOnce(&mut Core) -> R + Send + 'static) -> Result<R, Closed> {
        let (reply, answer) = mpsc::channel();
        let command: Command = Box::new(move |core| {
            // Nobody waits any more: the caller's thread has died.
            let _ = reply.send(run(core));
        });
        let commands = self.commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        commands.send(command).map_err(|_| Closed)?;
        drop(commands);
        let one: u64 = 1;
        // SAFETY: eight bytes are read from `one`; a full counter is readable already.
        unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), 8) };
        answer.recv().map_err(|_| Closed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

struct Slot {
    peer: LoadPeer,
    socket: Option<Socket>,
    scheduled: Option<Instant>,
    /// In [`Core::swept`].
    swept: bool,
}

struct Core {
    poller: OwnedFd,
    wake: Arc<OwnedFd>,
    inbox: Receiver<Command>,
    coalesce: bool,
    certificate: Certificate,
    epoch: Instant,
    epoch_unix_micros: u64,
    slots: HashMap<u64, Slot>,
    /// Connected peers: out of epoll, looked at by the clock.
    swept: Vec<u64>,
    next_sweep: Instant,
    /// Valid entries equal their slot's `scheduled`; others are leftovers.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    out: Outbox,
    buf: Vec<u8>,
    send_failures: u64,
    worst_lag: Duration,
    closing: bool,
}

impl Core {
    fn run(&mut self) {
        let mut ready = Vec::new();
        while !self.closing {
            let now = Instant::now();
            let sweep = (!self.swept.is_empty()).then_some(self.next_sweep);
            let due = self.timers.peek().map(|Reverse((due, _))| *due).into_iter().chain(sweep).min();
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(now)).min(IDLE);
            wait_for(&self.poller, wait, &mut ready);
            for token in ready.drain(..) {
                if token == WAKE { self.run_commands() } else { self.receive(token) }
            }
            self.run_timers();
            self.sweep();
        }
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    fn run_commands(&mut self) {
        let mut count: u64 = 0;
        // SAFETY: eight bytes are written to `count`.
        unsafe { libc::read(self.wake.as_raw_fd(), (&raw mut count).cast(), 8) };
        while let Ok(command) = self.inbox.try_recv() {
            command(self);
        }
    }

    fn run_timers(&mut self) {
        while let Some(&Reverse((due, id))) = self.timers.peek() {
            let now = Instant::now();
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.scheduled != Some(due) {
                continue;
            }
            slot.scheduled = None;
            self.worst_lag = self.worst_lag.max(now - due);
            slot.peer.handle_timeout(now, &mut self.out);
            self.flush(id);
        }
    }

    /// Looks for what arrived at connected peers.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.max(self.next_sweep + SWEEP);
        for at in 0..self.swept.len() {
            self.receive(self.swept[at]);
        }
    }

    fn receive(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(socket) = &slot.socket else { return };
        for _ in 0..BURST {
            let Ok(Some(message)) = socket.receive(&mut self.buf) else { break };
            let now = Instant::now();
            let arrived = now.checked_sub(message.age).unwrap_or(now);
            for datagram in self.buf[..message.len].chunks_mut(message.segment) {
                slot.peer.handle_datagram(now, arrived, datagram, &mut self.out);
            }
        }
        if !slot.swept && slot.peer.is_connected() {
            slot.swept = true;
            unwatch(&self.poller, socket.raw());
            self.swept.push(id);
        }
        self.flush(id);
    }

    /// Sends what a peer produced and sets its timer.
    fn flush(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !self.out.is_empty() {
            if let Some(socket) = &slot.socket {
                self.send_failures += socket.send(&self.out);
            }
            self.out.clear();
        }
        let next = slot.peer.next_timeout();
        if next != slot.scheduled {
            slot.scheduled = next;
            if let Some(due) = next {
                self.timers.push(Reverse((due, id)));
            }
        }
    }

    fn add_peer(&mut self, id: u64) -> Credentials {
        let seed = id ^ self.epoch_unix_micros.rotate_left(32);
        let peer = LoadPeer::new(self.epoch, self.epoch_unix_micros, self.certificate.clone(), seed);
        let credentials = peer.credentials().clone();
        self.slots.insert(id, Slot { peer, socket: None, scheduled: None, swept: false });
        credentials
    }

    fn connect(&mut self, id: u64, remote: Remote) -> io::Result<()> {
        let address: SocketAddr = remote.address;
        let Some(slot) = self.slots.get_mut(&id) else { return Ok(()) };
        if slot.socket.is_some() {
            return Ok(());
        }
        let socket = Socket::connect(address, self.coalesce)?;
        watch(&self.poller, socket.raw(), id)?;
        slot.socket = Some(socket);
        slot.peer.connect(Instant::now(), remote);
        self.flush(id);
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.peer.close(Instant::now(), &mut self.out);
        self.flush(id);
        // Closing the socket takes it out of epoll; its timers find no slot any more.
        self.slots.remove(&id);
        self.swept.retain(|swept| *swept != id);
    }

    fn stats(&mut self) -> EngineStats {
        let mut delays = <[Delays; 2]>::default();
        for slot in self.slots.values_mut() {
            delays.iter_mut().zip(slot.peer.delays()).for_each(|(all, one)| all.merge(one));
        }
        let [delay_us, frame_delay_us] = delays.map(|delays| {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| delays.quantile(q));
            Some([p50?, p99?, p999?])
        });
        let mut peers: Vec<_> = self.slots.iter().map(|(id, slot)| (*id, slot.peer.stats())).collect();
        peers.sort_unstable_by_key(|(id, _)| *id);
        EngineStats {
            peers,
            delay_us,
            frame_delay_us,
            send_failures: self.send_failures,
            worst_lag_us: self.worst_lag.as_micros() as u64,
        }
    }
}

/// # Safety
/// `fd` must be a fresh descriptor that nobody else owns, or negative.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn watch(poller: &OwnedFd, fd: RawFd, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: `event` lives through the call.
    let result = unsafe { libc::epoll_ctl(poller.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn unwatch(poller: &OwnedFd, fd: RawFd) {
    // SAFETY: a deletion reads no event. It fails only for what is not watched.
    unsafe { libc::epoll_ctl(poller.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
}

/// Waits for input, to the nanosecond where the kernel can (Linux 5.11).
fn wait_for(poller: &OwnedFd, timeout: Duration, ready: &mut Vec<u64>) {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let (fd, room) = (poller.as_raw_fd(), events.len() as libc::c_int);
    let spec = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
    // SAFETY: the buffer has the length given, the timespec lives through the call, there is no signal mask.
    let mut count = unsafe {
        let (events, mask) = (events.as_mut_ptr(), std::ptr::null::<libc::sigset_t>());
        libc::syscall(libc::SYS_epoll_pwait2, fd, events, room, &raw const spec, mask, size_of::<u64>())
    };
    if count < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        let millis = timeout.as_nanos().div_ceil(1_000_000) as libc::c_int;
        // SAFETY: as above.
        count = unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), room, millis) } as _;
    }
    ready.extend(events.iter().take(count.max(0) as usize).map(|event| event.u64));
}
