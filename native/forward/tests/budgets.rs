//! What one peer may cost: beyond it its own packets are dropped and counted, and the others notice nothing.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Command, Counters, Limits, Rate, RoomId, Sender};
use greenroom_wire::Ssrc;

const FRAME: Duration = Duration::from_micros(33_333);

fn audio_call(seed: u64) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    (world, alice, bob, Source::new(500, 111, &[]))
}

fn since(world: &World, before: Counters, read: impl Fn(&Counters) -> u64) -> u64 {
    read(world.shard.counters()) - read(&before)
}

#[test]
fn extension_values_of_any_size_are_no_matter() {
    for (sizes, arrives) in [([170, 170], None), ([255, 255], None), ([1, 255], Some(1)), ([2, 1], Some(2))] {
        let (mut world, alice, bob, mut source) = audio_call(1);
        let values = sizes.map(|size| vec![5u8; size]);
        let (fields, index) = source.next(false);
        let extensions = [(1, &values[0][..]), (1, &values[1][..]), (3, &values[1][..]), (4, &values[0][..])];
        let packet = world.clients[alice].seal_rtp(&fields, index, &extensions, &[7; 60]);
        world.inject(alice, packet);
        world.run(FRAME);
        let got = world.clients[bob].stream(9000);
        assert_eq!(got.len(), 1);
        let level = got[0].extensions.iter().find(|(id, _)| *id == 6).map(|(_, value)| value.len());
        assert_eq!(level, arrives, "{sizes:?}");
    }
}

#[test]
fn rtp_larger_than_a_datagram_is_not_forwarded() {
    let (mut world, alice, bob, mut source) = audio_call(2);
    for size in [1400, 1600, 9000, 60_000] {
        let (fields, index) = source.next(false);
        let packet = world.clients[alice].seal_rtp(&fields, index, &[], &vec![7; size]);
        world.inject(alice, packet);
    }
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
    assert_eq!(world.shard.counters().dropped_oversize, 3);
}

/// Each packet and each stream within its budget, and still more work than a shard can do.
#[test]
fn many_streams_to_a_large_audience_are_cut_to_the_budget_of_copies() {
    const STREAMS: u32 = 20;
    let mut world = World::new(9);
    let attacker = world.join();
    let streams = || (0..STREAMS).map(|n| (u64::from(n), format!("a{n}")));
    let receivers = streams().map(|(n, mid)| audio_receiver(100 + n, &mid, &[(5000 + n as u32, 0)])).collect();
    world.publish(attacker, receivers);
    let audience: Vec<usize> = (0..50).map(|_| world.join()).collect();
    for member in &audience {
        let senders = streams().map(|(n, mid)| audio_sender(100 + n, &mid, 20_000 + n as u32)).collect();
        world.subscribe(*member, senders);
    }
    let mut honest = Source::new(500, 111, &[]);
    let talker = world.join_room(RoomId(2));
    let listener = world.join_room(RoomId(2));
    world.publish(talker, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(listener, vec![audio_sender(7, "3", 9000)]);
    let limits = Limits { copies: Rate { per_second: 20_000, burst: 5_000 }, ..Limits::default() };
    world.shard.set_limits(limits);
    let mut sources: Vec<Source> = (0..STREAMS).map(|n| Source::new(5000 + n, 111, &[])).collect();
    let before = *world.shard.counters();
    for _ in 0..50 {
        for source in &mut sources {
            for _ in 0..4 {
                source.send(&mut world.clients[attacker], false, &[7; 60]);
            }
        }
        honest.send(&mut world.clients[talker], false, &[7; 60]);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[listener].stream(9000).len(), 50, "nobody else pays");
    let copies = since(&world, before, |counters| counters.rtp_out) - 50;
    // What is over is owed: the last packet may cost more than is left.
    assert!((24_000..=25_100).contains(&copies), "{copies}");
    assert!(since(&world, before, |counters| counters.dropped_budget) > 3_000);
    // A pause, and it is heard again.
    world.run(Duration::from_secs(1));
    let heard = world.clients[audience[0]].stream(20_000).len();
    sources[0].send(&mut world.clients[attacker], false, &[7; 60]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[audience[0]].stream(20_000).len(), heard + 1);
}

#[test]
fn who_resumes_again_and_again_does_not_get_the_kept_picture_each_time() {
    const PICTURE: usize = 300;
    let mut world = World::new(10);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    let mut slide = Source::new(500, 96, &[]);
    slide.send_vp8(&mut world.clients[alice], true, PICTURE);
    world.run(Duration::from_secs(1));
    world.clients[alice].take_feedback();
    let before = *world.shard.counters();
    for n in 0..200 {
        // Pauses, and subscriptions made anew.
        let sender = video_sender(7, "4", 9000 + 2 * (n / 100), 9001 + 2 * (n / 100));
        world.subscribe(bob, vec![Sender { paused: n % 2 == 0, ..sender }]);
        world.run(Duration::from_millis(10));
    }
    let kept = Limits::default().kept;
    let sent = since(&world, before, |counters| counters.rtp_out);
    assert!(sent >= kept.burst && sent <= kept.burst + 2 * kept.per_second + PICTURE as u64, "{sent}");
    let asked = world.clients[alice].take_feedback().iter().filter(|packet| matches!(packet, Rtcp::Pli(_))).count();
    assert!((1..=5).contains(&asked), "a key frame instead, as often as the throttle allows: {asked}");
}

#[test]
fn a_flood_of_packets_is_cut_to_the_budget() {
    let (mut world, alice, bob, mut source) = audio_call(3);
    let audio_packets = Limits::default().audio_packets;
    let before = *world.shard.counters();
    for _ in 0..10 {
        for _ in 0..4000 {
            let (fields, index) = source.next(false);
            let packet = world.clients[alice].seal_rtp(&fields, index, &[], &[7; 60]);
            world.shard.handle_datagram(world.now, path(alice), &mut packet.clone());
        }
        world.run(Duration::from_millis(100));
    }
    let heard = world.clients[bob].stream(9000).len() as u64;
    assert!(heard <= audio_packets.burst + audio_packets.per_second + 10, "{heard}");
    // Fed in one instant, more than a cache of audio holds.
    assert!(since(&world, before, |c| c.dropped_budget + c.dropped_cache) >= 40_000 - heard);
    world.run(Duration::from_secs(2));
    let got = world.clients[bob].stream(9000).len();
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), got + 1, "who keeps to it is heard again");
}

