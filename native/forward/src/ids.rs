//! Names of things. Peers, rooms and tracks are numbered by the caller, unique in the process and never used again.
use std::net::SocketAddr;

/// One peer connection (a BUNDLE group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// A room: the peers whose tracks reach each other and whose speakers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// A published track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// Both ends of a 5-tuple. `local` is a number the I/O layer gives to its own addresses; here it is only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Which of our addresses.
    pub local: u16,
    /// The other side's address.
    pub remote: SocketAddr,
}
