//! The loop of one shard, from its first turn to the failure that ends its state.
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use greenroom_forward::{Command, Path, PeerId, Shard};

use crate::link::Link;
use crate::orders::{Fault, Order};
use crate::pace::{Due, Pace};
use crate::poller::Poller;
use crate::receive::{ReceiveBatch, is_passing};
use crate::recent::Recent;
use crate::send::SendBatch;
use crate::socket::Locals;

/// Commands taken before packets get their turn, and the time after which no more are: a long message to a hundred
/// readers is one command.
const MAX_COMMANDS: usize = 256;
const COMMANDS_TIME: Duration = Duration::from_millis(2);
/// Datagrams taken from one socket before timers, sends and the other sockets get their turn. What the kernel coalesced
/// is not divided, so a few more can come.
const MAX_DATAGRAMS: usize = 256;
/// More panics than this within the window, and the state they leave behind is not trusted any more.
const MAX_PANICS: usize = 20;
const PANIC_WINDOW: Duration = Duration::from_secs(10);
/// Errors of receiving in a row before the socket is left alone for the rest of the turn.
const MAX_ERRORS: usize = 8;
/// The pause after such a turn, and how long a socket may go on failing.
const ERROR_PAUSE: Duration = Duration::from_millis(1);
const ERROR_PATIENCE: Duration = Duration::from_secs(10);
const WAKE: u64 = u64::MAX;

/// Why the state of a shard had to be given up.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Too many panics in guarded work; the text of the last one.
    Panics(String),
    /// A panic where none is expected.
    Panic(String),
    /// A system call that cannot fail in passing.
    Io(&'static str, io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Panics(last) => {
                write!(f, "more than {MAX_PANICS} panics within {} s, the last: {last}", PANIC_WINDOW.as_secs())
            }
            Ended::Panic(text) => write!(f, "panic: {text}"),
            Ended::Io(call, error) => write!(f, "{call}: {error}"),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

