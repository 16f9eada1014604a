//! Whole sessions: see [`crate::session`].

use super::target::{Memory, Target};
use crate::session::world::oracle::Rules;
use crate::session::{self, UNIT};
use crate::split;

pub fn target(rules: Rules) -> Target {
    let mut memory = Memory::default();
    let run = move |input: &[u8]| {
        session::run(input, rules);
        memory.count();
    };
    let corpus = split(include_bytes!("../../corpus/shard-session.bin"));
    Target { unit: UNIT, corpus, ..Target::new("shard session", seeds(), run) }
}

const HOSTILE: u8 = 0;
const HONEST: u8 = 1;
const SHORT_IDS: u8 = 2;
const NAMED: u8 = 4;
const SINGLE: u8 = 8;
const MISMATCH: u8 = 16;

/// Programs that do a little of everything, each about one thing. They break no rule that a right shard keeps.
fn seeds() -> Vec<Vec<u8>> {
    let everything = [27, 0, 20, 2];
    // 128 packets of 1,100 bytes in a second.
    let many = [0, 2, 31, 0b1010_1111];
    let program = |head: u8, operations: &[[u8; 4]]| {
        [[head, 0, 0, 0]].iter().chain(operations).flatten().copied().collect::<Vec<u8>>()
    };
    vec![
        // A call; both ways to name streams; short picture ids; one layer.
        program(HONEST, &[everything, [0, 2, 9, 0b1011_1101], [21, 100, 0, 0], everything]),
        program(HONEST | NAMED | SHORT_IDS, &[everything, [27, 0, 63, 2], [27, 0, 63, 2], [27, 0, 63, 2]]),
        program(
            HONEST | NAMED | SINGLE | MISMATCH,
            &[everything, [24, 1, 1, 0], everything, [24, 1, 0, 0], everything],
        ),
        // Pause, layers, mute, away and back, other SSRCs.
        program(
            HONEST,
            &[everything, [13, 2, 2 | 4, 0], everything, [13, 2, 4 | 16, 0], everything, [13, 2, 4, 0], everything],
        ),
        program(
            HONEST,
            &[everything, [15, 1, 1, 0], everything, [15, 1, 0, 0], everything, [13, 2, 1, 0], [13, 2, 20, 0]],
        ),
        program(
            HONEST | NAMED,
            &[everything, [11, 3, 0, 0], everything, [11, 0, 0, 0], everything, [10, 1, 1, 1], everything],
        ),
        program(
            HONEST,
            &[everything, [10, 2, 1, 0], everything, [21, 0, 110, 0], everything, [10, 2, 0, 0], everything],
        ),
        // Another mid and payload type, another track and back, and asked for what was sent before.
        program(
            HONEST,
            &[everything, [13, 0, 32, 0], [16, 0, 0, 255], everything, [13, 0, 0, 0], [16, 0, 2, 255], everything],
        ),
        program(HONEST, &[everything, [13, 2, 20, 128], everything, [16, 2, 2, 255], [13, 2, 20, 0], everything]),
        // Reports.
        program(
            HONEST,
            &[everything, [16, 2, 2, 7], [18, 2, 3, 0], [19, 2, 0, 0], [20, 1, 0, 0], [17, 2, 3, 20], everything],
        ),
        // Padding, redundancy, telephone events, extensions.
        program(
            HONEST,
            &[everything, [25, 1, 3, 0], [24, 0, 1, 0], everything, [8, 0, 1, 1], [8, 1, 7, 3], everything],
        ),
        // Loss repaired, late and twice.
        program(HOSTILE | NAMED, &[everything, [3, 2, 0, 0], everything, [5, 2, 20, 0], [4, 2, 20, 0], everything]),
        // The first packet of the key frame that a subscriber waits for is late.
        program(
            HOSTILE,
            &[everything, [13, 2, 22, 0], [13, 2, 20, 0], [3, 2, 0, 0], [0, 2, 0, 7], [4, 2, 3, 0], everything],
        ),
        program(HOSTILE, &[everything, many, many, many, [7, 122, 44, 1], everything]),
        program(
            HOSTILE,
            &[everything, [25, 1, 3, 0], [5, 1, 200, 255], [7, 7, 20, 0], [22, 1, 176, 4], [23, 3, 9, 40]],
        ),
        program(
            HOSTILE | NAMED,
            &[everything, [9, 1, 255, 127], [0, 1, 4, 1], [9, 1, 255, 127], [0, 1, 4, 1], [12, 1, 0, 0]],
        ),
    ]
}
