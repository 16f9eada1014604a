//! Subscribers do not feel each other: a slow one, one that loses, many that ask for key frames.
use std::time::Duration;

use greenroom_forward::Kind;
use greenroom_sim::{Conditions, Rate, World};

fn room(seed: u64, subscribers: usize) -> (World, Vec<usize>) {
    let mut world = World::new(seed);
    let alice = world.join();
    let listening: Vec<usize> = (0..subscribers).map(|_| world.join()).collect();
    world.publish_sound(alice, 1);
    world.publish_pictures(alice, 2, 3_000);
    for index in &listening {
        world.subscribe(*index, 1, Kind::Audio);
        world.subscribe(*index, 2, Kind::Video);
    }
    world.run(Duration::from_secs(1));
    (world, listening)
}

#[test]
fn a_slow_subscriber_does_not_disturb_the_others() {
    for seed in 1..=2 {
        let (mut world, all) = room(seed, 3);
        // A tenth of what is sent to it.
        let rate = Some(Rate { bits_per_second: 80_000, queue: Duration::from_millis(300) });
        world.set_conditions(all[0], Conditions::default(), Conditions { rate, ..Conditions::default() });
        let begin = world.now;
        for number in 0..100u32 {
            world.participants[0].send("_reliable", number.to_be_bytes().repeat(100));
            world.run(Duration::from_millis(100));
        }
        world.run(Duration::from_millis(500));
        assert!(world.link_stats(all[0])[1].lost > 1000, "it is slow");
        for index in &all[1..] {
            let participant = &world.participants[*index];
            let frames: Vec<_> = participant.frames["r2"].iter().filter(|frame| frame.at >= begin).collect();
            assert!(frames.len() >= 300, "seed {seed}: {}", frames.len());
            assert!(frames.windows(2).all(|w| w[1].contiguous && w[1].number == w[0].number.map(|n| n + 1)));
            let longest = frames.windows(2).map(|w| w[1].at - w[0].at).max().unwrap();
            assert!(longest < Duration::from_millis(45), "seed {seed}: a picture came {longest:?} after another");
            let listener = &participant.listeners["r1"];
            assert!(listener.longest_gap() < Duration::from_millis(15) && listener.stats().lost == 0);
            assert_eq!(participant.messages.len(), 100, "seed {seed}");
            assert_eq!(world.link_stats(*index)[1].lost, 0);
        }
        // Key frames that the slow one asks for cost everybody, so they are limited.
        let asked = world.participants[0].keyframe_requests.iter().filter(|(at, _)| *at >= begin).count();
        assert!(asked <= 22, "seed {seed}: asked {asked} times in 10 s");
    }
}

#[test]
fn losses_of_a_subscriber_are_repaired_from_the_cache() {
    for seed in 11..=13 {
        let (mut world, all) = room(seed, 2);
        let before = world.participants[0].keyframe_requests.len();
        let lossy = Conditions { loss: 80, jitter: Duration::from_millis(20), ..Conditions::default() };
        world.set_conditions(all[0], lossy, lossy);
        world.run(Duration::from_secs(10));
        world.set_conditions(all[0], Conditions::default(), Conditions::default());
        world.run(Duration::from_secs(1));
        let counters = *world.shard.counters();
        assert!(counters.nacks_in > 50 && counters.rtx_out > 50, "seed {seed}: {counters:?}");
        assert_eq!((counters.nacks_out, counters.recovered_in), (0, 0), "seed {seed}: the publisher is not asked");
        assert_eq!(world.participants[0].keyframe_requests.len(), before, "seed {seed}: nor for key frames");
        for index in all {
            let frames = &world.participants[index].frames["r2"];
            assert!(
                frames.windows(2).all(|w| w[1].contiguous && w[1].number == w[0].number.map(|n| n + 1)),
                "seed {seed}"
            );
            assert!(frames.len() > 355);
        }
    }
}

#[test]
fn a_publishers_losses_are_asked_for_once_for_all() {
    let (mut world, all) = room(21, 4);
    let lossy = Conditions { loss: 50, ..Conditions::default() };
    world.set_conditions(0, lossy, Conditions::default());
    world.run(Duration::from_secs(10));
    world.set_conditions(0, Conditions::default(), Conditions::default());
    world.run(Duration::from_secs(1));
    let counters = *world.shard.counters();
    assert!(counters.recovered_in > 30, "{counters:?}");
    for index in all {
        let frames = &world.participants[index].frames["r2"];
        assert!(frames.windows(2).all(|w| w[1].contiguous && w[1].number == w[0].number.map(|n| n + 1)));
    }
    // Sound is asked for too; sent again without a stream of its own it does not count as recovered. Four subscribers
    // must not mean four times as many questions: about 100 packets are lost.
    assert!(counters.nacks_out < 250, "{counters:?}");
}

#[test]
fn key_frame_requests_of_many_are_merged() {
    let (mut world, all) = room(31, 5);
    let (before, begin) = (world.participants[0].keyframe_requests.len(), world.now);
    for _ in 0..50 {
        for index in &all {
            world.participants[*index].request_keyframe("r2");
        }
        world.run(Duration::from_millis(100));
    }
    let plis = world.shard.counters().plis_in;
    let asked = &world.participants[0].keyframe_requests[before..];
    println!("{plis} requests came, {} went on in {:?}", asked.len(), world.now - begin);
    assert!(plis > 100);
    assert!((4..=11).contains(&asked.len()), "{} times in 5 s", asked.len());
    assert!(asked.windows(2).all(|w| w[1].0 - w[0].0 >= Duration::from_millis(450)), "at most twice a second");
    let keys = world.participants[all[0]].frames["r2"].iter().filter(|frame| frame.key && frame.at > begin).count();
    assert!(keys >= asked.len() - 1);
}