#[test]
fn a_storm_of_nacks_is_answered_within_a_share_of_the_media() {
    for rtx_ssrc in [9001, 0] {
        let mut world = World::new(4);
        let (alice, bob) = (world.join(), world.join());
        world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
        world.subscribe(bob, vec![video_sender(7, "4", 9000, rtx_ssrc)]);
        let mut source = Source::new(500, 96, &[]);
        for n in 0..200 {
            source.send_vp8(&mut world.clients[alice], n == 0, 3);
            world.run(Duration::from_millis(5));
        }
        let last = world.clients[bob].stream(9000).last().unwrap().header.sequence_number;
        let numbers: Vec<u16> = (0..500).map(|k| last.wrapping_sub(499 - k)).collect();
        let before = *world.shard.counters();
        let mut asked = 0;
        for _ in 0..100 {
            let mut buf = vec![0; 1500];
            let mut builder = greenroom_wire::rtcp::Builder::new(&mut buf);
            builder.nack(Ssrc(1), Ssrc(9000), numbers.iter().copied()).unwrap();
            let len = builder.len();
            let sealed = world.clients[bob].seal_rtcp(&buf[..len]);
            asked += sealed.len() as u64;
            world.inject(bob, sealed);
            world.run(Duration::from_millis(10));
        }
        let sent = since(&world, before, |c| c.bytes_out);
        assert!(sent < 3 * asked, "{sent} bytes for {asked}");
        assert!(since(&world, before, |c| c.rtx_out) > 20, "what is within the share is sent");
        assert!(since(&world, before, |c| c.dropped_rtx) > 1000);
    }
}

#[test]
fn one_packet_is_sent_again_three_times_at_the_most() {
    let mut world = World::new(5);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    source.send_vp8(&mut world.clients[alice], true, 3);
    world.run(FRAME);
    let number = world.clients[bob].stream(9000)[1].header.sequence_number;
    for _ in 0..20 {
        world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), [number]).map(|_| ()));
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.clients[bob].stream(9001).len(), 3);
}

