//! A whole session in one input: a program of operations on virtual time against a shard with three peers.
//!
//! - **Alice** publishes sound (track 7) and simulcast pictures (track 8). In an honest program she keeps the rules: no loss,
//!   no lies; then numbers, times and pictures that leave the shard must be without a seam. In a hostile one she loses,
//!   repeats, invents and floods.
//! - **Bob** takes both with RTX and all codecs, **Carol** without RTX and with few. Their reports are the program's, in
//!   honest programs too: nothing a subscriber says may tear another's stream.
//! - Carol also publishes sound and pictures (tracks 9 and 10) to Bob, at a steady pace, and behaves. Every packet of hers
//!   must arrive, whatever Alice and Bob do: nothing that one participant sends may hurt another.
//!
//! The oracle of the test world judges every datagram. At the end everybody behaves, and pictures must flow again.

pub mod operation;
mod perform;
mod publisher;
mod state;
#[path = "../../../forward/tests/world/mod.rs"]
pub mod world;

use std::time::Duration;

use operation::Operation;
use state::{Head, Session};
pub use state::{publisher_extensions, subscriber_extensions};
use world::oracle::Rules;

/// Bytes of the head and of each operation.
pub const UNIT: usize = 4;
/// Operations of one program.
pub const MAX_OPERATIONS: usize = 192;
/// Virtual time of one program, which it cannot prolong.
const MAX_TIME: Duration = Duration::from_secs(90);

/// Runs one program.
pub fn run(program: &[u8], rules: Rules) {
    let Some((head, operations)) = program.split_first_chunk::<UNIT>() else { return };
    let mut session = Session::new(Head::read(head[0]), rules);
    for code in operations.chunks_exact(UNIT).take(MAX_OPERATIONS) {
        let operation = Operation::read([code[0], code[1], code[2], code[3]]);
        session.perform(operation);
        session.judge();
        if session.world.now > session.started + MAX_TIME {
            break;
        }
    }
    session.end(rules);
}

/// What a program does, for people.
pub fn describe(program: &[u8]) -> String {
    let Some((head, operations)) = program.split_first_chunk::<UNIT>() else { return "nothing".into() };
    let operations = operations.chunks_exact(UNIT).take(MAX_OPERATIONS);
    let lines = operations.map(|code| format!("\n{:?}", Operation::read([code[0], code[1], code[2], code[3]])));
    format!("{:?}{}", Head::read(head[0]), lines.collect::<String>())
}
