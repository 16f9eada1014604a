//! What shards tell the outside: a bounded queue with one event file descriptor, and the newest figures.
//!
//! Messages of clients are dropped when the reader is behind, state never is. What is counted is memory and not
//! payload: an empty message costs as much as its entry. Two bounds make the drops fair:
//!
//! - a peer has a share of its own;
//! - all together have a total, of which nobody may hold more than what is still free (the dynamic threshold of
//!   Choudhury and Hahne, 1998). So the largest holders are refused first, and whoever holds little finds room.
//!
//! State that can repeat (a flapping connection, a flapping SSRC) is queued as it comes while it is little, and keeps
//! only its newest value per kind once its owner has too much of it waiting.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_forward::{Event, PeerId, PeerStats, RoomId, TrackId};

use crate::ServerEvent;
use crate::poller::Waker;

/// Bytes of all messages that wait to be read, with their overhead.
const MAX_BYTES: usize = 64 << 20;
/// The share of one peer: bytes with overhead, and messages.
const MAX_PEER_BYTES: usize = 4 << 20;
const MAX_PEER_MESSAGES: usize = 8192;
/// What an allocator adds to the two allocations of a message, about.
const ALLOCATOR_BYTES: usize = 32;
/// Repeatable events of one owner that wait in order; further ones keep the newest of each kind.
const MAX_IN_ORDER: usize = 16;
/// Events given to the reader at once, so that what else its thread does gets a turn.
const BATCH: usize = 1024;

/// Shared by all shards and the reader.
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    stats: Mutex<HashMap<PeerId, PeerStats>>,
    ready: Waker,
}

impl Events {
    pub(crate) fn new() -> io::Result<Events> {
        let waiting = Mutex::new(Waiting::new(Limits::default()));
        Ok(Events { waiting, stats: Mutex::default(), ready: Waker::new()? })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.ready.raw()
    }

    /// Adds what a shard has to say, and wakes the reader once.
    pub(crate) fn extend(&self, events: impl Iterator<Item = Event>) {
        let mut waiting = None;
        for event in events {
            match event {
                Event::Stats(peer, stats) => {
                    lock(&self.stats).insert(peer, *stats);
                }
                event => waiting.get_or_insert_with(|| lock(&self.waiting)).push(ServerEvent::Core(event)),
            }
        }
        if waiting.is_some() {
            drop(waiting);
            self.ready.signal();
        }
    }

    pub(crate) fn push(&self, event: ServerEvent) {
        lock(&self.waiting).push(event);
        self.ready.signal();
    }

    /// Takes a batch. The descriptor stays readable while more waits.
    pub(crate) fn take(&self) -> VecDeque<ServerEvent> {
        self.ready.clear();
        let (batch, more) = lock(&self.waiting).take();
        if more {
            self.ready.signal();
        }
        batch
    }

    /// Messages dropped because they were not read in time.
    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.waiting).dropped
    }

    pub(crate) fn stats(&self, peer: PeerId) -> Option<PeerStats> {
        lock(&self.stats).get(&peer).cloned()
    }

    pub(crate) fn forget(&self, peer: PeerId) {
        lock(&self.stats).remove(&peer);
    }
}

struct Limits {
    bytes: usize,
    peer_bytes: usize,
    peer_messages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: MAX_BYTES, peer_bytes: MAX_PEER_BYTES, peer_messages: MAX_PEER_MESSAGES }
    }
}

/// What one peer has waiting.
#[derive(Default, Clone, Copy)]
struct Usage {
    bytes: usize,
    messages: usize,
}

/// Whose state a repeatable event is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Peer(PeerId),
    Track(TrackId),
    Room(RoomId),
    Shard(usize),
}

struct Waiting {
    limits: Limits,
    queue: VecDeque<ServerEvent>,
    /// Of the messages in the queue.
    bytes: usize,
    usage: HashMap<PeerId, Usage>,
    /// How many repeatable events of an owner are in the queue.
    in_order: HashMap<Owner, usize>,
    /// The newest of each kind of those owners that had too many. They follow what the owner has in the queue.
    newest: HashMap<Owner, Vec<ServerEvent>>,
    /// Dropped messages that the reader has not been told of.
    unread: HashMap<PeerId, u64>,
    dropped: u64,
}

impl Waiting {
    fn new(limits: Limits) -> Self {
        Waiting {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            usage: HashMap::new(),
            in_order: HashMap::new(),
            newest: HashMap::new(),
            unread: HashMap::new(),
            dropped: 0,
        }
    }

