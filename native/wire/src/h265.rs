//! H.265 payloads (RFC 7798): which parameter sets and pictures a packet carries.

use crate::WireError;
use crate::bytes::u16_at;

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

/// What begins in a packet. A fragment counts only in the packet that starts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NalSummary {
    /// A video parameter set.
    pub vps: bool,
    /// A sequence parameter set.
    pub sps: bool,
    /// A picture parameter set.
    pub pps: bool,
    /// An intra random access point picture (types 16..=23: BLA, IDR, CRA and reserved).
    pub irap: bool,
    /// The first slice segment of a picture (`first_slice_segment_in_pic_flag`), random access or not: no segment of that
    /// picture came before.
    pub first_slice: bool,
}

impl NalSummary {
    /// The packet opens a key frame, or continues one with its random access picture. To start a new receiver wait for
    /// [`starts_decoder`](Self::starts_decoder).
    pub fn is_keyframe(&self) -> bool {
        self.vps || self.sps || self.irap
    }

    /// A decoder that has seen nothing can start with this packet and what follows it: it holds the video parameter set,
    /// the first of the three sets that come before a random access picture.
    pub fn starts_decoder(&self) -> bool {
        self.vps
    }

    /// A decoder that already has the parameter sets can start with this packet: a random access picture begins here.
    pub fn starts_irap(&self) -> bool {
        self.irap && self.first_slice
    }

    /// A unit of type `kind` whose two-byte header `next` follows.
    fn add(&mut self, kind: u8, next: Option<&u8>) {
        match kind {
            VPS => self.vps = true,
            SPS => self.sps = true,
            PPS => self.pps = true,
            16..=23 => self.irap = true,
            _ => {}
        }
        // Types below 32 are slice segments; their header begins with the flag (H.265 7.3.6.1).
        if kind < VPS && next.is_some_and(|b| b & 0x80 != 0) {
            self.first_slice = true;
        }
    }
}

/// Looks into single NAL units, aggregation packets and the first fragment of fragmented units. Decoding order numbers
/// (`sprop-max-don-diff` above 0) are not used in WebRTC and not expected.
///
/// Errors: `Truncated`, `Length` (an aggregate whose sizes do not add up).
pub fn inspect(payload: &[u8]) -> Result<NalSummary, WireError> {
    let mut summary = NalSummary::default();
    match nal_type(u16_at(payload, 0)?) {
        AGGREGATION => {
            let mut at = 2;
            while at < payload.len() {
                let len = u16_at(payload, at)? as usize;
                let unit = payload.get(at + 2..at + 2 + len).ok_or(WireError::Length)?;
                if let Ok(header) = u16_at(unit, 0) {
                    summary.add(nal_type(header), unit.get(2));
                }
                at += 2 + len;
            }
        }
        FRAGMENTATION => {
            let &header = payload.get(2).ok_or(WireError::Truncated)?;
            if header & 0x80 != 0 {
                summary.add(header & 0x3f, payload.get(3));
            }
        }
        kind => summary.add(kind, payload.get(2)),
    }
    Ok(summary)
}

fn nal_type(header: u16) -> u8 {
    (header >> 9 & 0x3f) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_forms() {
        let none = NalSummary::default();
        let table: [(&[u8], NalSummary); 9] = [
            (&[0x40, 1, 0xc], NalSummary { vps: true, ..none }),
            (&[0x42, 1, 1], NalSummary { sps: true, ..none }),
            (&[0x26, 1, 0xaf], NalSummary { irap: true, first_slice: true, ..none }),
            (&[0x26, 1, 0x2f], NalSummary { irap: true, ..none }),
            (&[0x02, 1, 0xd0], NalSummary { first_slice: true, ..none }),
            (&[0x02, 1, 0x50], none),
            (&[0x60, 1, 0, 2, 0x42, 1, 0, 2, 0x44, 1], NalSummary { sps: true, pps: true, ..none }),
            (&[0x62, 1, 0x80 | 19, 0], NalSummary { irap: true, ..none }),
            (&[0x62, 1, 19, 0xaf], none),
        ];
        for (payload, summary) in table {
            assert_eq!(inspect(payload), Ok(summary), "{payload:02x?}");
        }
        assert_eq!(inspect(&[0x62]), Err(WireError::Truncated));
        assert_eq!(inspect(&[0x60, 1, 0, 9, 1]), Err(WireError::Length));
    }

    #[test]
    fn where_a_decoder_may_start() {
        for (payload, decoder, irap) in [
            (&[0x60, 1, 0, 2, 0x40, 1, 0, 2, 0x42, 1, 0, 2, 0x44, 1][..], true, false),
            (&[0x60, 1, 0, 2, 0x40, 1, 0, 3, 0x26, 1, 0xaf], true, true),
            (&[0x42, 1, 1], false, false),
            (&[0x62, 1, 0x80 | 21, 0xaf], false, true),
            (&[0x62, 1, 21, 0xaf], false, false),
            (&[0x62, 1, 0x80 | 1, 0xaf], false, false),
        ] {
            let summary = inspect(payload).unwrap();
            assert_eq!((summary.starts_decoder(), summary.starts_irap()), (decoder, irap), "{payload:02x?}");
        }
    }
}
