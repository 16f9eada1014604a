//! Whole calls in one thread on virtual time: the server's forwarding core and participants on str0m, with a network
//! between them that loses, delays, reorders, repeats and throttles by a seed.
//!
//! Participants use what a participant of ours is made of: str0m set up the same way, and the jitter buffer and Opus
//! decoder of `greenroom-peer`. The thread and the sockets around them are left out: [`World`] calls instead. What SDP
//! would have settled is given to both sides as values.
//!
//! [`oracle::Oracle`] sees every datagram and ends a run in which the shard breaks a rule, in every scenario.
//!
//! Handshakes draw real randomness, so what is reproduced by a seed is the fate of every datagram and everything
//! derived from it, and no ciphertext. [`World::digest`] sums that up.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used)]

mod listener;
mod network;
#[path = "../../forward/tests/world/oracle.rs"]
pub mod oracle;
mod participant;
mod random;
mod section;
mod source;
mod world;

pub use listener::Listener;
pub use network::{Bursts, Conditions, Link, LinkStats, Rate};
pub use participant::{Frame, Message, Participant};
pub use random::Random;
pub use source::{Camera, Microphone};
pub use world::{ANSWER_SSRC, World};
