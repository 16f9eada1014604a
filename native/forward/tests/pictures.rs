//! No freeze that a cached packet could prevent, and no key frame asked for where it would not help.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Codec, Command, TrackId};
use greenroom_wire::Ssrc;

const FRAME: Duration = Duration::from_micros(33_333);

fn plis(world: &mut World, alice: usize) -> usize {
    world.clients[alice].take_feedback().iter().filter(|p| matches!(p, Rtcp::Pli(_))).count()
}

/// Numbers received, counted from the first.
fn numbers(world: &World, bob: usize) -> Vec<u64> {
    let all: Vec<u64> = world.clients[bob].stream(9000).iter().map(|p| p.index).collect();
    all.iter().map(|index| index - all[0]).collect()
}

#[test]
fn a_key_frame_whose_first_packet_is_late_is_shown_whole() {
    let mut world = World::new(1);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    let mut source = Source::new(500, 96, &[]);
    for n in 0..20 {
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(FRAME);
    }
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    world.run(FRAME);
    assert_eq!(plis(&mut world, alice), 1);
    // The key frame: ten packets, the first is lost. One of the others is, too.
    let (first, number) = source.next(false);
    let payload = vp8(source.picture, true, true, 1000);
    let rest = vp8(source.picture, true, false, 1000);
    for n in 1..10 {
        if n == 5 {
            source.next(false);
        } else {
            source.send(&mut world.clients[alice], n == 9, &rest);
        }
    }
    world.run(FRAME);
    assert!(world.clients[bob].stream(9000).is_empty());
    let mut rtx = Source::new(501, 97, &[]);
    for (lost, payload) in [(number, &payload), (number + 5, &rest)] {
        let (mut fields, index) = rtx.next(false);
        fields.timestamp = first.timestamp;
        let body = [&(lost as u16).to_be_bytes()[..], payload].concat();
        world.clients[alice].send_rtp(&fields, index, &[], &body);
    }
    source.picture += 1;
    source.timestamp = source.timestamp.wrapping_add(3000);
    source.send_vp8(&mut world.clients[alice], false, 3);
    world.run(FRAME);
    let mut got = numbers(&world, bob);
    assert_eq!(got[0], 0, "the first packet leads");
    got.sort_unstable();
    assert_eq!(got, (0..13).collect::<Vec<_>>());
    assert_eq!(plis(&mut world, alice), 0);
}

