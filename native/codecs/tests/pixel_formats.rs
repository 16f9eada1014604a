//! Every format to every other: colours stay what they are, sizes are checked, odd sides work.

use greenroom_codecs::pixels::{PixelFormat, convert};

const BARS: [[u8; 3]; 4] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 180, 40]];

/// Four vertical bars, half transparent.
fn bars(width: usize, height: usize) -> Vec<u8> {
    (0..height)
        .flat_map(|_| {
            (0..width).flat_map(move |x| {
                let [r, g, b] = BARS[x * 4 / width];
                [r, g, b, 128]
            })
        })
        .collect()
}

fn check_bars(rgba: &[u8], width: usize, height: usize, what: &str) {
    for (index, expected) in BARS.iter().enumerate() {
        let (x, y) = ((index * 2 + 1) * width / 8, height / 2);
        let pixel = &rgba[(y * width + x) * 4..][..4];
        for channel in 0..3 {
            let off = (i32::from(pixel[channel]) - i32::from(expected[channel])).abs();
            assert!(off <= 6, "{what}: bar {index} is {pixel:?}, not {expected:?}");
        }
    }
}

#[test]
fn all_pairs_keep_the_colours() {
    for (width, height) in [(64, 48), (37, 23)] {
        let rgba = bars(width, height);
        for from in PixelFormat::ALL {
            let source = convert(&rgba, width, height, PixelFormat::Rgba, from, false).unwrap();
            assert_eq!(source.len(), from.size(width, height), "{from:?}");
            for to in PixelFormat::ALL {
                let converted = convert(&source, width, height, from, to, false).unwrap();
                assert_eq!(converted.len(), to.size(width, height), "{from:?} to {to:?}");
                let back = convert(&converted, width, height, to, PixelFormat::Rgba, false).unwrap();
                check_bars(&back, width, height, &format!("{from:?} to {to:?} at {width}x{height}"));
            }
        }
    }
}

#[test]
fn rgb_formats_name_the_order_in_memory() {
    let pixel = [1, 2, 3, 4];
    let to = |format| convert(&pixel, 1, 1, PixelFormat::Rgba, format, false).unwrap();
    assert_eq!(to(PixelFormat::Abgr), [4, 3, 2, 1]);
    assert_eq!(to(PixelFormat::Argb), [4, 1, 2, 3]);
    assert_eq!(to(PixelFormat::Bgra), [3, 2, 1, 4]);
    assert_eq!(to(PixelFormat::Rgb24), [1, 2, 3]);
    let back = convert(&[1, 2, 3], 1, 1, PixelFormat::Rgb24, PixelFormat::Argb, false).unwrap();
    assert_eq!(back, [255, 1, 2, 3]);
}

#[test]
fn alpha_survives_where_there_is_room_for_it() {
    let rgba = bars(8, 4);
    let planar = convert(&rgba, 8, 4, PixelFormat::Rgba, PixelFormat::I420A, false).unwrap();
    assert!(planar[planar.len() - 32..].iter().all(|a| *a == 128));
    let back = convert(&planar, 8, 4, PixelFormat::I420A, PixelFormat::Bgra, false).unwrap();
    assert!(back.chunks(4).all(|pixel| pixel[3] == 128));
    let opaque = convert(&planar, 8, 4, PixelFormat::I420A, PixelFormat::I420, false).unwrap();
    let opaque = convert(&opaque, 8, 4, PixelFormat::I420, PixelFormat::Argb, false).unwrap();
    assert!(opaque.chunks(4).all(|pixel| pixel[0] == 255));
}

#[test]
fn ten_bits_are_little_endian_and_low() {
    let luma = convert(&[235, 128, 128], 1, 1, PixelFormat::I420, PixelFormat::I010, false).unwrap();
    assert_eq!(luma[..2], (235u16 << 2).to_le_bytes());
}

#[test]
fn flipping_turns_every_plane() {
    let (width, height) = (6, 5);
    let rgba: Vec<u8> = (0..height).flat_map(|y| [y as u8 * 50; 6 * 4]).collect();
    for format in PixelFormat::ALL {
        let straight = convert(&rgba, width, height, PixelFormat::Rgba, format, false).unwrap();
        let flipped = convert(&straight, width, height, format, format, true).unwrap();
        let back = convert(&flipped, width, height, format, PixelFormat::Rgba, false).unwrap();
        assert!(back[0] > 190 && back[back.len() - 4] < 10, "{format:?}: {} {}", back[0], back[back.len() - 4]);
        assert_eq!(convert(&flipped, width, height, format, format, true).unwrap(), straight, "{format:?}");
    }
}

#[test]
fn wrong_sizes_are_errors() {
    assert!(convert(&[0; 10], 2, 2, PixelFormat::Rgba, PixelFormat::I420, false).is_err());
    assert!(convert(&[], 0, 2, PixelFormat::Rgba, PixelFormat::I420, false).is_err());
    assert!(convert(&[], 1 << 20, 1 << 20, PixelFormat::Rgba, PixelFormat::I420, false).is_err());
    assert!(PixelFormat::from_value(11).is_err() && PixelFormat::from_value(-1).is_err());
}
