//! What is fuzzed. A target is a name, valid inputs to start from, and a closure that must not panic on any bytes.
//!
//! To add one, write a function that returns [`Target`]s in a module of its own and list it in [`all`].

mod congestion;
mod forward;
mod secure;
mod wire;

/// One parser or state machine under test. The closure may keep state from input to input.
pub struct Target {
    pub name: &'static str,
    pub seeds: Vec<Vec<u8>>,
    pub run: Box<dyn FnMut(&[u8])>,
}

impl Target {
    pub fn new(name: &'static str, seeds: Vec<Vec<u8>>, run: impl FnMut(&[u8]) + 'static) -> Self {
        Target { name, seeds, run: Box::new(run) }
    }
}

/// Seeds written in hex.
fn hex_seeds(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|s| crate::from_hex(s).expect("seed constants are hex")).collect()
}

/// All targets, in the order they run.
pub fn all() -> Vec<Target> {
    let mut targets = wire::targets();
    targets.extend(congestion::targets());
    targets.extend(secure::targets());
    targets.extend(forward::targets());
    targets
}