    fn push(&mut self, event: ServerEvent) {
        if let Some((peer, cost)) = message(&event) {
            return self.push_message(peer, cost, event);
        }
        let Some(owner) = owner(&event) else { return self.queue.push_back(event) };
        let count = self.in_order.entry(owner).or_default();
        if *count < MAX_IN_ORDER && !self.newest.contains_key(&owner) {
            *count += 1;
            self.queue.push_back(event);
        } else {
            replace(self.newest.entry(owner).or_default(), event);
        }
    }

    fn push_message(&mut self, peer: PeerId, cost: usize, event: ServerEvent) {
        let usage = self.usage.entry(peer).or_default();
        let share = self.limits.peer_bytes.min(self.limits.bytes - self.bytes);
        if usage.bytes + cost > share || usage.messages >= self.limits.peer_messages {
            self.dropped += 1;
            *self.unread.entry(peer).or_default() += 1;
            return;
        }
        usage.bytes += cost;
        usage.messages += 1;
        self.bytes += cost;
        self.queue.push_back(event);
    }

    /// A batch, and whether more waits.
    fn take(&mut self) -> (VecDeque<ServerEvent>, bool) {
        let mut batch = if self.queue.len() > BATCH {
            self.queue.drain(..BATCH).collect()
        } else {
            std::mem::take(&mut self.queue)
        };
        for event in &batch {
            self.release(event);
        }
        let in_order = &self.in_order;
        let late = self.newest.extract_if(|owner, _| !in_order.contains_key(owner));
        batch.extend(late.flat_map(|(_, events)| events));
        batch.extend(self.unread.drain().map(|(peer, count)| ServerEvent::Unread { peer, count }));
        (batch, !self.queue.is_empty())
    }

    fn release(&mut self, event: &ServerEvent) {
        if let Some((peer, cost)) = message(event) {
            self.bytes -= cost;
            if let Some(usage) = self.usage.get_mut(&peer) {
                usage.bytes -= cost;
                usage.messages -= 1;
                if usage.messages == 0 {
                    self.usage.remove(&peer);
                }
            }
        } else if let Some(owner) = owner(event)
            && let Some(count) = self.in_order.get_mut(&owner)
        {
            *count -= 1;
            if *count == 0 {
                self.in_order.remove(&owner);
            }
        }
    }
}

/// Sender and cost of what a client can send as often as it likes.
fn message(event: &ServerEvent) -> Option<(PeerId, usize)> {
    let entry = size_of::<ServerEvent>() + ALLOCATOR_BYTES;
    match event {
        ServerEvent::Core(Event::Data { peer, label, payload, .. }) => {
            Some((*peer, entry + label.len() + payload.capacity()))
        }
        ServerEvent::Core(Event::ChannelOpen { peer, label }) => Some((*peer, entry + label.len())),
        _ => None,
    }
}

fn owner(event: &ServerEvent) -> Option<Owner> {
    match event {
        ServerEvent::Core(event) => match event {
            Event::Connected(peer)
            | Event::Failed(peer, _)
            | Event::Disconnected(peer)
            | Event::Reconnected(peer)
            | Event::Lost(peer)
            | Event::Dropped { peer, .. } => Some(Owner::Peer(*peer)),
            Event::Track { track, .. } => Some(Owner::Track(*track)),
            Event::Speakers { room, .. } => Some(Owner::Room(*room)),
            // Bounded above, or not repeatable.
            _ => None,
        },
        ServerEvent::Unread { peer, .. } => Some(Owner::Peer(*peer)),
        ServerEvent::ShardRestarted { shard, .. }
        | ServerEvent::ShardFailed { shard, .. }
        | ServerEvent::ShardStuck { shard, .. } => Some(Owner::Shard(*shard)),
    }
}

/// Puts the newest value of its kind at the end of an owner's list; counts add up, changes of speakers merge.
fn replace(events: &mut Vec<ServerEvent>, mut event: ServerEvent) {
    let position = events.iter().position(|earlier| same_kind(earlier, &event));
    if let Some(earlier) = position.map(|position| events.remove(position)) {
        match (earlier, &mut event) {
            (
                ServerEvent::Core(Event::Dropped { count: earlier, .. }),
                ServerEvent::Core(Event::Dropped { count, .. }),
            ) => *count += earlier,
            (
                ServerEvent::Core(Event::Speakers { changes: earlier, .. }),
                ServerEvent::Core(Event::Speakers { changes, .. }),
            ) => {
                let newer = changes.len();
                for change in earlier {
                    if changes[..newer].iter().all(|(track, ..)| *track != change.0) {
                        changes.push(change);
                    }
                }
            }
            _ => {}
        }
    }
    events.push(event);
}

