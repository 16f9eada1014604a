//! Frames as they come: decodable by themselves, in order, with holes named, and nothing decoded on the way.

mod common;
#[path = "common/relay.rs"]
mod relay;

use std::time::{Duration, Instant};

use common::{PATIENCE, Side, negotiate, purity, tone};
use greenroom_codecs::opus::Decoder;
use greenroom_codecs::pixels::PixelFormat;
use greenroom_codecs::video::{VideoCodec, decoder};
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::encoded::frame::{EncodedFormat, EncodedFrame};
use greenroom_peer::video::input::{VideoInput, VideoLayer};
use greenroom_peer::video::metadata::FrameMetadata;
use greenroom_peer::{Event, MediaKind};
use relay::{Path, negotiate_over};

fn layer() -> VideoLayer {
    VideoLayer { rid: String::new(), scale_down_by: 1.0, max_bitrate: 800_000, max_fps: 0.0 }
}

fn push(source: &VideoInput, number: u32) {
    let pixels: Vec<u8> = (0..320 * 240u32).flat_map(|i| [(i / 320 + number * 7) as u8, 90, 90, 255]).collect();
    let said = FrameMetadata { frame_id: Some(number), ..FrameMetadata::default() };
    source.push_with(&pixels, 320, 240, PixelFormat::Rgba, 0, 0, &said).unwrap();
}

fn grows(frames: &[EncodedFrame]) {
    assert!(frames.windows(2).all(|w| w[0].presentation_us < w[1].presentation_us));
}

fn a_picture_in_full(codec: VideoCodec, format: EncodedFormat) {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.video_input(false);
    let mid = a.send_video(&source, "cid", "stream", codec, &[layer()], true).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    let sink = b.receive_encoded(&mid, MediaKind::Video, "a", 0).unwrap();
    let (mut frames, started) = (Vec::new(), Instant::now());
    let mut asked = false;
    for number in 0.. {
        assert!(started.elapsed() < PATIENCE, "{} frames", frames.len());
        push(&source, number);
        std::thread::sleep(Duration::from_millis(20));
        frames.extend(sink.read());
        if frames.len() > 20 && !std::mem::replace(&mut asked, true) {
            sink.request_keyframe();
        }
        if frames.len() > 40 && frames.iter().skip(1).any(|frame: &EncodedFrame| frame.key) {
            break;
        }
    }
    assert!(frames[0].key && frames.iter().all(|frame| !frame.discontinuity && frame.format == format));
    assert!(frames.iter().all(|frame| (frame.width, frame.height) == (320, 240)));
    grows(&frames);
    let ids: Vec<u32> = frames.iter().map(|frame| frame.metadata.as_ref().unwrap().frame_id.unwrap()).collect();
    assert!(ids.windows(2).all(|w| w[0] <= w[1]), "{ids:?}");
    // By itself from any key frame.
    let from = frames.iter().rposition(|frame| frame.key).unwrap();
    for start in [0, from] {
        let mut decoder = decoder(codec).unwrap();
        for frame in &frames[start..] {
            let picture = decoder.decode(frame.data()).unwrap().expect("a picture");
            assert_eq!((picture.width, picture.height), (320, 240));
        }
    }
    // Statistics are made once a second.
    while !b.stats().sections.contains_key(&mid) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(b.stats().sections[&mid].decoded, 0);
    // A decoder beside it.
    let eye = b.receive_video(&mid, 0).unwrap();
    let started = Instant::now();
    let mut seen = 0;
    while seen < 3 || sink.read().is_empty() {
        assert!(started.elapsed() < PATIENCE, "{seen} pictures");
        push(&source, 9);
        std::thread::sleep(Duration::from_millis(20));
        seen += eye.read().len();
    }
    assert!(b.stats().sections[&mid].decoded >= 3);
    sink.close();
    sink.close();
    right.wait_for(Event::End(sink.id()));
    b.close();
}

#[test]
fn vp8() {
    a_picture_in_full(VideoCodec::Vp8, EncodedFormat::Vp8);
}

#[test]
fn h264() {
    a_picture_in_full(VideoCodec::H264, EncodedFormat::H264);
}

#[test]
fn sound_packet_by_packet() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(48_000, 1, 5_000).unwrap();
    let mid = a.send_audio(&source, "cid", "stream", 48_000, false, true).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));
    let sink = b.receive_encoded(&mid, MediaKind::Audio, "a", 0).unwrap();
    assert!(source.push(&tone(48_000, 440.0, 48_000 * 2)).unwrap());
    let mut packets = Vec::new();
    while packets.len() < 95 {
        right.wait_for(Event::Encoded(sink.id()));
        packets.extend(sink.read());
    }
    assert!(packets.iter().all(|p| p.key && !p.discontinuity && p.duration_us == 20_000));
    assert!(packets.windows(2).all(|w| w[1].rtp_timestamp.wrapping_sub(w[0].rtp_timestamp) == 960));
    grows(&packets);
    let mut decoder = Decoder::new(48_000, 1).unwrap();
    let mut heard = Vec::new();
    for packet in &packets {
        let mut pcm = Vec::new();
        decoder.decode(packet.data(), &mut pcm).unwrap();
        heard.extend(pcm);
    }
    assert!(purity(&heard[9_600..57_600], 48_000, 440.0) > 0.95);
    assert_eq!(b.stats().sections[&mid].decoded, 0);
    // Beside an ear.
    let ear = b.receive_audio(&mid, AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 }, 0).unwrap();
    assert!(source.push(&tone(48_000, 440.0, 48_000)).unwrap());
    right.wait_for(Event::Audio(ear.id()));
    right.wait_for(Event::Encoded(sink.id()));
    assert!(b.receive_encoded(&mid, MediaKind::Video, "a", 0).is_err());
    b.close();
    right.wait_for(Event::End(sink.id()));
}

