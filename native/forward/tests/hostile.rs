//! Bytes from strangers and from clients gone bad: dropped, counted, and nobody else notices.
use std::time::Duration;

use crate::world::*;
use greenroom_wire::Ssrc;
use greenroom_wire::rtp::HeaderFields;

fn audio_call(seed: u64) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)]), video_receiver(8, "1", &[(600, 601)], &[])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000), video_sender(8, "4", 9100, 9101)]);
    (world, alice, bob, Source::new(500, 111, &[]))
}

fn assert_call_works(world: &mut World, alice: usize, bob: usize, source: &mut Source) {
    let before = world.clients[bob].stream(9000).len();
    for _ in 0..5 {
        source.send(&mut world.clients[alice], false, &[7; 60]);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[bob].stream(9000).len(), before + 5);
}

#[test]
fn garbage_from_strangers_is_dropped_by_address() {
    let (mut world, alice, bob, mut source) = audio_call(1);
    for len in 0..200 {
        let bytes: Vec<u8> = (0..len).map(|_| world.random() as u8).collect();
        world.shard.handle_datagram(world.now, path(500 + len), &mut bytes.clone());
    }
    assert_call_works(&mut world, alice, bob, &mut source);
}

#[test]
fn stun_without_the_password_has_no_effect() {
    let (mut world, alice, bob, mut source) = audio_call(2);
    world.clients[alice].pwd = "not the password".into();
    let forged = world.clients[alice].check(true);
    world.clients[alice].ufrag = "nobody".into();
    let unknown = world.clients[alice].check(true);
    for stranger in 0..1000 {
        for bytes in [&forged, &unknown] {
            world.shard.handle_datagram(world.now, path(500 + stranger), &mut bytes.clone());
        }
    }
    assert!(!world.shard.prepare(world.now), "no answer that could be amplified");
    assert_eq!((world.shard.counters().dropped_stun_bad, world.shard.counters().dropped_stun_user), (1000, 1000));
    world.clients[alice].stop_checks();
    assert_call_works(&mut world, alice, bob, &mut source);
}

#[test]
fn garbage_from_a_known_address_is_counted() {
    let (mut world, alice, bob, mut source) = audio_call(3);
    for round in 0..3000u64 {
        let len = (world.random() % 300) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| world.random() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            // STUN, DTLS, RTP and RTCP in turn.
            *first = [0x00, 0x16, 0x80, 0x81][(round % 4) as usize];
        }
        world.shard.handle_datagram(world.now, path(alice), &mut bytes);
    }
    assert!(world.shard.counters().dropped_auth > 500);
    assert_call_works(&mut world, alice, bob, &mut source);
}

#[test]
fn replayed_and_altered_packets_are_refused() {
    let (mut world, alice, bob, mut source) = audio_call(4);
    let (fields, index) = source.next(false);
    let packet = world.clients[alice].seal_rtp(&fields, index, &[], &[3; 60]);
    for _ in 0..10 {
        world.inject(alice, packet.clone());
    }
    for position in 0..packet.len() {
        let mut altered = packet.clone();
        altered[position] ^= 1;
        world.inject(alice, altered);
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
    assert_eq!(world.shard.counters().dropped_replay, 9);
    assert_call_works(&mut world, alice, bob, &mut source);
}

#[test]
fn authentic_nonsense_is_survived() {
    let (mut world, alice, bob, mut source) = audio_call(5);
    for round in 0..3000u64 {
        let len = (world.random() % 200) as usize;
        let payload: Vec<u8> = (0..len).map(|_| world.random() as u8).collect();
        let fields = HeaderFields {
            marker: round % 3 == 0,
            payload_type: [96, 97, 63, 111, 20, 127][(round % 6) as usize],
            sequence_number: world.random() as u16,
            timestamp: world.random() as u32,
            ssrc: Ssrc([600, 601, 500, world.random() as u32][(round % 4) as usize]),
            padding: round % 5 == 0,
        };
        let extensions: [(u8, &[u8]); 3] = [(4, b"1"), (10, &[0xff, 0]), (3, &[1])];
        let packet = world.clients[alice].seal_rtp(&fields, u64::from(fields.sequence_number), &extensions, &payload);
        world.inject(alice, packet);
    }
    for _ in 0..500 {
        let numbers: Vec<u16> =
            (0..50).map(|_| world.random() as u16).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9100), numbers).map(|_| ()));
        world.collect();
    }
    world.run(Duration::from_secs(3));
    source.index = 40_000;
    source.ssrc = 500;
    assert_eq!(world.shard.peer_count(), 2);
}

#[test]
fn addresses_of_one_peer_are_bounded() {
    let (mut world, alice, bob, mut source) = audio_call(6);
    for stranger in 0..500 {
        let check = world.clients[alice].check(false);
        world.shard.handle_datagram(world.now, path(1000 + stranger), &mut check.clone());
    }
    while world.shard.prepare(world.now) {
        world.shard.sent();
    }
    assert_eq!(world.shard.path_count(), 16 + 1);
    assert_call_works(&mut world, alice, bob, &mut source);
}
