//! Seed document 003, "SqliteStore": all devices in one SQLite file in WAL mode, which other programs may read while
//! this one writes.

use std::sync::Arc;

use rusqlite::Connection;
use tierce::{
    BoxError,
    state::{SqliteStore, State},
};

fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("data/state.db");
    let store = Arc::new(SqliteStore::open(&path)?);
    let sensor = State::open(store, "sensor")?;
    sensor.set("count", 1)?;
    sensor.save()?;

    let reader = Connection::open(&path)?;
    let mode: String = reader.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    assert_eq!(mode, "wal");
    // A report that reads at leisure does not hold up the next save.
    reader.execute_batch("BEGIN")?;
    let count = || {
        let query = "SELECT value ->> 'count' FROM states WHERE name = 'sensor'";
        reader.query_row(query, [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(count()?, 1);
    sensor.set("count", 2)?;
    sensor.save()?;
    assert_eq!(count()?, 1, "the report sees one moment");
    reader.execute_batch("COMMIT")?;
    assert_eq!(count()?, 2);
    Ok(())
}
