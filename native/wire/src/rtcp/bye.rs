//! Goodbye (RFC 3550 section 6.6).

use crate::bytes::u32_at;
use crate::{Ssrc, WireError};

/// A BYE packet: the listed sources end.
#[derive(Clone, Debug)]
pub struct Bye<'a> {
    sources: &'a [u8],
}

impl<'a> Bye<'a> {
    /// The optional reason text is ignored: nothing may depend on it.
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, WireError> {
        Ok(Bye { sources: body.get(..4 * count as usize).ok_or(WireError::Length)? })
    }

    /// Sources that end.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + 'a {
        let sources = self.sources;
        (0..sources.len() / 4).filter_map(move |i| u32_at(sources, 4 * i).ok().map(Ssrc))
    }
}
