//! The participant's own end of a peer connection: str0m (ICE, DTLS, SRTP, SCTP, RTP) with a jitter buffer, codecs and
//! frame rings around it.
//!
//! One I/O thread drives any number of peers; a small pool of codec threads encodes and decodes. A program holds
//! `Engine`, `Peer`, `AudioInput` and sinks, and reads `Event`s announced by one eventfd. Nothing here knows Python.
#![warn(clippy::unwrap_used)]

pub mod audio;
mod clock;
mod connection;
pub mod data;
pub mod encoded;
mod engine;
mod error;
mod event;
mod negotiate;
mod peer;
mod pool;
mod reactor;
mod ring;
pub mod sdp;
mod sending;
mod shared;
mod sinks;
mod sockets;
mod stats;
pub mod video;

pub use engine::Engine;
pub use error::PeerError;
pub use event::{Event, EventQueue, Id};
pub use peer::{Peer, Place};
pub use sinks::{AudioSink, EncodedSink, VideoSink};
pub use stats::{PeerSnapshot, SectionStats};
pub use str0m::media::MediaKind;

/// A poisoned lock means that a holder panicked; what it guards is still consistent enough to be closed, which is what
/// happens to it.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
