//! Linux I/O around the forwarding core: threads, UDP sockets, timers, and the queues to and from the outside.
//!
//! A [`Server`] owns one thread per shard. A room lives on one shard and shards share nothing, so nothing on the packet
//! path takes a lock. What fails is reported: a shard whose state was given up, one that is gone, one that is stuck
//! ([`ServerEvent`]).
#![warn(missing_docs, clippy::unwrap_used)]

mod events;
mod link;
mod orders;
mod pace;
mod poller;
mod receive;
mod recent;
mod report;
mod send;
mod server;
mod socket;
mod supervise;
mod watchdog;
mod worker;

#[doc(hidden)]
pub use orders::Fault;
pub use report::ServerEvent;
pub use server::{Server, ServerConfig};
