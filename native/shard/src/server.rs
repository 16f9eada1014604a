//! The outside of the core: starts the shards, hands them commands, collects what they report.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use greenroom_forward::{Command, Event, PeerId, PeerStats, RoomId, Shard, ShardConfig};
use greenroom_secure::dtls::Certificate;

use crate::events::{Events, lock};
use crate::pace::Pace;
use crate::poller::EventFd;
use crate::receive::ReceiveBatch;
use crate::send::SendBatch;
use crate::socket::{Locals, UdpSocket};
use crate::worker::{Figures, Order, Worker};

/// Attempts to find one free port on several addresses.
const PORT_ATTEMPTS: usize = 16;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Addresses to bind.
    pub addresses: Vec<IpAddr>,
    /// UDP port of the first shard, the next one's is one higher; 0: free ones.
    pub port: u16,
    /// Threads.
    pub shards: usize,
}

struct Handle {
    port: u16,
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    figures: Arc<Mutex<Figures>>,
    thread: Option<JoinHandle<()>>,
}

/// The shards of one process.
pub struct Server {
    handles: Mutex<Vec<Handle>>,
    /// Shard of each peer.
    routes: Mutex<HashMap<PeerId, usize>>,
    events: Arc<Events>,
    fingerprint: String,
    shards: usize,
}

