//! What a subscriber sees of one stream goes on without a seam of our making: found by the session fuzzer.
use std::time::Duration;

use crate::world::*;
use greenroom_wire::vp8::Descriptor;

const FRAME: Duration = Duration::from_micros(33_333);

fn picture_ids(world: &World, client: usize, ssrc: u32) -> Vec<u16> {
    let packets = world.clients[client].stream(ssrc);
    packets.iter().map(|p| Descriptor::parse(&p.payload).unwrap().picture_id.unwrap().value()).collect()
}

#[test]
fn what_the_subscriber_cannot_take_leaves_no_gap() {
    let mut world = World::new(1);
    let (alice, bob) = (world.join(), world.join());
    let mut receiver = audio_receiver(7, "0", &[(500, 0)]);
    receiver.codecs.push(codec(101, "telephone-event", 0));
    world.publish(alice, vec![receiver]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let mut source = Source::new(500, 111, &[]);
    for number in 0..40u8 {
        source.pt = if (10..20).contains(&number) { 101 } else { 111 };
        source.send(&mut world.clients[alice], false, &[number; 60]);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.run(Duration::from_millis(20));
    }
    world.run(FRAME);
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 30);
    assert!(packets.windows(2).all(|w| w[1].index == w[0].index + 1));
}

#[test]
fn pictures_with_short_ids_go_on_after_a_switch() {
    let mut world = World::new(2);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    for picture in 0..400u16 {
        if picture == 100 {
            // An SSRC with pictures of its own, announced as by a renegotiation.
            world.publish(alice, vec![video_receiver(7, "1", &[(510, 511)], &[])]);
            source = Source::new(510, 96, &[]);
        }
        let key = picture % 100 == 0;
        // I, L, T and K, M not set: a picture id of 7 bits.
        let mut payload = vec![0x90, 0xf0, (picture & 0x7f) as u8, picture as u8, 0, u8::from(!key)];
        payload.resize(300, 0xab);
        source.send(&mut world.clients[alice], true, &payload);
        source.timestamp = source.timestamp.wrapping_add(3000);
        world.run(FRAME);
    }
    world.run(FRAME);
    let ids = picture_ids(&world, bob, 9000);
    assert_eq!(ids.len(), 400);
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "{ids:?}");
}

#[test]
fn pictures_go_on_when_a_subscription_returns_on_its_ssrc() {
    let mut world = World::new(3);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    let section = || vec![video_sender(7, "4", 9000, 9001)];
    world.subscribe(bob, section());
    let mut source = Source::new(500, 96, &[]);
    for frame in 0..90 {
        match frame {
            30 => world.subscribe(bob, vec![]),
            60 => world.subscribe(bob, section()),
            _ => {}
        }
        source.send_vp8(&mut world.clients[alice], frame % 30 == 0, 1);
        world.run(FRAME);
    }
    world.run(FRAME);
    let ids = picture_ids(&world, bob, 9000);
    assert!(ids.len() >= 58, "{}", ids.len());
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "{ids:?}");
}

/// Packets before and after a change of SSRC come in one batch, before anything is sent.
#[test]
fn an_ssrc_that_changes_takes_nothing_along_that_waits() {
    let mut world = World::new(5);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let mut datagrams = Vec::new();
    for ssrc in [500, 600] {
        let mut source = Source::new(ssrc, 111, &[(4, "0")]);
        (0..10).for_each(|n| {
            source.send(&mut world.clients[alice], false, &[n; 60]);
            source.timestamp = source.timestamp.wrapping_add(960);
        });
        datagrams.append(&mut world.clients[alice].outbox);
    }
    for mut datagram in datagrams {
        world.shard.handle_datagram(world.now, path(alice), &mut datagram);
    }
    world.run(FRAME);
    world.run(FRAME);
    let packets = world.clients[bob].stream(9000);
    assert_eq!((packets.len(), world.shard.counters().dropped_cache), (20, 0));
    assert!(packets.windows(2).all(|w| w[1].index == w[0].index + 1));
}
