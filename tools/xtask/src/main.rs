//! Chores of this project: `cargo xtask ci`, `sweep`, `golden`, `fuzz`, `schedule`, `hit-ratios`. Plain Rust, so that they run wherever
//! the project builds.

mod ci;
mod examples;
mod fuzz;
mod golden;
mod hit_ratios;
mod schedule;
mod step;

use std::process::ExitCode;

use step::{Failure, cargo};

const USAGE: &str = "\
usage: cargo xtask <chore>

  ci                             everything that must hold before a change goes in, fastest first
  examples                       build and run every example of the typed face
  sweep [--cases N]              the long crash sweep, N cases per workload (default 2000)
  golden [--force]               write the store that later versions must be able to open
  fuzz TARGET [--seconds N] [--seed S]
                                 one fuzz target on the built-in mutator (default 60 s)
  schedule [--seconds N] [--seed S] [--replay PROGRAM]
                                 programs of a few clients in orders that a seed decides (default 60 s)
  fuzz list                      names of the fuzz targets
  hit-ratios [--traces DIR]      what the eviction policies hit on real traces, beside what others measured";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => ci::run(),
        ["examples"] => examples::run(),
        ["sweep"] => sweep("2000"),
        ["sweep", "--cases", count] => sweep(count),
        ["golden"] => golden::run(false),
        ["golden", "--force"] => golden::run(true),
        ["hit-ratios"] => hit_ratios::run(None),
        ["hit-ratios", "--traces", dir] => hit_ratios::run(Some(dir)),
        ["schedule", rest @ ..] => schedule::run(rest),
        ["fuzz", "list"] => fuzz::list(),
        ["fuzz", target, rest @ ..] => fuzz::run(target, rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the crash tests optimised, over many more cases than the ordinary test run.
fn sweep(count: &str) -> Result<(), Failure> {
    if count.parse::<u64>().is_err() {
        return Err(Failure(format!("--cases takes a number, not {count:?}")));
    }
    let words = [
        "test",
        "--release",
        "--package",
        "tierce-tests",
        "--test",
        "it",
        "crash",
        "--",
        "--nocapture",
    ];
    cargo(&words, &[("TIERCE_CASES", count)])
}
