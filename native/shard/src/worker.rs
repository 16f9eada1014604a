//! The loop of one shard thread.
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use greenroom_forward::{Command, Counters, Path, PeerId, Shard};

use crate::events::{Events, lock};
use crate::pace::Pace;
use crate::poller::{EventFd, Poller};
use crate::receive::ReceiveBatch;
use crate::send::{SendBatch, SendCounters};
use crate::socket::{Locals, UdpSocket};

/// Longest sleep: figures stay fresh, and a lost wake-up cannot hang anything.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Commands taken before packets get their turn.
const MAX_COMMANDS: usize = 256;
/// Receive rounds on one socket before the others get their turn.
const MAX_ROUNDS: usize = 8;
const WAKE: u64 = u64::MAX;

/// What a thread is told.
pub(crate) enum Order {
    Do(Command),
    Stop,
}

/// Newest figures of one shard.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) counters: Counters,
    pub(crate) sends: SendCounters,
    pub(crate) peers: usize,
    pub(crate) segmentation: bool,
    pub(crate) panics: u64,
}

/// Everything one shard thread owns.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) locals: Locals,
    pub(crate) orders: Receiver<Order>,
    pub(crate) wake: Arc<EventFd>,
    pub(crate) events: Arc<Events>,
    pub(crate) figures: Arc<Mutex<Figures>>,
    pub(crate) receive: ReceiveBatch,
    pub(crate) send: SendBatch,
    pub(crate) pace: Pace,
    /// Peers whose figures are to be forgotten once their last events are out.
    pub(crate) removed: Vec<PeerId>,
    pub(crate) panics: u64,
}

impl Worker {
    /// Runs until it is told to stop. An error of the poller or a socket ends it.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut poller = Poller::new()?;
        poller.add(self.wake.raw(), WAKE)?;
        for (index, socket) in self.sockets.iter().enumerate() {
            poller.add(socket.raw(), index as u64)?;
        }
        let mut ready: Vec<usize> = (0..self.sockets.len()).collect();
        loop {
            let running = self.take_orders();
            let mut full = false;
            for socket in ready.drain(..) {
                full |= self.take_packets(socket)?;
            }
            let now = Instant::now();
            self.guard(|worker| worker.shard.handle_timeout(now));
            let sent = self.shard.counters().rtp_out;
            if self.pace.is_due(now, self.shard.is_patient(), sent) || full || !running {
                self.flush(now);
            }
            self.publish();
            if !running {
                return Ok(());
            }
            let next = self.shard.poll_timeout().into_iter().chain(self.pace.deadline()).min();
            let until = next.map_or(MAX_SLEEP, |at| at.saturating_duration_since(Instant::now()));
            let idle = !full && self.orders.is_empty();
            let sleep = if idle { until.min(MAX_SLEEP) } else { Duration::ZERO };
            poller.wait(sleep, |token| match token {
                WAKE => self.wake.clear(),
                index => ready.push(index as usize),
            })?;
        }
    }

    /// `false` when the last order was to stop.
    fn take_orders(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..MAX_COMMANDS {
            match self.orders.try_recv() {
                Ok(Order::Do(command)) => {
                    // What waits to be built belongs to the state before the command.
                    self.flush(now);
                    if let Command::RemovePeer { peer } = &command {
                        self.removed.push(*peer);
                    }
                    self.guard(|worker| worker.shard.handle_command(now, command));
                }
                Ok(Order::Stop) => return false,
                Err(error) => return error.is_empty(),
            }
        }
        true
    }

    /// Whether more may wait on the socket.
    fn take_packets(&mut self, socket: usize) -> io::Result<bool> {
        for _ in 0..MAX_ROUNDS {
            let now = Instant::now();
            // The batch is taken out so that handling a datagram may use the rest of the worker.
            let mut batch = std::mem::replace(&mut self.receive, ReceiveBatch::vacant());
            let received = batch.receive(self.sockets[socket].raw(), |message| {
                let path = Path { local: self.locals.intern(socket, message.local), remote: message.remote };
                for datagram in message.bytes.chunks_mut(message.segment) {
                    self.panics += u64::from(
                        catch_unwind(AssertUnwindSafe(|| self.shard.handle_datagram(now, path, datagram))).is_err(),
                    );
                    if self.shard.is_backlogged() {
                        flush(&mut self.shard, &mut self.send, &mut self.sockets, &self.locals, now);
                    }
                }
            });
            self.receive = batch;
            if received? < ReceiveBatch::FULL {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flush(&mut self, now: Instant) {
        self.guard(|worker| flush(&mut worker.shard, &mut worker.send, &mut worker.sockets, &worker.locals, now));
    }

    /// A panic is a bug, and must cost a packet and not the service.
    fn guard(&mut self, work: impl FnOnce(&mut Worker)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.panics += 1;
        }
    }

    fn publish(&mut self) {
        let shard = &mut self.shard;
        let events = std::iter::from_fn(|| shard.poll_event());
        self.events.extend(events);
        for peer in self.removed.drain(..) {
            self.events.forget(peer);
        }
        *lock(&self.figures) = Figures {
            counters: *self.shard.counters(),
            sends: self.send.counters,
            peers: self.shard.peer_count(),
            segmentation: self.sockets.iter().all(|socket| socket.segmentation),
            panics: self.panics,
        };
    }
}

fn flush(shard: &mut Shard, send: &mut SendBatch, sockets: &mut [UdpSocket], locals: &Locals, now: Instant) {
    while shard.prepare(now) {
        send.send(sockets, locals, shard.outgoing());
        shard.sent();
    }
}