#[test]
fn ssrcs_that_change_with_every_packet_are_refused() {
    let mut world = World::new(6);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[(4, "1")]);
    for n in 0..10 {
        source.send_vp8(&mut world.clients[alice], n == 0, 3);
        world.run(FRAME);
    }
    let before = *world.shard.counters();
    for n in 0..1000u32 {
        let mut other = Source::new(1000 + n, 96, &[]);
        let (fields, index) = other.next(true);
        let packet = world.clients[alice].seal_rtp(&fields, index, &[(4, b"1")], &vp8(10, false, true, 100));
        world.inject(alice, packet);
    }
    assert!(since(&world, before, |c| c.dropped_budget) > 950, "{:?}", world.shard.counters());
    // A browser that changes once is served.
    world.run(Duration::from_secs(10));
    let got = world.clients[bob].stream(9000).len();
    let mut source = Source::new(77, 96, &[(4, "1")]);
    source.send_vp8(&mut world.clients[alice], true, 3);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), got + 3);
}

#[test]
fn a_subscriber_that_asks_for_key_frames_without_end_is_not_heard_each_time() {
    let mut world = World::new(7);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let mut source = Source::new(500, 96, &[]);
    let (mut key, mut asked) = (true, 0);
    for _ in 0..900 {
        source.send_vp8(&mut world.clients[alice], key, 2);
        for _ in 0..3 {
            world.clients[bob].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
        }
        world.run(FRAME);
        let plis = world.clients[alice].take_feedback().iter().filter(|p| matches!(p, Rtcp::Pli(_))).count();
        key = plis > 0;
        asked += plis;
    }
    let limit = Limits::default().keyframes;
    assert!(asked as u64 <= limit.burst + 30 * limit.per_second + 1, "{asked} in 30 s");
}

#[test]
fn reports_beyond_the_budget_are_dropped() {
    let (mut world, alice, bob, mut source) = audio_call(8);
    let before = *world.shard.counters();
    for _ in 0..10_000 {
        let packet = world.clients[bob].seal_rtcp(&[0x81, 0xce, 0, 2, 0, 0, 0, 1, 0, 0, 0x23, 0x28]);
        world.shard.handle_datagram(world.now, path(bob), &mut packet.clone());
    }
    let taken = since(&world, before, |c| c.plis_in);
    assert_eq!(taken, Limits::default().rtcp_packets.burst);
    assert!(since(&world, before, |c| c.dropped_budget) >= 10_000 - taken);
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
}

