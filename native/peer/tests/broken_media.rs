//! A publisher whose payloads cannot be put together. A room server forwards payloads unread, so this is what a stranger can send
//! to everybody: what is broken is dropped and counted, the connection stands, what is good arrives.

mod common;
#[path = "common/hostile.rs"]
mod hostile;

use std::time::{Duration, Instant};

use common::{PATIENCE, Side, purity, tone};
use greenroom_codecs::opus::{Encoder, EncoderSettings};
use greenroom_codecs::video::{I420, VideoCodec, VideoEncoder, VideoSettings, encoder};
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::{Event, MediaKind, Peer};
use hostile::Hostile;
use str0m::format::Codec;
use str0m::media::Pt;

/// Payloads of H.264 that are none (RFC 6184).
const H264: &[&[u8]] = &[
    &[],
    &[0x78],                         // STAP-A of nothing
    &[0x78, 0xff, 0xff, 1],          // a unit longer than the packet
    &[0x78, 0, 2, 0x67, 1, 0, 9, 1], // the same, after a good one
    &[0x78, 0, 0, 0, 0],             // units of no length
    &[0x7c],                         // FU-A without its header
    &[0x7c, 0x45],                   // an end without a beginning
    &[0x7c, 0x85],                   // a beginning of nothing, without an end
    &[0x79, 1, 2],                   // STAP-B, which nobody negotiated
    &[0x1f],                         // a type that is not given out
    &[0x00],
];
/// Payload descriptors of VP8 that are cut short (RFC 7741).
const VP8: &[&[u8]] =
    &[&[], &[0x90], &[0x90, 0x80], &[0x90, 0x80, 0x80], &[0x90, 0xf0, 0x80, 1], &[0x90, 0x10], &[0x10], &[0xff; 3]];
/// Opus, and redundancy around it (RFC 2198), of no sense.
const SOUND: &[&[u8]] = &[&[], &[0xff], &[0xff, 0xff, 0xff], &[0x80], &[0xef, 0xff, 0xff, 0xff], &[0x6f], &[0x7f; 40]];

struct Camera {
    codec: VideoCodec,
    encoder: Box<dyn VideoEncoder>,
    number: u32,
}

impl Camera {
    fn new(codec: VideoCodec) -> Self {
        let settings = VideoSettings { width: 64, height: 48, bitrate: 200_000, fps: 30.0, screencast: false };
        Self { codec, encoder: encoder(codec, settings).unwrap(), number: 0 }
    }

    fn time(&self) -> u32 {
        self.number * 3000
    }

    fn send(&mut self, hostile: &mut Hostile, pt: Pt, key: bool) {
        self.number += 1;
        let mut picture = I420::new(64, 48);
        picture.data.fill((self.number * 9) as u8);
        let at = i64::from(self.number) * 33_333;
        let Some(coded) = self.encoder.encode(&picture, at, key).unwrap() else { return };
        let packets: Vec<Vec<u8>> = match self.codec {
            // A picture id of 15 bits.
            VideoCodec::Vp8 => {
                let id = self.number as u16 | 0x8000;
                vec![[&[0x90, 0x80], &id.to_be_bytes()[..], &coded.data].concat()]
            }
            VideoCodec::H264 => units(&coded.data).map(<[u8]>::to_vec).collect(),
        };
        for (index, packet) in packets.iter().enumerate() {
            assert!(packet.len() < 1100);
            hostile.write(hostile.pictures, pt, self.time(), index + 1 == packets.len(), packet);
        }
    }
}

/// The units of a byte stream.
fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at).collect();
    starts.push(stream.len() + 1);
    let trim = |unit: &'_ [u8]| unit.len() - unit.iter().rev().take_while(|byte| **byte == 0).count();
    starts.clone().into_iter().zip(starts.into_iter().skip(1)).map(move |(from, to)| {
        let unit = &stream[from + 3..to.min(stream.len())];
        &unit[..trim(unit)]
    })
}

fn malformed(peer: &Peer, mid: &str) -> u64 {
    peer.stats().sections.get(mid).map_or(0, |section| section.malformed)
}

fn stands(side: &mut Side) {
    let failed = side.drain().iter().find(|event| matches!(event, Event::Failed(..) | Event::Disconnected(_))).cloned();
    assert_eq!(failed, None);
}

