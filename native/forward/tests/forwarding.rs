//! From one publisher to subscribers: numbers, payload types, extensions, codecs.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Command, Event, PeerId, TrackId, Waiting};

const TICK: Duration = Duration::from_millis(20);

/// A publisher of opus on SSRC 500 and a subscriber to it on SSRC 9000.
fn audio_call(seed: u64) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let alice = world.join();
    let bob = world.join();
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    (world, alice, bob, Source::new(500, 111, &[(4, "0"), (1, "\u{5}")]))
}

fn speak(world: &mut World, client: usize, source: &mut Source, packets: usize) {
    for packet in 0..packets {
        source.send(&mut world.clients[client], packet == 0, &[packet as u8; 80]);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.run(TICK);
    }
    world.run(TICK);
}

#[test]
fn audio_arrives_with_the_subscribers_numbers() {
    let (mut world, alice, bob, mut source) = audio_call(1);
    speak(&mut world, alice, &mut source, 50);
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 50);
    for (index, packet) in packets.iter().enumerate() {
        assert_eq!(packet.header.payload_type, 109);
        assert_eq!(packet.payload, [index as u8; 80]);
        assert_eq!(packet.index, packets[0].index + index as u64);
        assert_eq!(packet.header.timestamp, packets[0].header.timestamp + 960 * index as u32);
        assert_eq!(packet.header.marker, index == 0);
        let ids: Vec<u8> = packet.extensions.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [9, 2, 6], "mid, absolute send time, audio level with the subscriber's ids");
        assert_eq!(packet.extensions[0].1, b"3");
        assert_eq!(packet.extensions[2].1, [5]);
    }
    assert!(world.take_events().contains(&Event::Track { track: TrackId(7), layer: 0, ssrc: 500, pt: 111 }));
}

#[test]
fn a_stream_is_recognised_by_mid_when_the_sdp_names_no_ssrc() {
    let mut world = World::new(2);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[]), audio_receiver(8, "1", &[])]);
    world.subscribe(bob, vec![audio_sender(8, "3", 9000)]);
    let mut other = Source::new(400, 111, &[(4, "0")]);
    let mut source = Source::new(401, 111, &[(4, "1")]);
    let mut unnamed = Source::new(402, 111, &[]);
    for _ in 0..5 {
        speak(&mut world, alice, &mut other, 1);
        speak(&mut world, alice, &mut source, 1);
        source.extensions.clear();
        speak(&mut world, alice, &mut unnamed, 1);
    }
    assert_eq!(world.clients[bob].stream(9000).len(), 5);
    assert_eq!(world.shard.counters().dropped_ssrc, 5);
}

#[test]
fn a_payload_type_tells_the_section_when_only_one_waits_for_it() {
    let mut world = World::new(3);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[]), video_receiver(8, "1", &[(77, 78)], &[])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    speak(&mut world, alice, &mut Source::new(402, 111, &[]), 5);
    assert_eq!(world.clients[bob].stream(9000).len(), 5);
}

#[test]
fn sixty_subscribers_get_every_packet() {
    let mut world = World::new(4);
    let alice = world.join();
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    let others: Vec<usize> = (0..60).map(|_| world.join()).collect();
    for other in &others {
        world.subscribe(*other, vec![audio_sender(7, "3", 9000 + *other as u32)]);
    }
    speak(&mut world, alice, &mut Source::new(500, 111, &[]), 20);
    for other in others {
        assert_eq!(world.clients[other].stream(9000 + other as u32).len(), 20);
    }
}

#[test]
fn muting_and_pausing_leave_no_gap() {
    let (mut world, alice, bob, mut source) = audio_call(5);
    speak(&mut world, alice, &mut source, 10);
    world.command(Command::SetMuted { track: TrackId(7), muted: true });
    speak(&mut world, alice, &mut source, 10);
    world.command(Command::SetMuted { track: TrackId(7), muted: false });
    speak(&mut world, alice, &mut source, 10);
    let mut paused = audio_sender(7, "3", 9000);
    paused.paused = true;
    world.subscribe(bob, vec![paused]);
    speak(&mut world, alice, &mut source, 10);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    speak(&mut world, alice, &mut source, 10);
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 30);
    assert!(packets.windows(2).all(|w| w[1].index == w[0].index + 1));
    // The media clock went on meanwhile, and so does the subscriber's.
    assert_eq!(packets[29].header.timestamp.wrapping_sub(packets[0].header.timestamp), 49 * 960);
}

