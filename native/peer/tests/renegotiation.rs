//! One peer connection for everything, as LiveKit's single mode has it: receiving sections first, sending ones appended,
//! offers repeated because the other side has changed.

mod common;

use common::{Side, negotiate, tone};
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::{Event, MediaKind, PeerError, Place};

const FORMAT: AudioFormat = AudioFormat { sample_rate: 16_000, channels: 1, frame_ms: 20 };

fn sections(sdp: &str) -> Vec<(String, String, String)> {
    sdp.split("\r\nm=")
        .skip(1)
        .map(|section| {
            let find = |prefix: &str| {
                section.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default().to_owned()
            };
            let direction = ["sendonly", "recvonly", "inactive", "sendrecv"]
                .into_iter()
                .find(|d| section.contains(&format!("a={d}\r\n")) || section.ends_with(&format!("a={d}")))
                .unwrap_or("none");
            (section.split(' ').next().unwrap().to_owned(), find("a=mid:"), direction.to_owned())
        })
        .collect()
}

#[test]
fn the_first_offer_is_that_of_a_livekit_client() {
    let left = Side::new();
    let a = left.engine.add_peer().unwrap();
    let mut mids = a.add_receive(MediaKind::Audio, 3).unwrap();
    mids.extend(a.add_receive(MediaKind::Video, 3).unwrap());
    for (label, ordered, retransmits) in
        [("_reliable", true, None), ("_lossy", false, Some(0)), ("_data_track", false, Some(0))]
    {
        a.add_data_channel(label, ordered, retransmits).unwrap();
    }
    let offer = a.create_offer(false).unwrap();
    let found = sections(&offer);
    let kinds: Vec<&str> = found.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["audio", "audio", "audio", "video", "video", "video", "application"]);
    assert_eq!(found[..6].iter().map(|(_, mid, _)| mid.clone()).collect::<Vec<_>>(), mids, "the mids promised");
    assert!(found[..6].iter().all(|(.., direction)| direction == "recvonly"), "{found:?}");
    assert!(!offer.contains("a=msid:") && !offer.contains("a=ssrc:"), "a receiver names no stream");
    for line in [
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=rtpmap:96 VP8/90000",
        "a=fmtp:97 apt=96",
        "a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=fmtp:115 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:96 transport-cc",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=max-message-size:262144",
        "a=setup:actpass",
    ] {
        assert!(offer.contains(&format!("{line}\r\n")), "{line} is missing in {offer}");
    }
    assert!(matches!(a.create_offer(false), Err(PeerError::State(_))), "one offer at a time");
}

#[test]
fn sections_are_appended_repeated_and_stopped() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let heard_on = a.add_receive(MediaKind::Audio, 2).unwrap();
    a.add_data_channel("_reliable", true, None).unwrap();
    let (_, answer) = negotiate(&a, &b);
    assert_eq!(sections(&answer).len(), 3);
    left.wait_for(Event::Connected(a.id()));
    right.wait_for(Event::Connected(b.id()));

    let source = left.engine.audio_input(16_000, 1, 1000).unwrap();
    let mid = a.send_audio(&source, "cid", "stream", 24_000, true, true).unwrap();
    let (offer, answer) = negotiate(&a, &b);
    assert_eq!(sections(&offer)[3], ("audio".into(), mid.clone(), "sendonly".into()));
    assert_eq!(sections(&answer)[3].2, "recvonly");
    let sink = b.receive_audio(&mid, FORMAT, 0).unwrap();
    assert!(source.push(&tone(16_000, 440.0, 8_000)).unwrap());
    right.wait_for(Event::Audio(sink.id()));

    // Nothing new: an offer all the same.
    let (again, _) = negotiate(&a, &b);
    assert_eq!(sections(&again), sections(&offer));
    // Unused receiving sections stay on offer, whatever the answer made of them.
    assert!(sections(&again).iter().filter(|(_, mid, _)| heard_on.contains(mid)).all(|s| s.2 == "recvonly"));

    a.remove_send(&mid).unwrap();
    assert!(a.remove_send(&mid).is_err(), "it does not send any more");
    let (stopped, _) = negotiate(&a, &b);
    assert_eq!(sections(&stopped)[3].2, "inactive");
    let next = a.send_audio(&source, "cid2", "stream", 24_000, true, true).unwrap();
    assert_ne!(next, mid);
    let (offer, _) = negotiate(&a, &b);
    assert_eq!(sections(&offer).len(), 5);
    let sink = b.receive_audio(&next, FORMAT, 0).unwrap();
    source.clear();
    assert!(source.push(&tone(16_000, 440.0, 8_000)).unwrap());
    right.wait_for(Event::Audio(sink.id()));
    assert!(right.drain().iter().chain(left.drain().iter()).all(|e| !matches!(e, Event::Failed(..))));
}

