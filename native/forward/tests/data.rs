//! Data channels by label, through loss, and towards slow readers.
use std::sync::Arc;
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Channel, Command, Event, Limits, PeerId, Rate};
use greenroom_secure::sctp::{ChannelConfig, DataTransport, SctpEvent};

fn peer(client: usize) -> PeerId {
    PeerId(client as u64)
}

fn join_with_data(world: &mut World, channels: &[ChannelConfig]) -> usize {
    let index = world.add();
    world.command(Command::SetData { peer: peer(index), max_message_size: 65_535, channels: vec![] });
    world.clients[index].start();
    world.run_until(Duration::from_secs(30), |w| w.clients[index].is_connected());
    // As a browser does: the association begins when the handshake is done.
    let now = world.now;
    world.clients[index].start_data(now);
    for channel in channels {
        world.clients[index].sctp.as_mut().unwrap().open(channel.clone()).unwrap();
    }
    let opened = |e: &&Event| matches!(e, Event::ChannelOpen { peer: p, .. } if *p == peer(index));
    world.run_until(Duration::from_secs(30), |w| w.events.iter().filter(opened).count() == channels.len());
    index
}

fn messages(world: &World, client: usize) -> Vec<Vec<u8>> {
    let message = |e: &SctpEvent| if let SctpEvent::Message { data, .. } = e { Some(data.to_vec()) } else { None };
    world.clients[client].channels.iter().filter_map(message).collect()
}

fn send(world: &mut World, to: &[usize], label: &str, payload: &[u8]) {
    let peers = to.iter().map(|client| peer(*client)).collect();
    world.command(Command::SendData { peers, label: label.into(), payload: payload.into() });
}

const SEEDS: u64 = 8;

#[test]
fn messages_go_up_and_down_by_label_in_order_through_loss() {
    for seed in 0..SEEDS {
        let network = Network { delay: Duration::from_millis(15), jitter: Duration::from_millis(30), loss: 50 };
        let mut world = World::with_network(seed, network);
        let alice = join_with_data(&mut world, &[ChannelConfig::lossy("_lossy"), ChannelConfig::reliable("_reliable")]);
        let bob = join_with_data(&mut world, &[ChannelConfig::reliable("_reliable")]);
        for number in 0..100u8 {
            send(&mut world, &[alice, bob], "_reliable", &[number; 1500]);
            world.run(Duration::from_millis(5));
        }
        world.run(Duration::from_secs(60));
        let expected: Vec<Vec<u8>> = (0..100u8).map(|number| vec![number; 1500]).collect();
        assert!(messages(&world, alice) == expected && messages(&world, bob) == expected, "seed {seed}");
    }
}

#[test]
fn a_clients_message_comes_up_with_its_label() {
    let mut world = World::new(1);
    let alice = join_with_data(&mut world, &[ChannelConfig::lossy("_lossy"), ChannelConfig::reliable("_reliable")]);
    world.run(Duration::from_secs(1));
    let open = world.clients[alice].channels.iter().find_map(|e| match e {
        SctpEvent::ChannelOpen { id, config, .. } if config.label == "_reliable" => Some(*id),
        _ => None,
    });
    world.clients[alice].sctp.as_mut().unwrap().send(open.unwrap(), true, b"hello").unwrap();
    world.run(Duration::from_secs(1));
    let expected =
        Event::Data { peer: peer(alice), label: Arc::from("_reliable"), payload: b"hello".to_vec(), binary: true };
    assert!(world.take_events().contains(&expected));
}

#[test]
fn messages_wait_for_their_channel_and_too_many_are_reported() {
    let mut world = World::new(2);
    let alice = join_with_data(&mut world, &[ChannelConfig::reliable("_reliable")]);
    for number in 0..300u16 {
        send(&mut world, &[alice], "later", &number.to_be_bytes());
    }
    world.clients[alice].sctp.as_mut().unwrap().open(ChannelConfig::reliable("later")).unwrap();
    world.run(Duration::from_secs(5));
    assert_eq!(messages(&world, alice).len(), 256);
    assert!(world.take_events().contains(&Event::Dropped { peer: peer(alice), label: Arc::from("later"), count: 44 }));
}

