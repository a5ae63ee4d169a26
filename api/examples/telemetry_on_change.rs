//! Seed document 003, "SaveOnChange": saved whenever something changed, published or not, even by a handler that then
//! failed. The least is lost; for critical counters and calibrations.

use std::{sync::Arc, time::Duration};

use tierce::{
    BoxError,
    engine::{Options, io::MemoryDisk},
    state::{EngineStore, OnChange, Runtime, StateStore},
};

fn main() -> Result<(), BoxError> {
    let disk = MemoryDisk::new();
    let states = Arc::new(EngineStore::new(Options::new().disk(disk.clone()).open("state")?));
    let mut runtime = Runtime::new(states);
    runtime.telemetry("pulses", Duration::from_secs(60), OnChange, |state| {
        let count = state.get_or("count", 0)? + 1;
        state.set("count", count)?;
        if count == 2 {
            return Err("the sensor does not answer".into());
        }
        // Nothing is published at all.
        Ok(None)
    })?;

    let outcome = runtime.run_cycles(3);
    assert_eq!((outcome.published, outcome.saved, outcome.failures.len()), (0, 3, 1));

    // A power cut: what the disk holds now is all there is.
    let after_crash = MemoryDisk::with_files(disk.files());
    let states = EngineStore::new(Options::new().disk(after_crash).open("state")?);
    assert_eq!(states.load("pulses")?.ok_or("lost")?["count"], 3);
    Ok(())
}
