//! What the engine's thread, codec threads and the program share of a peer: its session behind one lock.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use str0m::config::DtlsCert;

use crate::connection::{Connection, Receivers};
use crate::error::PeerError;
use crate::event::{Event, EventQueue, Id};
use crate::lock;
use crate::pool::CodecPool;
use crate::reactor::{NEVER, Reactor};
use crate::sockets::Socket;

/// What an engine has for its peers.
pub(crate) struct Host {
    pub events: Arc<EventQueue>,
    pub pool: CodecPool,
    pub certificate: DtlsCert,
    pub reactor: Reactor,
    ids: AtomicU64,
}

impl Host {
    pub fn new(pool: CodecPool, certificate: DtlsCert) -> std::io::Result<Self> {
        let events = Arc::new(EventQueue::new()?);
        Ok(Self { events, pool, certificate, reactor: Reactor::new()?, ids: AtomicU64::new(1) })
    }

    pub fn next_id(&self) -> Id {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) struct PeerShared {
    pub id: Id,
    pub host: Arc<Host>,
    pub sockets: Vec<Socket>,
    /// When the session wants to be driven, in engine time.
    pub deadline: AtomicU64,
    connection: Mutex<Connection>,
    closed: AtomicBool,
}

impl PeerShared {
    pub fn new(id: Id, host: Arc<Host>, sockets: Vec<Socket>) -> Self {
        let connection = Connection::new(id, host.events.clone(), &host.certificate, &sockets, Instant::now());
        Self {
            id,
            host,
            sockets,
            deadline: AtomicU64::new(0),
            connection: Mutex::new(connection),
            closed: AtomicBool::new(false),
        }
    }

    /// Change the connection and drain it. A panic in the session is the end of this peer and of nothing else.
    pub fn with<R>(
        &self,
        change: impl FnOnce(&mut Connection, Instant) -> Result<R, PeerError>,
    ) -> Result<R, PeerError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PeerError::closed());
        }
        let mut connection = lock(&self.connection);
        if connection.rtc.is_none() {
            return Err(PeerError::closed());
        }
        let now = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let result = change(&mut connection, now);
            (result, connection.drive(now, &self.sockets))
        }));
        let (result, driven) = match done {
            Ok(done) => done,
            Err(_) => {
                (Err(PeerError::state("the session failed internally")), Err("the session failed internally".into()))
            }
        };
        match driven {
            Ok(deadline) => self.set_deadline(deadline),
            Err(reason) => {
                let receivers = connection.take_receivers();
                connection.rtc = None;
                drop(connection);
                self.set_deadline(None);
                self.unregister();
                receivers.end();
                if !self.closed.load(Ordering::Acquire) {
                    self.host.events.push(Event::Failed(self.id, reason));
                }
            }
        }
        result
    }

    /// Look without draining.
    pub fn view<R>(&self, look: impl FnOnce(&mut Connection) -> R) -> R {
        look(&mut lock(&self.connection))
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        let deadline = deadline.map_or(NEVER, |at| self.host.reactor.micros(at));
        self.deadline.store(deadline, Ordering::SeqCst);
        self.host.reactor.note_deadline(deadline);
    }

    /// Datagrams of one wake-up, read from socket `index` until it is empty or the thread owes others its time.
    pub fn receive(&self, index: usize, buf: &mut [u8]) {
        const BATCH: usize = 32;
        let Some(socket) = self.sockets.get(index) else { return };
        for _ in 0..BATCH {
            let (len, source): (usize, SocketAddr) = match socket.socket.recv_from(buf) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let datagram = &buf[..len];
            if self.with(|connection, now| connection.receive(now, source, socket.address, datagram)).is_err()
                && self.view(|connection| connection.rtc.is_none())
            {
                return;
            }
        }
    }

    fn unregister(&self) {
        for socket in &self.sockets {
            self.host.reactor.unwatch(socket.socket.as_raw_fd());
        }
        self.host.reactor.note_closed(self.id);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut receivers = Receivers::default();
        // Says goodbye; that it cannot be said does not matter any more.
        let _ = self.with(|connection, _| {
            receivers = connection.take_receivers();
            connection.rtc()?.close().map_err(|error| PeerError::state(error.to_string()))
        });
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.view(|connection| connection.rtc = None);
            self.set_deadline(None);
            self.unregister();
        }
        receivers.end();
    }
}
