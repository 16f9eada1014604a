//! Pictures do not stand still where a packet that is at hand, or one request, keeps them moving. Nobody here asks for key
//! frames when a picture is missing: what does not come by itself counts as frozen.
use std::time::{Duration, Instant};

use greenroom_forward::Kind;
use greenroom_sim::{Conditions, Frame, World};

const SECOND: Duration = Duration::from_secs(1);

/// Alice and `viewers` others, with pictures of alice as track 1.
fn room(seed: u64, viewers: usize) -> (World, Vec<usize>) {
    let mut world = World::new(seed);
    let alice = world.join();
    let all: Vec<usize> = (0..viewers).map(|_| world.join()).collect();
    world.participants.iter_mut().for_each(|participant| participant.asks_for_keyframes = false);
    world.publish_pictures(alice, 1, 5_000);
    (world, all)
}

fn frames_since(world: &World, viewer: usize, begin: Instant) -> Vec<&Frame> {
    world.participants[viewer].frames["r1"].iter().filter(|frame| frame.at >= begin).collect()
}

/// Why a viewer that began at `begin` has no moving picture, if it has none.
fn frozen(world: &World, viewer: usize, begin: Instant) -> Option<String> {
    let frames = frames_since(world, viewer, begin);
    let Some(start) = frames.iter().position(|frame| frame.key && frame.number.is_some()) else {
        return Some(format!("no key frame among {}", frames.len()));
    };
    let frames = &frames[start..];
    let waited = frames[0].at - begin;
    if waited > Duration::from_millis(800) {
        return Some(format!("a key frame after {waited:?}"));
    }
    let torn = frames.windows(2).find(|w| w[1].number != w[0].number.map(|n| n + 1));
    torn.map(|pair| format!("{:?} follows {:?}", pair[1], pair[0]))
}

#[test]
fn who_begins_while_the_publisher_loses_sees_the_first_key_frame() {
    let (mut joins, mut late) = (0, Vec::new());
    for seed in 1..=4 {
        let (mut world, all) = room(seed, 4);
        let mids: Vec<String> = all.iter().map(|viewer| world.subscribe(*viewer, 1, Kind::Video)).collect();
        world.run(SECOND);
        world.set_conditions(
            0,
            Conditions { loss: 50, delay: 3 * Conditions::default().delay, ..Conditions::default() },
            Conditions::default(),
        );
        for round in 0..10 {
            for (viewer, mid) in all.iter().zip(&mids) {
                world.update_subscription(*viewer, mid, |sender| sender.paused = true);
            }
            world.run(SECOND / 4);
            for (viewer, mid) in all.iter().zip(&mids) {
                world.run(Duration::from_millis(170));
                let begin = world.now;
                world.update_subscription(*viewer, mid, |sender| sender.paused = false);
                world.run(2 * SECOND);
                joins += 1;
                late.extend(frozen(&world, *viewer, begin).map(|why| format!("seed {seed}, round {round}: {why}")));
            }
        }
    }
    assert!(late.is_empty(), "{} of {joins} starts froze: {late:#?}", late.len());
}

#[test]
fn a_slide_is_shown_to_who_comes_later() {
    for (seed, answers) in [(11, false), (12, true)] {
        let (mut world, all) = room(seed, 2);
        world.subscribe(all[0], 1, Kind::Video);
        // A slide: one picture, and then nothing, or only what is asked for.
        world.participants[0].cameras()[0].still = true;
        world.run(SECOND);
        world.participants[0].cameras()[0].paused = !answers;
        world.run(8 * SECOND);
        let begin = world.now;
        world.subscribe(all[1], 1, Kind::Video);
        world.run(SECOND);
        let frames = frames_since(&world, all[1], begin);
        assert!(frames.iter().any(|frame| frame.key && frame.number.is_some()), "seed {seed}: {frames:?}");
    }
}

#[test]
fn the_highest_layer_may_stop_at_any_time() {
    for seed in 21..=24 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join(), world.join());
        world.participants[bob].asks_for_keyframes = false;
        world.publish_simulcast(alice, 1, [400, 1_500, 5_000]);
        world.subscribe(bob, 1, Kind::Video);
        world.run(3 * SECOND);
        for stops in [2, 1] {
            world.participants[alice].cameras()[stops].paused = true;
            let begin = world.now;
            world.run(3 * SECOND);
            let frames = frames_since(&world, bob, begin - SECOND / 2);
            let gap = frames.windows(2).map(|w| w[1].at - w[0].at).max().unwrap();
            assert!(gap < Duration::from_millis(700), "seed {seed}: nothing for {gap:?} after layer {stops} stopped");
            assert!(frames.iter().all(|frame| frame.contiguous && frame.number.is_some()));
        }
    }
}

#[test]
fn what_is_lost_for_good_on_the_way_up_is_mended_by_a_key_frame() {
    for (seed, outage) in [(31, 200), (32, 700), (33, 1500), (34, 4000)] {
        let (mut world, all) = room(seed, 2);
        for viewer in &all {
            world.subscribe(*viewer, 1, Kind::Video);
        }
        world.run(SECOND);
        // Nothing arrives, and what is asked for again is lost, too, for as long as it is asked for.
        let lost = Conditions { loss: 1000, ..Conditions::default() };
        world.set_conditions(0, lost, Conditions::default());
        world.run(Duration::from_millis(outage));
        world.set_conditions(0, Conditions { loss: 700, ..lost }, lost);
        world.run(2 * SECOND);
        world.set_conditions(0, Conditions::default(), Conditions::default());
        world.run(SECOND);
        let begin = world.now;
        world.run(SECOND);
        for viewer in &all {
            let frames = frames_since(&world, *viewer, begin);
            let moving = frames.len() >= 25 && frames.iter().all(|frame| frame.contiguous && frame.number.is_some());
            let key = world.participants[*viewer].frames["r1"].iter().rfind(|frame| frame.key).map(|frame| frame.at);
            let mended = key.is_some_and(|at| at > begin - 2 * SECOND);
            assert!(
                moving && mended,
                "seed {seed}: {} frames, the newest key frame {:?} before",
                frames.len(),
                key.map(|at| begin - at)
            );
        }
    }
}
