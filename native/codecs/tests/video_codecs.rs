//! VP8 and H264: a picture goes in, the same picture comes out; key frames come when asked for.

use greenroom_codecs::pixels::{PixelFormat, to_i420};
use greenroom_codecs::video::{I420, VideoCodec, VideoSettings, decoder, encoder};

fn picture(width: usize, height: usize, shift: usize) -> I420 {
    let rgba: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [((x + shift) % 256) as u8, (y % 256) as u8, 90, 255]))
        .collect();
    to_i420(&rgba, width, height, PixelFormat::Rgba).unwrap()
}

fn difference(a: &I420, b: &I420) -> f64 {
    let sum: u64 = a.data.iter().zip(&b.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.data.len() as f64
}

fn settings(width: usize, height: usize) -> VideoSettings {
    VideoSettings { width, height, bitrate: 1_500_000, fps: 30.0, screencast: false }
}

#[test]
fn pictures_survive() {
    for codec in [VideoCodec::Vp8, VideoCodec::H264] {
        let mut encoder = encoder(codec, settings(320, 240)).unwrap();
        let mut decoder = decoder(codec).unwrap();
        let mut keys = Vec::new();
        for n in 0..30usize {
            let source = picture(320, 240, n);
            let Some(encoded) = encoder.encode(&source, n as i64 * 33_333, n == 15).unwrap() else { continue };
            if encoded.key {
                keys.push(n);
            }
            let shown = decoder.decode(&encoded.data).unwrap().expect("a picture for every frame");
            assert_eq!((shown.width, shown.height), (320, 240));
            let off = difference(&source, &shown);
            assert!(off < 6.0, "{codec:?} frame {n}: {off}");
        }
        assert_eq!(keys, [0, 15], "{codec:?}");
    }
}

#[test]
fn odd_sides_work_in_vp8() {
    let mut encoder = encoder(VideoCodec::Vp8, settings(101, 77)).unwrap();
    let mut decoder = decoder(VideoCodec::Vp8).unwrap();
    let source = picture(101, 77, 0);
    let encoded = encoder.encode(&source, 0, true).unwrap().unwrap();
    let shown = decoder.decode(&encoded.data).unwrap().unwrap();
    assert_eq!((shown.width, shown.height), (101, 77));
    assert!(difference(&source, &shown) < 6.0);
}

#[test]
fn rates_change_while_running() {
    for codec in [VideoCodec::Vp8, VideoCodec::H264] {
        let mut encoder = encoder(codec, settings(320, 240)).unwrap();
        let mut sizes = [0, 0];
        for (phase, rate) in [1_500_000, 100_000].into_iter().enumerate() {
            encoder.set_bitrate(rate).unwrap();
            for n in 0..60 {
                let n = phase * 60 + n;
                let noisy = {
                    let mut p = picture(320, 240, n * 7);
                    let mut state = n as u32 + 1;
                    p.planes_mut()[0].iter_mut().for_each(|y| {
                        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                        *y = y.wrapping_add((state >> 29) as u8);
                    });
                    p
                };
                if let Some(e) = encoder.encode(&noisy, n as i64 * 33_333, false).unwrap()
                    && n % 60 > 10
                {
                    sizes[phase] += e.data.len();
                }
            }
        }
        assert!(sizes[1] * 3 < sizes[0], "{codec:?}: {sizes:?}");
    }
}

#[test]
fn garbage_is_an_error_or_nothing() {
    for codec in [VideoCodec::Vp8, VideoCodec::H264] {
        let mut decoder = decoder(codec).unwrap();
        for garbage in [&b""[..], b"\x00", &[0xff; 64], &[0, 0, 0, 1, 0x67, 1, 2, 3], &[0u8; 3000]] {
            assert!(!matches!(decoder.decode(garbage), Ok(Some(_))), "{codec:?} made a picture of {garbage:?}");
        }
    }
}

#[test]
fn scaling_keeps_flat_colours_and_sizes() {
    let source = to_i420(&[10, 200, 30, 255].repeat(130 * 70), 130, 70, PixelFormat::Rgba).unwrap();
    for (width, height) in [(65, 35), (64, 36), (33, 17), (130, 70), (260, 140)] {
        let scaled = source.scaled(width, height);
        assert_eq!(scaled.data.len(), I420::size(width, height));
        for (plane, original) in scaled.planes().into_iter().zip(source.planes()) {
            assert!(plane.iter().all(|v| v.abs_diff(original[0]) <= 1));
        }
    }
}
