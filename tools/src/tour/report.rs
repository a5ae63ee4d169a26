//! How the tour tells what it did: a line a step, PASS or FAIL, and a verdict.

use std::fmt::Display;

use serde_json::{Map, Value, json};

use crate::{
    exit::{Code, Outcome},
    out::Out,
};

/// What a step found out.
pub(super) struct Finding {
    passed: bool,
    did: String,
    numbers: Map<String, Value>,
}

impl Finding {
    /// `did` tells what was done and seen; `passed` comes from a comparison.
    pub(super) fn new(passed: bool, did: impl Into<String>) -> Self {
        Self { passed, did: did.into(), numbers: Map::new() }
    }

    /// A number or word for programs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.numbers.insert(name.to_owned(), value.into());
        self
    }

    /// A step that ended early.
    pub(super) fn failure(reason: impl Display) -> Self {
        Self::new(false, reason.to_string())
    }
}

/// Prints steps and remembers how they went.
pub(super) struct Report<'out> {
    out: &'out mut Out,
    json: bool,
    passed: u64,
    failed: u64,
}

impl<'out> Report<'out> {
    pub(super) const fn new(out: &'out mut Out, json: bool) -> Self {
        Self { out, json, passed: 0, failed: 0 }
    }

    /// One step.
    pub(super) fn step(&mut self, name: &str, finding: Finding) -> Outcome<()> {
        let Finding { passed, did, numbers } = finding;
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        if self.json {
            let mut object = numbers;
            object.insert("type".to_owned(), "step".into());
            object.insert("step".to_owned(), name.into());
            object.insert("passed".to_owned(), passed.into());
            object.insert("did".to_owned(), did.into());
            self.out.json(&object.into())?;
        } else {
            let word = if passed { "PASS" } else { "FAIL" };
            self.out.line(format_args!("{word}  {name:<10} {did}"))?;
        }
        self.out.flush()
    }

    /// The last line. Without `complete`, steps are missing, and that is no success.
    pub(super) fn verdict(self, complete: bool) -> Outcome {
        let (passed, failed) = (self.passed, self.failed);
        let good = failed == 0 && complete;
        if self.json {
            let line = json!({"type": "verdict", "passed": good, "steps_passed": passed, "steps_failed": failed});
            self.out.json(&line)?;
        } else {
            let (word, rest) = (
                if good { "PASS" } else { "FAIL" },
                if complete { "" } else { "; the rest was not run" },
            );
            self.out
                .line(format_args!("{word}  {passed} of {} steps passed{rest}", passed + failed))?;
        }
        Ok(if good { Code::Done } else { Code::Problems })
    }
}
