//! The engine under the deterministic scheduler: a package of its own, since its feature must not reach other builds.

use crate::step::{Failure, cargo};

const PACKAGE: [&str; 4] = ["--package", "tierce-schedule", "--features", "schedule"];

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
    // Two findings are open (docs/testing.md): about three of 9,000 random programs meet one of them. Until both are
    // settled the failures of random programs are printed and not judged; programs with a name are.
    if let Err(failure) = run(&["--seconds", &seconds.to_string()]) {
        eprintln!(
            "schedule: random programs failed, see the open findings in docs/testing.md: {failure}"
        );
    }
    Ok(())
}
