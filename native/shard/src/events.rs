//! What shards tell the outside: a queue with one event file descriptor, and the newest figures.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_forward::{Event, PeerId, PeerStats};

use crate::poller::EventFd;

/// Bytes of messages that may wait to be read. A reader that far behind has stopped.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    message_bytes: usize,
    dropped: u64,
}

/// Shared by all shards and the reader.
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    stats: Mutex<HashMap<PeerId, PeerStats>>,
    ready: EventFd,
}

impl Events {
    pub(crate) fn new() -> io::Result<Events> {
        Ok(Events { waiting: Mutex::default(), stats: Mutex::default(), ready: EventFd::new()? })
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
                event => waiting.get_or_insert_with(|| lock(&self.waiting)).push(event),
            }
        }
        if waiting.is_some() {
            drop(waiting);
            self.ready.signal();
        }
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> VecDeque<Event> {
        self.ready.clear();
        let mut waiting = lock(&self.waiting);
        waiting.message_bytes = 0;
        std::mem::take(&mut waiting.events)
    }

    /// Messages dropped because nobody read.
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

impl Waiting {
    fn push(&mut self, event: Event) {
        if let Event::Data { payload, .. } = &event {
            if self.message_bytes + payload.len() > MAX_MESSAGE_BYTES {
                self.dropped += 1;
                return;
            }
            self.message_bytes += payload.len();
        }
        self.events.push_back(event);
    }
}

/// A panic elsewhere leaves these maps whole: every change is one insertion.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
