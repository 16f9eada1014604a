//! What is said about pictures travels with them: both codecs, all layers of a simulcast, and only where it was announced.

mod common;

use common::{PATIENCE, Side, negotiate};
use greenroom_codecs::pixels::PixelFormat;
use greenroom_codecs::video::VideoCodec;
use greenroom_peer::Event;
use greenroom_peer::video::input::{VideoInput, VideoLayer};
use greenroom_peer::video::metadata::FrameMetadata;
use greenroom_peer::video::receiver::VideoFrame;

fn layer(rid: &str, scale_down_by: f64) -> VideoLayer {
    VideoLayer { rid: rid.into(), scale_down_by, max_bitrate: 500_000, max_fps: 0.0 }
}

/// Grey as bright as the number, which is said, too.
fn push(source: &VideoInput, number: u32) {
    let pixels = vec![number as u8; 320 * 240 * 4];
    let said = FrameMetadata {
        timestamp_us: Some(1_700_000_000_000_000 + u64::from(number)),
        frame_id: Some(number),
        user_data: format!("number {number}").into_bytes(),
    };
    source.push_with(&pixels, 320, 240, PixelFormat::Rgba, 0, 0, &said).unwrap();
}

fn brightness(frame: &VideoFrame) -> u32 {
    // Limited range: 16 to 235.
    (u32::from(frame.data[frame.width * frame.height / 2]).saturating_sub(16) * 255 + 109) / 219
}

fn pictures(codec: VideoCodec, layers: &[VideoLayer], trailers: bool) -> Vec<VideoFrame> {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.video_input(false);
    let mid = a.send_video(&source, "cid", "stream", codec, layers, trailers).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    let sink = b.receive_video(&mid, 120).unwrap();
    let mut seen = Vec::new();
    let started = std::time::Instant::now();
    for number in 0.. {
        assert!(started.elapsed() < PATIENCE, "{} pictures", seen.len());
        push(&source, 20 + number % 12 * 16);
        if number == 0 {
            // Whatever is pushed before the first is seen may be dropped.
            right.wait_for(Event::Video(sink.id()));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        seen.extend(sink.read());
        if seen.len() >= 24 {
            break;
        }
    }
    seen
}

fn each_says_what_it_shows(frames: &[VideoFrame]) {
    for frame in frames {
        let said = frame.metadata.as_deref().expect("something is said about every picture");
        let number = said.frame_id.unwrap();
        assert!(brightness(frame).abs_diff(number) < 8, "{number} is shown as {}", brightness(frame));
        assert_eq!(said.timestamp_us, Some(1_700_000_000_000_000 + u64::from(number)));
        assert_eq!(said.user_data, format!("number {number}").into_bytes());
    }
}

#[test]
fn vp8() {
    each_says_what_it_shows(&pictures(VideoCodec::Vp8, &[layer("", 1.0)], true));
}

#[test]
fn h264() {
    each_says_what_it_shows(&pictures(VideoCodec::H264, &[layer("", 1.0)], true));
}

#[test]
fn every_layer_of_a_simulcast() {
    for layers in [[layer("f", 1.0), layer("q", 4.0)], [layer("q", 4.0), layer("f", 1.0)]] {
        each_says_what_it_shows(&pictures(VideoCodec::Vp8, &layers, true));
    }
}

#[test]
fn nothing_is_said_unannounced() {
    assert!(pictures(VideoCodec::Vp8, &[layer("", 1.0)], false).iter().all(|frame| frame.metadata.is_none()));
}
