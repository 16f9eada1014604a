//! A forwarded packet costs no allocation once everything has its size.
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use world::*;

struct Counting;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

// SAFETY: everything is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|count| count + 1)));
        // SAFETY: the caller's promises are ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> u64 {
    COUNTED.with(|counted| counted.set(Some(0)));
    work();
    COUNTED.with(|counted| counted.take()).unwrap()
}

#[test]
fn forwarding_allocates_nothing_after_warm_up() {
    let mut world = World::new(1);
    let alice = world.join();
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)]), video_receiver(8, "1", &[], &[("q", 0), ("f", 2)])]);
    let others: Vec<usize> = (0..10).map(|_| world.join()).collect();
    for other in &others {
        world.subscribe(*other, vec![audio_sender(7, "3", 9000), video_sender(8, "4", 9100, 9101)]);
    }
    let mut audio = Source::new(500, 111, &[(4, "0"), (1, "\u{9}")]);
    audio.transport_cc = true;
    let mut layers = [("q", 600), ("f", 601)].map(|(rid, ssrc)| Source::new(ssrc, 96, &[(4, "1"), (10, rid)]));
    let mut allocations = 0;
    for frame in 0..400 {
        audio.send(&mut world.clients[alice], false, &[1; 100]);
        for layer in &mut layers {
            layer.send_vp8(&mut world.clients[alice], frame % 100 == 0, 4);
        }
        let mut datagrams = std::mem::take(&mut world.clients[alice].outbox);
        // Reports, once a second, may allocate their snapshot; packets may not.
        let before = world.shard.counters().rtp_out;
        let count = counted(|| {
            for datagram in &mut datagrams {
                world.shard.handle_datagram(world.now, path(alice), datagram);
            }
            while world.shard.prepare(world.now) {
                world.shard.sent();
            }
        });
        if frame >= 200 {
            allocations += count;
            assert_eq!(world.shard.counters().rtp_out - before, 50, "audio and the high layer to ten subscribers");
        }
        world.run(Duration::from_millis(20));
    }
    assert_eq!(allocations, 0);
}
