//! A participant's address changes in the middle of a call.
use std::time::Duration;

use greenroom_forward::{Event, Kind, PeerId};
use greenroom_sim::{Conditions, World};

#[test]
fn media_goes_on_from_and_to_the_new_address() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join(), world.join());
        world.publish_sound(alice, 1);
        world.publish_pictures(alice, 2, 2_000);
        world.subscribe(bob, 1, Kind::Audio);
        let mid = world.subscribe(bob, 2, Kind::Video);
        world.run(Duration::from_secs(2));
        for mover in [alice, bob] {
            world.change_route(mover);
            let changed = world.now;
            world.run(Duration::from_secs(8));
            let frames = &world.participants[bob].frames[&mid];
            let back = frames.iter().find(|frame| frame.at > changed + Duration::from_millis(40));
            let pause = back.expect("pictures come back").at - changed;
            // The server learns of an address by the next check; str0m's come every 2 to 3 s.
            assert!(pause < Duration::from_secs(4), "seed {seed}: {pause:?}");
            let recent = frames.iter().filter(|frame| frame.at > world.now - Duration::from_secs(2));
            assert!(recent.filter(|frame| frame.number.is_some()).count() > 55, "seed {seed}: pictures flow");
            assert!(frames.last().unwrap().contiguous);
        }
        let heard = &world.participants[bob].listeners["r1"];
        assert!(heard.heard() > Duration::from_secs(17), "seed {seed}: {:?}", heard.heard());
        let lost = world.events.iter().any(|event| matches!(event, Event::Disconnected(_) | Event::Lost(_)));
        assert!(!lost, "seed {seed}: nobody was taken for gone");
        world.participants[alice].send("_reliable", b"still here".to_vec());
        world.run(Duration::from_secs(1));
        assert_eq!(world.participants[bob].messages.last().map(|m| m.payload.as_slice()), Some(&b"still here"[..]));
    }
}

#[test]
fn a_short_silence_is_forgiven_and_a_long_one_reported() {
    let mut world = World::new(9);
    let alice = world.join();
    let void = Conditions { loss: 1000, ..Conditions::default() };
    let peer = PeerId(alice as u64);
    world.set_conditions(alice, void, void);
    world.run(Duration::from_secs(5));
    world.set_conditions(alice, Conditions::default(), Conditions::default());
    world.run(Duration::from_secs(10));
    assert!(!world.events.contains(&Event::Disconnected(peer)));
    world.set_conditions(alice, void, void);
    world.run(Duration::from_secs(12));
    assert!(world.events.contains(&Event::Disconnected(peer)) && !world.events.contains(&Event::Lost(peer)));
    world.run(Duration::from_secs(5));
    assert!(world.events.contains(&Event::Lost(peer)));
}
