//! Report blocks of RFC 3550.

use std::time::{Duration, Instant};

use greenroom_congestion::ReceiveStats;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::NtpTime;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn loss_since_the_last_report_and_in_total() {
    let t0 = Instant::now();
    let mut s = ReceiveStats::new(Ssrc(9), 48_000);
    assert_eq!(s.report(t0), None);
    for n in [65534, 65535, 1, 2] {
        s.received(t0, n, 0, 100);
    }
    let r = s.report(t0).unwrap();
    assert_eq!((r.ssrc, r.cumulative_lost, r.fraction_lost), (Ssrc(9), 1, (256 / 5) as u8));
    assert_eq!(r.highest_sequence, 0x1_0002);
    // The next interval is clean, and the late packet makes good for the loss.
    for n in [3, 0, 4] {
        s.received(t0, n, 0, 100);
    }
    let r = s.report(t0).unwrap();
    assert_eq!((r.cumulative_lost, r.fraction_lost), (0, 0));
    assert_eq!((s.packets(), s.bytes(), s.lost()), (7, 700, 0));
    // Duplicates count below zero.
    s.received(t0, 4, 0, 100);
    assert_eq!(s.report(t0).unwrap().cumulative_lost, -1);
}

#[test]
fn jitter_of_an_alternating_delay() {
    let t0 = Instant::now();
    let mut s = ReceiveStats::new(Ssrc(1), 48_000);
    // Every other packet is 10 ms (480 ticks) late: each difference is 480, so the estimate converges there.
    for n in 0..400u64 {
        let late = if n % 2 == 0 { 0 } else { 10 };
        s.received(t0 + ms(20 * n + late), n as u16, 960 * n as u32, 1);
    }
    assert!((470..=480).contains(&s.jitter()), "{}", s.jitter());
    // Packets of one frame arrive at different times and are no sign of jitter.
    let mut s = ReceiveStats::new(Ssrc(1), 90_000);
    for n in 0..100u64 {
        s.received(t0 + ms(n % 10 + 33 * (n / 10)), n as u16, 2970 * (n / 10) as u32, 1);
    }
    assert_eq!(s.jitter(), 0);
}

#[test]
fn delay_since_last_sender_report() {
    let t0 = Instant::now();
    let mut s = ReceiveStats::new(Ssrc(1), 8000);
    s.received(t0, 1, 0, 1);
    let r = s.report(t0).unwrap();
    assert_eq!((r.last_sr, r.delay_since_last_sr), (0, 0));
    s.sender_report(t0, NtpTime(0x0123_4567_89ab_cdef));
    let r = s.report(t0 + ms(1500)).unwrap();
    assert_eq!((r.last_sr, r.delay_since_last_sr), (0x4567_89ab, 3 << 15));
}

#[test]
fn a_jump_counts_only_when_confirmed() {
    let t0 = Instant::now();
    let mut s = ReceiveStats::new(Ssrc(1), 8000);
    for n in [10, 11, 40_000, 12] {
        s.received(t0, n, 0, 1);
    }
    assert_eq!((s.packets(), s.lost(), s.highest_sequence()), (3, 0, 12));
    for n in [40_000, 40_001] {
        s.received(t0, n, 0, 1);
    }
    assert_eq!((s.packets(), s.lost(), s.highest_sequence()), (1, 0, 40_001));
}
