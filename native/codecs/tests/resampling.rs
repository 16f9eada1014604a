//! Rates in and out: a tone keeps its frequency, its level and its length.

use greenroom_codecs::resample::Resampler;

fn tone(rate: u32, hz: f64, frames: usize, channels: usize) -> Vec<i16> {
    (0..frames)
        .flat_map(|n| {
            let s = (12000.0 * (std::f64::consts::TAU * hz * n as f64 / rate as f64).sin()) as i16;
            std::iter::repeat_n(s, channels)
        })
        .collect()
}

/// Power of `hz` relative to the whole, by correlation.
fn purity(pcm: &[i16], rate: u32, hz: f64) -> f64 {
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, s) in pcm.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / rate as f64;
        re += *s as f64 * phase.cos();
        im += *s as f64 * phase.sin();
        all += (*s as f64).powi(2);
    }
    2.0 * (re * re + im * im) / pcm.len() as f64 / all
}

#[test]
fn a_tone_survives_every_pair_of_rates() {
    let rates = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000];
    for from in rates {
        for to in rates {
            let mut resampler = Resampler::new(from, to, 1).unwrap();
            let input = tone(from, 440.0, from as usize, 1);
            let mut out = Vec::new();
            // Ragged pieces, as programs push them.
            for piece in input.chunks(397) {
                resampler.push(piece, &mut out).unwrap();
            }
            resampler.flush(&mut out).unwrap();
            assert_eq!(out.len(), to as usize, "{from} to {to}");
            let middle = &out[to as usize / 10..to as usize * 9 / 10];
            assert!(purity(middle, to, 440.0) > 0.999, "{from} to {to}: {}", purity(middle, to, 440.0));
            let peak = middle.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!((11500..12500).contains(&peak), "{from} to {to}: peak {peak}");
        }
    }
}

#[test]
fn channels_stay_apart() {
    let mut resampler = Resampler::new(48000, 16000, 2).unwrap();
    let input: Vec<i16> = tone(48000, 300.0, 48000, 1).into_iter().flat_map(|s| [s, 0]).collect();
    let mut out = Vec::new();
    resampler.push(&input, &mut out).unwrap();
    resampler.flush(&mut out).unwrap();
    assert_eq!(out.len(), 32000);
    assert!(out.chunks(2).all(|f| f[1] == 0));
    assert!(out.chunks(2).any(|f| f[0] > 11000));
}

#[test]
fn flush_starts_anew() {
    let mut resampler = Resampler::new(24000, 48000, 1).unwrap();
    let mut first = Vec::new();
    resampler.push(&tone(24000, 440.0, 2400, 1), &mut first).unwrap();
    resampler.flush(&mut first).unwrap();
    let mut second = Vec::new();
    resampler.push(&tone(24000, 440.0, 2400, 1), &mut second).unwrap();
    resampler.flush(&mut second).unwrap();
    assert_eq!(first.len(), 4800);
    assert_eq!(first, second);
}

#[test]
fn mistakes_are_errors() {
    assert!(Resampler::new(0, 48000, 1).is_err());
    assert!(Resampler::new(48000, 16000, 0).is_err());
    let mut resampler = Resampler::new(48000, 16000, 2).unwrap();
    assert!(resampler.push(&[1, 2, 3], &mut Vec::new()).is_err());
}
