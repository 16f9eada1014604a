//! Two participants without a server: sound and messages go both ways.

mod common;

use common::{Side, negotiate, purity, tone};
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::{Event, PeerError};

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
    assert!(left.drain().iter().all(|e| !matches!(e, Event::Failed(..))), "who hangs up has not failed");
}

#[test]
fn more_than_fits_waits_and_drains() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    a.add_data_channel("bulk", true, None).unwrap();
    assert!(matches!(a.send("bulk", b"x"), Err(PeerError::State(_))), "not open yet");
    negotiate(&a, &b);
    left.wait("channel", |e| matches!(e, Event::ChannelOpen(..)).then_some(()));
    let message = vec![5u8; 250_000];
    let mut sent = 0;
    let full = loop {
        match a.send("bulk", &message) {
            Ok(buffered) => {
                sent += 1;
                assert!(buffered > 0 && sent < 1000);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(full, PeerError::Full(_)), "{full}");
    assert!(a.buffered("bulk") > 8 << 20);
    assert!(matches!(a.send("bulk", &vec![0; 300_000]), Err(PeerError::Invalid(_))), "larger than any message");
    for _ in 0..sent {
        let size = right.wait("message", |e| match e {
            Event::Data { payload, .. } => Some(payload.len()),
            _ => None,
        });
        assert_eq!(size, message.len());
    }
    left.wait("drained", |e| matches!(e, Event::Drained(_, label) if label == "bulk").then_some(()));
    assert!(a.buffered("bulk") <= 64 << 10);
}

#[test]
fn closing_ends_everything_once() {
    let mut left = Side::new();
    let a = left.engine.add_peer().unwrap();
    let mids = a.add_receive(greenroom_peer::MediaKind::Audio, 1).unwrap();
    let format = AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 };
    let sink = a.receive_audio(&mids[0], format, 0).unwrap();
    let closed = a.receive_audio(&mids[0], format, 0).unwrap();
    closed.close();
    closed.close();
    left.wait_for(Event::End(closed.id()));
    left.engine.close();
    left.engine.close();
    left.wait_for(Event::End(sink.id()));
    assert!(left.drain().is_empty());
    assert!(left.engine.add_peer().is_err());
    assert!(a.create_offer(false).is_err());
}
