//! Seed document 003, "Persistence and Device Handlers": a device that owns its loop saves by hand when it likes, and
//! what it changed after that is saved when it ends, failed or not.

use std::sync::Arc;

use tierce::{
    BoxError,
    engine::io::{Clock as _, OsClock},
    state::{JsonFileStore, Runtime, StateStore},
};

fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let states = Arc::new(JsonFileStore::new(dir.path().join("data/state.json")));
    let mut runtime = Runtime::new(states.clone());

    // A loop that runs elsewhere, in a thread or a task, holds the state.
    let controller = runtime.device("controller")?;
    controller.set("last_run", OsClock.wall_ms())?;
    controller.save()?;
    assert!(states.load("controller")?.ok_or("not saved")?["last_run"].is_u64());
    controller.set("position", 40)?;

    // A loop that runs here, until it fails.
    let outcome = runtime.run_device("pump", |state| {
        for run in 0..3 {
            state.set("runs", run + 1)?;
            // Here it would sleep for 60 s.
        }
        Err("the pump is dry".into())
    })?;
    assert_eq!(outcome.failures[0].to_string(), "handler of device `pump`: the pump is dry");
    assert_eq!(states.load("pump")?.ok_or("not saved")?["runs"], 3);

    assert!(!states.load("controller")?.ok_or("lost")?.contains_key("position"));
    assert!(runtime.shutdown().is_ok());
    assert_eq!(states.load("controller")?.ok_or("lost")?["position"], 40);
    Ok(())
}
