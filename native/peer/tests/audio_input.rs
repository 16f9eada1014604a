//! PCM from the program: back-pressure, draining by the clock, clearing, ends.

mod common;

use std::time::Instant;

use common::{Side, negotiate, tone};
use greenroom_peer::Event;
use greenroom_peer::audio::sink::AudioFormat;

#[test]
fn a_full_queue_refuses_and_says_when_there_is_room() {
    let mut side = Side::new();
    let source = side.engine.audio_input(48_000, 1, 50).unwrap();
    assert!(source.push(&[1; 480 * 4]).unwrap());
    assert!(!source.push(&[1; 480 * 4]).unwrap(), "40 and 40 ms do not fit into 50");
    side.wait_for(Event::Room(source.id()));
    assert!(source.push(&[1; 480 * 4]).unwrap());
    // Unattached it drains all the same.
    side.wait_for(Event::Silent(source.id()));
    assert_eq!(source.queued_ms(), 0.0);
}

#[test]
fn a_frame_longer_than_the_queue_is_taken_when_it_is_empty() {
    let mut side = Side::new();
    let source = side.engine.audio_input(24_000, 1, 50).unwrap();
    let started = Instant::now();
    assert!(source.push(&[1; 24_00 * 2]).unwrap());
    assert!(source.queued_ms() > 150.0);
    assert!(!source.push(&[1; 24_00 * 2]).unwrap());
    side.wait_for(Event::Room(source.id()));
    // Drained by the clock, not at once.
    assert!(started.elapsed().as_millis() >= 100);
    assert!(source.push(&[1; 24_00 * 2]).unwrap());
}

#[test]
fn clearing_drops_what_waits_and_makes_room() {
    let mut side = Side::new();
    let source = side.engine.audio_input(48_000, 2, 1000).unwrap();
    assert!(source.push(&vec![1; 96_000]).unwrap());
    // As much again, so that it is refused on a slow machine too: the clock takes from the queue meanwhile.
    assert!(!source.push(&vec![1; 96_000]).unwrap());
    source.clear();
    assert_eq!(source.queued_ms(), 0.0);
    side.wait_for(Event::Room(source.id()));
    side.wait_for(Event::Silent(source.id()));
}

#[test]
fn mistakes_are_errors() {
    let side = Side::new();
    assert!(side.engine.audio_input(100, 1, 50).is_err());
    assert!(side.engine.audio_input(48_000, 0, 50).is_err());
    let source = side.engine.audio_input(48_000, 2, 50).unwrap();
    assert!(source.push(&[1; 3]).is_err());
    assert!(source.push(&[]).unwrap());
    source.close();
    source.close();
    assert!(source.push(&[1; 960]).is_err());
}

/// Every sample that is pushed is heard, at any pair of rates and channel counts, with and without RED.
#[test]
fn sound_arrives_at_any_rate() {
    let mut left = Side::new();
    let mut right = Side::new();
    let cases = [
        (8_000, 1, AudioFormat { sample_rate: 48_000, channels: 2, frame_ms: 10 }, false),
        (22_050, 2, AudioFormat { sample_rate: 16_000, channels: 1, frame_ms: 50 }, true),
        (44_100, 1, AudioFormat { sample_rate: 22_050, channels: 1, frame_ms: 100 }, true),
        (48_000, 2, AudioFormat { sample_rate: 24_000, channels: 2, frame_ms: 30 }, false),
    ];
    for (rate, channels, format, red) in cases {
        let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
        let source = left.engine.audio_input(rate, channels, 2000).unwrap();
        let mid = a.send_audio(&source, "cid", "stream", 48_000, true, red).unwrap();
        negotiate(&a, &b);
        left.wait_for(Event::Connected(a.id()));
        right.wait_for(Event::Connected(b.id()));
        let sink = b.receive_audio(&mid, format, 0).unwrap();
        let pcm: Vec<i16> =
            tone(rate, 440.0, rate as usize).iter().flat_map(|s| std::iter::repeat_n(*s, channels)).collect();
        assert!(source.push(&pcm).unwrap());
        let mut heard = Vec::new();
        let wanted = format.sample_rate as usize * 8 / 10;
        while heard.len() < wanted {
            right.wait_for(Event::Audio(sink.id()));
            for frame in sink.read() {
                assert_eq!(frame.samples_per_channel(), format.frame_samples());
                assert_eq!(frame.sample_rate, format.sample_rate);
                let left_channel = frame.pcm.iter().step_by(format.channels).copied();
                if !heard.is_empty() || frame.pcm.iter().any(|s| s.unsigned_abs() > 6000) {
                    heard.extend(left_channel);
                }
            }
        }
        let middle = &heard[wanted / 4..wanted * 3 / 4];
        // Short pieces: a frame that was late would shift the phase.
        let pieces: Vec<f64> = middle
            .chunks_exact(format.sample_rate as usize / 20)
            .map(|p| common::purity(p, format.sample_rate, 440.0))
            .collect();
        let share = pieces.iter().sum::<f64>() / pieces.len() as f64;
        assert!(share > 0.9, "{rate} Hz {channels} channels to {format:?}: {share}");
    }
}

/// A tone is no background: discontinuous transmission must leave it alone.
#[test]
fn a_steady_tone_survives_dtx() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(48_000, 1, 5000).unwrap();
    let mid = a.send_audio(&source, "cid", "stream", 32_000, true, false).unwrap();
    negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));
    let sink = b.receive_audio(&mid, AudioFormat { sample_rate: 16_000, channels: 1, frame_ms: 100 }, 0).unwrap();
    assert!(source.push(&tone(48_000, 440.0, 48_000 * 4)).unwrap());
    let mut loud = 0;
    while loud < 35 {
        right.wait_for(Event::Audio(sink.id()));
        loud += sink.read().iter().filter(|f| f.pcm.iter().any(|s| s.unsigned_abs() > 8000)).count();
    }
}
