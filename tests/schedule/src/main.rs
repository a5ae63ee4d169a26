//! Runs the engine, and the typed face on it, under the deterministic scheduler: random programs of a few clients over a
//! few keys, each in an order of its own, with failures, panics and crashes mixed in, and judges what the clients saw.
//!
//! ```console
//! cargo xtask schedule --seconds 60 --seed 1      # programs 1, 2, 3, ... for a minute
//! cargo xtask schedule --replay 4711              # one program, told in full, and made smaller if it fails
//! cargo xtask schedule --typed 1 --seconds 60     # programs of the typed face alone; without it each fourth
//! cargo xtask schedule --replay-typed 4711
//! ```
//!
//! Panics inside of programs are told only if `TIERCE_PANICS` is set.
//!
//! - `program`: what is done; `run`: who does it; `judge`: whether it was right
//! - `linear`: is there an order that explains what clients saw of a key?
//! - `disk`: calls that are points, and accidents at them
//! - `named`: programs that found a fault once
//! - `pairs`: which settings and operations have met
//! - `typed`: programs of the typed face
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
mod typed;

use std::{
    panic,
    process::ExitCode,
    time::{Duration, Instant},
};

use tierce_engine::schedule::current_task;
use tierce_kit::rng::mix;

use crate::{judge::verdict, pairs::Pairs, program::Case, shrink::Program};

const USAGE: &str = "\
usage: tierce-schedule [--seconds N] [--count N] [--seed S] [--typed 1] [--keep-going]
       tierce-schedule --replay PROGRAM
       tierce-schedule --replay-typed PROGRAM";

/// One program in so many is of the typed face.
const TYPED_IN: u64 = 4;

/// One program in so many is run twice, to see that its seed determines it.
const TWICE_IN: u64 = 16;

/// What was asked for.
struct Asked {
    seconds: u64,
    count: u64,
    seed: u64,
    replay: Option<u64>,
    replay_typed: Option<u64>,
    /// Nothing but programs of the typed face.
    is_typed: bool,
    keeps_going: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        seconds: 60,
        count: u64::MAX,
        seed: 1,
        replay: None,
        replay_typed: None,
        is_typed: false,
        keeps_going: false,
    };
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
            "--replay-typed" => asked.replay_typed = Some(number),
            "--typed" => asked.is_typed = number > 0,
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
    match (asked.replay, asked.replay_typed) {
        (Some(seed), _) => replay(&Case::draw(seed)),
        (_, Some(seed)) => replay(&typed::Case::draw(seed)),
        _ => campaign(&asked),
    }
}

/// Programs of one kind, and what came of them.
struct Series {
    /// The word that replays one.
    word: &'static str,
    programs: u64,
    steps: u64,
    failures: u64,
    spent: Duration,
}

impl Series {
    const fn new(word: &'static str) -> Self {
        Self { word, programs: 0, steps: 0, failures: 0, spent: Duration::ZERO }
    }

    /// What the next program follows from.
    const fn next_seed(&self, seed: u64) -> u64 {
        mix(seed.wrapping_mul(0x1_0000_0001).wrapping_add(self.programs)) >> 16
    }

    /// Runs a program and judges it; says whether it holds.
    fn run<P: Program>(&mut self, program: &P) -> bool {
        let start = Instant::now();
        let ended = program.run();
        self.programs += 1;
        self.steps += ended.steps;
        let differs = self.programs.is_multiple_of(TWICE_IN) && program.run().trace != ended.trace;
        self.spent += start.elapsed();
        let verdict = match verdict(&ended) {
            Ok(()) if differs => Err("it takes another way when it is run again".to_owned()),
            verdict => verdict,
        };
        let Err(complaint) = verdict else { return true };
        self.failures += 1;
        eprintln!("program {}: {complaint}", program.seed());
        eprintln!(
            "replay with: cargo xtask schedule {} {} (found after {} programs, {:.1} s)",
            self.word,
            program.seed(),
            self.programs,
            self.spent.as_secs_f64()
        );
        false
    }

    fn tell(&self, name: &str, seed: u64) {
        eprintln!(
            "{name}: seed {seed}, {} programs, {} decisions, {} failures, {:.0} s",
            self.programs,
            self.steps,
            self.failures,
            self.spent.as_secs_f64()
        );
    }
}

fn campaign(asked: &Asked) -> ExitCode {
    let (start, end) = (Instant::now(), Duration::from_secs(asked.seconds));
    let mut pairs = Pairs::default();
    let (mut engine, mut face) = (Series::new("--replay"), Series::new("--replay-typed"));
    let mut told = 0;
    while engine.programs + face.programs < asked.count && start.elapsed() < end {
        let count = engine.programs + face.programs + 1;
        let is_typed = asked.is_typed || count.is_multiple_of(TYPED_IN);
        let holds = if is_typed {
            let case = typed::Case::draw(face.next_seed(asked.seed));
            face.run(&case) || {
                if !asked.keeps_going {
                    shrink::report(&case);
                }
                false
            }
        } else {
            let case = Case::draw(engine.next_seed(asked.seed));
            pairs.visit(&case);
            engine.run(&case) || {
                if !asked.keeps_going {
                    shrink::report(&case);
                }
                false
            }
        };
        if !holds && !asked.keeps_going {
            return ExitCode::FAILURE;
        }
        if start.elapsed().as_secs() / 300 > told {
            told = start.elapsed().as_secs() / 300;
            engine.tell("so far, schedule", asked.seed);
            face.tell("so far, typed face", asked.seed);
        }
    }
    engine.tell("schedule", asked.seed);
    face.tell("typed face", asked.seed);
    let missing = pairs.missing();
    eprintln!(
        "pairs of settings and operations: {} visited, {} missing",
        pairs.count(),
        missing.len()
    );
    let is_short = engine.programs >= pairs::ENOUGH && !missing.is_empty();
    if is_short {
        eprintln!("pairs that never met: {missing:?}");
    }
    let is_well = engine.failures + face.failures == 0 && !is_short;
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay<P: Program + std::fmt::Debug>(program: &P) -> ExitCode {
    let (first, second) = (program.run(), program.run());
    if first.trace != second.trace || first.outcome != second.outcome {
        eprintln!("two runs of this program differ: it is not determined by its seed");
    }
    let seed = program.seed();
    match verdict(&first) {
        Ok(()) => {
            eprintln!("program {seed} holds: {} decisions\n{program:#?}", first.steps);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("program {seed}: {complaint}");
            shrink::report(program);
            ExitCode::FAILURE
        }
    }
}
