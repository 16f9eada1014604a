//! What forwarding costs without the kernel: nanoseconds of one core per packet sent, encryption included, by payload and
//! by the number of streams each subscriber has. `cargo run --release -p greenroom-forward --example fan_out`
#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use world::*;

const SUBSCRIBERS: usize = 30;
const PACKETS: usize = 3000;
const ROUNDS: usize = 5;

fn main() {
    println!("payload  streams  ns/packet (min of {ROUNDS})  ns/packet, median");
    for payload in [120, 1070] {
        for streams in [1, 10, 30, 100] {
            let mut nanos: Vec<f64> = (0..ROUNDS).map(|_| measure(payload, streams)).collect();
            nanos.sort_by(f64::total_cmp);
            println!("{payload:7}  {streams:7}  {:24.0}  {:17.0}", nanos[0], nanos[ROUNDS / 2]);
        }
    }
}

/// One publisher of `streams` audio tracks; each of the subscribers takes them all.
fn measure(payload: usize, streams: usize) -> f64 {
    let mut world = World::new(1);
    // Everything happens in one instant here.
    world.shard.set_limits(greenroom_forward::Limits::UNLIMITED);
    let alice = world.join();
    let ssrcs: Vec<u32> = (0..streams as u32).map(|n| 500 + n).collect();
    let receivers =
        ssrcs.iter().map(|ssrc| audio_receiver(u64::from(*ssrc), &ssrc.to_string(), &[(*ssrc, 0)])).collect();
    world.publish(alice, receivers);
    for _ in 0..SUBSCRIBERS {
        let bob = world.join();
        let sender = |ssrc: &u32| audio_sender(u64::from(*ssrc), &ssrc.to_string(), 9000 + ssrc);
        world.subscribe(bob, ssrcs.iter().map(sender).collect());
    }
    let mut sources: Vec<Source> = ssrcs.iter().map(|ssrc| Source::new(*ssrc, 111, &[])).collect();
    let payload = vec![7; payload];
    let mut elapsed = Duration::ZERO;
    let mut sent = 0;
    // Until every ring has been around once, memory is touched for the first time.
    let warm_up = streams * 130 / 10;
    for round in 0..warm_up + PACKETS / 10 {
        // A burst of ten packets from ten sources, or from the ones there are.
        for packet in 0..10 {
            let source = &mut sources[(round * 10 + packet) % streams];
            source.send(&mut world.clients[alice], false, &payload);
            source.timestamp = source.timestamp.wrapping_add(960);
        }
        let mut datagrams = std::mem::take(&mut world.clients[alice].outbox);
        let before = world.shard.counters().rtp_out;
        let start = Instant::now();
        for datagram in &mut datagrams {
            world.shard.handle_datagram(world.now, path(alice), datagram);
        }
        while world.shard.prepare(world.now) {
            world.shard.sent();
        }
        if round >= warm_up {
            elapsed += start.elapsed();
            sent += world.shard.counters().rtp_out - before;
        }
    }
    elapsed.as_nanos() as f64 / sent as f64
}
