//! greenroom-shard.
