//! Redundant audio (RFC 2198): several encodings in one packet, used as RED over Opus.
//!
//! ```text
//! |1|   block PT  |  timestamp offset (14)    |   block length (10)|   per redundant block
//! |0|   block PT  |                                                    the primary, last
//! ```

use crate::WireError;
use crate::bytes::{Writer, u24_at};

/// Bound on blocks in one packet. Senders use at most a few; the limit keeps header chains of garbage short.
pub const MAX_BLOCKS: usize = 16;
/// Longest redundant block the 10-bit length can express.
pub const MAX_BLOCK_LEN: usize = 0x3ff;
/// Largest timestamp offset the 14 bits can express.
pub const MAX_OFFSET: u16 = 0x3fff;

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

/// Writes a RED payload and returns its length.
///
/// Errors: `Value` when a redundant block or its offset is too large for its field or there are too many; `NoSpace`.
pub fn write(buf: &mut [u8], redundant: &[Block<'_>], primary: (u8, &[u8])) -> Result<usize, WireError> {
    if redundant.len() >= MAX_BLOCKS {
        return Err(WireError::Value);
    }
    let mut w = Writer::new(buf);
    for block in redundant {
        if block.data.len() > MAX_BLOCK_LEN || block.timestamp_offset > MAX_OFFSET {
            return Err(WireError::Value);
        }
        let packed = (block.timestamp_offset as u32) << 10 | block.data.len() as u32;
        w.u32((0x80 | block.payload_type as u32 & 0x7f) << 24 | packed)?;
    }
    w.u8(primary.0 & 0x7f)?;
    for block in redundant {
        w.put(block.data)?;
    }
    w.put(primary.1)?;
    Ok(w.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_was_written() {
        let redundant = [
            Block { payload_type: 111, timestamp_offset: 1920, data: b"older" },
            Block { payload_type: 111, timestamp_offset: 960, data: b"" },
        ];
        let mut buf = [0; 64];
        let len = write(&mut buf, &redundant, (111, b"newest")).unwrap();
        assert_eq!(len, 4 + 4 + 1 + 5 + 6);
        let got: Vec<_> = blocks(&buf[..len]).unwrap().collect();
        assert_eq!(got[..2], redundant);
        assert_eq!(got[2], Block { payload_type: 111, timestamp_offset: 0, data: b"newest" });
        assert_eq!(primary(&buf[..len]).unwrap().data, b"newest");
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
