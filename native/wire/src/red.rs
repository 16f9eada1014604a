//! Redundant audio (RFC 2198): several encodings in one packet, used as RED over Opus.
//!
//! ```text
//! |1|   block PT  |  timestamp offset (14)    |   block length (10)|   per redundant block
//! |0|   block PT  |                                                    the primary, last
//! ```

use crate::WireError;
use crate::bytes::u24_at;

/// Bound on blocks in one packet. Senders use at most a few; the limit keeps header chains of garbage short.
pub const MAX_BLOCKS: usize = 16;

/// One encoding within a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Payload type of the encoding.
    pub payload_type: u8,
    /// How much older than the packet's timestamp it is, in timestamp units; 0 for the primary.
    pub timestamp_offset: u16,
    /// Encoded bytes; an empty redundant block is legal.
    pub data: &'a [u8],
}

/// Iterator over the blocks of a packet: redundant ones as written (oldest first), the primary last.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    headers: &'a [u8],
    data: &'a [u8],
}

/// Splits a RED payload after checking that its lengths add up.
pub fn blocks(payload: &[u8]) -> Result<Blocks<'_>, WireError> {
    let mut at = 0;
    let mut lengths = 0;
    for _ in 0..MAX_BLOCKS {
        let &first = payload.get(at).ok_or(WireError::Truncated)?;
        if first & 0x80 == 0 {
            let (headers, data) = payload.split_at(at + 1);
            if lengths > data.len() {
                return Err(WireError::Length);
            }
            return Ok(Blocks { headers, data });
        }
        lengths += (u24_at(payload, at + 1)? & 0x3ff) as usize;
        at += 4;
    }
    Err(WireError::Value)
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let &first = self.headers.first()?;
        let payload_type = first & 0x7f;
        if first & 0x80 == 0 {
            self.headers = &[];
            return Some(Block { payload_type, timestamp_offset: 0, data: std::mem::take(&mut self.data) });
        }
        let packed = u24_at(self.headers, 1).ok()?;
        let (data, rest) = self.data.split_at_checked((packed & 0x3ff) as usize)?;
        self.headers = &self.headers[4..];
        self.data = rest;
        Some(Block { payload_type, timestamp_offset: (packed >> 10) as u16, data })
    }
}

/// The primary encoding, for a subscriber that did not negotiate RED.
pub fn primary(payload: &[u8]) -> Result<Block<'_>, WireError> {
    blocks(payload)?.last().ok_or(WireError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_order() {
        // Two headers of 32 bits (timestamp offsets 1920 and 960, lengths 5 and 0), that of the primary, then the data.
        let payload = [&[0xef, 0x1e, 0x00, 0x05, 0xef, 0x0f, 0x00, 0x00, 0x6f][..], b"oldernewest"].concat();
        let got: Vec<_> = blocks(&payload).unwrap().collect();
        let block = |timestamp_offset, data| Block { payload_type: 111, timestamp_offset, data };
        assert_eq!(got, [block(1920, &b"older"[..]), block(960, b""), block(0, b"newest")]);
        assert_eq!(primary(&payload).unwrap().data, b"newest");
    }

    #[test]
    fn single_primary() {
        assert_eq!(primary(&[111, 1, 2]).unwrap().data, [1, 2]);
        assert_eq!(primary(&[111]).unwrap().data, [0u8; 0]);
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        let table: [(&[u8], WireError); 4] = [
            (&[], WireError::Truncated),
            (&[0x80 | 111], WireError::Truncated),
            (&[0x80 | 111, 0, 0, 5, 111, 1, 2, 3, 4], WireError::Length),
            (&[0x80; 128], WireError::Value),
        ];
        for (bytes, error) in table {
            assert_eq!(blocks(bytes).err(), Some(error), "{bytes:?}");
        }
    }
}
