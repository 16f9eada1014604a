//! Deadlines of all peers and rooms in one heap. An entry is only a reason to look: what is stale is skipped.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::RoomId;
use crate::slab::Key;

/// Whose deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Peer(Key),
    /// Speakers of a room.
    Room(RoomId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
}

impl Timers {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }

    pub(crate) fn push(&mut self, at: Instant, owner: Owner) {
        self.heap.push(Reverse((at, owner)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.0.0)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Owner)> {
        self.heap.peek().filter(|entry| entry.0.0 <= now)?;
        self.heap.pop().map(|entry| entry.0)
    }
}
