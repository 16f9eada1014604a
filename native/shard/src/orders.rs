//! What a shard is told, on its way there: a queue whose messages are bounded in bytes. What says how things should be
//! is never dropped.
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use greenroom_forward::Command;

use crate::poller::Waker;

/// Bytes of orders that may wait before messages are dropped. A shard that far behind has stopped.
const MAX_BYTES: usize = 64 << 20;
/// What an order costs besides its contents, about.
const OVERHEAD: usize = 256;

/// What a thread is told.
pub(crate) enum Order {
    Do(Command),
    Suffer(Fault),
    Stop,
}

/// A failure on purpose: what tests of supervision need, for there is no honest way to get one.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A panic where panics are expected to be survived: it costs the order.
    Panic,
    /// A panic while packets are built and sent.
    PanicInFlush,
    /// A panic outside every guard.
    Die,
    /// No turn for this long.
    Stall(Duration),
    /// A system call fails for good.
    Error,
}

/// Makes a queue: the end for the outside, and the thread's.
pub(crate) fn queue() -> io::Result<(OrderSender, OrderReceiver)> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let wake = Arc::new(Waker::new()?);
    let bytes = Arc::new(AtomicUsize::new(0));
    let outside = OrderSender { sender, wake: wake.clone(), bytes: bytes.clone(), dropped: AtomicU64::new(0) };
    Ok((outside, OrderReceiver { receiver, wake, bytes }))
}

pub(crate) struct OrderSender {
    sender: Sender<(usize, Order)>,
    wake: Arc<Waker>,
    bytes: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

impl OrderSender {
    /// Queues an order. Gives a command back that may be dropped and does not fit. To a thread that has ended, orders go
    /// nowhere.
    pub(crate) fn send(&self, order: Order) -> Result<(), Command> {
        let cost = cost(&order);
        let before = self.bytes.fetch_add(cost, Ordering::Relaxed);
        match order {
            Order::Do(command) if before + cost > MAX_BYTES && may_be_dropped(&command) => {
                self.bytes.fetch_sub(cost, Ordering::Relaxed);
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Err(command)
            }
            order => {
                if self.sender.send((cost, order)).is_ok() {
                    self.wake.signal();
                } else {
                    self.bytes.fetch_sub(cost, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    /// Commands dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

pub(crate) struct OrderReceiver {
    receiver: Receiver<(usize, Order)>,
    wake: Arc<Waker>,
    bytes: Arc<AtomicUsize>,
}

impl OrderReceiver {
    /// Readable when orders wait, until [`OrderReceiver::clear`].
    pub(crate) fn fd(&self) -> RawFd {
        self.wake.raw()
    }

    pub(crate) fn clear(&self) {
        self.wake.clear();
    }

    /// The next order; to stop, when nobody is left to give any.
    pub(crate) fn next(&self) -> Option<Order> {
        match self.receiver.try_recv() {
            Ok((cost, order)) => {
                self.bytes.fetch_sub(cost, Ordering::Relaxed);
                Some(order)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Order::Stop),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

/// Messages, and wishes that somebody will have again.
fn may_be_dropped(command: &Command) -> bool {
    matches!(command, Command::SendData { .. } | Command::RequestKeyframe { .. })
}

fn cost(order: &Order) -> usize {
    let contents = match order {
        Order::Do(Command::SendData { peers, label, payload }) => {
            size_of_val(peers.as_slice()) + label.len() + payload.len()
        }
        Order::Do(Command::SetReceivers { receivers, .. }) => size_of_val(receivers.as_slice()),
        Order::Do(Command::SetSenders { senders, .. }) => size_of_val(senders.as_slice()),
        _ => 0,
    };
    OVERHEAD + contents
}

#[cfg(test)]
mod tests {
    use greenroom_forward::{PeerId, RoomId};

    use super::*;

    fn data(len: usize) -> Order {
        Order::Do(Command::SendData { peers: vec![PeerId(1)], label: "_lossy".into(), payload: vec![0; len].into() })
    }

    #[test]
    fn messages_to_a_thread_that_does_not_read_are_bounded_and_state_is_not_dropped() {
        let (sender, receiver) = queue().unwrap();
        let refused = (0..200).filter(|_| sender.send(data(1 << 20)).is_err()).count();
        assert_eq!(refused, 200 - 63, "64 MiB hold 63 messages of 1 MiB with their overhead");
        let state = || Command::AddPeer { peer: PeerId(2), room: RoomId(1), ufrag: "u".into(), pwd: "p".into() };
        assert!(sender.send(Order::Do(state())).is_ok());
        assert!(sender.send(data(0)).is_ok());
        assert_eq!(sender.dropped(), refused as u64);
        let taken = std::iter::from_fn(|| receiver.next()).count();
        assert_eq!((taken, receiver.bytes.load(Ordering::Relaxed)), (65, 0));
        assert!(sender.send(data(1 << 20)).is_ok());
    }

    #[test]
    fn empty_messages_are_bounded_too() {
        let (sender, _receiver) = queue().unwrap();
        let accepted = (0..300_000).filter(|_| sender.send(data(0)).is_ok()).count();
        assert!(accepted < MAX_BYTES / OVERHEAD, "{accepted}");
    }

    #[test]
    fn orders_to_a_thread_that_has_ended_go_nowhere() {
        let (sender, receiver) = queue().unwrap();
        drop(receiver);
        assert!((0..200).all(|_| sender.send(data(1 << 20)).is_ok()));
        assert_eq!((sender.dropped(), sender.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_queue_without_a_sender_says_stop() {
        let (sender, receiver) = queue().unwrap();
        drop(sender);
        assert!(matches!(receiver.next(), Some(Order::Stop)));
    }
}
