//! Behaviour of a whole shard, a file each. One program, since most of the time to build it is the world they share.
mod budgets;
mod connection;
mod continuity;
mod data;
mod forwarding;
mod hostile;
mod judge;
mod neighbours;
mod one_index;
mod pictures;
mod reports;
mod retransmission;
mod simulcast;
mod world;
