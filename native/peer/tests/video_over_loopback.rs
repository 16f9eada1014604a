//! Pictures between two participants: both codecs, both ways, late viewers, simulcast.

mod common;

use std::sync::Arc;

use common::{Side, negotiate};
use greenroom_codecs::pixels::{PixelFormat, convert};
use greenroom_codecs::video::VideoCodec;
use greenroom_peer::video::input::{VideoInput, VideoLayer};
use greenroom_peer::video::receiver::VideoFrame;
use greenroom_peer::{Event, MediaKind, VideoSink};

fn one_layer() -> Vec<VideoLayer> {
    vec![VideoLayer { rid: String::new(), scale_down_by: 1.0, max_bitrate: 800_000, max_fps: 0.0 }]
}

fn flat(width: usize, height: usize, rgb: [u8; 3]) -> Vec<u8> {
    [rgb[0], rgb[1], rgb[2], 255].repeat(width * height)
}

fn centre(frame: &VideoFrame) -> [u8; 3] {
    let rgba = convert(&frame.data, frame.width, frame.height, PixelFormat::I420, PixelFormat::Rgba, false).unwrap();
    let at = (frame.height / 2 * frame.width + frame.width / 2) * 4;
    [rgba[at], rgba[at + 1], rgba[at + 2]]
}

/// Show a colour until it is seen.
fn see(
    source: &Arc<VideoInput>,
    viewer: &mut Side,
    sink: &VideoSink,
    size: (usize, usize),
    rgb: [u8; 3],
) -> VideoFrame {
    let picture = flat(size.0, size.1, rgb);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    loop {
        assert!(std::time::Instant::now() < deadline, "{rgb:?} was not seen");
        source.push(&picture, size.0, size.1, PixelFormat::Rgba, 0, 1).unwrap();
        viewer.wait_for(Event::Video(sink.id()));
        for frame in sink.read() {
            if centre(&frame).iter().zip(rgb).all(|(a, b)| a.abs_diff(b) < 12) {
                return frame;
            }
        }
    }
}

fn both_ways(codec: VideoCodec) {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let (red, blue) = (left.engine.video_input(false), right.engine.video_input(false));
    let sent = a.send_video(&red, "cid", "stream", codec, &one_layer(), false).unwrap();
    negotiate(&a, &b);
    let back = b.send_video(&blue, "cid2", "stream2", codec, &one_layer(), false).unwrap();
    negotiate(&b, &a);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));
    let from_a = b.receive_video(&sent, 0).unwrap();
    let from_b = a.receive_video(&back, 0).unwrap();
    let frame = see(&red, &mut right, &from_a, (320, 240), [220, 30, 40]);
    assert_eq!((frame.width, frame.height, frame.rotation), (320, 240, 1));
    see(&blue, &mut left, &from_b, (160, 120), [20, 40, 210]);
    // The size may change while it is sent.
    let frame = see(&red, &mut right, &from_a, (480, 360), [40, 200, 60]);
    assert_eq!((frame.width, frame.height), (480, 360));
    assert!(
        b.receive_audio(
            &sent,
            greenroom_peer::audio::sink::AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 },
            0
        )
        .is_err()
    );
}

#[test]
fn vp8_both_ways() {
    both_ways(VideoCodec::Vp8);
}

#[test]
fn h264_both_ways() {
    both_ways(VideoCodec::H264);
}

#[test]
fn a_still_picture_reaches_whoever_comes_late() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.video_input(true);
    let mid = a.send_video(&source, "cid", "stream", VideoCodec::Vp8, &one_layer(), false).unwrap();
    // Pushed once, before anybody is there.
    source.push(&flat(64, 48, [200, 200, 20]), 64, 48, PixelFormat::Rgba, 0, 0).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    right.wait("media", |e| matches!(e, Event::Media(..)).then_some(()));
    for _ in 0..2 {
        let sink = b.receive_video(&mid, 0).unwrap();
        right.wait_for(Event::Video(sink.id()));
        let seen = centre(&sink.read()[0]);
        assert!(seen[0] > 180 && seen[2] < 40, "{seen:?}");
    }
    left.wait_for(Event::KeyframeRequest(source.id()));
}

#[test]
fn muted_video_stops_and_comes_back() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.video_input(false);
    let mid = a.send_video(&source, "cid", "stream", VideoCodec::Vp8, &one_layer(), false).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    let sink = b.receive_video(&mid, 0).unwrap();
    see(&source, &mut right, &sink, (64, 48), [10, 200, 10]);
    a.set_send_muted(&mid, true).unwrap();
    source.push(&flat(64, 48, [200, 10, 10]), 64, 48, PixelFormat::Rgba, 0, 0).unwrap();
    a.set_send_muted(&mid, false).unwrap();
    see(&source, &mut right, &sink, (64, 48), [10, 10, 200]);
    assert!(a.set_send_muted("nope", true).is_err());
}

#[test]
fn simulcast_sends_three_sizes() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.video_input(false);
    let layer = |rid: &str, scale_down_by, max_bitrate| VideoLayer {
        rid: rid.into(),
        scale_down_by,
        max_bitrate,
        max_fps: 0.0,
    };
    let layers = [layer("f", 1.0, 800_000), layer("h", 2.0, 300_000), layer("q", 4.0, 100_000)];
    let mid = a.send_video(&source, "cid", "stream", VideoCodec::Vp8, &layers, false).unwrap();
    let (offer, answer) = negotiate(&a, &b);
    assert!(offer.contains("a=simulcast:send f;h;q\r\n") && offer.contains("a=rid:q send\r\n"), "{offer}");
    assert!(answer.contains("a=simulcast:recv f;h;q\r\n"), "{answer}");
    left.wait_for(Event::Connected(a.id()));
    let sink = b.receive_video(&mid, 0).unwrap();
    let frame = see(&source, &mut right, &sink, (640, 480), [200, 100, 50]);
    assert!([640, 320, 160].contains(&frame.width));
    let deadline = std::time::Instant::now() + common::PATIENCE;
    // Three streams of the one section count.
    while b.stats().sections.get(&mid).is_none_or(|section| section.packets < 30) {
        assert!(std::time::Instant::now() < deadline, "{:?}", b.stats());
        source.push(&flat(640, 480, [200, 100, 50]), 640, 480, PixelFormat::Rgba, 0, 0).unwrap();
        right.wait_for(Event::Video(sink.id()));
        sink.read();
    }
}

#[test]
fn mistakes_are_errors() {
    let left = Side::new();
    let a = left.engine.add_peer().unwrap();
    let source = left.engine.video_input(false);
    assert!(a.send_video(&source, "c", "s", VideoCodec::Vp8, &[], false).is_err());
    let mut two = one_layer();
    two.extend(one_layer());
    assert!(a.send_video(&source, "c", "s", VideoCodec::Vp8, &two, false).is_err());
    assert!(a.receive_video("x", 0).is_err());
    let mids = a.add_receive(MediaKind::Video, 1).unwrap();
    assert!(a.receive_video(&mids[0], 0).is_ok(), "a section may be listened to before its offer is made");
    assert!(source.push(&[0; 10], 64, 48, PixelFormat::Rgba, 0, 0).is_err());
    assert!(source.push(&flat(4, 4, [0; 3]), 4, 4, PixelFormat::Rgba, 0, 4).is_err());
    source.close();
    assert!(source.push(&flat(4, 4, [0; 3]), 4, 4, PixelFormat::Rgba, 0, 0).is_err());
}