/// One shard with the buffers it works with. What outlives it is the link.
pub(crate) struct Worker<'a> {
    link: &'a mut Link,
    shard: Shard,
    locals: Locals,
    /// One for each socket: they are read in turns.
    receive: Vec<ReceiveBatch>,
    send: SendBatch,
    pace: Pace,
    /// Since when each socket has done nothing but fail.
    failing: Vec<Option<Instant>>,
    /// Peers whose figures are to be forgotten once their last events are out.
    removed: Vec<PeerId>,
    panics: Recent,
    /// The next flush panics: a test wants to see what becomes of it.
    sabotaged: bool,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(link: &'a mut Link, shard: Shard) -> Self {
        let sockets = link.sockets.len();
        let mut send = SendBatch::new();
        send.counters = link.sends;
        let pace = Pace::new(Instant::now(), link.audio_wait);
        Worker {
            link,
            shard,
            locals: Locals::default(),
            receive: (0..sockets).map(|_| ReceiveBatch::new()).collect(),
            send,
            pace,
            failing: vec![None; sockets],
            removed: Vec::new(),
            panics: Recent::new(MAX_PANICS, PANIC_WINDOW),
            sabotaged: false,
        }
    }

    /// Runs until it is told to stop, or until its state cannot be trusted or fed any more.
    pub(crate) fn run(&mut self) -> Result<(), Ended> {
        let mut poller = Poller::new().map_err(|error| Ended::Io("epoll_create1", error))?;
        let watch = |error| Ended::Io("epoll_ctl", error);
        poller.add(self.link.orders.fd(), WAKE).map_err(watch)?;
        for (index, socket) in self.link.sockets.iter().enumerate() {
            poller.add(socket.raw(), index as u64).map_err(watch)?;
        }
        let mut ready = vec![true; self.link.sockets.len()];
        loop {
            self.link.status.beat();
            let running = self.take_orders()?;
            for (socket, ready) in ready.iter_mut().enumerate() {
                if *ready {
                    *ready = self.take_packets(socket)?;
                }
            }
            let full = ready.contains(&true);
            let now = Instant::now();
            self.guard(|worker| worker.shard.handle_timeout(now))?;
            if self.pace.holds() && !self.shard.outgoing().is_empty() {
                // What is built already leaves alone, so that a frame that waits for its end goes on waiting.
                self.guarded_flush(|worker| worker.send_built())?;
            }
            let sent = self.shard.counters().rtp_out;
            let urgent = full || !running;
            match self.pace.due(now, self.shard.waiting(), sent) {
                Due::Everything => self.flush(now)?,
                _ if urgent => self.flush(now)?,
                Due::Audio => self.flush_audio(now)?,
                Due::Nothing => {}
            }
            self.guard(Worker::publish)?;
            if !running {
                return Ok(());
            }
            let next = self.shard.poll_timeout().into_iter().chain(self.pace.deadline()).min();
            let until = next.map_or(self.link.max_sleep, |at| at.saturating_duration_since(Instant::now()));
            let idle = !full && self.link.orders.is_empty();
            let sleep = if idle { until.min(self.link.max_sleep) } else { Duration::ZERO };
            let woken = poller.wait(sleep, |token| match token {
                WAKE => self.link.orders.clear(),
                index => {
                    if let Some(ready) = ready.get_mut(index as usize) {
                        *ready = true;
                    }
                }
            });
            woken.map_err(|error| Ended::Io("epoll_wait", error))?;
        }
    }

    /// `false` when the last order was to stop.
    fn take_orders(&mut self) -> Result<bool, Ended> {
        let start = Instant::now();
        let mut now = start;
        for _ in 0..MAX_COMMANDS {
            if now > start + COMMANDS_TIME {
                break;
            }
            let Some(order) = self.link.orders.next() else { break };
            match order {
                Order::Do(command) => {
                    if changes_forwarding(&command) {
                        // What waits to be built belongs to the state before the command.
                        self.flush(now)?;
                    }
                    if let Command::RemovePeer { peer } = &command {
                        self.removed.push(*peer);
                    }
                    self.guard(|worker| worker.shard.handle_command(now, command))?;
                }
                Order::Suffer(fault) => self.suffer(fault)?,
                Order::Stop => return Ok(false),
            }
            now = Instant::now();
        }
        Ok(true)
    }

    /// Whether more may wait on the socket.
    fn take_packets(&mut self, socket: usize) -> Result<bool, Ended> {
        // The batch is taken out so that handling a datagram may use the rest of the worker.
        let mut batch = std::mem::replace(&mut self.receive[socket], ReceiveBatch::vacant());
        let more = self.take_batches(socket, &mut batch);
        self.receive[socket] = batch;
        more
    }

    fn take_batches(&mut self, socket: usize, batch: &mut ReceiveBatch) -> Result<bool, Ended> {
        let mut now = Instant::now();
        let (mut taken, mut errors) = (0, 0);
        loop {
            while let Some(message) = batch.next() {
                let path = Path { local: self.locals.intern(socket, message.local), remote: message.remote };
                // An empty message is not worth a datagram's handling, but it counts.
                taken += message.bytes.len().div_ceil(message.segment).max(1);
                for datagram in message.bytes.chunks_mut(message.segment) {
                    self.guard(|worker| worker.shard.handle_datagram(now, path, datagram))?;
                    if self.shard.is_backlogged() {
                        self.flush(now)?;
                    }
                }
                if taken >= MAX_DATAGRAMS {
                    return Ok(true);
                }
            }
            if taken > 0 && !batch.was_full() {
                return Ok(false);
            }
            now = Instant::now();
            match batch.fill(self.link.sockets[socket].raw()) {
                Ok(count) => {
                    self.failing[socket] = None;
                    if count == 0 {
                        return Ok(false);
                    }
                }
                Err(error) => {
                    self.failed_to_receive(socket, error, now)?;
                    errors += 1;
                    if errors >= MAX_ERRORS {
                        // The poller will find the socket readable at once: a failure that lasts must not cost a core.
                        std::thread::sleep(ERROR_PAUSE);
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// What passes is counted and waited for, up to a bound. What does not is an error.
    fn failed_to_receive(&mut self, socket: usize, error: io::Error, now: Instant) -> Result<(), Ended> {
        self.link.receive_errors += 1;
        let since = *self.failing[socket].get_or_insert(now);
        if !is_passing(&error) || now.saturating_duration_since(since) >= ERROR_PATIENCE {
            return Err(Ended::Io("recvmmsg", error));
        }
        Ok(())
    }

    /// Builds and sends what waits. A panic costs what was being built and sent, and cannot come again from the same.
    fn flush(&mut self, now: Instant) -> Result<(), Ended> {
        self.guarded_flush(|worker| {
            while worker.shard.prepare(now) {
                worker.send_built();
            }
        })
    }

    /// The same with what waits of audio alone.
    fn flush_audio(&mut self, now: Instant) -> Result<(), Ended> {
        self.guarded_flush(|worker| {
            while worker.shard.prepare_audio(now) {
                worker.send_built();
            }
        })
    }

    fn guarded_flush(&mut self, work: impl Fn(&mut Worker<'a>)) -> Result<(), Ended> {
        self.send.begin_round();
        while !self.guard(&work)? {
            // Half a batch must be neither built upon nor sent again.
            self.guard(|worker| {
                worker.send.clear();
                let lost: usize = worker.shard.outgoing().sends().iter().map(|send| send.segments()).sum();
                worker.send.counters.dropped += lost as u64;
                worker.shard.sent();
            })?;
        }
        Ok(())
    }

    fn send_built(&mut self) {
        assert!(!std::mem::take(&mut self.sabotaged), "a test wants this flush to fail");
        self.send.send(&mut self.link.sockets, &self.locals, self.shard.outgoing());
        self.shard.sent();
    }

    /// A panic is a bug, and must cost what was at hand and not the service. `false`: there was one.
    fn guard(&mut self, work: impl FnOnce(&mut Worker<'a>)) -> Result<bool, Ended> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(()) => Ok(true),
            Err(payload) => {
                self.link.panics += 1;
                let now = Instant::now();
                // Timers that were being handled must run again: a peer without any would never be called again.
                let mended = catch_unwind(AssertUnwindSafe(|| self.shard.recover(now))).is_ok();
                if self.panics.add(now) || !mended {
                    return Err(Ended::Panics(panic_text(&*payload)));
                }
                Ok(false)
            }
        }
    }

    fn publish(&mut self) {
        let shard = &mut self.shard;
        self.link.events.extend(std::iter::from_fn(|| shard.poll_event()));
        for peer in self.removed.drain(..) {
            self.link.events.forget(peer);
        }
        self.link.sends = self.send.counters;
        self.link.publish(self.shard.counters(), self.shard.peer_count());
    }

    fn suffer(&mut self, fault: Fault) -> Result<(), Ended> {
        match fault {
            Fault::Panic => self.guard(|_| panic!("a test wants a panic")).map(|_| ()),
            Fault::PanicInFlush => {
                self.sabotaged = true;
                Ok(())
            }
            Fault::Die => panic!("a test wants the shard to die"),
            Fault::Stall(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Fault::Error => Err(Ended::Io("recvmmsg", io::Error::from_raw_os_error(libc::EBADF))),
        }
    }
}

/// Whether a command can change what becomes of packets that wait to be built. Those that cannot must not make audio
/// leave without company.
fn changes_forwarding(command: &Command) -> bool {
    !matches!(
        command,
        Command::AddPeer { .. }
            | Command::SetRemote { .. }
            | Command::StartDtls { .. }
            | Command::RestartIce { .. }
            | Command::SetData { .. }
            | Command::SendData { .. }
            | Command::RequestKeyframe { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Peer;
    use std::sync::Arc;

    use greenroom_forward::{RoomId, ShardConfig, TrackId};
    use greenroom_secure::dtls::Certificate;

    use super::*;
    use crate::events::Events;
    use crate::link::Status;
    use crate::orders::{OrderSender, queue};
    use crate::send::SendCounters;
    use crate::socket::UdpSocket;

    fn link(sockets: usize) -> (Link, OrderSender) {
        let (outside, orders) = queue().unwrap();
        let bind = |_| UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let link = Link {
            sockets: (0..sockets).map(bind).collect(),
            orders,
            events: Arc::new(Events::new().unwrap()),
            status: Arc::new(Status::default()),
            max_sleep: Duration::from_millis(100),
            audio_wait: Duration::ZERO,
            sends: SendCounters::default(),
            panics: 0,
            receive_errors: 0,
            restarts: 0,
        };
        (link, outside)
    }

    fn shard() -> Shard {
        let config =
            ShardConfig { certificate: Certificate::generate().unwrap(), seed: 1, unix_micros: 0, pad_runs: false };
        Shard::new(config, Instant::now())
    }

    #[test]
    fn only_what_changes_forwarding_makes_audio_leave_without_company() {
        let (peer, room, track) = (PeerId(1), RoomId(1), TrackId(1));
        let text = String::new;
        let quiet = [
            Command::AddPeer { peer, room, ufrag: text(), pwd: text() },
            Command::SetRemote { peer, ufrag: text(), pwd: text(), fingerprint: [0; 32] },
            Command::StartDtls { peer },
            Command::RestartIce { peer, ufrag: text(), pwd: text() },
            Command::SetData { peer, max_message_size: 0, channels: Vec::new() },
            Command::SendData { peers: vec![peer], label: "".into(), payload: [].into() },
            Command::RequestKeyframe { track },
        ];
        assert!(!quiet.iter().any(changes_forwarding));
        let changing = [
            Command::SetReceivers { peer, receivers: Vec::new() },
            Command::SetSenders { peer, senders: Vec::new() },
            Command::SetRoom { room, top_speakers: None },
            Command::SetMuted { track, muted: true },
            Command::RemovePeer { peer },
        ];
        assert!(changing.iter().all(changes_forwarding));
    }

    #[test]
    fn a_flood_on_one_socket_leaves_a_turn_for_everything_else() {
        let (mut link, _outside) = link(2);
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        let flood = 1000;
        for _ in 0..flood {
            peer.send_to(&[0xff; 20], link.sockets[0].address).unwrap();
        }
        peer.send_to(&[0xff; 20], link.sockets[1].address).unwrap();
        let mut worker = Worker::new(&mut link, shard());
        assert!(worker.take_packets(0).unwrap(), "more waits");
        let taken = worker.shard.counters().packets_in as usize;
        // What the kernel coalesced is handled whole.
        assert!(taken < MAX_DATAGRAMS + 64, "{taken}");
        assert!(!worker.take_packets(1).unwrap());
        assert_eq!(worker.shard.counters().packets_in as usize, taken + 1);
        while worker.take_packets(0).unwrap() {}
        assert_eq!(worker.shard.counters().packets_in as usize, flood + 1);
    }

    #[test]
    fn orders_that_take_long_leave_a_turn_for_packets() {
        let (mut link, outside) = link(1);
        let mut worker = Worker::new(&mut link, shard());
        for _ in 0..3 {
            outside.send(Order::Suffer(Fault::Stall(COMMANDS_TIME))).unwrap();
        }
        outside.send(Order::Stop).unwrap();
        let mut turns = 1;
        while worker.take_orders().unwrap() {
            turns += 1;
        }
        assert!(turns >= 3, "{turns}");
    }

    #[test]
    fn empty_datagrams_are_bounded_like_others() {
        let (mut link, _outside) = link(1);
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 * MAX_DATAGRAMS {
            peer.send_to(&[], link.sockets[0].address).unwrap();
        }
        let mut worker = Worker::new(&mut link, shard());
        assert!(worker.take_packets(0).unwrap(), "more waits");
        while worker.take_packets(0).unwrap() {}
    }

    #[test]
    fn a_panic_while_sending_costs_the_batch_and_does_not_come_again() {
        let (mut link, _outside) = link(1);
        let mut worker = Worker::new(&mut link, shard());
        worker.sabotaged = true;
        worker.guarded_flush(Worker::send_built).unwrap();
        assert_eq!((worker.link.panics, worker.shard.outgoing().len()), (1, 0));
        worker.flush(Instant::now()).unwrap();
        assert_eq!(worker.link.panics, 1);
    }

    #[test]
    fn panics_without_end_end_the_shard() {
        let (mut link, _outside) = link(1);
        let mut worker = Worker::new(&mut link, shard());
        for _ in 0..MAX_PANICS {
            assert!(!worker.guard(|_| panic!("on purpose")).unwrap());
        }
        let ended = worker.guarded_flush(|_| panic!("again {}", 1)).unwrap_err();
        assert_eq!(ended.to_string(), "more than 20 panics within 10 s, the last: again 1");
    }

    #[test]
    fn a_socket_that_only_fails_in_passing_is_waited_for_and_then_given_up() {
        let (mut link, _outside) = link(1);
        let mut worker = Worker::new(&mut link, shard());
        let passing = || io::Error::from_raw_os_error(libc::ENOBUFS);
        let now = Instant::now();
        worker.failed_to_receive(0, passing(), now).unwrap();
        worker.failed_to_receive(0, passing(), now + ERROR_PATIENCE / 2).unwrap();
        // A call that succeeds, if only to say that the socket is empty, ends the row.
        assert!(!worker.take_packets(0).unwrap());
        worker.failed_to_receive(0, passing(), now + ERROR_PATIENCE).unwrap();
        let ended = worker.failed_to_receive(0, passing(), now + ERROR_PATIENCE * 2).unwrap_err();
        assert!(ended.to_string().starts_with("recvmmsg: "), "{ended}");
        assert_eq!(worker.link.receive_errors, 4);
        let gone = io::Error::from_raw_os_error(libc::EBADF);
        assert!(worker.failed_to_receive(0, gone, now).is_err());
    }
}
