//! Which lost packets are asked for, how often and for how long.

use std::time::{Duration, Instant};

use greenroom_congestion::{NackGenerator, Received};

const RTT: Duration = Duration::from_millis(100);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn gaps_are_asked_for_across_the_wrap() {
    let t0 = Instant::now();
    let mut n = NackGenerator::new();
    assert_eq!(n.received(t0, 65533), Received::Newest { missing: 0 });
    assert_eq!(n.received(t0, 1), Received::Newest { missing: 3 });
    assert_eq!(n.poll_timeout(), Some(t0));
    assert_eq!(&*n.poll_nacks(t0, RTT).unwrap(), [65534, 65535, 0]);
    assert_eq!(n.received(t0, 65535), Received::Recovered);
    assert_eq!(n.received(t0, 65535), Received::Old);
    assert_eq!(n.received(t0, 1), Received::Old);
    assert_eq!(&*n.poll_nacks(t0 + RTT, RTT).unwrap(), [65534, 0]);
}

#[test]
fn five_tries_spaced_by_round_trip_with_backoff() {
    let t0 = Instant::now();
    let mut n = NackGenerator::new();
    n.received(t0, 1);
    n.received(t0, 3);
    let mut sent = Vec::new();
    while let Some(due) = n.poll_timeout() {
        if n.poll_nacks(due, RTT).is_some() {
            sent.push((due - t0).as_millis());
        }
    }
    // 100 ms, then a quarter more each time.
    assert_eq!(sent, [0, 100, 225, 381, 576]);
    assert_eq!((n.tracked(), n.abandoned()), (0, 1));
}

#[test]
fn spacing_is_held_within_20_and_400_ms() {
    let t0 = Instant::now();
    for (rtt, first) in [(ms(1), ms(20)), (ms(5000), ms(400))] {
        let mut n = NackGenerator::new();
        n.received(t0, 1);
        n.received(t0, 3);
        n.poll_nacks(t0, rtt).unwrap();
        assert_eq!(n.poll_timeout(), Some(t0 + first));
        assert!(n.poll_nacks(t0 + first - ms(1), rtt).is_none());
    }
}

#[test]
fn at_most_100_are_tracked_and_the_newest_win() {
    let t0 = Instant::now();
    let mut n = NackGenerator::new();
    n.received(t0, 0);
    assert_eq!(n.received(t0, 1000), Received::Newest { missing: 999 });
    assert_eq!((n.tracked(), n.abandoned()), (100, 899));
    n.received(t0, 1011);
    let list = n.poll_nacks(t0, RTT).unwrap();
    assert_eq!((list.len(), list[0], list[99]), (100, 910, 1010));
    assert_eq!(n.abandoned(), 909);
}

#[test]
fn only_what_is_missing_is_wanted() {
    let t0 = Instant::now();
    let mut n = NackGenerator::new();
    assert!(!n.is_missing(65534));
    n.received(t0, 65533);
    n.received(t0, 1);
    let wanted = |n: &NackGenerator| (65530..=65535).chain(0..=4).filter(|s| n.is_missing(*s)).collect::<Vec<u16>>();
    assert_eq!(wanted(&n), [65534, 65535, 0]);
    assert_eq!(n.received(t0, 65535), Received::Recovered);
    assert_eq!(wanted(&n), [65534, 0]);
    // Given up after five tries: what comes later is late, whoever sends it.
    while let Some(due) = n.poll_timeout() {
        n.poll_nacks(due, RTT);
    }
    assert_eq!(wanted(&n), []);
    assert_eq!(n.received(t0, 0), Received::Old);
}

#[test]
fn the_newest_abandoned_packet_is_named() {
    let t0 = Instant::now();
    let mut n = NackGenerator::new();
    n.received(t0, 65530);
    n.received(t0, 65533);
    assert_eq!((n.abandoned(), n.newest_abandoned()), (0, None));
    n.received(t0 + ms(1), 2);
    // 65531 and 65532 are a millisecond older and give up first.
    while n.tracked() > 4 {
        n.poll_nacks(n.poll_timeout().unwrap(), RTT);
    }
    assert_eq!((n.abandoned(), n.newest_abandoned()), (2, Some(65532)));
    while let Some(due) = n.poll_timeout() {
        n.poll_nacks(due, RTT);
    }
    assert_eq!((n.abandoned(), n.newest_abandoned()), (6, Some(1)));
    // A gap that cannot be tracked gives up its older part at once.
    n.received(t0, 203);
    assert_eq!((n.abandoned(), n.newest_abandoned()), (106, Some(102)));
    // A later gap pushes out the oldest of it.
    n.received(t0, 214);
    assert_eq!((n.abandoned(), n.newest_abandoned()), (116, Some(112)));
}
