//! Interleaved 16-bit samples: channel counts and levels.

/// Append `input` with `from` channels to `out` with `to` channels. Down-mixing averages; up-mixing repeats. Between
/// other counts the common channels are kept and the rest is silent.
pub fn mix_channels(input: &[i16], from: usize, to: usize, out: &mut Vec<i16>) {
    debug_assert!(from > 0 && to > 0);
    let frames = input.len() / from;
    out.reserve(frames * to);
    match (from, to) {
        (a, b) if a == b => out.extend_from_slice(&input[..frames * from]),
        (1, _) => input.iter().for_each(|sample| out.extend(std::iter::repeat_n(*sample, to))),
        (2, 1) => out.extend(input.chunks_exact(2).map(|f| ((f[0] as i32 + f[1] as i32) >> 1) as i16)),
        (_, 1) => out
            .extend(input.chunks_exact(from).map(|f| (f.iter().map(|s| *s as i32).sum::<i32>() / from as i32) as i16)),
        _ => input.chunks_exact(from).for_each(|frame| {
            (0..to).for_each(|channel| out.push(frame.get(channel).copied().unwrap_or(0)));
        }),
    }
}

/// Root mean square over full scale, in dB: 0 is the loudest, -127 is silence (RFC 6464).
pub fn level_dbov(pcm: &[i16]) -> i8 {
    if pcm.is_empty() {
        return -127;
    }
    let energy: f64 = pcm.iter().map(|s| (*s as f64) * (*s as f64)).sum::<f64>() / pcm.len() as f64;
    if energy <= 0.0 {
        return -127;
    }
    let db = 10.0 * (energy / (32768.0 * 32768.0)).log10();
    db.round().clamp(-127.0, 0.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(input: &[i16], from: usize, to: usize) -> Vec<i16> {
        let mut out = Vec::new();
        mix_channels(input, from, to, &mut out);
        out
    }

    #[test]
    fn channel_counts() {
        assert_eq!(mixed(&[1, 2, 3], 1, 1), [1, 2, 3]);
        assert_eq!(mixed(&[1, 2], 1, 2), [1, 1, 2, 2]);
        assert_eq!(mixed(&[10, 20, -10, -30], 2, 1), [15, -20]);
        assert_eq!(mixed(&[3, 6, 9, 1, 1, 1], 3, 1), [6, 1]);
        assert_eq!(mixed(&[1, 2, 3, 4], 2, 4), [1, 2, 0, 0, 3, 4, 0, 0]);
        assert_eq!(mixed(&[1, 2, 3, 4, 5, 6], 3, 2), [1, 2, 4, 5]);
        assert_eq!(mixed(&[i16::MAX, i16::MAX], 2, 1), [i16::MAX], "the sum does not wrap");
    }

    #[test]
    fn levels() {
        assert_eq!(level_dbov(&[]), -127);
        assert_eq!(level_dbov(&[0; 480]), -127);
        assert_eq!(level_dbov(&[i16::MIN; 480]), 0);
        assert_eq!(level_dbov(&[3277; 480]), -20);
    }
}
