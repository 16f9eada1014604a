//! `greenroom-peer`: a participant's connection whose publisher has keys and sends what it likes, after a real handshake and over
//! real UDP. Whatever arrives, the connection stands. A failure may be due to what came before: the target keeps state.

#[path = "../../../peer/tests/common/hostile.rs"]
mod hostile;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::{AudioSink, EncodedSink, Engine, Event, MediaKind, Peer, VideoSink};
use hostile::Hostile;
use str0m::format::Codec;

use super::target::{Target, hex_seeds};

/// How long a message may take through it.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn target() -> Target {
    let mut call = None;
    Target::new("peer payloads", seeds(), move |input| call.get_or_insert_with(Call::new).take(input))
}

/// What kind a packet is, its length, its payload: opus, redundancy, VP8 and H.264 with their markers.
fn seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "00 03 f8fffe  00 03 f8fffe",
        "01 08 ef000003 f8fffef8",
        "06 0e 9080 8001 b00000 9d012a 10001000",
        "06 05 9080800130  06 05 9080800231  06 02 9080",
        "03 04 6742e01f  03 04 68ce3c80  07 05 65b8041234",
        "07 0b 78 0004 6742e01f 0002 68ce",
        "03 04 7c85aabb  03 04 7c05ccdd  07 04 7c45eeff",
        "07 04 78ffff01",
    ])
}

/// Two sides in one process, joined over loopback, and everything that can be attached to what arrives.
struct Call {
    hostile: Hostile,
    ear: AudioSink,
    eye: VideoSink,
    tapes: [EncodedSink; 2],
    engine: Engine,
    _peer: Peer,
    time: u32,
    asked: u64,
}

impl Call {
    fn new() -> Self {
        let loopback = vec![IpAddr::from([127, 0, 0, 1])];
        let engine = Engine::with_addresses(1, loopback).expect("an engine");
        let peer = engine.add_peer().expect("a peer");
        let hostile = Hostile::connect(&peer);
        let (sound, pictures) = (hostile.sound.to_string(), hostile.pictures.to_string());
        let format = AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 };
        Self {
            ear: peer.receive_audio(&sound, format, 10).expect("a section"),
            eye: peer.receive_video(&pictures, 10).expect("a section"),
            tapes: [(&sound, MediaKind::Audio), (&pictures, MediaKind::Video)]
                .map(|(mid, kind)| peer.receive_encoded(mid, kind, "a", 10).expect("a section")),
            hostile,
            engine,
            _peer: peer,
            time: 0,
            asked: 0,
        }
    }

    /// The packets of an input, and then a message, whose arrival shows that they were taken and that the connection stands.
    fn take(&mut self, mut input: &[u8]) {
        while let [head, len, rest @ ..] = input {
            let (payload, rest) = rest.split_at(usize::from(*len).min(rest.len()));
            input = rest;
            self.send(*head, payload);
        }
        self.asked += 1;
        let question = self.asked.to_be_bytes();
        let end = Instant::now() + PATIENCE;
        while !self.hostile.say(&question) {
            self.wait(end);
        }
        while !self.wait(end).iter().any(|said| said == &question) {}
        self.ear.read();
        self.eye.read();
        self.tapes.iter().for_each(|tape| drop(tape.read()));
    }

    /// Bits of the head: 0 and 1 the kind, 2 the marker, 3 the time of the packet before.
    fn send(&mut self, head: u8, payload: &[u8]) {
        let (codec, red) = match head & 3 {
            0 => (Codec::Opus, false),
            1 => (Codec::Opus, true),
            2 => (Codec::Vp8, false),
            _ => (Codec::H264, false),
        };
        let pt = self.hostile.payload_type(codec, red);
        let mid = if codec == Codec::Opus { self.hostile.sound } else { self.hostile.pictures };
        if head & 8 == 0 {
            self.time = self.time.wrapping_add(960);
        }
        self.hostile.write(mid, pt, self.time, head & 4 != 0, payload);
    }

    /// What was said meanwhile.
    fn wait(&mut self, end: Instant) -> Vec<Vec<u8>> {
        self.hostile.run(Duration::from_micros(300));
        assert!(Instant::now() < end, "no message arrives any more");
        let said = self.engine.events().take().into_iter().filter_map(|event| match event {
            Event::Failed(_, reason) => panic!("the connection ended: {reason}"),
            Event::End(_) => panic!("a receiver failed"),
            Event::Data { payload, .. } => Some(payload),
            _ => None,
        });
        said.collect()
    }
}
