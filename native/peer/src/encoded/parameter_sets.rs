//! H264 parameter sets. An encoder may send them once; who begins to decode later needs them in front of the key frame.

use greenroom_wire::annexb;

/// More bytes than this are no parameter sets.
const MAX_BYTES: usize = 4096;

#[derive(Default)]
pub struct ParameterSets {
    /// In Annex B form.
    newest: Vec<u8>,
    size: Option<(u16, u16)>,
}

impl ParameterSets {
    /// Look at a frame. Returns what to put in front of it: nothing, unless it is a key frame that came without.
    pub fn before(&mut self, frame: &[u8]) -> &[u8] {
        let (mut has_sps, mut has_idr) = (false, false);
        for unit in annexb::units(frame) {
            match annexb::kind(unit) {
                annexb::SPS => {
                    if !std::mem::replace(&mut has_sps, true) {
                        self.newest.clear();
                    }
                    self.size = annexb::picture_size(unit).or(self.size);
                    self.keep(unit);
                }
                annexb::PPS => self.keep(unit),
                kind => has_idr |= kind == annexb::IDR,
            }
        }
        if has_idr && !has_sps { &self.newest } else { &[] }
    }

    /// Width and height that the newest parameter set states.
    pub fn picture_size(&self) -> Option<(u16, u16)> {
        self.size
    }

    fn keep(&mut self, unit: &[u8]) {
        if self.newest.len() + unit.len() + 4 <= MAX_BYTES {
            self.newest.extend_from_slice(&[0, 0, 0, 1]);
            self.newest.extend_from_slice(unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_without_sets_get_the_newest() {
        let mut sets = ParameterSets::default();
        assert_eq!(sets.before(&[0, 0, 0, 1, 0x65, 0x88]), []);
        assert_eq!(sets.before(&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x88]), []);
        assert_eq!(sets.before(&[0, 0, 0, 1, 0x41, 0x9a]), []);
        assert_eq!(sets.before(&[0, 0, 0, 1, 0x65, 0x88]), [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2]);
        // Another parameter set takes the place of all.
        assert_eq!(sets.before(&[0, 0, 1, 0x67, 3]), []);
        assert_eq!(sets.before(&[0, 0, 1, 0x65, 0x88]), [0, 0, 0, 1, 0x67, 3]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sets = ParameterSets::default();
        for _ in 0..10 {
            sets.before(&[&[0, 0, 1, 0x68][..], &[7; 1000]].concat());
        }
        assert!(sets.before(&[0, 0, 1, 0x65]).len() <= MAX_BYTES);
    }
}
