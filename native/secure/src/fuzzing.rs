//! Entry points for fuzzing: each takes arbitrary bytes and must neither panic nor grow without bound.
