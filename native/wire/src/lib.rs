//! greenroom-wire.
