//! Seed document 003, "SaveOnPublish": what is kept is what was told. A state is saved after each turn whose reading
//! was published, so a broker that is away holds back the save as well.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tierce::{
    BoxError, Store,
    state::{EngineStore, OnPublish, Runtime, StateStore},
};

fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("state"))?;
    let states = Arc::new(EngineStore::in_store(&store)?);

    let mut turn = 0;
    let mut runtime = Runtime::new(states.clone()).publisher(move |name, reading| {
        turn += 1;
        if turn == 2 {
            return Err("the broker is away".into());
        }
        assert_eq!(name, "sensor");
        assert!(reading["count"].is_u64());
        Ok(())
    });
    runtime.telemetry("sensor", Duration::from_secs(60), OnPublish, |state| {
        state.set("count", state.get_or("count", 0)? + 1)?;
        let _: f64 = state.set_default("offset", 0.0)?;
        let all_data = state.to_map();
        Ok(Some(json!({"count": all_data["count"]})))
    })?;

    let outcome = runtime.run_cycles(2);
    assert_eq!((outcome.published, outcome.saved), (1, 1));
    assert_eq!(
        outcome.failures[0].to_string(),
        "publishing of device `sensor`: the broker is away"
    );
    assert_eq!(states.load("sensor")?.ok_or("not saved")?["count"], 1);

    runtime.run_cycles(1);
    let saved = states.load("sensor")?.ok_or("not saved")?;
    assert_eq!((&saved["count"], &saved["offset"]), (&json!(3), &json!(0.0)));
    assert!(runtime.shutdown().is_ok());
    Ok(())
}
