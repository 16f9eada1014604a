//! After warm-up a forwarded packet costs no allocation, whatever its way: to one or to many, sound or pictures, again
//! after a NACK.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use greenroom_forward::Kind;
use greenroom_sim::{Conditions, World};

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The system's allocator, counting on a thread that asked for it.
struct Counting;

fn note() {
    // The thread's storage may be gone already when the thread ends.
    let _ = COUNT.try_with(|count| count.set(count.get().map(|n| n + 1)));
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> u64 {
    COUNT.with(|count| count.set(Some(0)));
    run();
    COUNT.with(|count| count.take()).unwrap_or_default()
}

/// Feeds what `from` sent to the shard, a few packets at a time as the I/O layer does, and throws away what it sends.
fn feed(world: &mut World, from: usize, datagrams: &mut [(Duration, Vec<u8>)]) {
    let path = world.path(from);
    for batch in datagrams.chunks_mut(8) {
        let mut now = world.now;
        for (after, datagram) in batch {
            now = world.now + *after;
            world.shard.handle_datagram(now, path, datagram);
        }
        while world.shard.prepare(now) {
            world.shard.sent();
        }
    }
}

/// Only media: reports, data and checks are rare and may allocate.
fn is_media(datagram: &[u8]) -> bool {
    (128..192).contains(&datagram[0]) && !(192..224).contains(&datagram[1])
}

#[test]
fn counting_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn forwarding_does_not_allocate() {
    let mut world = World::new(1);
    let alice = world.join();
    let all: Vec<usize> = (0..10).map(|_| world.join()).collect();
    world.publish_sound(alice, 1);
    world.publish_pictures(alice, 2, 3_000);
    for index in &all {
        world.subscribe(*index, 1, Kind::Audio);
        world.subscribe(*index, 2, Kind::Video);
    }
    world.run(Duration::from_secs(5));

    let mut datagrams = world.intercept(alice, Duration::from_secs(3));
    datagrams.retain(|(_, datagram)| is_media(datagram));
    let before = *world.shard.counters();
    let count = allocations(|| feed(&mut world, alice, &mut datagrams));
    let after = *world.shard.counters();
    let (received, forwarded) = (after.rtp_in - before.rtp_in, after.rtp_out - before.rtp_out);
    assert!(received > 400 && forwarded > 9 * received, "{received} in, {forwarded} out");
    assert_eq!(count, 0, "{count} allocations for {forwarded} forwarded packets");
}

#[test]
fn sending_again_does_not_allocate() {
    let mut world = World::new(2);
    let (alice, bob) = (world.join(), world.join());
    world.publish_pictures(alice, 2, 3_000);
    world.subscribe(bob, 2, Kind::Video);
    let lossy = Conditions { loss: 100, ..Conditions::default() };
    world.set_conditions(bob, Conditions::default(), lossy);
    world.run(Duration::from_secs(5));

    // What bob reports and asks for while it is not answered: not for long, because no packet is sent more than three times
    // again. Queues grow to the size of such a backlog first.
    let mut datagrams = world.intercept(bob, Duration::from_secs(2));
    datagrams.retain(|(_, datagram)| (128..192).contains(&datagram[0]));
    let half = datagrams.len() / 2;
    let mut later = datagrams.split_off(half);
    feed(&mut world, bob, &mut datagrams);
    let before = *world.shard.counters();
    let count = allocations(|| feed(&mut world, bob, &mut later));
    let again = world.shard.counters().rtx_out - before.rtx_out;
    assert!(again > 5, "{again} sent again");
    assert_eq!(count, 0, "{count} allocations for {again} packets sent again");
}
