//! State machines of `greenroom-congestion`, driven by sequences of events coded in the input.

use std::hint::black_box;
use std::time::{Duration, Instant};

use greenroom_congestion::{NackGenerator, ReceiveStats, TwccRecorder};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{self, Builder, Packet};

use super::target::{Target, hex_seeds};

pub fn targets() -> Vec<Target> {
    vec![
        Target::new("twcc-recorder", event_seeds(), run_recorder),
        Target::new("nack-generator", event_seeds(), run_nacks),
        Target::new("receive-stats", event_seeds(), run_stats),
    ]
}

/// Events of four bytes: sequence number, milliseconds (squared, so that long gaps occur), flags.
fn event_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&["00010000 00020101 00050100 00030201 fffe0101", "fff00100 00000101 80000500 00010601 00000001"])
}

fn events(bytes: &[u8]) -> impl Iterator<Item = (u16, Duration, u8)> + '_ {
    bytes.chunks_exact(4).map(|e| (u16::from_be_bytes([e[0], e[1]]), Duration::from_millis((e[2] as u64).pow(2)), e[3]))
}

fn run_recorder(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut recorder = TwccRecorder::new(Ssrc(1));
    for (sequence, step, flags) in events(bytes) {
        now += step;
        recorder.record(now, Ssrc(2), sequence, flags & 1 != 0);
        let mut packets = 0;
        loop {
            let mut buf = [0; TwccRecorder::MAX_FEEDBACK_LEN];
            let mut builder = Builder::new(&mut buf);
            if !recorder.poll_feedback(now, &mut builder).expect("any feedback fits the maximum") {
                break;
            }
            let first = rtcp::parse(builder.as_bytes()).expect("own output").next();
            assert!(matches!(first, Some(Ok(Packet::Twcc(_)))));
            packets += 1;
            assert!(packets <= 512, "feedback without end");
        }
        assert!(recorder.poll_timeout().is_none_or(|due| due > now), "due but not given");
    }
}

fn run_nacks(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut nacks = NackGenerator::new();
    for (sequence, step, flags) in events(bytes) {
        now += step;
        black_box(nacks.received(now, sequence));
        assert!(nacks.tracked() <= 100);
        if let Some(list) = nacks.poll_nacks(now, Duration::from_millis(flags as u64)) {
            assert!(!list.is_empty() && list.len() <= nacks.tracked());
        }
        assert!(nacks.poll_timeout().is_none_or(|due| due > now), "due but not given");
    }
}

fn run_stats(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut stats = ReceiveStats::new(Ssrc(1), 90_000);
    for (sequence, step, flags) in events(bytes) {
        now += step;
        stats.received(now, sequence, (sequence as u32).wrapping_mul(flags as u32 * 7919), flags as usize);
        if flags & 2 != 0 {
            let report = stats.report(now).expect("a packet was received");
            assert!((-0x80_0000..=0x7f_ffff).contains(&report.cumulative_lost));
        }
    }
}
