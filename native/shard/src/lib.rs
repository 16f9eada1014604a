//! Linux I/O around the forwarding core: threads, UDP sockets, timers, and the queues to and from the outside.
//!
//! A [`Server`] owns one thread per shard. A room lives on one shard and shards share nothing, so nothing on the packet
//! path takes a lock.
#![warn(missing_docs)]

mod events;
mod pace;
mod poller;
mod receive;
mod send;
mod server;
mod socket;
mod worker;

pub use server::{Server, ServerConfig};
