//! Seed 001, "State Files": `started_at` and "initializing" at first, then the status and the time of each update.

use std::{error::Error, sync::Arc};

use tierce::{Timestamp, ops::StatusDocument};
use tierce_kit::clock::TestClock;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("state.json");
    let clock = TestClock::new();
    let started = Timestamp(TestClock::START_MS);

    let mut state = StatusDocument::open_with_clock(&path, Arc::new(clock.clone()))?;
    assert_eq!(state.status(), Some("initializing"));
    assert_eq!(state.started_at(), Some(started));
    clock.advance(2_000);
    state.update("running")?;

    // Another program looks.
    let state = StatusDocument::open(&path)?;
    assert_eq!(state.status(), Some("running"));
    assert_eq!(state.started_at(), Some(started));
    assert_eq!(state.last_updated(), Some(started.saturating_add_ms(2_000)));
    Ok(())
}