impl Server {
    /// Binds the sockets and starts the threads. Errors: no address, an address in use or not of this machine.
    pub fn start(config: &ServerConfig) -> io::Result<Server> {
        if config.addresses.is_empty() || config.shards == 0 || config.shards > 256 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "needs an address and 1 to 256 shards"));
        }
        let certificate = Certificate::generate().map_err(|error| io::Error::other(error.to_string()))?;
        let events = Arc::new(Events::new()?);
        let mut handles = Vec::new();
        for index in 0..config.shards {
            let port = if config.port == 0 { 0 } else { config.port.checked_add(index as u16).unwrap_or(0) };
            let sockets = bind_all(&config.addresses, port)?;
            handles.push(start_shard(index, sockets, certificate.clone(), events.clone())?);
        }
        Ok(Server {
            handles: Mutex::new(handles),
            routes: Mutex::default(),
            events,
            fingerprint: format!("sha-256 {}", certificate.fingerprint()),
            shards: config.shards,
        })
    }

    /// As in SDP: `sha-256 AB:CD:...`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Readable while events wait.
    pub fn event_fd(&self) -> RawFd {
        self.events.fd()
    }

    /// Takes all waiting events.
    pub fn poll_events(&self) -> VecDeque<Event> {
        self.events.take()
    }

    /// The UDP port on which a room is served.
    pub fn port(&self, room: RoomId) -> u16 {
        let shard = self.shard_of(room);
        lock(&self.handles).get(shard).map_or(0, |handle| handle.port)
    }

    /// Queues a command to the shard it concerns. After `close` it goes nowhere.
    pub fn send(&self, command: Command) {
        let mut routes = lock(&self.routes);
        match &command {
            Command::AddPeer { peer, room, .. } => {
                let shard = *routes.entry(*peer).or_insert_with(|| self.shard_of(*room));
                drop(routes);
                self.order(shard, command);
            }
            Command::RemovePeer { peer } => {
                let shard = routes.remove(peer);
                drop(routes);
                if let Some(shard) = shard {
                    self.order(shard, command);
                }
            }
            Command::SetRemote { peer, .. }
            | Command::StartDtls { peer }
            | Command::RestartIce { peer, .. }
            | Command::SetReceivers { peer, .. }
            | Command::SetSenders { peer, .. }
            | Command::SetData { peer, .. } => {
                let shard = routes.get(peer).copied();
                drop(routes);
                if let Some(shard) = shard {
                    self.order(shard, command);
                }
            }
            Command::SendData { peers, label, payload } => {
                let mut split: HashMap<usize, Vec<PeerId>> = HashMap::new();
                for peer in peers {
                    if let Some(shard) = routes.get(peer) {
                        split.entry(*shard).or_default().push(*peer);
                    }
                }
                drop(routes);
                for (shard, peers) in split {
                    self.order(shard, Command::SendData { peers, label: label.clone(), payload: payload.clone() });
                }
            }
            // A track is on one shard; the others do not know it and ignore this.
            Command::SetMuted { .. } | Command::RequestKeyframe { .. } => {
                drop(routes);
                for shard in 0..self.shards {
                    self.order(shard, command.clone());
                }
            }
        }
    }

    /// Newest snapshot of a peer.
    pub fn peer_stats(&self, peer: PeerId) -> Option<PeerStats> {
        self.events.stats(peer)
    }

    /// Counters since start, summed over shards, and gauges.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        let figures: Vec<Figures> = lock(&self.handles).iter().map(|handle| *lock(&handle.figures)).collect();
        let mut named: Vec<(&'static str, u64)> = Vec::new();
        for shard in &figures {
            for (index, (name, value)) in shard.counters.named().into_iter().enumerate() {
                match named.get_mut(index) {
                    Some(entry) => entry.1 += value,
                    None => named.push((name, value)),
                }
            }
        }
        named.push(("send_calls", figures.iter().map(|f| f.sends.calls).sum()));
        named.push(("dropped_send", figures.iter().map(|f| f.sends.dropped).sum()));
        named.push(("dropped_unread", self.events.dropped()));
        named.push(("panics", figures.iter().map(|f| f.panics).sum()));
        named.push(("peers", figures.iter().map(|f| f.peers as u64).sum()));
        named.push(("segmentation", u64::from(figures.iter().all(|f| f.segmentation))));
        named
    }

    /// Stops the threads and closes the sockets. Twice is fine.
    pub fn close(&self) {
        let mut handles = std::mem::take(&mut *lock(&self.handles));
        for handle in &handles {
            // Fails when the thread has ended already.
            let _ = handle.orders.send(Order::Stop);
            handle.wake.signal();
        }
        for thread in handles.iter_mut().filter_map(|handle| handle.thread.take()) {
            if thread.join().is_err() {
                log::error!("a shard thread had panicked");
            }
        }
    }

    fn shard_of(&self, room: RoomId) -> usize {
        (room.0 % self.shards as u64) as usize
    }

    fn order(&self, shard: usize, command: Command) {
        let handles = lock(&self.handles);
        if let Some(handle) = handles.get(shard)
            && handle.orders.send(Order::Do(command)).is_ok()
        {
            handle.wake.signal();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// One socket per address, all on one port.
fn bind_all(addresses: &[IpAddr], port: u16) -> io::Result<Vec<UdpSocket>> {
    let mut failure = None;
    for _ in 0..PORT_ATTEMPTS {
        let first = UdpSocket::bind(SocketAddr::new(addresses[0], port))?;
        let chosen = first.address.port();
        let mut sockets = vec![first];
        for address in &addresses[1..] {
            match UdpSocket::bind(SocketAddr::new(*address, chosen)) {
                Ok(socket) => sockets.push(socket),
                Err(error) => failure = Some(error),
            }
        }
        if sockets.len() == addresses.len() {
            return Ok(sockets);
        }
        if port != 0 {
            break;
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
}

fn start_shard(
    index: usize,
    sockets: Vec<UdpSocket>,
    certificate: Certificate,
    events: Arc<Events>,
) -> io::Result<Handle> {
    let (orders, queue) = crossbeam_channel::unbounded();
    let wake = Arc::new(EventFd::new()?);
    let figures = Arc::new(Mutex::new(Figures::default()));
    let port = sockets[0].address.port();
    let unix_micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as u64);
    let config = ShardConfig {
        certificate,
        seed: random_seed()?,
        unix_micros,
        pad_runs: sockets.iter().any(|socket| socket.segmentation),
    };
    let mut worker = Worker {
        shard: Shard::new(config, Instant::now()),
        sockets,
        locals: Locals::default(),
        orders: queue,
        wake: wake.clone(),
        events,
        figures: figures.clone(),
        receive: ReceiveBatch::new(),
        send: SendBatch::new(),
        pace: Pace::new(Instant::now()),
        removed: Vec::new(),
        panics: 0,
    };
    let thread = std::thread::Builder::new().name(format!("greenroom-{index}")).spawn(move || {
        if let Err(error) = worker.run() {
            log::error!("media shard {index} stopped: {error}");
        }
    })?;
    Ok(Handle { port, orders, wake, figures, thread: Some(thread) })
}

fn random_seed() -> io::Result<u64> {
    let mut seed = [0u8; 8];
    // SAFETY: eight bytes are written to `seed`.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got == seed.len() as isize { Ok(u64::from_ne_bytes(seed)) } else { Err(io::Error::last_os_error()) }
}