#[test]
fn a_subscription_before_the_publication_waits_for_it() {
    let mut world = World::new(6);
    let (alice, bob) = (world.join(), world.join());
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    speak(&mut world, alice, &mut Source::new(500, 111, &[]), 3);
    assert_eq!(world.clients[bob].stream(9000).len(), 3);
}

#[test]
fn an_ssrc_used_again_goes_on_counting() {
    let (mut world, alice, bob, mut source) = audio_call(7);
    speak(&mut world, alice, &mut source, 10);
    world.subscribe(bob, vec![]);
    speak(&mut world, alice, &mut source, 10);
    world.subscribe(bob, vec![audio_sender(7, "5", 9000)]);
    speak(&mut world, alice, &mut source, 10);
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 20);
    assert_eq!(packets[19].index, packets[0].index + 19, "an SRTP index never repeats");
}

#[test]
fn red_is_reduced_for_a_subscriber_without_it() {
    let (mut world, alice, bob, mut source) = audio_call(8);
    source.pt = 63;
    let mut payload = vec![0x80 | 111, 0, 0, 10, 111];
    payload.extend([1; 10]);
    payload.extend([2; 30]);
    source.send(&mut world.clients[alice], false, &payload);
    world.run(TICK * 3);
    let packets = world.clients[bob].stream(9000);
    assert_eq!((packets[0].header.payload_type, packets[0].payload.as_slice()), (109, &[2; 30][..]));
}

#[test]
fn red_is_renumbered_for_a_subscriber_with_another_opus() {
    let (mut world, alice, bob, mut source) = audio_call(9);
    let mut sender = audio_sender(7, "3", 9000);
    sender.codecs.push(codec(62, "red", 0));
    world.subscribe(bob, vec![sender]);
    source.pt = 63;
    let mut payload = vec![0x80 | 111, 0, 0, 10, 111];
    payload.resize(45, 9);
    source.send(&mut world.clients[alice], false, &payload);
    world.run(TICK * 3);
    let packets = world.clients[bob].stream(9000);
    payload[0] = 0x80 | 109;
    payload[4] = 109;
    assert_eq!((packets[0].header.payload_type, &packets[0].payload), (62, &payload));
}

#[test]
fn packets_of_padding_leave_no_gap() {
    let mut world = World::new(10);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "0", &[(500, 0)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "3", 9000, 0)]);
    let mut source = Source::new(500, 96, &[]);
    source.send_vp8(&mut world.clients[alice], true, 2);
    for _ in 0..3 {
        let (mut fields, index) = source.next(false);
        fields.padding = true;
        let mut padding = [0; 200];
        padding[199] = 200;
        world.clients[alice].send_rtp(&fields, index, &[], &padding);
    }
    source.send_vp8(&mut world.clients[alice], false, 2);
    world.run(TICK * 3);
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 4);
    assert!(packets.windows(2).all(|w| w[1].index == w[0].index + 1));
}

#[test]
fn unpublishing_and_leaving_end_forwarding_for_others_gently() {
    let (mut world, alice, bob, mut source) = audio_call(11);
    speak(&mut world, alice, &mut source, 3);
    world.publish(alice, vec![]);
    speak(&mut world, alice, &mut source, 3);
    assert_eq!(world.clients[bob].stream(9000).len(), 3);
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    speak(&mut world, alice, &mut source, 3);
    assert_eq!(world.clients[bob].stream(9000).len(), 6);
    world.command(Command::RemovePeer { peer: PeerId(alice as u64) });
    world.command(Command::RemovePeer { peer: PeerId(alice as u64) });
    speak(&mut world, alice, &mut source, 3);
    assert_eq!((world.clients[bob].stream(9000).len(), world.shard.peer_count()), (6, 1));
}

#[test]
fn a_mute_may_come_before_the_track() {
    let mut world = World::new(21);
    let (alice, bob) = (world.join(), world.join());
    world.command(Command::SetMuted { track: TrackId(7), muted: true });
    // Of tracks that never come, too.
    for track in 100..200 {
        world.command(Command::SetMuted { track: TrackId(track), muted: true });
    }
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let mut source = Source::new(500, 111, &[]);
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(Duration::from_millis(50));
    assert!(world.clients[bob].stream(9000).is_empty());
    world.command(Command::SetMuted { track: TrackId(7), muted: false });
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
}