fn pictures_go_on(codec: VideoCodec, rtc_codec: Codec, broken: &[&[u8]]) {
    let mut side = Side::new();
    let peer = side.engine.add_peer().unwrap();
    let mut hostile = Hostile::connect(&peer);
    let pt = hostile.payload_type(rtc_codec, false);
    let mid = hostile.pictures.to_string();
    let eye = peer.receive_video(&mid, 100).unwrap();
    let tape = peer.receive_encoded(&mid, MediaKind::Video, "a", 0).unwrap();
    let mut camera = Camera::new(codec);
    for number in 0..10 {
        camera.send(&mut hostile, pt, number == 0);
        hostile.run(Duration::from_millis(10));
    }
    let started = Instant::now();
    while eye.read().is_empty() {
        assert!(started.elapsed() < PATIENCE);
        hostile.run(Duration::from_millis(10));
    }
    tape.read();
    for payload in broken {
        camera.number += 1;
        hostile.write(hostile.pictures, pt, camera.time(), true, payload);
        hostile.run(Duration::from_millis(5));
        stands(&mut side);
    }
    // What follows refers to pictures that nobody got: it is not shown, and a key frame is asked for.
    hostile.run(Duration::from_millis(400));
    eye.read();
    let asked = hostile.keyframe_requests;
    let started = Instant::now();
    while hostile.keyframe_requests == asked {
        assert!(started.elapsed() < PATIENCE, "no key frame is asked for");
        camera.send(&mut hostile, pt, false);
        hostile.run(Duration::from_millis(20));
    }
    assert_eq!(eye.read().len(), 0, "shown without what it refers to");
    let named = tape.read();
    assert!(named.iter().any(|frame| frame.discontinuity), "{named:?}");
    camera.send(&mut hostile, pt, true);
    let mut shown = 0;
    while shown < 10 {
        assert!(started.elapsed() < PATIENCE, "{shown} pictures");
        camera.send(&mut hostile, pt, false);
        hostile.run(Duration::from_millis(20));
        shown += eye.read().len();
    }
    stands(&mut side);
    while malformed(&peer, &mid) < 3 {
        assert!(started.elapsed() < PATIENCE, "{:?}", peer.stats());
        hostile.run(Duration::from_millis(50));
    }
    assert!(malformed(&peer, &mid) <= broken.len() as u64);
}

#[test]
fn h264_that_is_none() {
    pictures_go_on(VideoCodec::H264, Codec::H264, H264);
}

#[test]
fn vp8_that_is_cut_short() {
    pictures_go_on(VideoCodec::Vp8, Codec::Vp8, VP8);
}

#[test]
fn sound_that_is_none() {
    let mut side = Side::new();
    let peer = side.engine.add_peer().unwrap();
    let mut hostile = Hostile::connect(&peer);
    let (opus, red) = (hostile.payload_type(Codec::Opus, false), hostile.payload_type(Codec::Opus, true));
    let mid = hostile.sound.to_string();
    let ear = peer.receive_audio(&mid, AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 }, 0).unwrap();
    let mut time = 0;
    for payload in SOUND.iter().chain(SOUND) {
        for pt in [opus, red] {
            time += 960;
            hostile.write(hostile.sound, pt, time, false, payload);
            hostile.run(Duration::from_millis(5));
            stands(&mut side);
        }
    }
    let mut encoder =
        Encoder::new(EncoderSettings { sample_rate: 48_000, channels: 1, bitrate: 64_000, complexity: 5 }).unwrap();
    let mut heard = Vec::new();
    let mut due = Instant::now();
    for part in tone(48_000, 440.0, 48_000 * 2).chunks(960) {
        time += 960;
        due += Duration::from_millis(20);
        let packet = encoder.encode(part).unwrap().to_vec();
        hostile.write(hostile.sound, opus, time, false, &packet);
        hostile.run(due.saturating_duration_since(Instant::now()));
        heard.extend(ear.read().iter().flat_map(|frame| frame.pcm.to_vec()));
    }
    stands(&mut side);
    // Short parts: where sound is made up the phase jumps.
    let last = &heard[heard.len() - 24_000..];
    let share = last.chunks_exact(960).map(|part| purity(part, 48_000, 440.0)).sum::<f64>() / 25.0;
    assert!(share > 0.8, "{share}; loudest {:?}", last.iter().map(|sample| sample.unsigned_abs()).max());
}
