//! A number is forwarded once, whatever order originals and retransmissions come in: the oracle of the test world watches
//! that no SRTP index is sealed twice; these tests make the orders that would.
use std::time::Duration;

use crate::world::*;
use greenroom_wire::rtp::HeaderFields;

const FRAME: Duration = Duration::from_micros(33_333);

fn video_call(seed: u64, rtx_ssrc: u32) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, rtx_ssrc)]);
    (world, alice, bob, Source::new(500, 96, &[]))
}

/// A packet of the source, sealed and kept back.
fn seal_next(world: &mut World, alice: usize, source: &mut Source, payload: &[u8]) -> (Vec<u8>, HeaderFields, u64) {
    let (fields, index) = source.next(false);
    (world.clients[alice].seal_rtp(&fields, index, &[], payload), fields, index)
}

/// The retransmission of a packet (RFC 4588).
fn repair(world: &mut World, alice: usize, rtx: &mut Source, of: (HeaderFields, u64), payload: &[u8]) -> Vec<u8> {
    let (mut fields, index) = rtx.next(false);
    fields.timestamp = of.0.timestamp;
    let body = [&(of.1 as u16).to_be_bytes()[..], payload].concat();
    world.clients[alice].seal_rtp(&fields, index, &[], &body)
}

#[test]
fn a_late_original_after_its_retransmission_is_a_replay() {
    for rtx_ssrc in [9001, 0] {
        let (mut world, alice, bob, mut source) = video_call(1, rtx_ssrc);
        let mut rtx = Source::new(501, 97, &[]);
        source.send_vp8(&mut world.clients[alice], true, 3);
        world.run(FRAME);
        let payload = vp8(source.picture, false, true, 800);
        let (late, fields, index) = seal_next(&mut world, alice, &mut source, &payload);
        source.send_vp8(&mut world.clients[alice], false, 3);
        world.run(2 * FRAME);
        let repaired = repair(&mut world, alice, &mut rtx, (fields, index), &payload);
        world.inject(alice, repaired);
        world.run(FRAME);
        let (got, replays) = (world.clients[bob].stream(9000).len(), world.shard.counters().dropped_replay);
        world.inject(alice, late);
        world.run(FRAME);
        assert_eq!(world.clients[bob].stream(9000).len(), got);
        assert_eq!(world.shard.counters().dropped_replay, replays + 1);
        assert_eq!(world.clients[bob].stream(9000).len(), 7);
    }
}

#[test]
fn retransmissions_that_nobody_asked_for_are_refused() {
    let (mut world, alice, bob, mut source) = video_call(2, 9001);
    let mut sent = Vec::new();
    // 500 kbit/s for four seconds: most of it has left the cache when everything is repeated, as a bandwidth probe may.
    for n in 0..248 {
        let payload = vp8(source.picture, n == 0, true, 1000);
        source.picture += 1;
        source.timestamp = source.timestamp.wrapping_add(1450);
        let (bytes, fields, index) = seal_next(&mut world, alice, &mut source, &payload);
        sent.push(((fields, index), payload));
        world.inject(alice, bytes);
        world.run(Duration::from_millis(16));
    }
    let got = world.clients[bob].stream(9000).len();
    let mut rtx = Source::new(501, 97, &[]);
    for (of, payload) in &sent {
        let repaired = repair(&mut world, alice, &mut rtx, *of, payload);
        world.inject(alice, repaired);
    }
    world.run(FRAME);
    assert_eq!((got, world.clients[bob].stream(9000).len()), (248, 248));
    assert_eq!((world.shard.counters().dropped_unasked, world.shard.counters().recovered_in), (248, 0));
}

#[test]
fn an_ssrc_that_changes_its_part_goes_on_counting() {
    let (mut world, alice, bob, mut source) = video_call(3, 9001);
    let sender = |ssrc: u32, rtx_ssrc: u32| video_sender(7, "4", ssrc, rtx_ssrc);
    let mut frames = |world: &mut World, count: usize| {
        for n in 0..count {
            source.send_vp8(&mut world.clients[alice], n == 0, 3);
            world.run(FRAME);
            let last = world.clients[bob].rtp.iter().rev().find(|p| p.header.payload_type == 120).map(|p| p.header);
            let Some(header) = last else { continue };
            let (ssrc, number) = (header.ssrc, header.sequence_number);
            world.clients[bob]
                .send_rtcp(|b| b.nack(greenroom_wire::Ssrc(1), ssrc, [number, number.wrapping_sub(1)]).map(|_| ()));
        }
    };
    // Retransmissions on 9001, then media; media on 9000, then retransmissions; and everything again.
    for _ in 0..3 {
        for (ssrc, rtx_ssrc) in [(9000, 9001), (9001, 9000), (9000, 0), (9001, 9002)] {
            world.subscribe(bob, vec![sender(ssrc, rtx_ssrc)]);
            frames(&mut world, 5);
            world.subscribe(bob, vec![]);
        }
    }
    world.run(FRAME);
    assert!(world.shard.counters().rtx_out > 20, "{:?}", world.shard.counters());
    assert!(!world.oracle.is_blind());
}

#[test]
fn two_streams_never_share_an_ssrc() {
    let (mut world, alice, bob, mut source) = video_call(4, 9001);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001), video_sender(7, "5", 9001, 9002)]);
    for n in 0..5 {
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(FRAME);
    }
    assert_eq!(world.clients[bob].stream(9000).len(), 15);
    assert_eq!(world.clients[bob].stream(9001).len(), 0, "taken: the retransmissions of the first");
}

#[test]
fn a_repeated_packet_that_was_forgotten_meanwhile_is_not_sent() {
    let (mut world, alice, bob, mut source) = video_call(5, 0);
    source.send_vp8(&mut world.clients[alice], true, 3);
    world.run(FRAME);
    let numbers: Vec<u16> = world.clients[bob].stream(9000).iter().map(|p| p.header.sequence_number).collect();
    // Asked for, and before it is built the extension ids change: the same bytes cannot be made any more.
    let mut nack = vec![0; 200];
    let mut builder = greenroom_wire::rtcp::Builder::new(&mut nack);
    builder.nack(greenroom_wire::Ssrc(1), greenroom_wire::Ssrc(9000), numbers).unwrap();
    let len = builder.len();
    let mut sealed = world.clients[bob].seal_rtcp(&nack[..len]);
    world.shard.handle_datagram(world.now, path(bob), &mut sealed);
    let mut changed = video_sender(7, "4", 9000, 0);
    changed.extensions = greenroom_forward::Extensions::new([(MID, 5)]);
    world.subscribe(bob, vec![changed]);
    world.run(FRAME);
    assert_eq!(world.shard.counters().rtx_out, 0);
    assert!(world.shard.counters().dropped_cache >= 3);
}