fn same_kind(a: &ServerEvent, b: &ServerEvent) -> bool {
    match (a, b) {
        (ServerEvent::Core(Event::Track { layer: a, .. }), ServerEvent::Core(Event::Track { layer: b, .. })) => a == b,
        (ServerEvent::Core(Event::Dropped { label: a, .. }), ServerEvent::Core(Event::Dropped { label: b, .. })) => {
            a == b
        }
        (ServerEvent::Core(a), ServerEvent::Core(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// A panic elsewhere leaves what these mutexes guard whole: every change is complete before anything can fail.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(peer: u64, len: usize) -> ServerEvent {
        let payload = vec![0; len];
        ServerEvent::Core(Event::Data { peer: PeerId(peer), label: "_reliable".into(), payload, binary: true })
    }

    fn small(bytes: usize, peer_bytes: usize, peer_messages: usize) -> Waiting {
        Waiting::new(Limits { bytes, peer_bytes, peer_messages })
    }

    /// Messages of a peer that a reader gets, and the drops it is told of.
    fn read(waiting: &mut Waiting, peer: u64) -> (usize, u64) {
        let (mut got, mut unread) = (0, 0);
        loop {
            let (batch, more) = waiting.take();
            for event in batch {
                match event {
                    ServerEvent::Core(Event::Data { peer: PeerId(p), .. }) => got += usize::from(p == peer),
                    ServerEvent::Unread { peer: PeerId(p), count } if p == peer => unread += count,
                    _ => {}
                }
            }
            if !more {
                return (got, unread);
            }
        }
    }

    #[test]
    fn a_flooder_loses_its_own_messages_and_nobody_elses() {
        let mut waiting = Waiting::new(Limits::default());
        for round in 0..40_000 {
            waiting.push(data(1, 1000));
            if round % 1000 == 0 {
                waiting.push(data(2, 1000));
            }
        }
        assert!(waiting.bytes <= MAX_PEER_BYTES + 40 * 1200);
        let mut honest = 0;
        let mut flooder = 0;
        let mut told = 0;
        while let (batch, more) = waiting.take()
            && (more || !batch.is_empty())
        {
            assert!(batch.len() <= BATCH + 1);
            for event in batch {
                match event {
                    ServerEvent::Core(Event::Data { peer: PeerId(1), .. }) => flooder += 1,
                    ServerEvent::Core(Event::Data { .. }) => honest += 1,
                    ServerEvent::Unread { peer, count } => {
                        assert_eq!(peer, PeerId(1));
                        told += count;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(honest, 40);
        assert_eq!((flooder + told, waiting.dropped), (40_000, told));
        assert!(flooder > 3000, "a share of 4 MiB holds thousands: {flooder}");
        assert_eq!((waiting.bytes, waiting.usage.len(), waiting.unread.len()), (0, 0, 0));
    }

    #[test]
    fn empty_messages_cost_too() {
        let mut waiting = Waiting::new(Limits::default());
        for _ in 0..100_000 {
            waiting.push(data(1, 0));
        }
        assert_eq!(waiting.queue.len(), MAX_PEER_MESSAGES);
        assert!(waiting.bytes >= MAX_PEER_MESSAGES * size_of::<ServerEvent>());
    }

    #[test]
    fn the_total_is_shared_so_that_the_largest_are_refused() {
        let mut waiting = small(1 << 20, 1 << 20, usize::MAX);
        for _ in 0..10_000 {
            for flooder in 1..=20 {
                waiting.push(data(flooder, 1000));
            }
        }
        assert!(waiting.bytes <= 1 << 20);
        let held: Vec<usize> = (1..=20).map(|peer| waiting.usage[&PeerId(peer)].messages).collect();
        assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "equal flooders hold as much: {held:?}");
        for _ in 0..10 {
            waiting.push(data(99, 1000));
        }
        assert_eq!(read(&mut waiting, 99), (10, 0));
    }

    #[test]
    fn a_message_larger_than_its_share_is_dropped_and_told() {
        let mut waiting = small(1 << 20, 1000, 10);
        waiting.push(data(1, 5000));
        assert_eq!(read(&mut waiting, 1), (0, 1));
    }

    #[test]
    fn channels_opened_without_end_are_bounded_like_messages() {
        let mut waiting = Waiting::new(Limits::default());
        for n in 0..20_000 {
            waiting
                .push(ServerEvent::Core(Event::ChannelOpen { peer: PeerId(1), label: format!("{n:0>1000}").into() }));
        }
        assert!(waiting.bytes <= MAX_PEER_BYTES);
        assert!(waiting.dropped > 15_000);
    }

    #[test]
    fn a_flapping_connection_keeps_its_newest_state_and_nothing_is_lost_of_others() {
        let mut waiting = Waiting::new(Limits::default());
        waiting.push(ServerEvent::Core(Event::Connected(PeerId(2))));
        for _ in 0..10_000 {
            waiting.push(ServerEvent::Core(Event::Disconnected(PeerId(1))));
            waiting.push(ServerEvent::Core(Event::Reconnected(PeerId(1))));
        }
        waiting.push(ServerEvent::Core(Event::Disconnected(PeerId(1))));
        waiting.push(ServerEvent::Core(Event::Lost(PeerId(1))));
        waiting.push(ServerEvent::Core(Event::Lost(PeerId(2))));
        let events = Vec::from(waiting.take().0);
        assert!(events.len() < 30, "{}", events.len());
        let of = |peer| events.iter().filter(move |event| owner(event) == Some(Owner::Peer(PeerId(peer))));
        let last: Vec<_> = of(1).skip(MAX_IN_ORDER).cloned().collect();
        let expected = [Event::Reconnected(PeerId(1)), Event::Disconnected(PeerId(1)), Event::Lost(PeerId(1))];
        assert_eq!(last, expected.map(ServerEvent::Core));
        let other: Vec<_> = of(2).cloned().collect();
        assert_eq!(other, [Event::Connected(PeerId(2)), Event::Lost(PeerId(2))].map(ServerEvent::Core));
        assert!(waiting.newest.is_empty() && waiting.in_order.is_empty());
    }

    #[test]
    fn what_was_coalesced_never_overtakes_what_its_owner_has_in_the_queue() {
        let mut waiting = Waiting::new(Limits::default());
        for _ in 0..BATCH {
            waiting.push(data(1, 1));
        }
        for _ in 0..=MAX_IN_ORDER {
            waiting.push(ServerEvent::Core(Event::Disconnected(PeerId(2))));
        }
        waiting.push(ServerEvent::Core(Event::Reconnected(PeerId(2))));
        assert!(waiting.take().0.iter().all(|event| message(event).is_some()));
        waiting.push(ServerEvent::Core(Event::Lost(PeerId(2))));
        let events = Vec::from(waiting.take().0);
        assert_eq!(events.last(), Some(&ServerEvent::Core(Event::Lost(PeerId(2)))));
    }

    #[test]
    fn speakers_merge_and_drops_add_up() {
        let mut waiting = Waiting::new(Limits::default());
        for round in 0..100u64 {
            let changes = vec![(TrackId(round % 3), round as f32, true)];
            waiting.push(ServerEvent::Core(Event::Speakers { room: RoomId(1), changes }));
            waiting.push(ServerEvent::Core(Event::Dropped { peer: PeerId(1), label: "a".into(), count: 2 }));
        }
        let (mut total, mut levels) = (0, HashMap::new());
        for event in waiting.take().0 {
            match event {
                ServerEvent::Core(Event::Dropped { count, .. }) => total += count,
                ServerEvent::Core(Event::Speakers { changes, .. }) => {
                    levels.extend(changes.into_iter().map(|(track, level, _)| (track.0, level)));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(total, 200);
        assert_eq!(levels, HashMap::from([(0, 99.0), (1, 97.0), (2, 98.0)]));
    }

    #[test]
    fn a_flapping_ssrc_keeps_one_entry_a_layer() {
        let mut waiting = Waiting::new(Limits::default());
        for ssrc in 0..10_000 {
            let layer = (ssrc % 3) as u8;
            waiting.push(ServerEvent::Core(Event::Track { track: TrackId(1), layer, ssrc, pt: 96 }));
        }
        let events = waiting.take().0;
        assert_eq!(events.len(), MAX_IN_ORDER + 3);
        assert!(events.iter().rev().take(3).all(|e| matches!(e, ServerEvent::Core(Event::Track { ssrc: 9997.., .. }))));
    }
}
