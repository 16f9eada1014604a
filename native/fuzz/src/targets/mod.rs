//! What is fuzzed. A target is a name, valid inputs to start from, and a closure that must not panic on any bytes.
//!
//! To add one, write a function that returns [`Target`]s in a module of its own and list it in [`all`].

mod congestion;
mod forward;
mod peer;
mod program;
mod secure;
mod target;
mod wire;

pub use target::Target;

use crate::session::world::oracle::Rules;

/// All targets, in the order they run, judged by these rules.
pub fn all(rules: Rules) -> Vec<Target> {
    let mut targets = wire::targets();
    targets.extend(congestion::targets());
    targets.extend(secure::targets());
    targets.extend(forward::targets(rules));
    targets.push(peer::target());
    targets.push(program::target(rules));
    targets
}
