//! Seed document 003, "SaveOnShutdown" and "Crash risk": the lightest policy, and the one of a device that names none.
//! A graceful stop saves everything; a crash loses everything since the start.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tierce::{
    BoxError,
    engine::{Options, io::MemoryDisk},
    state::{EngineStore, OnShutdown, Runtime, StateStore, Telemetry},
};

fn main() -> Result<(), BoxError> {
    let disk = MemoryDisk::new();
    let states = Arc::new(EngineStore::new(Options::new().disk(disk.clone()).open("state")?));
    let after_crash = || {
        let disk = MemoryDisk::with_files(disk.files());
        Ok::<_, BoxError>(EngineStore::new(Options::new().disk(disk).open("state")?))
    };

    let mut runtime = Runtime::new(states);
    let minute = Duration::from_secs(60);
    runtime.telemetry("average", minute, OnShutdown, |state| {
        state.set("runs", state.get_or("runs", 0)? + 1)?;
        Ok(Some(json!({"runs": state.get::<u64>("runs")?})))
    })?;
    runtime.add(Telemetry::new("names no policy", minute), |state| {
        state.set("runs", state.get_or("runs", 0)? + 1)?;
        Ok(None)
    })?;

    let outcome = runtime.run_cycles(3);
    assert_eq!((outcome.published, outcome.saved), (3, 0));
    assert_eq!(after_crash()?.load("average")?, None, "a crash now loses all three runs");

    assert!(runtime.shutdown().is_ok());
    for name in ["average", "names no policy"] {
        assert_eq!(after_crash()?.load(name)?.ok_or("lost")?["runs"], 3);
    }
    Ok(())
}
