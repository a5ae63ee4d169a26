//! Shows the basic usage of the document on persistent storage (seed 000): a time under `last_run`, a nested map, a
//! membership test, a get with a default, a counter, and deleting a key that may not be there.
//!
//! This is state, which nothing may evict: so it is a map, and not a cache. Each name has its own type.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;

use jiff::Zoned;
use serde::{Deserialize, Serialize};
use tierce::Store;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Preference {
    Text(String),
    Switch(bool),
}

fn run(store: &Store) -> tierce::Result<u32> {
    let times = store.map::<String, Zoned>("app/times")?;
    let preferences = store.map::<String, HashMap<String, Preference>>("app/preferences")?;
    let counts = store.map::<String, u32>("app/counts")?;

    if let Some(last_run) = times.get("last_run")? {
        println!("Last run: {last_run}");
    }
    times.insert("last_run", &Zoned::now())?;
    assert!(times.contains_key("last_run")?);

    let mine = HashMap::from([
        ("theme".to_owned(), Preference::Text("dark".into())),
        ("notifications".to_owned(), Preference::Switch(true)),
    ]);
    preferences.insert("user_preferences", &mine)?;
    assert_eq!(preferences.get("user_preferences")?, Some(mine));

    // Read, add, write as one: two threads cannot count the same number.
    let runs = counts.update("run_count", |old| Some(old.unwrap_or(0) + 1))?;
    counts.remove("old_key")?;
    assert!(!counts.remove("old_key")?, "an absent key is no error");
    Ok(runs.unwrap_or(0))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    for number in 1..=3 {
        let store = Store::open(dir.path())?;
        assert_eq!(run(&store)?, number);
        store.close()?;
    }
    Ok(())
}
