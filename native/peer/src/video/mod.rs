//! Pictures of a participant: frames to pictures (`receiver`) and pictures to frames (`input`).

pub mod input;
pub mod metadata;
pub mod receiver;
