//! Seed 001, "SQLite Database" and "Migration Example": the table of events, with a number that is given once, a time
//! by default, a required type and optional data; and the column `priority`, which is added later with 0 as its
//! default.

use std::{error::Error, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tierce::{
    Options, Store, Timestamp,
    collections::{Log, LogOptions},
};
use tierce_kit::clock::TestClock;

/// As the first version of the program has it.
#[derive(Serialize, Deserialize)]
struct EventV1 {
    event_type: String,
    data: Option<serde_json::Value>,
}

/// As the second one has it.
#[derive(Debug, Serialize, Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    data: Option<serde_json::Value>,
    #[serde(default)]
    priority: i32,
}

fn open(dir: &Path, clock: &TestClock) -> tierce::Result<Store> {
    Store::open_with(dir.join("store"), Options::new().clock(clock.clone()))
}

/// The table: lines of 30 days. The name of the type does not change with the type.
fn events<T: Serialize + serde::de::DeserializeOwned>(store: &Store) -> tierce::Result<Log<T>> {
    let month = Duration::from_secs(30 * 86_400);
    store.log_with("events", &LogOptions::new().max_age(month).value_type("event"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let clock = TestClock::new();

    let store = open(dir.path(), &clock)?;
    let table = events::<EventV1>(&store)?;
    let data = Some(serde_json::json!({"room": "attic"}));
    let first = table.append(&EventV1 { event_type: "motion".to_owned(), data })?;
    let second = table.append(&EventV1 { event_type: "started".to_owned(), data: None })?;
    assert_eq!((first, second), (1, 2));
    drop(table);
    store.close()?;

    clock.advance(86_400_000);
    let store = open(dir.path(), &clock)?;
    let table = events::<Event>(&store)?;
    let alarm = Event { event_type: "alarm".to_owned(), data: None, priority: 9 };
    assert_eq!(table.append(&alarm)?, 3);
    let all = table.read(0, 100)?;
    let seen: Vec<_> =
        all.iter().map(|line| (line.value.event_type.as_str(), line.value.priority)).collect();
    assert_eq!(seen, [("motion", 0), ("started", 0), ("alarm", 9)]);
    assert_eq!(all[0].at, Timestamp(TestClock::START_MS));

    let today = table.since(store.now())?;
    assert_eq!(today.len(), 1);

    clock.advance(29 * 86_400_000 + 1);
    assert_eq!(table.len()?, 1, "what is older than a month is forgotten");
    assert_eq!(table.prune()?, 2);
    assert_eq!(table.next_id()?, 4, "its numbers are not given again");
    Ok(())
}
