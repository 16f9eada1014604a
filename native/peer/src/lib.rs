//! greenroom-peer.
