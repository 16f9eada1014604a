//! H.264 in Annex B form: NAL units behind start codes, and the size of the picture out of a sequence parameter set
//! (ITU-T H.264 7.3.2.1, 7.4.2.1 and Annex B).

/// Instantaneous decoder refresh, sequence and picture parameter set.
pub const IDR: u8 = 5;
/// See [`IDR`].
pub const SPS: u8 = 7;
/// See [`IDR`].
pub const PPS: u8 = 8;

/// Bytes that contain `00 00 01` begin a new unit there.
pub fn has_start_code(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|w| w == [0, 0, 1])
}

/// The units of a frame, without start codes and without the zeros in front of them. What precedes the first start code is
/// left out; empty units are.
pub fn units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = match next_start(frame) {
        Some((_, after)) => &frame[after..],
        None => &[][..],
    };
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (unit, tail) = match next_start(rest) {
                Some((before, after)) => (&rest[..before], &rest[after..]),
                None => (rest, &[][..]),
            };
            rest = tail;
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    })
}

/// The type of a unit (`nal_unit_type`); 0, which no unit has, for an empty one.
pub fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// Where the zeros of the next start code begin, and where its unit does.
fn next_start(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = bytes.windows(3).position(|w| w == [0, 0, 1])?;
    let zeros = bytes[..at].iter().rev().take_while(|b| **b == 0).count();
    Some((at - zeros, at + 3))
}

/// Width and height of the shown picture (after cropping), from a sequence parameter set with its header byte.
///
/// None for what is cut short, or says what the standard forbids.
pub fn picture_size(sps: &[u8]) -> Option<(u16, u16)> {
    let (&header, rest) = sps.split_first()?;
    if header & 0x1f != SPS {
        return None;
    }
    let mut bits = Bits { bytes: rest, at: 0, zeros: 0 };
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints, level
    bits.unsigned()?; // seq_parameter_set_id
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.take(1)?; // separate_colour_plane_flag
        }
        bits.unsigned()?; // bit depths
        bits.unsigned()?;
        bits.take(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.take(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.take(1)? == 1 {
                    bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?; // log2_max_frame_num_minus4
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.take(1)?;
            bits.unsigned()?; // two offsets, signed; their sign does not matter here
            bits.unsigned()?;
            let cycle = bits.unsigned()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.unsigned()?;
            }
        }
        2 => {}
        _ => return None,
    }
    bits.unsigned()?; // max_num_ref_frames
    bits.take(1)?; // gaps_in_frame_num_value_allowed_flag
    let macroblocks = bits.unsigned()?.checked_add(1)?;
    let rows = bits.unsigned()?.checked_add(1)?;
    let frames_only = bits.take(1)?;
    if frames_only == 0 {
        bits.take(1)?; // mb_adaptive_frame_field_flag
    }
    bits.take(1)?; // direct_8x8_inference_flag
    let width = macroblocks.checked_mul(16)?;
    let height = rows.checked_mul(16)?.checked_mul(2 - frames_only)?;
    let mut crop = [0; 4];
    if bits.take(1)? == 1 {
        for side in &mut crop {
            *side = bits.unsigned()?;
        }
    }
    // Cropping counts chroma samples (of a field, when there are fields); without chroma, luma.
    let across = if matches!(chroma, 1 | 2) { 2 } else { 1 };
    let down = (2 - frames_only) * if chroma == 1 { 2 } else { 1 };
    let shown = |size: u32, first: u32, last: u32, unit: u32| {
        let left = size.checked_sub(first.checked_add(last)?.checked_mul(unit)?)?;
        u16::try_from(left).ok().filter(|left| *left > 0)
    };
    Some((shown(width, crop[0], crop[1], across)?, shown(height, crop[2], crop[3], down)?))
}

