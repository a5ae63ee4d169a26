//! Seed document 003, "Composing Policies" and "When to Use Which Policy": `|` saves if any of them says so, `&` only
//! if all do. Counts what each row of the table writes in the same ten turns.

use std::time::Duration;

use serde_json::json;
use tierce::{
    BoxError,
    state::{Debounced, Every, OnChange, OnPublish, OnShutdown, Policy},
    testing::Harness,
};

/// How often a policy saves in ten turns: eight of them change something, five publish.
fn saves(policy: impl Into<Policy>) -> Result<usize, BoxError> {
    let mut harness = Harness::new();
    let mut turn = 0;
    harness.telemetry("sensor", policy, move |state| {
        turn += 1;
        if turn % 5 != 0 {
            state.set("turn", turn)?;
        }
        Ok((turn % 2 == 0).then(|| json!({"turn": turn})))
    })?;
    let saved = harness.turns(10).saved;
    let run = harness.run(0);
    assert!(run.failures.is_empty());
    assert!(!harness.store().saves("sensor").is_empty(), "each saves at the end at the latest");
    Ok(saved)
}

fn main() -> Result<(), BoxError> {
    let safest = OnPublish | OnChange;
    assert_eq!(format!("{safest:?}"), "OnPublish | OnChange");
    assert_eq!(saves(safest)?, 8, "no clean state is written");
    let both = OnPublish & OnChange;
    assert_eq!(format!("{both:?}"), "OnPublish & OnChange");
    assert_eq!(saves(both)?, 5, "turn 10 publishes what turn 9 changed");

    // The table: much I/O and safe, medium, little and unsafe.
    assert_eq!(saves(OnChange)?, 8);
    assert_eq!(saves(OnPublish)?, 5);
    assert_eq!(saves(OnShutdown)?, 0);
    // Turns are ten seconds apart.
    assert_eq!(saves(Every::duration(Duration::from_secs(30)))?, 3);
    let calm = Debounced::new(Duration::from_secs(15), Duration::from_secs(40));
    assert_eq!(saves(OnChange & calm)?, 2);
    Ok(())
}
