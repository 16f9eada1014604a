//! Source description (RFC 3550 section 6.5).

use crate::bytes::u32_at;
use crate::{Ssrc, WireError};

const CNAME: u8 = 1;

/// An SDES packet.
#[derive(Clone, Debug)]
pub struct Sdes<'a> {
    count: u8,
    body: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let sdes = Sdes { count, body };
        // Walk once now, so that a view never ends early without the caller hearing of it.
        let mut rest = body;
        for _ in 0..count {
            rest = read_chunk(rest)?.1;
        }
        Ok(sdes)
    }

    /// The described sources.
    pub fn chunks(&self) -> SdesChunks<'a> {
        SdesChunks { left: self.count, rest: self.body }
    }
}

/// One source and its canonical name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdesChunk<'a> {
    /// The source.
    pub ssrc: Ssrc,
    /// CNAME item; `None` when absent. Bytes, since nothing forces a sender to write UTF-8.
    pub cname: Option<&'a [u8]>,
}

/// Iterator over the chunks of an SDES packet.
#[derive(Clone, Debug)]
pub struct SdesChunks<'a> {
    left: u8,
    rest: &'a [u8],
}

impl<'a> Iterator for SdesChunks<'a> {
    type Item = SdesChunk<'a>;

    fn next(&mut self) -> Option<SdesChunk<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (chunk, rest) = read_chunk(self.rest).ok()?;
        self.rest = rest;
        Some(chunk)
    }
}

fn read_chunk(buf: &[u8]) -> Result<(SdesChunk<'_>, &[u8]), WireError> {
    let ssrc = Ssrc(u32_at(buf, 0)?);
    let mut cname = None;
    let mut at = 4;
    loop {
        let kind = *buf.get(at).ok_or(WireError::Truncated)?;
        if kind == 0 {
            // The terminating zero is part of the padding to the next word.
            let end = (at / 4 + 1) * 4;
            let rest = buf.get(end..).ok_or(WireError::Truncated)?;
            return Ok((SdesChunk { ssrc, cname }, rest));
        }
        let len = *buf.get(at + 1).ok_or(WireError::Truncated)? as usize;
        let text = buf.get(at + 2..at + 2 + len).ok_or(WireError::Truncated)?;
        if kind == CNAME && cname.is_none() {
            cname = Some(text);
        }
        at += 2 + len;
    }
}
