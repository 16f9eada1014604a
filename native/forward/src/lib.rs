//! The forwarding core: a state machine that turns datagrams, commands and time into datagrams, events and deadlines.
//!
//! Nothing here opens a socket, reads a clock or draws randomness that was not given. One [`Shard`] serves whole rooms;
//! shards share nothing. A forwarded packet costs no allocation, and nothing on its way is proportional to the number of
//! streams a peer has.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used)]

mod arena;
mod backlog;
mod budget;
mod build;
mod cache;
mod codec_map;
mod command;
mod commands;
mod data_lane;
mod elements;
mod feedback;
mod frame;
mod hash;
mod history;
mod ice;
mod ids;
mod inbound;
mod ingest;
mod layer;
mod link;
mod media;
mod outbound;
mod outgoing;
mod peer;
mod picture;
mod receiving;
mod reports;
mod room;
mod runs;
mod sending;
mod sequence;
mod shard;
mod slab;
mod spec;
mod stats;
mod timers;
mod track;
mod transport;

pub use arena::{MAX_SEGMENTS, MAX_SEND_BYTES, Send, SendArena};
pub use backlog::Waiting;
pub use budget::{Limits, Rate};
pub use command::{Channel, Command, Event};
pub use ids::{Path, PeerId, RoomId, TrackId};
pub use shard::{Shard, ShardConfig};
pub use spec::{Codec, CodecKind, Extensions, Kind, Receiver, Sender};
pub use stats::{Counters, PeerStats, StreamStats};