#[test]
fn what_waits_tells_when_a_frame_is_complete() {
    let mut world = World::new(31);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "0", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "3", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    source.send_vp8(&mut world.clients[alice], true, 3);
    world.run(TICK);
    source.send_vp8(&mut world.clients[alice], false, 4);
    let mut frame = std::mem::take(&mut world.clients[alice].outbox);
    assert_eq!(world.shard.waiting(), Waiting::default());
    // The second packet comes last.
    let seen: Vec<(bool, bool, usize)> = [0, 2, 3, 1]
        .into_iter()
        .map(|packet| {
            world.shard.handle_datagram(world.now, path(alice), &mut frame[packet]);
            let Waiting { video, frame, longest, .. } = world.shard.waiting();
            if frame {
                // As after it was sent.
                while world.shard.prepare(world.now) {
                    world.shard.sent();
                }
            }
            (video, frame, longest)
        })
        .collect();
    assert_eq!(seen, [(true, false, 1), (true, false, 2), (true, true, 3), (true, true, 1)]);
    assert_eq!(world.shard.waiting(), Waiting::default());
}

#[test]
fn audio_leaves_alone_while_half_a_frame_waits() {
    let mut world = World::new(32);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "0", &[(500, 501)], &[]), audio_receiver(8, "1", &[(600, 0)])]);
    world.subscribe(bob, vec![video_sender(7, "3", 9000, 9001), audio_sender(8, "4", 9100)]);
    let mut camera = Source::new(500, 96, &[]);
    camera.send_vp8(&mut world.clients[alice], true, 3);
    world.run(TICK);
    camera.send_vp8(&mut world.clients[alice], false, 2);
    Source::new(600, 111, &[]).send(&mut world.clients[alice], true, &[1; 80]);
    let mut sent = std::mem::take(&mut world.clients[alice].outbox);
    let mut hand_over = |world: &mut World, packet: usize| {
        world.shard.handle_datagram(world.now, path(alice), &mut sent[packet]);
    };
    hand_over(&mut world, 0);
    hand_over(&mut world, 2);
    assert!(world.shard.prepare_audio(world.now));
    let lens =
        |world: &World| -> Vec<usize> { world.shard.outgoing().datagrams().map(|(_, bytes)| bytes.len()).collect() };
    assert!(matches!(lens(&world)[..], [80..150]), "one packet of audio");
    world.shard.sent();
    assert!(!world.shard.prepare_audio(world.now));
    assert_eq!(world.shard.waiting(), Waiting { video: true, longest: 1, ..Waiting::default() });
    hand_over(&mut world, 1);
    assert!(world.shard.waiting().frame && world.shard.prepare(world.now));
    assert_eq!(lens(&world).len(), 2, "the whole frame");
    world.shard.sent();
    assert!(!world.shard.prepare(world.now));
    assert_eq!(world.shard.waiting(), Waiting::default());
}

#[test]
fn a_patient_shard_forwards_every_frame_and_all_audio() {
    let mut world = World::new(33);
    world.patient = true;
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "0", &[(500, 501)], &[]), audio_receiver(8, "1", &[(600, 0)])]);
    world.subscribe(bob, vec![video_sender(7, "3", 9000, 9001), audio_sender(8, "4", 9100)]);
    let (mut camera, mut microphone) = (Source::new(500, 96, &[]), Source::new(600, 111, &[]));
    let tick = Duration::from_millis(5);
    for frame in 0..40 {
        camera.send_vp8(&mut world.clients[alice], frame == 0, 6);
        let mut packets = std::mem::take(&mut world.clients[alice].outbox).into_iter();
        // As a pacer lets them go: 2, 3 and 1; every tenth frame loses its last packet for good.
        for count in [2, 3, usize::from(frame % 10 != 9)] {
            world.clients[alice].outbox.extend(packets.by_ref().take(count));
            microphone.send(&mut world.clients[alice], false, &[1; 80]);
            world.run(tick);
        }
        world.run(4 * tick);
        let seen = world.clients[bob].stream(9000).len();
        assert!(seen >= 6 * frame + 5 - frame / 10, "frame {frame}: {seen} packets");
    }
    world.run(TICK);
    assert_eq!(world.clients[bob].stream(9000).len(), 40 * 6 - 4);
    assert_eq!(world.clients[bob].stream(9100).len(), 3 * 40);
}
