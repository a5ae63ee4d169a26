//! One step of a chore: a command, its time, and what to say when it fails.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Why a chore did not end well, as a sentence.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs cargo with these words and variables, its output passed through.
pub(crate) fn cargo(words: &[&str], variables: &[(&str, &str)]) -> Result<(), Failure> {
    let mut command = command(words);
    command.envs(variables.iter().copied());
    let status =
        command.status().map_err(|error| Failure(format!("could not start cargo: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let set: String = variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    Err(Failure(format!("failed ({status}): {set}cargo {}", words.join(" "))))
}

/// Whether a component of the toolchain is there, as `cargo fmt --version` and its like tell.
pub(crate) fn has(component: &str) -> bool {
    let mut command = command(&[component, "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn command(words: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(words).current_dir(root());
    command
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(&package).to_owned()
}

/// Where cargo builds to.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// How a step ended.
enum Outcome {
    Passed(Duration),
    Skipped(String),
}

/// Steps done so far.
#[derive(Default)]
pub(crate) struct Steps(Vec<(&'static str, Outcome)>);

impl Steps {
    /// Runs a step under its name and keeps its time. A failure ends the chore, with the summary so far.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        deed: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let outcome = deed();
        let took = start.elapsed();
        if let Err(failure) = outcome {
            self.summary();
            eprintln!("  {name:<14} {:>7.1} s  FAILED", took.as_secs_f64());
            return Err(failure);
        }
        eprintln!("== {name}: {:.1} s", took.as_secs_f64());
        self.0.push((name, Outcome::Passed(took)));
        Ok(())
    }

    /// Notes that a step was left out, and why.
    pub(crate) fn skip(&mut self, name: &'static str, why: &str) {
        eprintln!("\n== {name}: SKIPPED, {why}");
        self.0.push((name, Outcome::Skipped(why.to_owned())));
    }

    /// Prints every step with its time.
    pub(crate) fn summary(&self) {
        eprintln!("\n== summary");
        for (name, outcome) in &self.0 {
            match outcome {
                Outcome::Passed(took) => eprintln!("  {name:<14} {:>7.1} s", took.as_secs_f64()),
                Outcome::Skipped(why) => eprintln!("  {name:<14} skipped: {why}"),
            }
        }
    }

    /// Seconds of all steps together.
    pub(crate) fn seconds(&self) -> f64 {
        let took = |outcome: &Outcome| match outcome {
            Outcome::Passed(took) => *took,
            Outcome::Skipped(_) => Duration::ZERO,
        };
        self.0.iter().map(|(_, outcome)| took(outcome)).sum::<Duration>().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a step that fails ends the chore with its own failure, and later steps are not counted.
    #[test]
    fn a_failure_is_passed_on() {
        let mut steps = Steps::default();
        steps.run("good", || Ok(())).expect("nothing fails here");
        let failure = steps.run("bad", || Err(Failure("planted".to_owned()))).expect_err("planted");
        assert_eq!(failure.to_string(), "planted");
        assert_eq!(steps.0.len(), 1);
    }

    /// Goal: a command that fails is named, so that it can be run again by hand.
    #[test]
    fn a_failing_command_is_named() {
        let failure = cargo(&["no-such-chore"], &[("A", "1")]).expect_err("there is no such chore");
        assert!(failure.to_string().contains("A='1' cargo no-such-chore"), "{failure}");
        assert!(!has("no-such-chore"));
    }
}
