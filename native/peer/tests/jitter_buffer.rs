//! The jitter buffer's decisions, on invented time: order, loss, lateness, pauses, delay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_peer::audio::jitter::{Action, JitterBuffer, Packet};

const MS: Duration = Duration::from_millis(1);

struct Bench {
    start: Instant,
    buffer: JitterBuffer,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { start, buffer: JitterBuffer::new(start) }
    }

    /// Packet `seq` of a steady 20 ms stream, arriving at `at` milliseconds.
    fn arrive(&mut self, seq: u64, at: u64) {
        self.arrive_as(seq, seq * 960, at, false);
    }

    fn arrive_as(&mut self, seq: u64, time: u64, at: u64, silent: bool) {
        let data: Arc<[u8]> = Arc::from([seq as u8]);
        let arrival = self.start + MS * at as u32;
        self.buffer.insert(Packet { seq: 1000 + seq, time, samples: 960, arrival, data, silent });
    }

    /// Everything due until `at`, as words: p3 play, f4 recover with 4, c10 conceal 10 ms, s10 silence.
    fn play(&mut self, at: u64) -> String {
        let now = self.start + MS * at as u32;
        let mut words = Vec::new();
        while let Some(due) = self.buffer.due().filter(|due| *due <= now) {
            words.push(match self.buffer.next(due) {
                Action::Play { packet, skip: false, .. } => format!("p{}", packet.seq - 1000),
                Action::Play { packet, .. } => format!("x{}", packet.seq - 1000),
                Action::Recover { next, samples } => format!("f{}/{}", next.seq - 1000, samples / 48),
                Action::Conceal { samples } => format!("c{}", samples / 48),
                Action::Silence { samples } => format!("s{}", samples / 48),
            });
        }
        words.join(" ")
    }
}

#[test]
fn packets_play_in_order_after_the_target_delay() {
    let mut bench = Bench::new();
    assert_eq!(bench.play(1000), "", "nothing is due before the first packet");
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    bench.arrive(2, 21);
    bench.arrive(1, 22);
    assert_eq!(bench.play(29), "");
    assert_eq!(bench.play(30), "p0");
    assert_eq!(bench.play(71), "p1 p2");
}

#[test]
fn the_first_packets_may_arrive_in_the_wrong_order() {
    let mut bench = Bench::new();
    bench.arrive(1, 0);
    bench.arrive(0, 5);
    assert_eq!(bench.play(60), "p0 p1");
}

#[test]
fn a_lost_packet_is_recovered_from_the_next() {
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    bench.arrive(2, 40);
    bench.arrive(3, 60);
    assert_eq!(bench.play(30 + 60), "p0 f2/20 p2 p3");
    assert_eq!((bench.buffer.stats().lost, bench.buffer.stats().recovered), (1, 1));
}

#[test]
fn a_longer_hole_is_concealed_and_keeps_its_length() {
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    bench.arrive(8, 45);
    assert_eq!(bench.play(30 + 8 * 20), "p0 c20 c20 c20 c20 c20 s20 f8/20 p8");
    assert_eq!(bench.buffer.stats().lost, 7);
}

#[test]
fn a_late_packet_is_waited_for_and_nothing_of_it_is_lost() {
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    assert_eq!(bench.play(69), "p0 c10 c10");
    bench.arrive(1, 69);
    bench.arrive(2, 69);
    assert_eq!(bench.play(100), "p1 p2");
    // Given up by the time it comes: too late.
    bench.arrive(4, 100);
    assert_eq!(bench.play(131), "f4/20 p4");
    bench.arrive(3, 132);
    assert_eq!(bench.buffer.stats().late, 1);
}

#[test]
fn extension_ends_in_silence() {
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    assert_eq!(bench.play(30 + 20 + 99), "p0 c10 c10 c10 c10 c10 c10 c10 c10 s10 s10");
}

#[test]
fn a_new_talk_burst_starts_after_its_own_target_delay() {
    let mut bench = Bench::new();
    bench.arrive_as(0, 0, 0, true);
    assert_eq!(bench.play(109), "p0 s10 s10 s10 s10 s10 s10");
    // A second later by the sender's clock, a little jitter, next in number.
    bench.arrive_as(1, 48_000, 1000, false);
    let words = bench.play(1040);
    assert!(words.ends_with(" s10 p1"), "{words}");
    let plays = bench.buffer.due().unwrap() - Duration::from_millis(20);
    let delay = plays.duration_since(bench.start + 1000 * MS);
    assert!(delay >= 20 * MS && delay <= 41 * MS, "{delay:?}");
}

#[test]
fn the_target_follows_jitter_up_and_down() {
    let mut bench = Bench::new();
    // Deterministic jitter of up to 60 ms.
    for seq in 0..400u64 {
        bench.arrive(seq, seq * 20 + (seq * 7919 % 61));
        bench.play(seq * 20);
    }
    let high = bench.buffer.target();
    assert!(high >= 55 * MS && high <= 90 * MS, "{high:?}");
    for seq in 400..4000u64 {
        bench.arrive(seq, seq * 20 + 1);
        bench.play(seq * 20);
    }
    assert_eq!(bench.buffer.target(), 20 * MS, "calm again");
}

#[test]
fn delay_is_won_back_in_silence_only() {
    let mut bench = Bench::new();
    for seq in 0..500u64 {
        bench.arrive(seq, seq * 20);
        bench.play(seq * 20);
    }
    // A stall of 200 ms, then everything at once.
    bench.play(10_199);
    for seq in 500..510 {
        bench.arrive(seq, 10_200);
    }
    bench.play(10_200);
    let mut skippable = 0;
    for seq in 510..600u64 {
        bench.arrive(seq, seq * 20);
        let now = bench.start + MS * (seq * 20) as u32;
        while let Some(due) = bench.buffer.due().filter(|due| *due <= now) {
            if let Action::Play { packet, may_skip, skip } = bench.buffer.next(due) {
                assert!(!skip);
                // Every fourth packet is silent.
                if may_skip && packet.seq % 4 == 0 {
                    skippable += 1;
                    bench.buffer.skipped(packet.samples);
                }
            }
        }
    }
    // 200 ms less the slack, in packets of 20 ms.
    assert!((7..=10).contains(&skippable), "{skippable}");
    let stats = bench.buffer.stats();
    assert_eq!((stats.lost, stats.late, stats.skipped), (0, 0, skippable));
}

#[test]
fn another_source_starts_anew() {
    let mut bench = Bench::new();
    bench.arrive(0, 0);
    assert_eq!(bench.play(31), "p0");
    bench.arrive(50_000, 40);
    assert_eq!(bench.play(71), "p50000");
    bench.arrive(3, 80);
    assert_eq!(bench.play(111), "p3");
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new();
    for seq in 0..2500 {
        bench.arrive(seq, 0);
    }
    let words = bench.play(29);
    assert_eq!(words, "");
    let now = bench.start + 100 * MS;
    let mut played = 0;
    while bench.buffer.due().is_some_and(|due| due <= now + 60_000 * MS) && played < 5000 {
        if matches!(bench.buffer.next(now), Action::Play { .. }) {
            played += 1;
        } else {
            break;
        }
    }
    assert!(played <= 600, "{played}");
}