/// So late that what came since is more than a shard forwards at once.
#[test]
fn nobody_begins_at_a_key_frame_that_is_far_behind() {
    let mut world = World::new(12);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    let (first, _) = source.next(false);
    let late = vp8(source.picture, true, true, 500);
    (0..45).for_each(|_| source.send_vp8(&mut world.clients[alice], false, 10));
    let frames = std::mem::take(&mut world.clients[alice].outbox);
    world.clients[alice].send_rtp(&first, u64::from(first.sequence_number), &[], &late);
    let late = std::mem::replace(&mut world.clients[alice].outbox, frames);
    // Before the network has shown the gap to anybody.
    world.clients[alice].outbox.extend(late);
    world.run(FRAME);
    assert!(world.clients[bob].stream(9000).is_empty());
    source.send_vp8(&mut world.clients[alice], true, 10);
    world.run(FRAME);
    assert_eq!(numbers(&world, bob), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_still_picture_reaches_who_comes_later() {
    let mut world = World::new(2);
    let (alice, bob, carol) = (world.join(), world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    source.send_vp8(&mut world.clients[alice], true, 4);
    world.run(Duration::from_secs(60));
    plis(&mut world, alice);
    world.subscribe(carol, vec![video_sender(7, "4", 9000, 9001)]);
    world.run(FRAME);
    assert_eq!(numbers(&world, carol), [0, 1, 2, 3], "from the cache");
    assert_eq!(plis(&mut world, alice), 0);
    // A decoder that wants another one gets it from the publisher.
    world.clients[carol].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
    world.run(FRAME);
    assert_eq!(plis(&mut world, alice), 1);
}

#[test]
fn a_slide_that_left_the_cache_is_asked_for_again() {
    let mut world = World::new(3);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    let mut source = Source::new(500, 96, &[]);
    for n in 0..1500 {
        source.send_vp8(&mut world.clients[alice], n == 0, 1);
        world.run(Duration::from_millis(5));
    }
    world.run(Duration::from_secs(5));
    plis(&mut world, alice);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    world.run(FRAME);
    assert_eq!(plis(&mut world, alice), 1);
}

#[test]
fn a_key_frame_that_has_just_come_is_not_asked_for_again() {
    let mut world = World::new(4);
    let (alice, bob, carol) = (world.join(), world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    for n in 0..6 {
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(FRAME);
    }
    plis(&mut world, alice);
    world.subscribe(carol, vec![video_sender(7, "4", 9000, 9001)]);
    for _ in 0..3 {
        source.send_vp8(&mut world.clients[alice], false, 3);
        world.run(FRAME);
    }
    assert!(numbers(&world, carol).len() >= 24, "{:?}", numbers(&world, carol));
    assert_eq!(plis(&mut world, alice), 0);
}

#[test]
fn what_was_sent_before_a_mute_is_not_for_who_comes_later() {
    let mut world = World::new(5);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    let mut source = Source::new(500, 96, &[]);
    source.send_vp8(&mut world.clients[alice], true, 4);
    world.run(FRAME);
    let muted = |muted| greenroom_forward::Command::SetMuted { track: greenroom_forward::TrackId(7), muted };
    world.command(muted(true));
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    world.run(Duration::from_secs(2));
    world.command(muted(false));
    world.run(Duration::from_secs(2));
    assert!(world.clients[bob].stream(9000).is_empty());
    source.send_vp8(&mut world.clients[alice], true, 4);
    world.run(FRAME);
    assert_eq!(numbers(&world, bob), [0, 1, 2, 3]);
}

/// The longest time without a packet for bob while the high layer of three stops, seen at two frame rates.
#[test]
fn a_layer_that_stops_is_left_within_700_ms() {
    for frame in [FRAME, Duration::from_millis(66)] {
        let mut world = World::new(6);
        let (alice, bob) = (world.join(), world.join());
        world.publish(alice, vec![video_receiver(7, "1", &[], &[("q", 0), ("f", 2)])]);
        world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
        let mut q = Source::new(500, 96, &[(4, "1"), (10, "q")]);
        let mut f = Source::new(600, 96, &[(4, "1"), (10, "f")]);
        let (mut q_key, mut f_key) = (true, true);
        for n in 0..150 {
            q.send_vp8(&mut world.clients[alice], q_key, 1);
            if n < 75 {
                f.send_vp8(&mut world.clients[alice], f_key, 3);
            }
            world.run(frame);
            let feedback = world.clients[alice].take_feedback();
            (q_key, f_key) = (feedback.contains(&Rtcp::Pli(500)), feedback.contains(&Rtcp::Pli(600)));
        }
        let packets = world.clients[bob].stream(9000);
        let gaps = packets.windows(2).map(|pair| pair[1].at - pair[0].at);
        let longest = gaps.max().unwrap();
        assert!(longest < Duration::from_millis(700), "{longest:?} at {frame:?} a frame");
        assert!(packets.len() > 75 * 3 + 50, "{}", packets.len());
    }
}

#[test]
fn layers_that_stand_still_together_are_all_there() {
    let mut world = World::new(7);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[("q", 0), ("f", 2)])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut q = Source::new(500, 96, &[(4, "1"), (10, "q")]);
    let mut f = Source::new(600, 96, &[(4, "1"), (10, "f")]);
    for n in 0..10 {
        q.send_vp8(&mut world.clients[alice], n == 0, 1);
        f.send_vp8(&mut world.clients[alice], n < 2, 3);
        world.run(FRAME);
    }
    plis(&mut world, alice);
    world.run(Duration::from_secs(10));
    assert_eq!(plis(&mut world, alice), 0, "nobody should go anywhere");
    let before = world.clients[bob].stream(9000).len();
    f.send_vp8(&mut world.clients[alice], false, 3);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), before + 3);
}

#[test]
fn an_ssrc_changed_by_the_sdp_needs_one_key_frame() {
    let mut world = World::new(8);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    source.index = 60_000;
    for n in 0..2500 {
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(Duration::from_millis(5));
    }
    let before = world.clients[bob].stream(9000).len();
    world.publish(alice, vec![video_receiver(7, "1", &[(700, 701)], &[])]);
    let mut second = Source::new(700, 96, &[]);
    second.index = 5000;
    plis(&mut world, alice);
    let mut asked = 0;
    for _ in 0..30 {
        let wanted = plis(&mut world, alice);
        asked += wanted;
        second.send_vp8(&mut world.clients[alice], wanted > 0, 3);
        world.run(FRAME);
    }
    assert_eq!(asked, 1);
    assert!(world.clients[bob].stream(9000).len() > before + 80);
}

#[test]
fn an_ssrc_that_comes_back_after_a_rollover_is_heard() {
    let mut world = World::new(9);
    let (alice, bob) = (world.join(), world.join());
    let receivers = || vec![audio_receiver(7, "0", &[(500, 0)])];
    world.publish(alice, receivers());
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let mut source = Source::new(500, 111, &[]);
    source.index = 65_000;
    let mut talk = |world: &mut World, packets: usize| {
        for _ in 0..packets {
            source.send(&mut world.clients[alice], false, &[7; 60]);
            source.timestamp = source.timestamp.wrapping_add(960);
            world.run(Duration::from_millis(2));
        }
        world.run(FRAME);
    };
    talk(&mut world, 1000);
    let recorded = world.clients[alice].seal_rtp(&Source::new(500, 111, &[]).next(false).0, 65_990, &[], &[7; 60]);
    world.publish(alice, vec![]);
    // Nobody claims these; the counter must follow them all the same.
    talk(&mut world, 100);
    world.publish(alice, receivers());
    let before = world.clients[bob].stream(9000).len();
    talk(&mut world, 100);
    assert_eq!(world.clients[bob].stream(9000).len(), before + 100);
    assert_eq!(world.shard.counters().dropped_auth, 0);
    world.inject(alice, recorded);
    assert_eq!(
        world.clients[bob].stream(9000).len(),
        before + 100,
        "what was sent before the section went is a replay"
    );
}

#[test]
fn nobody_asks_for_key_frames_of_a_codec_that_cannot_be_taken() {
    let unlike = |name: &str, fmtp: &str| vec![Codec { fmtp: fmtp.into(), ..codec(120, name, 121) }];
    let h264 = |mode: u8| Codec { fmtp: format!("packetization-mode={mode}"), ..codec(96, "h264", 97) };
    for (published, taken) in
        [(codec(96, "vp8", 97), unlike("av1", "")), (h264(1), unlike("h264", "packetization-mode=0"))]
    {
        let mut world = World::new(10);
        let (alice, bob) = (world.join(), world.join());
        let mut receiver = video_receiver(7, "1", &[(500, 501)], &[]);
        receiver.codecs = vec![published];
        world.publish(alice, vec![receiver]);
        let mut sender = video_sender(7, "4", 9000, 9001);
        sender.codecs = taken;
        world.subscribe(bob, vec![sender]);
        let mut source = Source::new(500, 96, &[]);
        for n in 0..150 {
            source.send_vp8(&mut world.clients[alice], n == 0, 2);
            world.run(FRAME);
            world.clients[bob].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
        }
        assert_eq!(plis(&mut world, alice), 0);
    }
}

#[test]
fn loss_that_cannot_be_repaired_is_mended_by_a_key_frame() {
    let mut world = World::new(11);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    let mut asked = 0;
    for n in 0..90 {
        if n == 10 {
            // Lost, and no retransmission will come.
            source.next(false);
        }
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(FRAME);
        asked += plis(&mut world, alice);
    }
    assert_eq!(asked, 1);
}

#[test]
fn a_new_decoder_starts_h264_at_its_parameter_sets() {
    let mut world = World::new(12);
    let (alice, bob) = (world.join(), world.join());
    let h264 = |pt| Codec { fmtp: "packetization-mode=1".into(), ..codec(pt, "h264", pt + 1) };
    let mut receiver = video_receiver(7, "1", &[(500, 501)], &[]);
    receiver.codecs = vec![h264(96)];
    world.publish(alice, vec![receiver]);
    let mut sender = video_sender(7, "4", 9000, 9001);
    sender.codecs = vec![h264(120)];
    world.subscribe(bob, vec![sender]);
    let mut source = Source::new(500, 96, &[]);
    // An IDR picture alone, then a whole key frame.
    for payload in [&[0x65, 0x88, 1][..], &[0x67, 0x42, 1], &[0x68, 1, 1], &[0x65, 0x88, 2]] {
        source.send(&mut world.clients[alice], true, payload);
        world.run(FRAME);
    }
    let first = world.clients[bob].stream(9000).first().map(|p| p.payload.clone());
    assert_eq!(first, Some(vec![0x67, 0x42, 1]));
    assert_eq!(world.clients[bob].stream(9000).len(), 3);
}

#[test]
fn what_came_during_a_mute_is_never_sent() {
    let mut world = World::new(13);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[]), audio_receiver(8, "0", &[(600, 0)])]);
    let muted = |track, muted| Command::SetMuted { track: TrackId(track), muted };
    world.command(muted(7, true));
    world.command(muted(8, true));
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001), audio_sender(8, "3", 9100)]);
    let mut video = Source::new(500, 96, &[]);
    let mut audio = Source::new(600, 111, &[]);
    video.send_vp8(&mut world.clients[alice], true, 4);
    let late = audio.next(false);
    for _ in 0..5 {
        audio.send(&mut world.clients[alice], false, &[7; 60]);
    }
    world.run(FRAME);
    world.command(muted(7, false));
    world.command(muted(8, false));
    world.clients[bob].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
    world.clients[alice].send_rtp(&late.0, late.1, &[], &[7; 60]);
    world.run(Duration::from_secs(1));
    assert!(world.clients[bob].stream(9000).is_empty());
    assert_eq!(world.clients[bob].stream(9100).len(), 1, "the late one came after the mute");
}

