//! The outside of the core: starts the shards, hands them commands, collects what they report.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use greenroom_forward::{Command, Event, PeerId, PeerStats, RoomId};
use greenroom_secure::dtls::Certificate;

use crate::ServerEvent;
use crate::events::{Events, lock};
use crate::link::{Link, Status};
use crate::orders::{Fault, Order, OrderSender, queue};
use crate::send::SendCounters;
use crate::socket::UdpSocket;
use crate::supervise::supervise;
use crate::watchdog::Watchdog;

/// Attempts to find one free port on several addresses.
const PORT_ATTEMPTS: usize = 16;
/// Longest sleep of a shard, and the part of the time after which it counts as stuck.
const MAX_SLEEP: Duration = Duration::from_secs(1);
const SLEEPS_BEFORE_STUCK: u32 = 4;
/// How long closing waits for threads. One that is stuck is left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Addresses to bind.
    pub addresses: Vec<IpAddr>,
    /// UDP port of the first shard, the next one's is one higher; 0: free ones.
    pub port: u16,
    /// Threads.
    pub shards: usize,
    /// Without a turn for this long, a shard is reported as stuck.
    pub stuck_after: Duration,
    /// How long a busy shard may keep audio back, so that packets of several speakers leave in one send.
    pub audio_wait: Duration,
}

impl Default for ServerConfig {
    /// One shard on a free port of all IPv4 addresses, stuck after 5 s; audio does not wait.
    fn default() -> Self {
        ServerConfig {
            addresses: vec![Ipv4Addr::UNSPECIFIED.into()],
            port: 0,
            shards: 1,
            stuck_after: Duration::from_secs(5),
            audio_wait: Duration::ZERO,
        }
    }
}

struct Handle {
    port: u16,
    orders: OrderSender,
    status: Arc<Status>,
}

/// The shards of one process.
pub struct Server {
    handles: Vec<Handle>,
    /// Empty once closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
    watchdog: Mutex<Option<Watchdog>>,
    /// Shard of each peer.
    routes: Mutex<HashMap<PeerId, usize>>,
    events: Arc<Events>,
    fingerprint: String,
}

