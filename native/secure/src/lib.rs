//! greenroom-secure.
