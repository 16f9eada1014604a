//! Two participants without a server: sound and messages go both ways.

mod common;

use common::{Side, negotiate, purity, tone};
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::Event;

#[test]
fn a_tone_is_heard_and_messages_pass() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(48_000, 1, 1000).unwrap();
    let mid = a.send_audio(&source, "TR_cid", "PA_stream", 32_000, false, false).unwrap();
    a.add_data_channel("_reliable", true, None).unwrap();
    a.add_data_channel("_lossy", false, Some(0)).unwrap();
    let (offer, _) = negotiate(&a, &b);
    assert!(offer.contains(&format!("a=mid:{mid}\r\n")), "{offer}");
    assert!(offer.contains("a=msid:PA_stream TR_cid\r\n"), "{offer}");
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));

    let sink = b.receive_audio(&mid, AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 }, 0).unwrap();
    for piece in tone(48_000, 440.0, 48_000).chunks(480) {
        assert!(source.push(piece).unwrap());
        if source.queued_ms() > 900.0 {
            break;
        }
    }
    let mut heard = Vec::new();
    while heard.len() < 24_000 {
        right.wait_for(Event::Audio(sink.id()));
        for frame in sink.read() {
            assert_eq!((frame.sample_rate, frame.channels, frame.pcm.len()), (48_000, 1, 480));
            // From the first sound on.
            if !heard.is_empty() || frame.pcm.iter().any(|s| s.unsigned_abs() > 3000) {
                heard.extend_from_slice(&frame.pcm);
            }
        }
    }
    let share = purity(&heard[4800..24_000], 48_000, 440.0);
    assert!(share > 0.95, "{share}");

    left.wait("channel", |e| matches!(e, Event::ChannelOpen(_, label) if label == "_reliable").then_some(()));
    right.wait("channel", |e| matches!(e, Event::ChannelOpen(_, label) if label == "_reliable").then_some(()));
    a.send("_reliable", b"hello").unwrap();
    let heard = right.wait("message", |e| match e {
        Event::Data { label, payload, binary, .. } => Some((label.clone(), payload.clone(), *binary)),
        _ => None,
    });
    assert_eq!(heard, ("_reliable".into(), b"hello".to_vec(), true));
    b.send("_reliable", &[7; 200_000]).unwrap();
    let size = left.wait("large message", |e| match e {
        Event::Data { payload, .. } => Some(payload.len()),
        _ => None,
    });
    assert_eq!(size, 200_000);

    a.close();
    a.close();
    right.wait("end of the call", |e| matches!(e, Event::Failed(..)).then_some(()));
    right.wait_for(Event::End(sink.id()));
}
