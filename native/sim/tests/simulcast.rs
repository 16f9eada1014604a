//! Layers come and go; a subscriber sees one stream without a seam, and every change begins with a key frame.
use std::time::Duration;

use greenroom_forward::Kind;
use greenroom_sim::{Conditions, Frame, World};

const SIZES: [usize; 3] = [400, 1_500, 5_000];

struct Call {
    world: World,
    mid: String,
}

fn call(seed: u64) -> Call {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish_simulcast(alice, 1, SIZES);
    let mid = world.subscribe(bob, 1, Kind::Video);
    world.run(Duration::from_secs(3));
    Call { world, mid }
}

impl Call {
    fn wants(&mut self, max_layer: u8) {
        self.world.update_subscription(1, &self.mid, |sender| sender.max_layer = max_layer);
        self.world.run(Duration::from_secs(4));
    }

    fn frames(&self) -> &[Frame] {
        &self.world.participants[1].frames[&self.mid]
    }
}

/// The layer of a frame, by its size.
fn layer(frame: &Frame) -> usize {
    let size = if frame.key { frame.len / 4 } else { frame.len };
    let within = |of: usize| (of * 2 / 5..of * 8 / 5 + 30).contains(&size);
    SIZES.iter().position(|of| within(*of)).unwrap_or_else(|| panic!("{frame:?} is of no layer"))
}

/// One stream: numbers and times go on, and another layer begins with a key frame only. Returns the layers in turn.
fn assert_seamless(frames: &[Frame]) -> Vec<usize> {
    let mut layers = vec![layer(&frames[0])];
    assert!(frames[0].key);
    for pair in frames.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert!(b.number.is_some() && b.contiguous, "{b:?}");
        assert_eq!(b.seq.0, a.seq.1 + 1, "numbers go on");
        assert!(b.time > a.time, "time goes on: {a:?} {b:?}");
        let step = (b.at - a.at).as_micros() as i64 - (b.time - a.time) as i64 * 100 / 9;
        assert!(step.abs() < 30_000, "{step} us between the clock of {b:?} and its arrival");
        if layer(a) != layer(b) {
            assert!(b.key, "another layer begins with {b:?}");
            layers.push(layer(b));
        }
    }
    layers
}

#[test]
fn a_wish_for_less_or_more_switches_at_key_frames() {
    for seed in 1..=3 {
        let mut call = call(seed);
        for wish in [0, 2, 1] {
            call.wants(wish);
        }
        let layers = assert_seamless(call.frames());
        assert_eq!(layers[layers.len().saturating_sub(4)..], [2, 0, 2, 1], "seed {seed}: {layers:?}");
    }
}

#[test]
fn a_layer_that_dies_is_replaced_and_comes_back() {
    for seed in 11..=12 {
        let mut call = call(seed);
        assert_eq!(layer(call.frames().last().unwrap()), 2);
        call.world.participants[0].cameras()[2].paused = true;
        call.world.run(Duration::from_secs(5));
        assert_eq!(layer(call.frames().last().unwrap()), 1, "seed {seed}");
        call.world.participants[0].cameras()[2].paused = false;
        call.world.run(Duration::from_secs(5));
        let frames = call.frames();
        assert_eq!(layer(frames.last().unwrap()), 2, "seed {seed}");
        assert!(
            frames.windows(2).all(|w| w[1].seq.0 == w[0].seq.1 + 1 && w[1].time > w[0].time && w[1].number.is_some())
        );
        assert!(frames.windows(2).all(|w| layer(&w[0]) == layer(&w[1]) || w[1].key));
    }
}

#[test]
fn switching_on_a_bad_path() {
    for seed in 21..=23 {
        let conditions = Conditions { loss: 30, jitter: Duration::from_millis(20), ..Conditions::default() };
        let mut call = call(seed);
        for index in 0..2 {
            call.world.set_conditions(index, conditions, conditions);
        }
        for wish in [0, 1, 2, 0] {
            call.wants(wish);
        }
        let frames = call.frames();
        assert_eq!(layer(frames.last().unwrap()), 0);
        for pair in frames.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            // A packet of the former layer that is recovered after the switch stays behind, so there may be a hole
            // before the key frame, where no decoder minds it.
            let whole = b.contiguous && b.seq.0 == a.seq.1 + 1;
            assert!(b.number.is_some() && b.time > a.time && (whole || b.key), "seed {seed}: {a:?} {b:?}");
            assert!(layer(a) == layer(b) || b.key, "seed {seed}: {b:?}");
        }
    }
}
