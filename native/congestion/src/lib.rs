//! What a receiver of RTP reports back, and how often: arrival feedback, loss, statistics, speaker levels, keyframe
//! requests.
//!
//! Everything here is a pure state machine. Time is an argument (`std::time::Instant` of the caller's clock, which may be
//! a simulated one), memory is bounded, and nothing panics on what a peer sends. `received`/`record` take what arrived,
//! `poll_*` gives what is due, `poll_timeout` says when to ask again.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used)]

mod keyframe;
mod nack;
mod speaker;
mod stats;
mod twcc;

pub use keyframe::KeyframeThrottle;
pub use nack::{NackGenerator, NackList, Received};
pub use speaker::{SPEAKER_INTERVAL, SpeakerChange, SpeakerLevel};
pub use stats::ReceiveStats;
pub use twcc::TwccRecorder;
