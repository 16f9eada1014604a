//! AV1 payloads and the dependency descriptor (RTP Payload Format for AV1, version 1.0.0).

mod bits;
mod descriptor;
mod structure;

pub use descriptor::{DependencyDescriptor, Frame};
pub use structure::{DecodeTarget, DecodeTargetIndication, DependencyStructure, Template};

use crate::WireError;

const OBU_SEQUENCE_HEADER: u8 = 1;

/// Whether the packet starts a key frame: by its N bit, or by a sequence header OBU that begins in it (for senders that
/// leave N clear).
pub fn is_keyframe(payload: &[u8]) -> Result<bool, WireError> {
    // The aggregation header: Z, the first element continues one of the previous packet; W, the number of elements, 0 when
    // each carries its own length; N, the first packet of a coded video sequence.
    let &first = payload.first().ok_or(WireError::Truncated)?;
    let (continues_previous, element_count, new_sequence) = (first & 0x80 != 0, first >> 4 & 3, first & 0x08 != 0);
    if new_sequence {
        return if continues_previous { Err(WireError::Value) } else { Ok(true) };
    }
    let mut at = 1;
    let mut index = 0;
    while at < payload.len() {
        index += 1;
        // With W set the last element runs to the end of the packet.
        let len = if element_count != 0 && index == element_count {
            payload.len() - at
        } else {
            let (len, size) = leb128(&payload[at..])?;
            at += size;
            len
        };
        let element = payload.get(at..at.saturating_add(len)).ok_or(WireError::Length)?;
        let begins_here = index > 1 || !continues_previous;
        if let (true, Some(&obu)) = (begins_here, element.first())
            && obu >> 3 & 0xf == OBU_SEQUENCE_HEADER
        {
            return Ok(true);
        }
        at += len;
        index = index.min(4); // W counts to 3; beyond it only "not the first" matters
    }
    Ok(false)
}

/// A little-endian base-128 number and the bytes it takes. Lengths beyond 32 bits are refused.
fn leb128(data: &[u8]) -> Result<(usize, usize), WireError> {
    let mut value = 0u64;
    for (i, b) in data.iter().take(8).enumerate() {
        value |= ((b & 0x7f) as u64) << (7 * i);
        if b & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| WireError::Value)?;
            return Ok((value as usize, i + 1));
        }
    }
    Err(if data.len() < 8 { WireError::Truncated } else { WireError::Value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_by_flag_or_sequence_header() {
        let table: [(&[u8], Result<bool, WireError>); 9] = [
            (&[0x18, 0x0a], Ok(true)),                   // N
            (&[0x10, 0x0a, 1], Ok(true)),                // W=1, sequence header
            (&[0x10, 0x32, 1], Ok(false)),               // W=1, frame
            (&[0x20, 2, 0x12, 0, 0x0a, 1], Ok(true)),    // W=2, temporal delimiter, sequence header
            (&[0x00, 2, 0x32, 0, 2, 0x0a, 1], Ok(true)), // W=0, both with lengths
            (&[0x90, 0x0a, 1], Ok(false)),               // Z: the byte is not an OBU header
            (&[0x88], Err(WireError::Value)),            // Z and N
            (&[], Err(WireError::Truncated)),
            (&[0x00, 9, 0x32], Err(WireError::Length)),
        ];
        for (payload, expected) in table {
            assert_eq!(is_keyframe(payload), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn leb128_values() {
        assert_eq!(leb128(&[0x7f]), Ok((127, 1)));
        assert_eq!(leb128(&[0xe5, 0x8e, 0x26]), Ok((624_485, 3)));
        assert_eq!(leb128(&[0x80]), Err(WireError::Truncated));
        assert_eq!(leb128(&[0xff; 9]), Err(WireError::Value));
    }
}