#[test]
fn the_server_opens_channels_where_it_is_told_to() {
    let mut world = World::new(3);
    let alice = world.add();
    let channels = vec![
        Channel { label: "_reliable".into(), ordered: true, max_retransmits: None },
        Channel { label: "_lossy".into(), ordered: false, max_retransmits: Some(0) },
    ];
    world.command(Command::SetData { peer: peer(alice), max_message_size: 0, channels });
    let now = world.now;
    world.clients[alice].start_data(now);
    send(&mut world, &[alice], "_reliable", b"early");
    world.clients[alice].start();
    world.run(Duration::from_secs(2));
    assert_eq!(messages(&world, alice), [b"early"]);
    let opened = world.take_events().iter().filter(|e| matches!(e, Event::ChannelOpen { .. })).count();
    assert_eq!(opened, 2);
}

#[test]
fn a_flood_of_messages_is_slowed_down_and_loses_nothing() {
    let mut world = World::new(9);
    world.shard.set_limits(Limits { messages: Rate { per_second: 500, burst: 100 }, ..Limits::default() });
    let alice = join_with_data(&mut world, &[ChannelConfig::reliable("_reliable")]);
    world.run(Duration::from_millis(100));
    let open = world.clients[alice].channels.iter().find_map(|e| match e {
        SctpEvent::ChannelOpen { id, .. } => Some(*id),
        _ => None,
    });
    for n in 0..2000u32 {
        world.clients[alice].sctp.as_mut().unwrap().send(open.unwrap(), true, &n.to_be_bytes()).unwrap();
    }
    let start = world.now;
    let arrived = |world: &World| -> Vec<Vec<u8>> {
        let payload = |event: &Event| match event {
            Event::Data { payload, .. } => Some(payload.clone()),
            _ => None,
        };
        world.events.iter().filter_map(payload).collect()
    };
    world.run(Duration::from_secs(1));
    let soon = arrived(&world).len();
    assert!((400..=650).contains(&soon), "{soon} in the first second");
    world.run_until(Duration::from_secs(20), |world| arrived(world).len() == 2000);
    assert!(world.now - start > Duration::from_secs(3));
    assert!(arrived(&world).iter().enumerate().all(|(n, payload)| *payload == (n as u32).to_be_bytes()));
}

/// The work for each packet grows with what is unacknowledged, and a reader that acknowledges nothing decides how much
/// that is.
#[test]
fn what_a_reader_leaves_unacknowledged_is_bounded_and_the_rest_comes_in_order() {
    for (count, size) in [(4000u32, 4), (1000, 1500), (60, 60_000)] {
        let mut world = World::new(11);
        let alice = join_with_data(&mut world, &[ChannelConfig::reliable("_reliable")]);
        // Its window is wide open: only what we allow is under way.
        for number in 0..count {
            let mut payload = vec![7; size];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            send(&mut world, &[alice], "_reliable", &payload);
        }
        let under_way = world.shard.counters().messages_out;
        assert!((1..=512).contains(&under_way) && under_way * size as u64 <= 256 << 10, "{under_way} of {size} bytes");
        world.run(Duration::from_secs(60));
        let numbers: Vec<u32> =
            messages(&world, alice).iter().map(|m| u32::from_be_bytes(m[..4].try_into().unwrap())).collect();
        assert!(numbers.into_iter().eq(0..count), "{count} of {size} bytes");
        assert_eq!(world.shard.counters().dropped_data, 0);
    }
}

#[test]
fn what_waits_for_a_slow_reader_is_bounded() {
    let mut world = World::new(12);
    let alice = join_with_data(&mut world, &[ChannelConfig::reliable("_reliable")]);
    for (count, size) in [(70_000, 0), (80, 60_000)] {
        send(&mut world, &vec![alice; count], "_reliable", &vec![7; size]);
        let dropped = world.shard.counters().dropped_data;
        assert!(dropped > 0, "{size}");
        world.run(Duration::from_secs(60));
        let told = world.take_events().into_iter().filter_map(|event| match event {
            Event::Dropped { count, .. } => Some(count),
            _ => None,
        });
        assert!(told.sum::<u64>() > 0, "{size}");
    }
}
