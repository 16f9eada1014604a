//! Getting connected, staying connected, and what ends it.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Command, Event, PeerId, RoomId};

fn peer(client: usize) -> PeerId {
    PeerId(client as u64)
}

#[test]
fn a_client_connects_and_media_may_come_before_nomination() {
    let mut world = World::new(1);
    let alice = world.add();
    let check = world.clients[alice].check(false);
    world.inject(alice, check);
    world.clients[alice].start();
    world.run(Duration::from_secs(1));
    assert!(world.clients[alice].is_connected());
    assert_eq!(world.take_events(), [Event::Connected(peer(alice))]);
}

#[test]
fn a_wrong_fingerprint_is_refused() {
    let mut world = World::new(2);
    let alice = world.add();
    world.command(Command::SetRemote { peer: peer(alice), ufrag: "r".into(), pwd: "r".into(), fingerprint: [1; 32] });
    world.clients[alice].start();
    world.run(Duration::from_secs(2));
    let events = world.take_events();
    assert!(
        matches!(&events[..], [Event::Failed(p, reason)] if *p == peer(alice) && reason.contains("certificate")),
        "{events:?}"
    );
}

#[test]
fn the_fingerprint_may_come_after_the_handshake() {
    let mut world = World::new(3);
    let alice = world.add();
    // Forget what `add` told: as if the answer of the signalling were still on its way.
    world.command(Command::RemovePeer { peer: peer(alice) });
    let (ufrag, pwd) = (world.clients[alice].ufrag.clone(), world.clients[alice].pwd.clone());
    world.command(Command::AddPeer { peer: peer(alice), room: greenroom_forward::RoomId(1), ufrag, pwd });
    world.clients[alice].start();
    world.run(Duration::from_secs(1));
    assert!(world.clients[alice].is_connected() && world.take_events().is_empty());
    let fingerprint = *world.clients[alice].fingerprint.as_bytes();
    world.command(Command::SetRemote { peer: peer(alice), ufrag: "r".into(), pwd: "r".into(), fingerprint });
    assert_eq!(world.take_events(), [Event::Connected(peer(alice))]);
}

#[test]
fn a_client_that_waits_for_the_hello_gets_it() {
    // As pion answers an ICE-lite offer. What the signalling tells may come before the checks or after them.
    for told_first in [true, false] {
        let mut world = World::new(5);
        let alice = world.add();
        world.clients[alice].be_dtls_server();
        let fingerprint = *world.clients[alice].fingerprint.as_bytes();
        if !told_first {
            world.clients[alice].start();
            world.run(Duration::from_secs(1));
            assert!(!world.clients[alice].is_connected() && world.take_events().is_empty());
        }
        world.command(Command::SetRemote { peer: peer(alice), ufrag: "r".into(), pwd: "r".into(), fingerprint });
        world.command(Command::StartDtls { peer: peer(alice) });
        world.clients[alice].start();
        world.run(Duration::from_secs(1));
        assert!(world.clients[alice].is_connected());
        assert_eq!(world.take_events(), [Event::Connected(peer(alice))]);
        world.command(Command::StartDtls { peer: peer(alice) });
        world.run(Duration::from_secs(1));
        assert!(world.take_events().is_empty());
    }
}

#[test]
fn the_handshake_survives_loss() {
    for seed in 0..8 {
        let network = Network { delay: Duration::from_millis(30), jitter: Duration::from_millis(20), loss: 150 };
        let mut world = World::with_network(seed, network);
        world.join();
    }
}

#[test]
fn silence_is_reported_and_so_is_coming_back() {
    let mut world = World::new(4);
    let alice = world.join();
    world.run(Duration::from_secs(30));
    assert_eq!(world.take_events(), [Event::Connected(peer(alice))]);
    world.clients[alice].stop_checks();
    world.run(Duration::from_secs(12));
    assert_eq!(world.take_events(), [Event::Disconnected(peer(alice))]);
    world.clients[alice].start();
    world.run(Duration::from_secs(1));
    assert_eq!(world.take_events(), [Event::Reconnected(peer(alice))]);
    world.clients[alice].stop_checks();
    world.run(Duration::from_secs(20));
    assert_eq!(world.take_events(), [Event::Disconnected(peer(alice)), Event::Lost(peer(alice))]);
    // An ICE restart later than that still finds its keys.
    world.clients[alice].ufrag = "again".into();
    world.clients[alice].pwd = "a-new-password-for-it".into();
    let (ufrag, pwd) = ("again".to_owned(), "a-new-password-for-it".to_owned());
    world.command(Command::RestartIce { peer: peer(alice), ufrag, pwd });
    world.clients[alice].start();
    world.run(Duration::from_secs(1));
    assert_eq!(world.take_events(), [Event::Reconnected(peer(alice))]);
}

#[test]
fn old_credentials_hold_until_the_new_ones_are_used() {
    let mut world = World::new(5);
    let alice = world.join();
    let (ufrag, pwd) = ("new".to_owned(), "new-password".to_owned());
    world.command(Command::RestartIce { peer: peer(alice), ufrag: ufrag.clone(), pwd: pwd.clone() });
    let answered = world.shard.counters().stun_in;
    let old = world.clients[alice].check(true);
    world.inject(alice, old.clone());
    world.clients[alice].ufrag = ufrag;
    world.clients[alice].pwd = pwd;
    let new = world.clients[alice].check(true);
    world.inject(alice, new);
    assert_eq!(world.shard.counters().stun_in, answered + 2);
    world.inject(alice, old);
    assert_eq!(world.shard.counters().dropped_stun_user, 1);
}

#[test]
fn media_follows_a_client_to_another_address() {
    let mut world = World::new(6);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let check = world.clients[bob].check(true);
    let moved = path(99);
    world.shard.handle_datagram(world.now, moved, &mut check.clone());
    while world.shard.prepare(world.now) {
        world.shard.sent();
    }
    let mut source = Source::new(500, 111, &[]);
    source.send(&mut world.clients[alice], false, &[1; 50]);
    let mut packet = world.clients[alice].outbox.remove(0);
    world.shard.handle_datagram(world.now, path(alice), &mut packet);
    assert!(world.shard.prepare(world.now));
    assert!(world.shard.outgoing().sends().iter().all(|send| send.path == moved));
}

#[test]
fn a_check_with_a_forged_source_does_not_take_the_address_of_somebody_who_is_there() {
    let mut world = World::new(7);
    let (alice, bob) = (world.join(), world.join());
    let mallory = world.join_room(RoomId(2));
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    let mut source = Source::new(500, 111, &[]);
    for n in 0..50 {
        let forged = world.clients[mallory].check(true);
        world.inject(alice, forged);
        source.send(&mut world.clients[alice], false, &[n; 50]);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_millis(20));
    assert_eq!(world.clients[bob].stream(9000).len(), 50);
    assert_eq!(world.shard.counters().dropped_address, 50);
    // Who has gone leaves the address.
    world.clients[alice].stop_checks();
    world.run(Duration::from_secs(4));
    let answered = world.shard.counters().stun_in;
    let moved = world.clients[mallory].check(true);
    world.inject(alice, moved);
    assert_eq!(world.shard.counters().stun_in, answered + 1);
}

#[test]
fn after_a_panic_was_caught_all_timers_run_again() {
    let mut world = World::new(31);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.clients[bob].stop_checks();
    world.shard.recover(world.now);
    world.run(Duration::from_secs(13));
    assert!(world.take_events().contains(&Event::Disconnected(PeerId(bob as u64))));
}
