//! H.264 payloads (RFC 6184): which parameter sets and pictures a packet carries.

use crate::WireError;
use crate::bytes::u16_at;

const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const FU_A: u8 = 28;
const FU_B: u8 = 29;

/// What begins in a packet. A fragment counts only in the packet that starts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NalSummary {
    /// A sequence parameter set: a decoder can start here from nothing.
    pub sps: bool,
    /// A picture parameter set.
    pub pps: bool,
    /// An instantaneous decoder refresh picture.
    pub idr: bool,
}

impl NalSummary {
    /// The packet opens a key frame, or continues one with its IDR picture. To start a new receiver wait for `sps`: an
    /// encoder that sends parameter sets in packets of their own sends them before the IDR.
    pub fn is_keyframe(&self) -> bool {
        self.sps || self.idr
    }

    fn add(&mut self, kind: u8) {
        match kind {
            SPS => self.sps = true,
            PPS => self.pps = true,
            IDR => self.idr = true,
            _ => {}
        }
    }
}

/// Looks into single NAL units, aggregates (STAP) and the first fragment of fragmented units (FU).
///
/// Errors: `Truncated`, `Length` (an aggregate whose sizes do not add up).
pub fn inspect(payload: &[u8]) -> Result<NalSummary, WireError> {
    let mut summary = NalSummary::default();
    let &first = payload.first().ok_or(WireError::Truncated)?;
    match first & 0x1f {
        kind @ (STAP_A | STAP_B) => {
            let mut at = if kind == STAP_A { 1 } else { 3 }; // STAP-B has a decoding order number
            while at < payload.len() {
                let len = u16_at(payload, at)? as usize;
                let unit = payload.get(at + 2..at + 2 + len).ok_or(WireError::Length)?;
                if let Some(&header) = unit.first() {
                    summary.add(header & 0x1f);
                }
                at += 2 + len;
            }
        }
        FU_A | FU_B => {
            let &header = payload.get(1).ok_or(WireError::Truncated)?;
            if header & 0x80 != 0 {
                summary.add(header & 0x1f);
            }
        }
        kind => summary.add(kind),
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_forms() {
        let none = NalSummary::default();
        let table: [(&[u8], NalSummary); 8] = [
            (&[0x67, 0x42], NalSummary { sps: true, ..none }),
            (&[0x68], NalSummary { pps: true, ..none }),
            (&[0x65, 0x88], NalSummary { idr: true, ..none }),
            (&[0x41, 0x9a], none),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], NalSummary { sps: true, pps: true, ..none }),
            (&[0x7c, 0x85, 1], NalSummary { idr: true, ..none }),
            (&[0x7c, 0x05, 1], none),
            (&[0x7c, 0x81, 1], none),
        ];
        for (payload, summary) in table {
            assert_eq!(inspect(payload), Ok(summary), "{payload:02x?}");
        }
    }

    #[test]
    fn malformed() {
        assert_eq!(inspect(&[]), Err(WireError::Truncated));
        assert_eq!(inspect(&[0x7c]), Err(WireError::Truncated));
        assert_eq!(inspect(&[0x78, 0]), Err(WireError::Truncated));
        assert_eq!(inspect(&[0x78, 0, 9, 0x67]), Err(WireError::Length));
    }
}