impl Server {
    /// Binds the sockets and starts the threads. Errors: no address, an address in use or not of this machine.
    pub fn start(config: &ServerConfig) -> io::Result<Server> {
        if config.addresses.is_empty() || config.shards == 0 || config.shards > 256 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "needs an address and 1 to 256 shards"));
        }
        let certificate = Certificate::generate().map_err(|error| io::Error::other(error.to_string()))?;
        let events = Arc::new(Events::new()?);
        let mut server = Server {
            handles: Vec::with_capacity(config.shards),
            threads: Mutex::default(),
            watchdog: Mutex::default(),
            routes: Mutex::default(),
            events,
            fingerprint: format!("sha-256 {}", certificate.fingerprint()),
        };
        for index in 0..config.shards {
            let port = if config.port == 0 { 0 } else { config.port.checked_add(index as u16).unwrap_or(0) };
            let sockets = bind_all(&config.addresses, port)?;
            server.start_shard(index, sockets, config, certificate.clone())?;
        }
        let statuses = server.handles.iter().map(|handle| handle.status.clone()).collect();
        let watchdog = Watchdog::start(statuses, config.stuck_after, server.events.clone())?;
        *lock(&server.watchdog) = Some(watchdog);
        Ok(server)
    }

    fn start_shard(
        &mut self,
        index: usize,
        sockets: Vec<UdpSocket>,
        config: &ServerConfig,
        certificate: Certificate,
    ) -> io::Result<()> {
        let (orders, receiver) = queue()?;
        let port = sockets[0].address.port();
        let status = Arc::new(Status::default());
        let link = Link {
            sockets,
            orders: receiver,
            events: self.events.clone(),
            status: status.clone(),
            max_sleep: MAX_SLEEP.min(config.stuck_after / SLEEPS_BEFORE_STUCK),
            audio_wait: config.audio_wait,
            sends: SendCounters::default(),
            panics: 0,
            receive_errors: 0,
            restarts: 0,
        };
        let thread = std::thread::Builder::new()
            .name(format!("greenroom-{index}"))
            .spawn(move || supervise(index, link, &certificate))?;
        self.handles.push(Handle { port, orders, status });
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// As in SDP: `sha-256 AB:CD:...`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Readable while events wait.
    pub fn event_fd(&self) -> RawFd {
        self.events.fd()
    }

    /// Takes events that wait, about a thousand at a time; [`Server::event_fd`] stays readable while there are more.
    pub fn poll_events(&self) -> VecDeque<ServerEvent> {
        self.events.take()
    }

    /// The UDP port on which a room is served.
    pub fn port(&self, room: RoomId) -> u16 {
        self.handles[self.shard_of(room)].port
    }

    /// The shard that serves a room, from 0.
    pub fn shard_of(&self, room: RoomId) -> usize {
        // Rooms are numbered together with peers and tracks, so their numbers have steps: mixed (Fibonacci hashing), they
        // spread all the same.
        let mixed = room.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (mixed % self.handles.len() as u64) as usize
    }

    /// Queues a command to the shard it concerns. After `close`, or when the shard has failed, it goes nowhere. Messages
    /// that a shard is too slow for are dropped and counted: 64 MiB may wait.
    pub fn send(&self, command: Command) {
        let mut routes = lock(&self.routes);
        match &command {
            Command::AddPeer { peer, room, .. } => {
                let shard = *routes.entry(*peer).or_insert_with(|| self.shard_of(*room));
                drop(routes);
                self.order(shard, command);
            }
            Command::SetRoom { room, .. } => {
                drop(routes);
                self.order(self.shard_of(*room), command);
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
                for shard in 0..self.handles.len() {
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
        let mut named: Vec<(&'static str, u64)> = Vec::new();
        let (mut turns, mut calls, mut sends, mut send_drops, mut panics, mut errors, mut restarts, mut peers) =
            (0, 0, 0, 0, 0, 0, 0, 0);
        let mut segmentation = true;
        for handle in &self.handles {
            let figures = lock(&handle.status.figures);
            for (index, (name, value)) in figures.totals().into_iter().enumerate() {
                match named.get_mut(index) {
                    Some(entry) => entry.1 += value,
                    None => named.push((name, value)),
                }
            }
            turns += handle.status.turns();
            calls += figures.sends.calls;
            sends += figures.sends.messages;
            send_drops += figures.sends.dropped;
            panics += figures.panics;
            errors += figures.receive_errors;
            restarts += figures.restarts;
            peers += figures.peers as u64;
            segmentation &= figures.segmentation;
        }
        named.extend([
            ("turns", turns),
            ("send_calls", calls),
            ("sends", sends),
            ("dropped_send", send_drops),
            ("dropped_unread", self.events.dropped()),
            ("dropped_orders", self.handles.iter().map(|handle| handle.orders.dropped()).sum()),
            ("receive_errors", errors),
            ("panics", panics),
            ("restarts", restarts),
            ("peers", peers),
            ("segmentation", u64::from(segmentation)),
        ]);
        named
    }

    /// Stops the threads and closes the sockets, within 3 s. Twice is fine. A thread that is stuck is left behind.
    pub fn close(&self) {
        drop(lock(&self.watchdog).take());
        let threads = std::mem::take(&mut *lock(&self.threads));
        for handle in &self.handles {
            // An order to stop is never dropped.
            let _ = handle.orders.send(Order::Stop);
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                log::error!("a shard thread did not stop within {} s", CLOSE_TIMEOUT.as_secs());
            } else if thread.join().is_err() {
                log::error!("a shard thread had panicked");
            }
        }
    }

    /// Makes a shard fail. For tests of what happens then.
    #[doc(hidden)]
    pub fn inject(&self, shard: usize, fault: Fault) {
        if let Some(handle) = self.handles.get(shard) {
            // Not a command, so never dropped.
            let _ = handle.orders.send(Order::Suffer(fault));
        }
    }

    fn order(&self, shard: usize, command: Command) {
        let Some(handle) = self.handles.get(shard) else { return };
        // What comes back did not fit. Whoever sent a message learns of it as if the receiver were too slow.
        if let Err(Command::SendData { peers, label, .. }) = handle.orders.send(Order::Do(command)) {
            let drops = peers.into_iter().map(|peer| Event::Dropped { peer, label: label.clone(), count: 1 });
            self.events.extend(drops);
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
