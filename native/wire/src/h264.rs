//! H.264 payloads (RFC 6184): which parameter sets and pictures a packet carries.

use crate::WireError;
use crate::bytes::u16_at;

/// Slice of a picture that is no IDR; data partition A; slice of an IDR picture: the units that begin with `first_mb_in_slice`.
const SLICE: u8 = 1;
const PARTITION_A: u8 = 2;
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
    /// A sequence parameter set.
    pub sps: bool,
    /// A picture parameter set.
    pub pps: bool,
    /// A slice of an instantaneous decoder refresh picture.
    pub idr: bool,
    /// The first slice of a picture (`first_mb_in_slice` is 0), IDR or not: no slice of that picture came before.
    pub first_slice: bool,
}

impl NalSummary {
    /// The packet opens a key frame, or continues one with its IDR picture. To start a new receiver wait for
    /// [`starts_decoder`](Self::starts_decoder).
    pub fn is_keyframe(&self) -> bool {
        self.sps || self.idr
    }

    /// A decoder that has seen nothing can start with this packet and what follows it: it holds a sequence parameter set,
    /// which encoders send before the IDR picture that needs it, in the same packet or in one of its own. A decoder that
    /// starts at an IDR picture without one shows nothing.
    pub fn starts_decoder(&self) -> bool {
        self.sps
    }

    /// A decoder that already has the parameter sets (the stream repeated none since) can start with this packet: the IDR
    /// picture begins here.
    pub fn starts_idr(&self) -> bool {
        self.idr && self.first_slice
    }

    /// A unit of type `kind` whose header `next` follows.
    fn add(&mut self, kind: u8, next: Option<&u8>) {
        match kind {
            SPS => self.sps = true,
            PPS => self.pps = true,
            IDR => self.idr = true,
            _ => {}
        }
        // A slice header begins with first_mb_in_slice in Exp-Golomb code, in which 0 is a single 1 bit (H.264 7.3.3, 9.1).
        if matches!(kind, SLICE | PARTITION_A | IDR) && next.is_some_and(|b| b & 0x80 != 0) {
            self.first_slice = true;
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
                    summary.add(header & 0x1f, unit.get(1));
                }
                at += 2 + len;
            }
        }
        FU_A | FU_B => {
            let &header = payload.get(1).ok_or(WireError::Truncated)?;
            if header & 0x80 != 0 {
                summary.add(header & 0x1f, payload.get(2));
            }
        }
        kind => summary.add(kind, payload.get(1)),
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_forms() {
        let none = NalSummary::default();
        let table: [(&[u8], NalSummary); 11] = [
            (&[0x67, 0x42], NalSummary { sps: true, ..none }),
            (&[0x68], NalSummary { pps: true, ..none }),
            (&[0x65, 0x88], NalSummary { idr: true, first_slice: true, ..none }),
            (&[0x65, 0x08], NalSummary { idr: true, ..none }),
            (&[0x65], NalSummary { idr: true, ..none }),
            (&[0x41, 0x9a], NalSummary { first_slice: true, ..none }),
            (&[0x41, 0x1a], none),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], NalSummary { sps: true, pps: true, ..none }),
            (&[0x7c, 0x85, 1], NalSummary { idr: true, ..none }),
            (&[0x7c, 0x05, 0x88], none),
            (&[0x7c, 0x81, 0x9a], NalSummary { first_slice: true, ..none }),
        ];
        for (payload, summary) in table {
            assert_eq!(inspect(payload), Ok(summary), "{payload:02x?}");
        }
    }

    /// How encoders lay out a key frame: all in one aggregate, sets aggregated before the picture, sets in packets of their
    /// own behind an access unit delimiter, and a repeated IDR without sets.
    #[test]
    fn where_a_decoder_may_start() {
        let all: &[u8] = &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88];
        let summary = inspect(all).unwrap();
        assert!(summary.starts_decoder() && summary.starts_idr() && summary.is_keyframe());
        for (payload, decoder, idr) in [
            (&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce][..], true, false),
            (&[0x09, 0xf0], false, false),
            (&[0x67, 0x42], true, false),
            (&[0x68, 0xce], false, false),
            (&[0x7c, 0x85, 0x88], false, true),
            (&[0x7c, 0x45, 0x88], false, false),
            (&[0x65, 0x24], false, false),
            (&[0x61, 0x9a], false, false),
        ] {
            let summary = inspect(payload).unwrap();
            assert_eq!((summary.starts_decoder(), summary.starts_idr()), (decoder, idr), "{payload:02x?}");
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
