//! What is fuzzed. A target is a name, valid inputs to start from, and a closure that must not panic on any bytes.
//!
//! To add one, write a function that returns [`Target`]s in a module of its own and list it in [`all`].

mod congestion;
mod forward;
mod program;
mod secure;
mod wire;

use crate::session::world::oracle::Rules;

/// One parser or state machine under test. The closure may keep state from input to input.
pub struct Target {
    pub name: &'static str,
    /// What inputs are made of: bytes, or operations of so many bytes.
    pub unit: usize,
    pub seeds: Vec<Vec<u8>>,
    pub run: Box<dyn FnMut(&[u8])>,
}

impl Target {
    pub fn new(name: &'static str, seeds: Vec<Vec<u8>>, run: impl FnMut(&[u8]) + 'static) -> Self {
        Target { name, unit: 1, seeds, run: Box::new(run) }
    }
}

/// Seeds written in hex.
fn hex_seeds(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|s| crate::from_hex(s).expect("seed constants are hex")).collect()
}

/// All targets, in the order they run, judged by these rules.
pub fn all(rules: Rules) -> Vec<Target> {
    let mut targets = wire::targets();
    targets.extend(congestion::targets());
    targets.extend(secure::targets());
    targets.extend(forward::targets(rules));
    targets.push(program::target(rules));
    targets
}

/// Memory of the process, which must not follow the number of inputs.
#[derive(Default)]
struct Memory {
    inputs: u32,
    settled: Option<u64>,
}

impl Memory {
    const SETTLES: u32 = 10_000;
    const GROWTH: u64 = 128 << 20;

    /// Another input was taken.
    fn count(&mut self) {
        self.inputs += 1;
        if self.inputs % Memory::SETTLES != 0 {
            return;
        }
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) else { return };
        let settled = *self.settled.get_or_insert(pages * 4096);
        assert!(pages * 4096 < settled + Memory::GROWTH, "memory grew from {settled} to {} bytes", pages * 4096);
    }
}
