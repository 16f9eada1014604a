//! Media as it came, for programs that keep or pass it on: whole encoded frames with their times, nothing decoded.

pub mod frame;
mod order;
pub mod parameter_sets;
pub mod receiver;
pub mod timeline;
