//! The judge itself: it must object when a rule is broken, or every test that relies on it says nothing.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::world::oracle::{FEEDBACK_BURST, GROWTH, LARGEST_OUT, Oracle, RTX_BURST, Rules, assert_ahead};
use crate::world::video_sender;
use greenroom_forward::{Command, Counters, PeerId};

/// A datagram as it would look sealed: the header in clear, then `len` bytes and a tag made of `content`.
fn sealed(ssrc: u32, seq: u16, timestamp: u32, marker: bool, len: usize, content: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 120 | u8::from(marker) << 7];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.resize(bytes.len() + len, 0xee);
    bytes.resize(bytes.len() + 16, content);
    bytes
}

fn rtcp(index: u32, len: usize, content: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 9];
    bytes.resize(8 + len, 0xee);
    bytes.resize(bytes.len() + 16, content);
    bytes.extend((1 << 31 | index).to_be_bytes());
    bytes
}

struct Case {
    oracle: Oracle,
    counters: Counters,
    now: Instant,
}

impl Case {
    /// A peer 1 that takes video on 9000 with retransmissions on 9001.
    fn new() -> Case {
        let mut oracle = Oracle::default();
        let senders = vec![video_sender(7, "1", 9000, 9001)];
        oracle.command(&Command::SetSenders { peer: PeerId(1), senders });
        Case { oracle, counters: Counters::default(), now: Instant::now() }
    }

    fn send(&mut self, bytes: &[u8]) {
        let rtp = usize::from(!(192..224).contains(&bytes[1]));
        self.counters.rtp_out += rtp as u64;
        self.oracle.drained(&self.counters, rtp);
        self.oracle.sent(self.now, 1, bytes, None);
        self.oracle.settle();
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.counters.packets_in += 1;
        self.oracle.received(self.now, 0, bytes, None);
    }
}

/// Whether the judge objects, and only because of `rule`.
fn objects(rule: &str, run: impl Fn(&mut Case)) {
    let broken = |rules: Rules| {
        let mut case = Case::new();
        case.oracle.rules = rules;
        catch_unwind(AssertUnwindSafe(|| run(&mut case))).is_err()
    };
    assert!(broken(Rules::default()), "{rule} was broken and nobody objected");
    assert!(!broken(Rules::without(rule).unwrap()), "another rule than {rule} was broken");
}

fn media(seq: u16) -> Vec<u8> {
    sealed(9000, seq, u32::from(seq) * 3000, true, 100, 1)
}

#[test]
fn one_index_with_two_ciphertexts() {
    let mut case = Case::new();
    case.send(&media(10));
    case.send(&media(10));
    case.send(&rtcp(5, 20, 1));
    case.send(&rtcp(6, 20, 2));
    objects("ciphertext", |case| {
        case.send(&media(10));
        case.send(&sealed(9000, 10, 30_000, true, 100, 2));
    });
    objects("ciphertext", |case| {
        (0..100).for_each(|seq| case.send(&media(seq)));
        // The same number, one turn of the counter later, is another index.
        case.send(&sealed(9000, 3, 9_000, true, 101, 1));
    });
    objects("ciphertext", |case| {
        case.send(&rtcp(5, 20, 1));
        case.send(&rtcp(5, 20, 2));
    });
}

#[test]
fn gaps_that_no_publisher_made() {
    let mut case = Case::new();
    case.receive(&sealed(1, 100, 0, true, 100, 1));
    case.receive(&sealed(1, 103, 9000, true, 100, 1));
    case.send(&media(10));
    case.send(&media(13));
    assert_eq!(case.oracle.missing(1, 9000), 2);
    case.send(&media(12));
    assert_eq!(case.oracle.missing(1, 9000), 1, "filled later");
    objects("numbers", |case| {
        case.receive(&sealed(1, 100, 0, true, 100, 1));
        case.receive(&sealed(1, 102, 9000, true, 100, 1));
        case.send(&media(10));
        case.send(&media(13));
    });
}

#[test]
fn what_it_does_not_see_it_does_not_judge() {
    let mut case = Case::new();
    case.send(&media(10));
    case.counters.rtp_out += 1;
    case.send(&media(12));
    assert!(case.oracle.is_blind());
}

#[test]
fn time_that_goes_back_or_stands() {
    let mut case = Case::new();
    case.send(&sealed(9000, 10, u32::MAX, true, 100, 1));
    case.send(&sealed(9000, 11, 5, false, 100, 1));
    case.send(&sealed(9000, 12, 5, true, 100, 1));
    for timestamp in [4, 5] {
        objects("time", |case| {
            case.send(&sealed(9000, 10, 5, true, 100, 1));
            case.send(&sealed(9000, 11, timestamp, true, 100, 1));
        });
    }
}

#[test]
fn datagrams_larger_than_any_that_came() {
    let mut case = Case::new();
    case.send(&sealed(9000, 10, 0, true, LARGEST_OUT - 28, 1));
    objects("size", |case| case.send(&sealed(9000, 10, 0, true, LARGEST_OUT - 27, 1)));
    // What is nearly as large may grow by our own extensions.
    case.receive(&sealed(1, 100, 0, true, LARGEST_OUT - 28, 1));
    case.send(&sealed(9000, 11, 3000, true, LARGEST_OUT - 28 + GROWTH, 1));
    objects("size", |case| {
        case.receive(&sealed(1, 100, 0, true, LARGEST_OUT - 28, 1));
        case.send(&sealed(9000, 11, 3000, true, LARGEST_OUT - 27 + GROWTH, 1));
    });
}

#[test]
fn retransmissions_and_feedback_without_bounds() {
    let spend = |case: &mut Case, bytes: u64| {
        for seq in 0..(bytes / 1000) as u16 {
            // 90 bytes of headers and tag are not counted.
            case.send(&sealed(9001, 10 + seq, u32::from(seq), true, 1062, 1));
        }
    };
    spend(&mut Case::new(), RTX_BURST);
    objects("budget", |case| spend(case, RTX_BURST + 1000));
    let mut case = Case::new();
    (0..100).for_each(|seq| case.send(&sealed(9000, seq, u32::from(seq), true, 1000, 1)));
    spend(&mut case, RTX_BURST);
    (100..104).for_each(|seq| case.send(&sealed(9000, seq, u32::from(seq), true, 1000, 1)));
    case.send(&sealed(9001, 50, 0, true, 1062, 1));

    let report = |case: &mut Case, bytes: u64| {
        (0..bytes / 1028 + 1).for_each(|index| case.send(&rtcp(index as u32, 1000, 1)));
    };
    objects("feedback", |case| report(case, FEEDBACK_BURST));
}

#[test]
fn a_deadline_that_has_passed() {
    let now = Instant::now();
    assert_ahead(now, None);
    assert_ahead(now, Some(now + Duration::from_millis(1)));
    assert!(catch_unwind(|| assert_ahead(now, Some(now))).is_err());
}