#[test]
fn who_does_not_read_loses_the_oldest() {
    let (left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(48_000, 1, 5_000).unwrap();
    let mid = a.send_audio(&source, "cid", "stream", 48_000, false, false).unwrap();
    negotiate(&a, &b);
    right.wait_for(Event::Connected(b.id()));
    let sink = b.receive_encoded(&mid, MediaKind::Audio, "a", 10).unwrap();
    assert!(source.push(&tone(48_000, 440.0, 48_000)).unwrap());
    let started = Instant::now();
    while sink.dropped() < 20 {
        assert!(started.elapsed() < PATIENCE, "{}", sink.dropped());
        std::thread::sleep(Duration::from_millis(20));
    }
    let frames = sink.read();
    assert_eq!(frames.len(), 10);
    assert_eq!(
        frames.iter().map(|frame| frame.discontinuity).collect::<Vec<_>>(),
        [vec![true], vec![false; 9]].concat()
    );
    right.drain();
}

#[test]
fn holes_are_named() {
    let path = Path { seed: 3, loss_percent: 8, jitter_ms: 10, garbage_percent: 0 };
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(48_000, 1, 10_000).unwrap();
    let mid = a.send_audio(&source, "mic", "s", 32_000, false, false).unwrap();
    let relay = negotiate_over(path, &a, &b);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));
    let sink = b.receive_encoded(&mid, MediaKind::Audio, "a", 0).unwrap();
    assert!(source.push(&tone(48_000, 440.0, 48_000 * 4)).unwrap());
    let mut packets = Vec::new();
    while packets.len() < 150 {
        right.wait_for(Event::Encoded(sink.id()));
        packets.extend(sink.read());
    }
    // A hole is where the clock jumps, and only there.
    let mut holes = 0;
    for pair in packets.windows(2) {
        let step = pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp);
        assert!(step > 0 && step.is_multiple_of(960));
        assert_eq!(pair[1].discontinuity, step > 960, "{step}");
        holes += u32::from(pair[1].discontinuity);
    }
    assert!(holes > 2 && relay.lost.load(std::sync::atomic::Ordering::SeqCst) > 2, "{holes}");
    grows(&packets);
}

/// The path delays the first frame of each stream by something else, which arrival alone would take for a distance in time. What the
/// sender reports sets it right.
#[test]
fn sound_and_pictures_come_together() {
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || {
                let error = apart(Path { seed, loss_percent: 0, jitter_ms: 400, garbage_percent: 0 });
                assert!(error.abs() < 60_000, "seed {seed}: {error} us");
            });
        }
    });
}

/// By how much pictures are late against sound at the end of some seconds, in microseconds.
fn apart(path: Path) -> i64 {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let microphone = left.engine.audio_input(48_000, 1, 10_000).unwrap();
    let camera = left.engine.video_input(false);
    let sound = a.send_audio(&microphone, "mic", "s", 32_000, false, false).unwrap();
    let picture = a.send_video(&camera, "cam", "s", VideoCodec::Vp8, &[layer()], true).unwrap();
    let _relay = negotiate_over(path, &a, &b);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));
    let ear = b.receive_encoded(&sound, MediaKind::Audio, "a", 0).unwrap();
    let eye = b.receive_encoded(&picture, MediaKind::Video, "a", 0).unwrap();
    let seconds = 7;
    let started = Instant::now();
    assert!(microphone.push(&tone(48_000, 440.0, 48_000 * seconds)).unwrap());
    let (mut heard, mut seen) = (Vec::new(), Vec::new());
    while started.elapsed() < Duration::from_secs(seconds as u64) {
        // Each picture says when it was shown, in microseconds after the sound began.
        let said =
            FrameMetadata { timestamp_us: Some(started.elapsed().as_micros() as u64), ..FrameMetadata::default() };
        let pixels = vec![90; 64 * 48 * 4];
        camera.push_with(&pixels, 64, 48, PixelFormat::Rgba, 0, 0, &said).unwrap();
        std::thread::sleep(Duration::from_millis(33));
        heard.extend(ear.read());
        seen.extend(eye.read());
    }
    // The clock of the sound begins at 0 with the first sample.
    let error = |view: &EncodedFrame, packet: &EncodedFrame| {
        let shown_us = view.metadata.as_ref().unwrap().timestamp_us.unwrap() as i64;
        let spoken_us = i64::from(packet.rtp_timestamp) * 1_000 / 48;
        (view.presentation_us - shown_us) - (packet.presentation_us - spoken_us)
    };
    let (first, last) = (error(&seen[0], &heard[0]), error(seen.last().unwrap(), heard.last().unwrap()));
    println!("seed {}: {first} us at first, {last} us at last", path.seed);
    last
}
