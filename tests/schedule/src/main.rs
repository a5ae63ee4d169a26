//! Runs the engine under the deterministic scheduler: random programs of a few clients over a few keys, each in an
//! order of its own, with failures, panics and crashes mixed in, and judges what the clients saw.
//!
//! ```console
//! cargo xtask schedule --seconds 60 --seed 1      # programs 1, 2, 3, ... for a minute
//! cargo xtask schedule --replay 4711              # one program, told in full, and made smaller if it fails
//! ```
//!
//! Panics inside of programs are told only if `TIERCE_PANICS` is set.
//!
//! - `program`: what is done; `run`: who does it; `judge`: whether it was right
//! - `linear`: is there an order that explains what clients saw of a key?
//! - `disk`: calls that are points, and accidents at them
//! - `named`: programs that found a fault once
//! - `pairs`: which settings and operations have met
//! - `shrink`: a smaller program that fails as well

mod disk;
mod judge;
mod linear;
#[cfg(test)]
mod named;
mod pairs;
mod program;
mod run;
mod shrink;

use std::{
    panic,
    process::ExitCode,
    time::{Duration, Instant},
};

use tierce_engine::schedule::current_task;
use tierce_kit::rng::mix;

use crate::{
    judge::{execute, verdict},
    pairs::Pairs,
    program::Case,
};

const USAGE: &str = "\
usage: tierce-schedule [--seconds N] [--count N] [--seed S] [--keep-going]
       tierce-schedule --replay PROGRAM";

/// One program in so many is run twice, to see that its seed determines it.
const TWICE_IN: u64 = 16;

/// What was asked for.
struct Asked {
    seconds: u64,
    count: u64,
    seed: u64,
    replay: Option<u64>,
    keeps_going: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked =
        Asked { seconds: 60, count: u64::MAX, seed: 1, replay: None, keeps_going: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--keep-going" {
            asked.keeps_going = true;
            continue;
        }
        let number = words.next().and_then(|number| number.parse().ok());
        let number: u64 = number.ok_or_else(|| format!("{word} takes a number"))?;
        match word.as_str() {
            "--seconds" => asked.seconds = number,
            "--count" => asked.count = number,
            "--seed" => asked.seed = number,
            "--replay" => asked.replay = Some(number),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(complaint) => {
            eprintln!("{complaint}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let plain = panic::take_hook();
    let is_told = std::env::var_os("TIERCE_PANICS").is_some();
    panic::set_hook(Box::new(move |info| {
        // Panics inside a world are part of the program, or are told with it.
        if is_told || current_task().is_none() {
            plain(info);
        }
    }));
    match asked.replay {
        Some(seed) => replay(seed),
        None => campaign(&asked),
    }
}

fn campaign(asked: &Asked) -> ExitCode {
    let (start, end) = (Instant::now(), Duration::from_secs(asked.seconds));
    let mut pairs = Pairs::default();
    let (mut programs, mut steps, mut failures, mut told) = (0_u64, 0_u64, 0_u64, 0_u64);
    while programs < asked.count && start.elapsed() < end {
        let seed = mix(asked.seed.wrapping_mul(0x1_0000_0001).wrapping_add(programs)) >> 16;
        let case = Case::draw(seed);
        pairs.visit(&case);
        let ended = execute(&case);
        programs += 1;
        steps += ended.steps;
        let differs = programs.is_multiple_of(TWICE_IN) && execute(&case).trace != ended.trace;
        let verdict = match verdict(&ended) {
            Ok(()) if differs => Err("it takes another way when it is run again".to_owned()),
            verdict => verdict,
        };
        if let Err(complaint) = verdict {
            failures += 1;
            eprintln!("program {seed}: {complaint}");
            eprintln!(
                "replay with: cargo xtask schedule --replay {seed} (found after {programs} \
                 programs, {:.1} s)",
                start.elapsed().as_secs_f64()
            );
            if !asked.keeps_going {
                shrink::report(&Case::draw(seed));
                return ExitCode::FAILURE;
            }
        }
        if start.elapsed().as_secs() / 300 > told {
            told = start.elapsed().as_secs() / 300;
            eprintln!("{programs} programs, {steps} steps, {failures} failures, {told}00 s / 3");
        }
    }
    eprintln!(
        "schedule: seed {}, {programs} programs, {steps} decisions, {failures} failures, {:.0} s",
        asked.seed,
        start.elapsed().as_secs_f64()
    );
    let missing = pairs.missing();
    eprintln!(
        "pairs of settings and operations: {} visited, {} missing",
        pairs.count(),
        missing.len()
    );
    if programs >= pairs::ENOUGH && !missing.is_empty() {
        eprintln!("pairs that never met: {missing:?}");
        failures += 1;
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let case = Case::draw(seed);
    let (first, second) = (execute(&case), execute(&case));
    if first.trace != second.trace || first.outcome != second.outcome {
        eprintln!("two runs of this program differ: it is not determined by its seed");
    }
    match verdict(&first) {
        Ok(()) => {
            eprintln!("program {seed} holds: {} decisions\n{case:#?}", first.steps);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("program {seed}: {complaint}");
            shrink::report(&case);
            ExitCode::FAILURE
        }
    }
}