/// Bits of a unit, without the bytes that keep start codes out of it.
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
    /// Zero bytes in a row before the current one.
    zeros: u8,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        if self.at.is_multiple_of(8) {
            let byte = *self.bytes.get(self.at / 8)?;
            if self.zeros >= 2 && byte == 3 {
                self.at += 8;
                self.zeros = 0;
            }
            let byte = *self.bytes.get(self.at / 8)?;
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some(value << 1 | self.bit()?))
    }

    /// Exp-Golomb (9.1), of up to 31 bits.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    /// 7.3.2.1.1.1: entries until the next scale would be 0.
    fn skip_scaling_list(&mut self, entries: u32) -> Option<()> {
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..entries {
            if next != 0 {
                let code = i64::from(self.unsigned()?);
                let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
                next = (last + delta).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_frame() {
        let frame = [9, 9, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 0, 0, 0, 1, 0, 0, 1, 0x65, 7];
        let found: Vec<&[u8]> = units(&frame).collect();
        assert_eq!(found, [&[0x67, 1, 2][..], &[0x68], &[0x65, 7]]);
        assert_eq!(found.iter().map(|unit| kind(unit)).collect::<Vec<_>>(), [SPS, PPS, IDR]);
        for nothing in [&[][..], &[0, 0], &[0, 0, 1], &[1, 2, 3], &[0, 0, 0, 1, 0, 0, 1]] {
            assert_eq!(units(nothing).count(), 0, "{nothing:?}");
        }
        assert!(has_start_code(&frame) && !has_start_code(&[0, 0, 2, 0, 1]));
    }

    /// A parameter set of a profile with these fields: `u1` is one bit, `ue` is Exp-Golomb.
    enum Field {
        U1(u32),
        Ue(u32),
    }
    use Field::{U1, Ue};

    fn sps(profile: u8, fields: &[Field]) -> Vec<u8> {
        let mut bits: Vec<u32> = Vec::new();
        for field in fields {
            match field {
                U1(bit) => bits.push(*bit),
                Ue(value) => {
                    let width = (value + 1).ilog2();
                    bits.extend(std::iter::repeat_n(0, width as usize));
                    bits.extend((0..=width).rev().map(|i| (value + 1) >> i & 1));
                }
            }
        }
        bits.push(1);
        let mut out = vec![0x67, profile, 0, 31];
        for byte in bits.chunks(8) {
            let byte = byte.iter().enumerate().fold(0, |all, (i, bit)| all | (*bit as u8) << (7 - i));
            if byte <= 3 && out.ends_with(&[0, 0]) {
                out.push(3);
            }
            out.push(byte);
        }
        out
    }

    #[test]
    fn sizes() {
        // id, frame numbers, order count of type 0, references, gaps, width, height, frames only, inference, cropping.
        let plain = [Ue(0), Ue(0), Ue(0), Ue(0), Ue(1), U1(0), Ue(19), Ue(14), U1(1), U1(1), U1(0)];
        assert_eq!(picture_size(&sps(66, &plain)), Some((320, 240)));
        // 23 rows of macroblocks, of which four pairs of lines are not shown; order count of type 2.
        let crop = [Ue(0), Ue(0), Ue(2), Ue(1), U1(0), Ue(39), Ue(22), U1(1), U1(1), U1(1), Ue(0), Ue(0), Ue(0), Ue(4)];
        assert_eq!(picture_size(&sps(66, &crop)), Some((640, 360)));
        // High profile, interlaced, two scaling lists (one ends at once, one is flat), order count of type 1.
        let mut high = vec![Ue(0), Ue(1), Ue(0), Ue(0), U1(0), U1(1)];
        high.extend([U1(1), Ue(16)]); // 8 - 8 = 0
        high.push(U1(1));
        high.extend((0..16).map(|_| Ue(0)));
        high.extend((0..6).map(|_| U1(0)));
        high.extend([Ue(0), Ue(1), U1(0), Ue(3), Ue(4), Ue(2), Ue(1), Ue(1), Ue(4), U1(0)]);
        high.extend([Ue(119), Ue(33), U1(0), U1(0), U1(1), U1(1), Ue(0), Ue(0), Ue(0), Ue(2)]);
        assert_eq!(picture_size(&sps(100, &high)), Some((1920, 1080)));
        // More is cut off than is there.
        let all = [Ue(0), Ue(0), Ue(2), Ue(1), U1(0), Ue(0), Ue(0), U1(1), U1(1), U1(1), Ue(8), Ue(0), Ue(0), Ue(0)];
        assert_eq!(picture_size(&sps(66, &all)), None);
        // Zeros enough for bytes that keep start codes out.
        let zeros = [Ue(0), Ue(0), Ue(2), Ue((1 << 30) - 1), U1(0), Ue(19), Ue(14), U1(1), U1(1), U1(0)];
        assert!(sps(66, &zeros).windows(3).any(|w| w == [0, 0, 3]));
        assert_eq!(picture_size(&sps(66, &zeros)), Some((320, 240)));
    }

    #[test]
    fn malformed() {
        assert_eq!(picture_size(&[]), None);
        assert_eq!(picture_size(&[0x68, 1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(picture_size(&[0x67, 66, 0, 31]), None);
        assert_eq!(picture_size(&[0x67, 66, 0, 31, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        let all_ones = [&[0x67, 66, 0, 31][..], &[0xff; 30]].concat();
        // One macroblock, with cropping of nothing: what is possible is taken.
        assert_eq!(picture_size(&all_ones), Some((16, 16)));
    }
}
