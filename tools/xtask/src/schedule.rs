//! The engine under the deterministic scheduler: a package of its own, since its feature must not reach other builds.

use crate::step::{Failure, cargo};

const PACKAGE: [&str; 4] = ["--package", "tierce-schedule", "--features", "schedule"];

/// The random programs of CI are the same each time, as many as the time is enough for.
const CI_SEED: &str = "1";

/// Runs programs, with assertions on; the words are passed on.
pub(crate) fn run(rest: &[&str]) -> Result<(), Failure> {
    let words = [&["run", "--quiet"][..], &PACKAGE[..], &["--"][..], rest].concat();
    cargo(&words, &[])
}

/// The scheduler's own tests, the programs with a name, and random ones for so many seconds.
pub(crate) fn ci(seconds: u64) -> Result<(), Failure> {
    let engine = ["--package", "tierce-engine", "--features", "schedule", "--lib", "sync::"];
    cargo(&[&["test", "--quiet"][..], &engine[..]].concat(), &[])?;
    cargo(&[&["test", "--quiet"][..], &PACKAGE[..]].concat(), &[])?;
    run(&["--seconds", &seconds.to_string(), "--seed", CI_SEED])
}
