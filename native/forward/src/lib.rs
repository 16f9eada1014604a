//! greenroom-forward.
