//! Mutational fuzzer for every parser that sees bytes from outside. Stable toolchain, no dependencies.
//!
//! `cargo run --release -p greenroom-fuzz -- --seconds 30 [--target NAME] [--seed S]`
//!
//! Each target runs for an equal share of the time on mutated valid inputs and random bytes. A panic is reported with
//! the input in hex and the seed of the run; the process then exits with status 1. One seed and target give one sequence
//! of inputs, so a failure is repeated by passing both again with enough time. `--input HEX` runs one input only.

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mutate::Mutator;
use targets::Target;

const USAGE: &str = "usage: greenroom-fuzz [--seconds N] [--target NAME] [--seed S] [--input HEX] [--list]";

struct Options {
    seconds: f64,
    seed: u64,
    target: Option<String>,
    input: Option<Vec<u8>>,
    list: bool,
}

fn main() -> ExitCode {
    let options = match parse_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut targets = targets::all();
    if let Some(name) = &options.target {
        targets.retain(|t| t.name == *name);
    }
    if targets.is_empty() {
        eprintln!("no such target; --list names them");
        return ExitCode::from(2);
    }
    if options.list {
        targets.iter().for_each(|t| println!("{}", t.name));
        return ExitCode::SUCCESS;
    }
    // The default hook would print a backtrace before we can say which input it was.
    std::panic::set_hook(Box::new(|info| eprintln!("panic: {info}")));

    let share = Duration::from_secs_f64(options.seconds / targets.len() as f64);
    let mut failed = 0;
    for target in &mut targets {
        let result = match &options.input {
            Some(input) => run_once(target, input).map(|()| 1),
            None => fuzz(target, share, options.seed),
        };
        match result {
            Ok(inputs) => println!("{:<24} ok, {inputs} inputs", target.name),
            Err(input) => {
                failed += 1;
                println!("{:<24} FAILED, seed {}, input {}", target.name, options.seed, hex(&input));
            }
        }
    }
    println!("{} passed, {failed} failed", targets.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a target until its time is over; returns the number of inputs, or the one that made it panic.
fn fuzz(target: &mut Target, share: Duration, seed: u64) -> Result<u64, Vec<u8>> {
    let mut mutator = Mutator::new(seed);
    let end = Instant::now() + share;
    let mut inputs = 0;
    for seed in target.seeds.clone() {
        run_once(target, &seed)?;
        inputs += 1;
    }
    loop {
        // The clock is read seldom: a parser run costs less than reading it.
        for _ in 0..256 {
            let input = mutator.next(&target.seeds);
            run_once(target, &input)?;
            inputs += 1;
        }
        if Instant::now() >= end {
            return Ok(inputs);
        }
    }
}

fn run_once(target: &mut Target, input: &[u8]) -> Result<(), Vec<u8>> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|_| input.to_vec())
}

fn parse_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seconds: 10.0, seed: 1, target: None, input: None, list: false };
    while let Some(name) = arguments.next() {
        if name == "--list" {
            options.list = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seconds" => {
                options.seconds = value.parse().ok().filter(|s| (0.0..=1e6).contains(s)).ok_or("bad --seconds")?;
            }
            "--seed" => options.seed = value.parse().map_err(|_| "bad --seed")?,
            "--target" => options.target = Some(value),
            "--input" => options.input = Some(from_hex(&value).ok_or("bad --input")?),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of a hex string; white space is allowed.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| Some((pair[0] << 4 | *pair.get(1)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parser that trusts its length byte.
    fn careless() -> Target {
        Target::new("careless", vec![vec![2, 1, 1]], |bytes| {
            if let Some(len) = bytes.first() {
                assert!(*len as usize <= bytes.len(), "reads past the end");
            }
        })
    }

    #[test]
    fn finds_a_bug_and_the_same_one_again() {
        let first = fuzz(&mut careless(), Duration::from_secs(30), 7).unwrap_err();
        assert!(first[0] as usize > first.len());
        assert_eq!(fuzz(&mut careless(), Duration::from_secs(30), 7).unwrap_err(), first);
        assert!(run_once(&mut careless(), &first).is_err());
    }

    #[test]
    fn targets_have_distinct_names_and_sound_seeds() {
        let mut targets = targets::all();
        for target in &mut targets {
            for seed in target.seeds.clone() {
                assert_eq!(run_once(target, &seed), Ok(()), "{}", target.name);
            }
        }
        let mut names: Vec<_> = targets.iter().map(|t| t.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), targets.len());
    }

    #[test]
    fn arguments() {
        let parse = |text: &str| parse_arguments(text.split_whitespace().map(String::from));
        let options = parse("--seconds 3 --seed 9 --target rtp --input 0aFF").unwrap();
        assert_eq!((options.seconds, options.seed, options.input), (3.0, 9, Some(vec![10, 255])));
        for bad in ["--seconds", "--seconds -1", "--seed x", "--input 0", "--what 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
