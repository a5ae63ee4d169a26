//! Everything that must hold before a change goes in: fastest first, and the whole test run last, so that its
//! own lines close the output.

use crate::{
    examples, fuzz, schedule,
    step::{Failure, Steps, cargo, has},
};

/// Seconds of fuzzing, shared by all targets.
const SMOKE_SECONDS: u64 = 20;

pub(crate) fn run() -> Result<(), Failure> {
    let mut steps = Steps::default();
    style(&mut steps)?;
    steps.run("tidy", || {
        cargo(&["test", "--quiet", "--package", "tierce-tests", "--test", "tidy"], &[])
    })?;
    steps.run("docs", docs)?;
    steps.run("fuzz build", || cargo(&["build", "--package", "tierce-fuzz", "--bins"], &[]))?;
    steps.run("fuzz smoke", || fuzz::smoke(SMOKE_SECONDS))?;
    steps.run("schedule", schedule::ci)?;
    steps.run("benches build", || {
        cargo(&["bench", "--no-run", "--package", "tierce-benches"], &[])
    })?;
    steps.run("tour", || cargo(&["run", "--release", "--", "tour"], &[]))?;
    steps.run("examples", examples::run)?;
    // With everything that is optional: other stores of state, caches beyond a network, an async runtime.
    steps.run("typed face, all features", || {
        cargo(&["test", "--quiet", "--package", "tierce", "--all-features"], &[])
    })?;
    steps.run("tool, all features", || {
        cargo(&["test", "--quiet", "--package", "tierce-tool", "--all-features"], &[])
    })?;
    steps.summary();
    steps.run("tests", || cargo(&["test", "--workspace"], &[]))?;
    eprintln!("== ci: everything holds, {:.0} s", steps.seconds());
    Ok(())
}

/// Formatting and lints, each left out with a word where the toolchain does not have it.
fn style(steps: &mut Steps) -> Result<(), Failure> {
    if has("fmt") {
        steps.run("fmt", || cargo(&["fmt", "--all", "--check"], &[]))?;
    } else {
        steps.skip("fmt", "rustfmt is not installed (rustup component add rustfmt)");
    }
    if has("clippy") {
        let words =
            ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        steps.run("clippy", || cargo(&words, &[]))
    } else {
        steps.skip("clippy", "clippy is not installed (rustup component add clippy)");
        Ok(())
    }
}

/// The documentation of every item, private ones too, with no broken link.
fn docs() -> Result<(), Failure> {
    let words = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    cargo(&words, &[("RUSTDOCFLAGS", "-D warnings")])
}