#[test]
fn a_section_removed_before_its_offer_never_was() {
    let left = Side::new();
    let a = left.engine.add_peer().unwrap();
    let source = left.engine.audio_input(48_000, 2, 100).unwrap();
    a.add_receive(MediaKind::Audio, 1).unwrap();
    let mid = a.send_audio(&source, "cid", "stream", 24_000, true, true).unwrap();
    a.remove_send(&mid).unwrap();
    assert_eq!(sections(&a.create_offer(false).unwrap()).len(), 1);
}

#[test]
fn ice_restarts_while_connected() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    a.add_data_channel("_reliable", true, None).unwrap();
    let (first, _) = negotiate(&a, &b);
    left.wait_for(Event::Connected(a.id()));
    left.wait("channel", |e| matches!(e, Event::ChannelOpen(..)).then_some(()));
    let offer = a.create_offer(true).unwrap();
    let ufrag = |sdp: &str| sdp.lines().find(|l| l.starts_with("a=ice-ufrag:")).unwrap().to_owned();
    assert_ne!(ufrag(&offer), ufrag(&first));
    let answer = b.accept_offer(&offer).unwrap();
    a.set_answer(&answer).unwrap();
    a.send("_reliable", b"still here").unwrap();
    right.wait("message", |e| matches!(e, Event::Data { .. }).then_some(()));
}

