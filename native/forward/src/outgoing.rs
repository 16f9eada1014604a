//! A packet between its arrival and its leaving: notes that point into the cache of its stream.
use crate::codec_map::PayloadRule;
use crate::frame::FrameFacts;
use crate::picture::Picture;
use crate::slab::Key;

/// A received packet on its way to subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The received stream.
    pub(crate) inbound: Key,
    pub(crate) spatial: u8,
    /// Extended sequence number.
    pub(crate) seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) pt: u8,
    pub(crate) clock_rate: u32,
    /// It ends a video frame, or comes late and fills a gap.
    pub(crate) completes: bool,
    /// Payload and forwarded extension values, in bytes.
    pub(crate) size: u16,
    pub(crate) facts: FrameFacts,
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// For the first time.
    Original,
    /// As RFC 4588 has it, with this extended sequence number.
    Rtx(u64),
    /// The same bytes as the first time.
    Repeat,
}

/// A packet waiting to be built for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The stream it leaves on.
    pub(crate) outbound: Key,
    /// The stream it came on.
    pub(crate) inbound: Key,
    pub(crate) seq: u64,
    pub(crate) out_seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) picture: Option<Picture>,
    /// As in [`Arrival`].
    pub(crate) size: u16,
    pub(crate) rule: PayloadRule,
    pub(crate) delivery: Delivery,
}
