//! What a server reports.
use greenroom_forward::{Event, PeerId};

/// What the cores of a server say, and what becomes of the threads they run on.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// A core reports.
    Core(Event),
    /// Messages of this peer that were dropped since the last such event, because they were not taken in time.
    Unread {
        /// Who sent them.
        peer: PeerId,
        /// How many.
        count: u64,
    },
    /// The state of a shard was given up and a new, empty one serves its port. Its peers and tracks are gone.
    ShardRestarted {
        /// Which shard, from 0.
        shard: usize,
        /// Why, for people.
        reason: String,
    },
    /// A shard is gone for good: its port is closed, its rooms are dead.
    ShardFailed {
        /// Which shard, from 0.
        shard: usize,
        /// Why, for people.
        reason: String,
    },
    /// A shard has not turned for too long. It may never do so again.
    ShardStuck {
        /// Which shard, from 0.
        shard: usize,
        /// For how long, for people.
        reason: String,
    },
}