#[test]
fn bad_sdp_is_a_sentence_and_the_offer_still_stands() {
    let (left, right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    for bad in [
        "",
        "v=0",
        "hello\r\nworld",
        "v=0\r\nm=audio x\r\n",
        "\u{0}\u{1}",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
    ] {
        assert!(matches!(b.accept_offer(bad), Err(PeerError::Invalid(_))), "{bad:?}");
    }
    assert!(matches!(a.set_answer(""), Err(PeerError::State(_))), "no offer yet");
    a.add_receive(MediaKind::Audio, 1).unwrap();
    let offer = a.create_offer(false).unwrap();
    assert!(matches!(a.set_answer("nonsense"), Err(PeerError::Invalid(_))));
    let answer = b.accept_offer(&offer).unwrap();
    a.set_answer(&answer).unwrap();
    a.add_candidate("candidate:1 1 tcp 1 127.0.0.1 9 typ host").unwrap();
    a.add_candidate("rubbish").unwrap();
    a.close();
    for closed in [a.create_offer(false).map(drop), a.set_answer(&answer), a.send("x", b"").map(drop)] {
        assert!(matches!(closed, Err(PeerError::State(_))));
    }
}

#[test]
fn an_offer_is_answered_with_sound_of_ours() {
    let (mut left, mut right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let sources =
        [left.engine.audio_input(16_000, 1, 1000).unwrap(), right.engine.audio_input(16_000, 1, 1000).unwrap()];
    let both =
        a.send_audio_at(Place::New { receive: true }, &sources[0], "cid-a", "stream-a", 24_000, false, false).unwrap();
    let [only] = &a.add_receive(MediaKind::Audio, 1).unwrap()[..] else { panic!("one mid") };
    b.send_audio_at(Place::At(&both), &sources[1], "cid-b", "stream-b", 24_000, false, false).unwrap();
    assert!(
        b.send_audio_at(Place::At(&both), &sources[1], "x", "x", 24_000, false, false).is_err(),
        "it sends already"
    );
    b.add_data_channel("chat", true, None).unwrap();
    a.add_data_channel("first", true, None).unwrap();
    let (offer, answer) = negotiate(&a, &b);
    assert_eq!(sections(&offer)[0].2, "sendrecv");
    assert_eq!([sections(&answer)[0].2.as_str(), sections(&answer)[1].2.as_str()], ["sendrecv", "inactive"]);
    assert!(answer.contains("a=msid:stream-b cid-b\r\n"), "{answer}");
    assert_eq!(answer.matches("a=msid:").count(), 1, "the other section sends nothing");
    let sinks = [a.receive_audio(&both, FORMAT, 0).unwrap(), b.receive_audio(&both, FORMAT, 0).unwrap()];
    for source in &sources {
        assert!(source.push(&tone(16_000, 440.0, 8_000)).unwrap());
    }
    left.wait_for(Event::Audio(sinks[0].id()));
    right.wait_for(Event::Audio(sinks[1].id()));
    // Opened by the answer, without an offer of its own.
    left.wait_for(Event::ChannelOpen(a.id(), "chat".into()));
    b.send_text("chat", "hello").unwrap();
    let binary = left.wait("text", |e| if let Event::Data { binary, .. } = e { Some(*binary) } else { None });
    assert!(!binary);
    b.close_channel("chat").unwrap();
    left.wait_for(Event::ChannelClosed(a.id(), "chat".into()));

    // The other side wants nothing for a while, and then again.
    a.set_receiving(&both, false).unwrap();
    let (_, answer) = negotiate(&a, &b);
    assert_eq!(sections(&answer)[0].2, "recvonly");
    b.set_receiving(&both, false).unwrap();
    let (_, answer) = negotiate(&a, &b);
    assert_eq!(sections(&answer)[0].2, "inactive");
    a.set_receiving(&both, true).unwrap();
    b.set_receiving(&both, true).unwrap();
    let (_, answer) = negotiate(&b, &a);
    assert_eq!(sections(&answer)[0].2, "sendrecv");

    // Later the answerer stops, and then uses the same section for another stream.
    b.remove_send(&both).unwrap();
    let (offer, answer) = negotiate(&b, &a);
    assert_eq!(sections(&offer)[0].2, "recvonly", "{offer}");
    assert_eq!(sections(&answer)[0].2, "sendonly");
    sinks[0].close();
    b.send_audio_at(Place::At(&both), &sources[1], "cid-c", "stream-c", 24_000, false, false).unwrap();
    b.send_audio_at(Place::At(only), &sources[1], "cid-d", "stream-d", 24_000, false, false).unwrap();
    let (offer, answer) = negotiate(&b, &a);
    assert_eq!([sections(&answer)[0].2.as_str(), sections(&answer)[1].2.as_str()], ["sendrecv", "recvonly"]);
    assert!(offer.contains("a=msid:stream-c cid-c\r\n") && offer.contains("a=msid:stream-d cid-d\r\n"), "{offer}");
    for mid in [&both, only] {
        let sink = a.receive_audio(mid, FORMAT, 0).unwrap();
        sources[1].clear();
        assert!(sources[1].push(&tone(16_000, 440.0, 8_000)).unwrap());
        left.wait_for(Event::Audio(sink.id()));
    }
}

#[test]
fn an_offer_that_is_taken_back_comes_again() {
    let (left, right) = (Side::new(), Side::new());
    let (a, b) = (left.engine.add_peer().unwrap(), right.engine.add_peer().unwrap());
    let source = left.engine.audio_input(16_000, 1, 1000).unwrap();
    assert!(!a.rollback().unwrap(), "nothing waits");
    let mid = a.send_audio(&source, "cid", "stream", 24_000, true, false).unwrap();
    a.create_offer(false).unwrap();
    b.add_receive(MediaKind::Audio, 1).unwrap();
    let theirs = b.create_offer(false).unwrap();
    assert!(matches!(a.accept_offer(&theirs), Err(PeerError::State(_))), "ours waits");
    assert!(a.rollback().unwrap());
    b.set_answer(&a.accept_offer(&theirs).unwrap()).unwrap();
    let (offer, answer) = negotiate(&a, &b);
    assert_eq!(sections(&offer)[1], ("audio".into(), mid, "sendonly".into()));
    assert_eq!(sections(&answer)[1].2, "recvonly");
    // What stops while the offer is under way is not sent by the next one.
    let late = a.send_audio(&source, "late", "stream", 24_000, true, false).unwrap();
    a.create_offer(false).unwrap();
    a.remove_send(&late).unwrap();
    a.rollback().unwrap();
    let (offer, _) = negotiate(&a, &b);
    assert_eq!(sections(&offer)[2], ("audio".into(), late, "inactive".into()));
}
