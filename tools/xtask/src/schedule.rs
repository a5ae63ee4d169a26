//! The engine under the deterministic scheduler: a package of its own, since its feature must not reach other builds.

use crate::step::{Failure, cargo};

const PACKAGE: [&str; 4] = ["--package", "tierce-schedule", "--features", "schedule"];

/// The random programs of CI are the same each time and on every machine: about a minute's work on two cores.
const CI_SEED: &str = "1";
const CI_PROGRAMS: &str = "20000";
/// More seconds than they ever take.
const CI_SECONDS: &str = "1800";

/// Runs programs, with assertions on; the words are passed on.
pub(crate) fn run(rest: &[&str]) -> Result<(), Failure> {
    let words = [&["run", "--quiet"][..], &PACKAGE[..], &["--"][..], rest].concat();
    cargo(&words, &[])
}

/// The scheduler's own tests, the programs with a name, and random ones.
pub(crate) fn ci() -> Result<(), Failure> {
    let engine = ["--package", "tierce-engine", "--features", "schedule", "--lib", "sync::"];
    cargo(&[&["test", "--quiet"][..], &engine[..]].concat(), &[])?;
    cargo(&[&["test", "--quiet"][..], &PACKAGE[..]].concat(), &[])?;
    run(&["--seconds", CI_SECONDS, "--count", CI_PROGRAMS, "--seed", CI_SEED])
}