#[test]
fn only_the_loudest_of_a_room_are_forwarded_where_it_wants_that() {
    let mut world = World::new(10);
    let speakers: Vec<usize> = (0..4).map(|_| world.join()).collect();
    let bob = world.join();
    for (n, speaker) in speakers.iter().enumerate() {
        world.publish(*speaker, vec![audio_receiver(n as u64, "0", &[(500, 0)])]);
    }
    world.subscribe(bob, (0..4).map(|n| audio_sender(n, &n.to_string(), 9000 + n as u32)).collect());
    world.command(Command::SetRoom { room: RoomId(1), top_speakers: Some(2) });
    let mut sources: Vec<Source> = speakers.iter().map(|_| Source::new(500, 111, &[])).collect();
    let mut talk = |world: &mut World, levels: [u8; 4], packets: usize| {
        for _ in 0..packets {
            for ((speaker, source), level) in speakers.iter().zip(&mut sources).zip(levels) {
                source.extensions = vec![(1, vec![0x80 | level])];
                source.send(&mut world.clients[*speaker], false, &[7; 60]);
                source.timestamp = source.timestamp.wrapping_add(960);
            }
            world.run(Duration::from_millis(20));
        }
        world.run(FRAME);
    };
    let heard = |world: &World| [0, 1, 2, 3].map(|n| world.clients[bob].stream(9000 + n).len());
    talk(&mut world, [20, 25, 60, 90], 100);
    assert_eq!(heard(&world), [100, 100, 0, 0]);
    talk(&mut world, [20, 90, 60, 15], 100);
    let [a, b, c, d] = heard(&world);
    assert_eq!((a, c), (200, 0));
    assert!(b < 160 && d > 40, "the second is replaced by the fourth: {b} {d}");
    // Those who come back have no gap in their numbers.
    talk(&mut world, [20, 15, 60, 90], 200);
    let numbers: Vec<u64> = world.clients[bob].stream(9001).iter().map(|p| p.index).collect();
    assert!(numbers.len() > b + 50 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn nobody_is_sent_to_after_ten_silent_seconds_until_heard_again() {
    let (mut world, alice, bob, mut source) = audio_call(11);
    world.clients[bob].stop_checks();
    let mut talk = |world: &mut World, seconds: u64| {
        for _ in 0..seconds * 50 {
            source.send(&mut world.clients[alice], false, &[7; 60]);
            source.timestamp = source.timestamp.wrapping_add(960);
            world.run(Duration::from_millis(20));
        }
    };
    talk(&mut world, 13);
    let got = world.clients[bob].stream(9000).len();
    talk(&mut world, 5);
    assert_eq!(world.clients[bob].stream(9000).len(), got);
    let check = world.clients[bob].check(true);
    world.inject(bob, check);
    talk(&mut world, 1);
    assert!(world.clients[bob].stream(9000).len() > got + 40);
}

#[test]
fn one_datagram_asks_for_so_many_packets_and_no_more() {
    let (mut world, alice, bob, mut source) = audio_call(12);
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(FRAME);
    let before = *world.shard.counters();
    let mut nacks = vec![0; 60_000];
    let mut builder = greenroom_wire::rtcp::Builder::new(&mut nacks);
    for _ in 0..30 {
        builder.nack(Ssrc(1), Ssrc(9000), 0..128).unwrap();
    }
    let len = builder.len();
    let sealed = world.clients[bob].seal_rtcp(&nacks[..len]);
    world.inject(bob, sealed);
    assert_eq!(since(&world, before, |c| c.nacks_in), 512);
    for _ in 0..100 {
        builder = greenroom_wire::rtcp::Builder::new(&mut nacks);
        for _ in 0..60 {
            builder.nack(Ssrc(1), Ssrc(9000), 0..128).unwrap();
        }
        let len = builder.len();
        assert!(len > 1500);
        let sealed = world.clients[bob].seal_rtcp(&nacks[..len]);
        world.inject(bob, sealed);
    }
    assert_eq!(since(&world, before, |c| c.dropped_oversize), 100);
}

#[test]
fn nobody_else_can_use_up_a_peers_budget() {
    let (mut world, alice, bob, mut source) = audio_call(13);
    for n in 0..30_000u32 {
        for forged in
            [vec![0x80, 111, 0, n as u8, 0, 0, 0, 0, 0, 0, 1, 244, 1, 2, 3], vec![0x81, 201, 0, 1, 0, 0, 0, 1]]
        {
            let mut forged = [forged, vec![n as u8; 40]].concat();
            world.shard.handle_datagram(world.now, path(alice), &mut forged.clone());
            world.shard.handle_datagram(world.now, path(bob), &mut forged);
        }
    }
    source.send(&mut world.clients[alice], false, &[7; 60]);
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9000).len(), 1);
    let before = *world.shard.counters();
    world.clients[bob].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
    world.run(FRAME);
    assert_eq!(since(&world, before, |c| c.plis_in), 1);
    assert_eq!(world.shard.counters().dropped_budget, 0);
}

#[test]
fn an_old_packet_played_back_moves_no_feedback() {
    let (mut world, alice, _, mut source) = audio_call(14);
    source.transport_cc = true;
    let (fields, index) = source.next(false);
    let number = 0u16.to_be_bytes();
    let old = world.clients[alice].seal_rtp(&fields, index, &[(3, &number)], &[7; 60]);
    world.inject(alice, old.clone());
    // More than half of the transport-wide numbers later.
    for n in 0..34_000 {
        source.send(&mut world.clients[alice], false, &[7; 60]);
        source.timestamp = source.timestamp.wrapping_add(960);
        if n % 50 == 0 {
            world.run(Duration::from_millis(12));
        }
    }
    world.run(Duration::from_millis(200));
    world.clients[alice].take_feedback();
    world.inject(alice, old);
    for _ in 0..50 {
        source.send(&mut world.clients[alice], false, &[7; 60]);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_millis(200));
    let reported: usize = world.clients[alice]
        .take_feedback()
        .iter()
        .map(|packet| match packet {
            Rtcp::Twcc(packets) => packets.iter().filter(|(_, received)| *received).count(),
            _ => 0,
        })
        .sum();
    assert!(reported >= 50, "{reported}");
}
