//! Milliseconds for 720p conversions: `cargo run --release -p greenroom-codecs --example pixel_speed` prints JSON lines.

use std::time::Instant;

use greenroom_codecs::pixels::{PixelFormat, convert_into};

fn main() {
    let (width, height) = (1280, 720);
    for (from, to) in [
        (PixelFormat::I420, PixelFormat::Rgba),
        (PixelFormat::I420, PixelFormat::Bgra),
        (PixelFormat::I420, PixelFormat::Argb),
        (PixelFormat::I420, PixelFormat::Rgb24),
        (PixelFormat::I420, PixelFormat::Nv12),
        (PixelFormat::Rgba, PixelFormat::I420),
        (PixelFormat::Argb, PixelFormat::I420),
        (PixelFormat::Rgb24, PixelFormat::I420),
        (PixelFormat::Nv12, PixelFormat::I420),
        (PixelFormat::Rgba, PixelFormat::Bgra),
    ] {
        let data = vec![100; from.size(width, height)];
        let mut out = vec![0; to.size(width, height)];
        let best = (0..30)
            .map(|_| {
                let started = Instant::now();
                convert_into(&data, width, height, from, to, false, &mut out).unwrap();
                started.elapsed()
            })
            .min()
            .unwrap();
        println!(
            "{{\"name\": \"convert_720p\", \"from\": \"{from:?}\", \"to\": \"{to:?}\", \"ms\": {:.3}}}",
            best.as_secs_f64() * 1e3
        );
    }
}
