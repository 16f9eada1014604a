//! Loss, jitter, bursts and disorder both ways: pictures recover by retransmission, sound goes on with concealment,
//! messages arrive complete and in order.
use std::time::Duration;

use greenroom_forward::{Event, Kind};
use greenroom_sim::{Bursts, Conditions, Frame, World};

const TALK: Duration = Duration::from_secs(12);

fn lossy() -> Conditions {
    Conditions {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        loss: 50,
        ..Conditions::default()
    }
}

struct Call {
    world: World,
    sent: Vec<Vec<u8>>,
}

/// Alice shows and says something to bob for 12 s and both write messages, everything over `conditions` both ways.
fn call(seed: u64, conditions: Conditions) -> Call {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    for index in [alice, bob] {
        world.set_conditions(index, conditions, conditions);
    }
    world.subscribe(bob, 1, Kind::Audio);
    world.subscribe(bob, 2, Kind::Video);
    world.publish_sound(alice, 1);
    world.publish_pictures(alice, 2, 3_000);
    let mut sent = Vec::new();
    let end = world.now + TALK;
    while world.now < end {
        let number = sent.len();
        let message: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(20 + (number * 337) % 3_000).collect();
        world.participants[alice].send("_reliable", message.clone());
        world.participants[bob].send("_reliable", message.clone());
        sent.push(message);
        world.run(Duration::from_millis(100));
    }
    // Nobody can tell that the last datagram is lost, so the path gets well before the end.
    for index in [alice, bob] {
        world.set_conditions(index, Conditions::default(), Conditions::default());
    }
    world.run(Duration::from_secs(4));
    Call { world, sent }
}

/// Every picture from the first key frame to the last, once, in order, whole and with a step of one in numbers and time.
fn assert_complete(seed: u64, frames: &[Frame], made: u64) {
    // A receiver that gets the second packet of a stream before the first takes it for the beginning.
    let first = frames.iter().position(|frame| frame.key).expect("a key frame");
    let frames = &frames[first..];
    assert!(frames[0].number.unwrap() < 45, "seed {seed}: begins with {:?}", frames[0]);
    for pair in frames.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert!(b.contiguous, "seed {seed}: a hole before {b:?}");
        assert_eq!(b.number, a.number.map(|number| number + 1), "seed {seed}");
        assert_eq!((b.seq.0, b.time), (a.seq.1 + 1, a.time + 3_000), "seed {seed}");
    }
    let last = frames[frames.len() - 1].number.unwrap();
    assert!(last + 3 >= made, "seed {seed}: {last} of {made}");
}

fn assert_messages(seed: u64, call: &Call, index: usize) {
    let received: Vec<_> = call.world.participants[index].messages.iter().map(|message| &message.payload).collect();
    assert_eq!(received.len(), call.sent.len(), "seed {seed}: complete");
    assert!(received.into_iter().eq(&call.sent), "seed {seed}: in order");
}

#[test]
fn five_percent_loss_both_ways_with_jitter() {
    for seed in 1..=5 {
        let mut call = call(seed, lossy());
        let made = call.world.participants[0].cameras()[0].frames;
        assert!(made > 470);
        let bob = &call.world.participants[1];
        let frames = &bob.frames["r2"];
        assert_complete(seed, frames, made);

        let listener = &bob.listeners["r1"];
        let [up, down] = [call.world.link_stats(0)[0], call.world.link_stats(1)[1]];
        let counters = call.world.shard.counters();
        println!(
            "seed {seed}: {} of {made} pictures, lost {} up {} down, {} recovered, {} sent again; sound {:?}, gap {:?}, \
             made up {:.1} %, {:?}",
            frames.len(),
            up.lost,
            down.lost,
            counters.recovered_in,
            counters.rtx_out,
            listener.heard(),
            listener.longest_gap(),
            100.0 * listener.concealed_share(),
            listener.stats(),
        );
        assert!(up.lost > 60 && down.lost > 60 && counters.recovered_in > 30 && counters.rtx_out > 60);
        assert!(listener.heard() > TALK, "seed {seed}: sound never stops");
        assert!(listener.longest_gap() <= Duration::from_millis(100), "seed {seed}: {:?}", listener.longest_gap());
        assert!(listener.concealed_share() < 0.12, "seed {seed}: {}", listener.concealed_share());
        assert_messages(seed, &call, 0);
        assert_messages(seed, &call, 1);
    }
}

#[test]
fn losses_in_bursts() {
    for seed in 11..=12 {
        let bursts = Some(Bursts { begin: 8, end: 200 });
        let mut call = call(seed, Conditions { loss: 0, bursts, ..lossy() });
        let made = call.world.participants[0].cameras()[0].frames;
        let bob = &call.world.participants[1];
        assert_complete(seed, &bob.frames["r2"], made);
        let listener = &bob.listeners["r1"];
        assert!(listener.heard() > TALK);
        assert!(listener.longest_gap() <= Duration::from_millis(250), "seed {seed}: {:?}", listener.longest_gap());
        assert_messages(seed, &call, 0);
        assert_messages(seed, &call, 1);
    }
}

#[test]
fn datagrams_out_of_order_and_twice() {
    for seed in 21..=22 {
        let conditions = Conditions { loss: 0, jitter: Duration::ZERO, reordered: 80, repeated: 50, ..lossy() };
        let mut call = call(seed, conditions);
        let made = call.world.participants[0].cameras()[0].frames;
        let bob = &call.world.participants[1];
        assert_complete(seed, &bob.frames["r2"], made);
        let listener = &bob.listeners["r1"];
        // What is late is waited for, so nothing is missing once the delay has grown.
        assert!(listener.concealed_share() < 0.03, "seed {seed}: {}", listener.concealed_share());
        assert_messages(seed, &call, 0);
        assert_messages(seed, &call, 1);
    }
}

#[test]
fn an_original_that_comes_after_its_retransmission() {
    for seed in 25..=26 {
        // Held back for longer than asking and answering takes: one index may leave with one content only, which the
        // oracle of the simulation sees to.
        let conditions = Conditions { delay: Duration::from_millis(3), reordered: 100, ..Conditions::default() };
        let mut call = call(seed, conditions);
        let counters = *call.world.shard.counters();
        assert!(counters.recovered_in > 20 && counters.dropped_replay > 20, "seed {seed}: {counters:?}");
        let made = call.world.participants[0].cameras()[0].frames;
        assert_complete(seed, &call.world.participants[1].frames["r2"], made);
    }
}

#[test]
fn jitter_that_shuffles() {
    for seed in 31..=32 {
        let mut call = call(seed, Conditions { loss: 20, shuffled: true, ..lossy() });
        let made = call.world.participants[0].cameras()[0].frames;
        assert_complete(seed, &call.world.participants[1].frames["r2"], made);
        assert_messages(seed, &call, 0);
        assert_messages(seed, &call, 1);
    }
}

#[test]
fn a_call_and_its_channels_are_set_up_over_a_path_that_loses_a_tenth() {
    for seed in 41..=44 {
        let conditions = Conditions { loss: 100, shuffled: true, ..lossy() };
        let mut world = World::new(seed);
        let alice = world.begin_join(conditions, conditions);
        let open = |world: &World| world.events.iter().filter(|e| matches!(e, Event::ChannelOpen { .. })).count();
        world.run_until(Duration::from_secs(30), |world| world.is_connected(alice) && open(world) == 2);
    }
}

#[test]
fn one_seed_is_one_run() {
    let digests =
        [7, 7, 8].map(|seed| call(seed, Conditions { shuffled: true, repeated: 20, ..lossy() }).world.digest());
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}
