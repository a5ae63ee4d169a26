//! Seed document 003, "JsonFileStore": all devices in one JSON file, written whole and atomically; what a damaged file
//! means for it.

use std::{fs, sync::Arc};

use tierce::{
    BoxError,
    state::{JsonFileStore, State, StateStore},
};

fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("data/state.json");
    let store = Arc::new(JsonFileStore::new(&path));

    let sensor = State::open(store.clone(), "sensor")?;
    sensor.set("calibration", [1.5, 0.1])?;
    sensor.save()?;
    let counter = State::open(store.clone(), "counter")?;
    counter.set("count", 7)?;
    counter.save()?;
    let text = fs::read_to_string(&path)?;
    let object: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(object["counter"]["count"], 7);
    assert!(text.starts_with("{\n  \"counter\": {\n") && text.ends_with("}\n"));

    // Power fails while another program writes, and leaves half a file. Then one device saves.
    fs::write(&path, &text[..text.len() / 2])?;
    counter.set("count", 8)?;
    counter.save()?;
    let [damage] = &store.take_damage()[..] else { return Err("it was not told".into()) };
    let kept = damage.kept.as_ref().ok_or("it was not kept")?;
    assert_eq!(fs::read_to_string(kept)?, text[..text.len() / 2]);
    // The other device is there, too.
    let all: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    assert_eq!(all["counter"]["count"], 8);
    assert_eq!(all["sensor"]["calibration"][1], 0.1);
    Ok(())
}