#[test]
fn a_track_that_stops_its_simulcast_goes_on() {
    let mut world = World::new(14);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[("q", 0), ("f", 2)])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut f = Source::new(600, 96, &[(4, "1"), (10, "f")]);
    let mut q = Source::new(500, 96, &[(4, "1"), (10, "q")]);
    for n in 0..10 {
        f.send_vp8(&mut world.clients[alice], n == 0, 3);
        q.send_vp8(&mut world.clients[alice], n == 0, 1);
        world.run(FRAME);
    }
    world.publish(alice, vec![video_receiver(7, "1", &[(700, 701)], &[])]);
    let before = world.clients[bob].stream(9000).len();
    let mut single = Source::new(700, 96, &[]);
    let mut key = true;
    for _ in 0..30 {
        single.send_vp8(&mut world.clients[alice], key, 2);
        world.run(FRAME);
        key = plis(&mut world, alice) > 0;
    }
    assert!(world.clients[bob].stream(9000).len() > before + 50);
}

#[test]
fn an_ssrc_that_changes_by_packet_is_asked_for_a_key_frame_at_once() {
    let mut world = World::new(15);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[(4, "1")]);
    for n in 0..60 {
        source.send_vp8(&mut world.clients[alice], n == 0, 2);
        world.run(FRAME);
    }
    plis(&mut world, alice);
    let mut second = Source::new(700, 96, &[(4, "1")]);
    second.send_vp8(&mut world.clients[alice], false, 2);
    world.run(FRAME);
    assert_eq!(plis(&mut world, alice), 1);
}

#[test]
fn late_packets_of_a_section_that_is_gone_are_nobodys() {
    let mut world = World::new(16);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[])]);
    world.subscribe(bob, vec![video_sender(8, "4", 9000, 9001)]);
    let mut camera = Source::new(500, 96, &[(4, "1")]);
    camera.send_vp8(&mut world.clients[alice], true, 2);
    world.run(FRAME);
    world.publish(alice, vec![video_receiver(8, "2", &[], &[])]);
    // One with its mid, one whose mid was told often enough.
    camera.send_vp8(&mut world.clients[alice], true, 2);
    camera.extensions.clear();
    camera.send_vp8(&mut world.clients[alice], true, 2);
    world.run(FRAME);
    assert!(world.clients[bob].stream(9000).is_empty());
    let mut screen = Source::new(600, 96, &[]);
    screen.send_vp8(&mut world.clients[alice], true, 2);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), 2);
}

#[test]
fn a_track_whose_section_changes_its_kind_is_still_published() {
    let mut world = World::new(17);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    world.publish(alice, vec![audio_receiver(7, "1", &[(600, 0)])]);
    let mut source = Source::new(600, 111, &[]);
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
}
