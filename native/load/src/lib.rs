//! The load generator of the benchmarks: many small WebRTC peers in one thread.
//!
//! A peer here does what a real client costs its server, and no more: ICE checks in either role, a DTLS handshake, SRTP in
//! both directions, an SCTP association, RTP of a steady rate, retransmissions on request, reports once a second, and
//! counts of what arrives. It never looks into a picture and never conceals anything.
//!
//! - [`peer`]: one peer, without sockets or a clock. Its parts: [`ice`], [`source`] (what it publishes; [`camera`]: when),
//!   [`receive`] (what arrives) and [`outbox`] (what it wants sent).
//! - [`engine`]: the thread with the sockets. It sends as clients do, one datagram per call. It receives as cheaply as it
//!   can, because on loopback the server pays for much of that: coalesced (`UDP_GRO`), and without being woken.
#![warn(clippy::unwrap_used)]

pub mod camera;
pub mod engine;
pub mod ice;
pub mod outbox;
pub mod peer;
pub mod receive;
pub mod source;

mod random;
mod report;
mod socket;

pub use camera::{CameraSpec, Pace};
pub use engine::{Engine, EngineStats};
pub use peer::{Failure, LoadPeer, PeerStats, Reception, Remote};
pub use receive::{Codec, ReceiveStats};
pub use source::{Media, Source, SourceSpec, SourceStats};
