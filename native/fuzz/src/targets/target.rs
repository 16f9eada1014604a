//! What a target is, and what several of them need.

/// Takes one input.
pub type Run = Box<dyn FnMut(&[u8])>;

/// One parser or state machine under test. The closure may keep state from input to input.
pub struct Target {
    pub name: &'static str,
    /// What inputs are made of: bytes, or operations of so many bytes.
    pub unit: usize,
    /// Valid inputs. They break no rule.
    pub seeds: Vec<Vec<u8>>,
    /// Inputs that the guided engine found to go new ways.
    pub corpus: Vec<Vec<u8>>,
    pub run: Run,
}

impl Target {
    pub fn new(name: &'static str, seeds: Vec<Vec<u8>>, run: impl FnMut(&[u8]) + 'static) -> Self {
        Target { name, unit: 1, seeds, corpus: Vec::new(), run: Box::new(run) }
    }
}

/// Seeds written in hex.
pub(super) fn hex_seeds(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|s| crate::from_hex(s).expect("seed constants are hex")).collect()
}

/// Memory of the process, which must not follow the number of inputs.
#[derive(Default)]
pub(super) struct Memory {
    inputs: u32,
    settled: Option<u64>,
}

impl Memory {
    const SETTLES: u32 = 10_000;
    const GROWTH: u64 = 128 << 20;

    /// Another input was taken.
    pub(super) fn count(&mut self) {
        self.inputs += 1;
        if !self.inputs.is_multiple_of(Memory::SETTLES) {
            return;
        }
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) else { return };
        let settled = *self.settled.get_or_insert(pages * 4096);
        assert!(pages * 4096 < settled + Memory::GROWTH, "memory grew from {settled} to {} bytes", pages * 4096);
    }
}
