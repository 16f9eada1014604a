//! The coverage-guided engine: libFuzzer around one target, chosen by `GREENROOM_FUZZ_TARGET` and judged by all rules but
//! those in `GREENROOM_FUZZ_WITHOUT`. Arguments are libFuzzer's. `guided.sh` builds and runs it.
//!
//! Targets that keep state from input to input may fail by what came before. So the last inputs are written beside the one
//! that failed, for `greenroom-fuzz --history`.
#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;

use greenroom_fuzz::join;
use greenroom_fuzz::mutate::Mutator;
use greenroom_fuzz::session::world::oracle::Rules;
use greenroom_fuzz::targets::{self, Target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// Inputs kept for the history: more than any target lives before it begins anew.
const HISTORY: usize = 2100;

thread_local! {
    static TARGET: RefCell<Option<Target>> = const { RefCell::new(None) };
    static HISTORY_OF: RefCell<VecDeque<Vec<u8>>> = const { RefCell::new(VecDeque::new()) };
}

fn choose() {
    let name = std::env::var("GREENROOM_FUZZ_TARGET").unwrap_or_default();
    let without = std::env::var("GREENROOM_FUZZ_WITHOUT").unwrap_or_default();
    let rules = Rules::without(&without).unwrap_or_else(|rule| panic!("GREENROOM_FUZZ_WITHOUT: no rule {rule}"));
    let target = targets::all(rules).into_iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("GREENROOM_FUZZ_TARGET: no target {name:?}"));
    TARGET.with_borrow_mut(|slot| *slot = Some(target));
    // Before libFuzzer's own, which ends the process.
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        write_history();
        next(info);
    }));
}

/// Each input after its length in four bytes, the failing one last.
fn write_history() {
    let Ok(path) = std::env::var("GREENROOM_FUZZ_HISTORY") else { return };
    let history = HISTORY_OF.with_borrow(|inputs| join(inputs.iter().map(Vec::as_slice)));
    if let Err(error) = std::fs::write(&path, history) {
        eprintln!("{path}: {error}");
    }
}

fuzz_target!(init: choose(), |data: &[u8]| {
    TARGET.with_borrow_mut(|target| {
        let target = target.as_mut().expect("chosen first");
        HISTORY_OF.with_borrow_mut(|inputs| {
            if target.unit > 1 {
                // A program stands for itself.
                inputs.clear();
            } else if inputs.len() == HISTORY {
                inputs.pop_front();
            }
            inputs.push_back(data.to_vec());
        });
        (target.run)(data);
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    TARGET.with_borrow(|target| {
        let target = target.as_ref().expect("chosen first");
        // libFuzzer mutates bytes best; programs are rearranged by operations in two of three times.
        if target.unit == 1 || seed.is_multiple_of(3) {
            return fuzzer_mutate(data, size, max_size);
        }
        let mut input = data[..size].to_vec();
        let mut mutator = Mutator::new(u64::from(seed), target.unit);
        for _ in 0..=seed % 5 {
            mutator.mutate(&mut input, &target.seeds);
        }
        input.truncate(max_size - max_size % target.unit);
        data[..input.len()].copy_from_slice(&input);
        input.len()
    })
});
