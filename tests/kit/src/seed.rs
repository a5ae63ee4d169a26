//! Runs a test with many seeds, and says how to replay the one that failed.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crate::rng;

/// Runs `case` with `count` seeds that follow from `name`. `TIERCE_SEED` replays one seed; `TIERCE_CASES` sets
/// another count. `name` is the path of the test, as `cargo test` takes it.
///
/// # Panics
/// If a case does, after a line that says how to replay it.
pub fn cases(name: &str, count: u64, mut case: impl FnMut(u64)) {
    if let Some(seed) = number("TIERCE_SEED") {
        return case(seed);
    }
    let start = rng::hash(0, name.as_bytes());
    for number in 0..number("TIERCE_CASES").unwrap_or(count) {
        let seed = rng::mix(start.wrapping_add(number));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
            eprintln!("replay with TIERCE_SEED={seed} cargo test --test it {name}");
            resume_unwind(panic);
        }
    }
}

/// The count a test should run, as `TIERCE_CASES` or the test itself says.
#[must_use]
pub fn count(default: u64) -> u64 {
    number("TIERCE_CASES").unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
