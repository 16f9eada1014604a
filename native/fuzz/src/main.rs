//! Mutational fuzzer for every parser that sees bytes from outside, and for whole sessions of a shard. Stable toolchain, no
//! dependencies: the smoke test. The coverage-guided engine (`guided.sh`) finds more in more time.
//!
//! `cargo run --release -p greenroom-fuzz -- --seconds 30 [--target NAME] [--seed S]`
//!
//! Each target runs for its share of the time on mutated valid inputs and random bytes. A panic is reported with
//! the input in hex and the seed of the run; the process then exits with status 1. One seed and target give one sequence
//! of inputs, so a failure is repeated by passing both again with enough time. `--input HEX` runs one input only, `--file`
//! the one in a file, `--history` all of a file as the guided engine keeps it: each after its length in four bytes.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use greenroom_fuzz::mutate::Mutator;
use greenroom_fuzz::session::{self, world::oracle::Rules};
use greenroom_fuzz::targets::{self, Target};
use greenroom_fuzz::{from_hex, hex, join, split};

const USAGE: &str = "usage: greenroom-fuzz [--seconds N] [--target NAME] [--seed S] [--input HEX | --file PATH | \
                     --history PATH] [--without RULE,RULE] [--list] [--seeds FOLDER] [--pack FOLDER] [--describe]";

#[derive(Default)]
struct Options {
    seconds: f64,
    seed: u64,
    target: Option<String>,
    inputs: Option<Vec<Vec<u8>>>,
    rules: Rules,
    list: bool,
    /// Print the program that an input of the session target is.
    describe: bool,
    /// Write the seeds of each target into a folder of its name, for the guided engine.
    seeds: Option<PathBuf>,
    /// Print the files of this folder as one corpus.
    pack: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut targets = targets::all(options.rules);
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
    if let Some(folder) = options.seeds.as_ref().or(options.pack.as_ref()) {
        let done = if options.seeds.is_some() { write_seeds(&targets, folder) } else { pack(folder) };
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", folder.display());
                ExitCode::FAILURE
            }
        };
    }
    if options.describe {
        options.inputs.iter().flatten().for_each(|input| println!("{}", session::describe(input)));
        return ExitCode::SUCCESS;
    }
    // The default hook would print a backtrace before we can say which input it was.
    std::panic::set_hook(Box::new(|info| eprintln!("panic: {info}")));

    let weights: f64 = targets.iter().map(weight).sum();
    let mut failed = 0;
    for target in &mut targets {
        let result = match &options.inputs {
            Some(inputs) => inputs.iter().try_for_each(|input| run_once(target, input)).map(|()| inputs.len() as u64),
            None => fuzz(target, Duration::from_secs_f64(options.seconds * weight(target) / weights), options.seed),
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

/// A target's part of the time: whole sessions take a thousand times as long as parsers.
fn weight(target: &Target) -> f64 {
    if target.unit > 1 { 8.0 } else { 1.0 }
}

/// Runs a target until its time is over; returns the number of inputs, or the one that made it panic.
fn fuzz(target: &mut Target, share: Duration, seed: u64) -> Result<u64, Vec<u8>> {
    let mut mutator = Mutator::new(seed, target.unit);
    let end = Instant::now() + share;
    let mut inputs = 0;
    let all: Vec<Vec<u8>> = target.seeds.iter().chain(&target.corpus).cloned().collect();
    for seed in target.seeds.clone() {
        run_once(target, &seed)?;
        inputs += 1;
    }
    // The clock is read seldom where that would cost more than a run.
    let between = if target.unit > 1 { 1 } else { 256 };
    loop {
        for _ in 0..between {
            let input = mutator.next(&all);
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

fn write_seeds(targets: &[Target], folder: &std::path::Path) -> std::io::Result<()> {
    for target in targets {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in target.seeds.iter().chain(&target.corpus).enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

fn pack(folder: &std::path::Path) -> std::io::Result<()> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let inputs = paths.iter().map(std::fs::read).collect::<std::io::Result<Vec<_>>>()?;
    std::io::stdout().write_all(&join(inputs.iter().map(Vec::as_slice)))
}

fn parse_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seconds: 10.0, seed: 1, ..Options::default() };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--list" => options.list = true,
            "--describe" => options.describe = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                take_argument(&mut options, &name, value)?;
            }
        }
    }
    Ok(options)
}

fn take_argument(options: &mut Options, name: &str, value: String) -> Result<(), String> {
    let read = |path: &str| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    match name {
        "--seconds" => {
            options.seconds = value.parse().ok().filter(|s| (0.0..=1e6).contains(s)).ok_or("bad --seconds")?;
        }
        "--seed" => options.seed = value.parse().map_err(|_| "bad --seed")?,
        "--target" => options.target = Some(value),
        "--input" => options.inputs = Some(vec![from_hex(&value).ok_or("bad --input")?]),
        "--file" => options.inputs = Some(vec![read(&value)?]),
        "--history" => options.inputs = Some(split(&read(&value)?)),
        "--without" => options.rules = Rules::without(&value).map_err(|name| format!("no rule {name}"))?,
        "--seeds" => options.seeds = Some(value.into()),
        "--pack" => options.pack = Some(value.into()),
        _ => return Err(format!("unknown option {name}")),
    }
    Ok(())
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
        let mut targets = targets::all(Rules::default());
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
        let options = parse("--seconds 3 --seed 9 --target rtp --input 0aFF --without size,time").unwrap();
        assert_eq!((options.seconds, options.seed, options.inputs), (3.0, 9, Some(vec![vec![10, 255]])));
        assert!(!options.rules.size && !options.rules.time && options.rules.ciphertext);
        for bad in ["--seconds", "--seconds -1", "--seed x", "--input 0", "--what 1", "--without x", "--file /no/such"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
