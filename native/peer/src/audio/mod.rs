//! Sound of a participant: packets to frames (`receiver`) and frames to packets (`input`).

pub mod input;
pub mod jitter;
pub mod receiver;
pub mod sink;
