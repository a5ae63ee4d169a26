//! Seed document 003, "Testing with MemoryStore": the test of a handler, with an empty store and with one that has
//! something in it. No file is touched, no time passes.

use serde_json::json;
use tierce::{
    BoxError,
    state::{OnPublish, Reading, State, StateStore},
    testing::{Harness, seeded},
};

/// What is tested.
fn sensor(state: &State) -> Reading {
    state.set("count", state.get_or("count", 0)? + 1)?;
    Ok(Some(json!({"count": state.get::<u64>("count")?})))
}

fn sensor_persists_count() -> Result<(), BoxError> {
    let mut harness = Harness::new();
    harness.telemetry("sensor", OnPublish, sensor)?;
    let run = harness.run(1);
    assert!(run.failures.is_empty());
    let stored = harness.store().load("sensor")?;
    assert_eq!(stored.as_ref(), json!({"count": 1}).as_object());
    Ok(())
}

fn sensor_goes_on_counting() -> Result<(), BoxError> {
    let mut harness = Harness::with_store(seeded([("sensor", json!({"count": 99}))]));
    let mut first = None;
    harness.telemetry("sensor", OnPublish, move |state| {
        let seen = state.get::<u64>("count")?;
        assert_eq!(*first.get_or_insert(seen), Some(99));
        sensor(state)
    })?;
    let run = harness.run(2);
    assert_eq!((run.ran, run.saved, run.failures.len()), (2, 2, 0));
    assert_eq!(harness.store().load("sensor")?.ok_or("lost")?["count"], 101);
    Ok(())
}

fn main() -> Result<(), BoxError> {
    sensor_persists_count()?;
    sensor_goes_on_counting()
}
