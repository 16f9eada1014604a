//! greenroom-congestion.
