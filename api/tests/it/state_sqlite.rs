//! States in a SQLite file, for who uses its own tools on it, and what becomes of damage.

use std::{fs, path::PathBuf};

use rusqlite::Connection;
use serde_json::json;
use tierce::{
    state::{OnCorrupt, SqliteStore, StateStore as _},
    testing::ManualClock,
};

use crate::state_stores::{names_in, object, one};

#[test]
fn sqlite_is_one_file_for_tools() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/state.db");
    let store = SqliteStore::open(&path).unwrap();
    store.save("sensor", &one(1)).unwrap();
    let reader = Connection::open(&path).unwrap();
    let mode: String = reader.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let value = |reader: &Connection| -> String {
        let query = "SELECT value FROM states WHERE name = 'sensor'";
        reader.query_row(query, [], |row| row.get(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(value(&reader), r#"{"count":1}"#);
    // A reader in the middle of its transaction does not hold up a writer.
    store.save("sensor", &one(2)).unwrap();
    assert_eq!(value(&reader), r#"{"count":1}"#, "and sees one moment");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(value(&reader), r#"{"count":2}"#);
    assert_eq!(format!("{store:?}"), format!("SqliteStore({path:?})"));
}

#[test]
fn a_damaged_sqlite_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = SqliteStore::open_with(&path, OnCorrupt::Quarantine, ManualClock::new()).unwrap();
    store.save("b", &one(2)).unwrap();
    let other = Connection::open(&path).unwrap();
    for bad in ["'{'", "'[]'", "''", "x'ff00'", "5"] {
        let insert = format!("INSERT OR REPLACE INTO states VALUES ('a', {bad})");
        other.execute_batch(&insert).unwrap();
        let strict = SqliteStore::open_with(&path, OnCorrupt::Fail, ManualClock::new());
        assert_eq!(strict.unwrap().load("a").unwrap_err().kind(), "decode", "{bad}");
        assert_eq!(store.load("a").unwrap(), None, "{bad}");
        let damage = store.take_damage();
        assert_eq!((damage.len(), damage[0].name.as_deref()), (1, Some("a")));
    }
    store.save("a", &one(1)).unwrap();
    let kept: u32 = other.query_row("SELECT count(*) FROM corrupt", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 5);
    assert_eq!(store.load("b").unwrap(), Some(one(2)));
    assert_eq!(store.names().unwrap(), ["a", "b"]);
}

/// Goal: a row that is no state, and that nobody loaded, is kept when a save takes its place.
#[test]
fn a_damaged_sqlite_row_that_nobody_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("INSERT INTO states VALUES ('a', '{')").unwrap();
    let strict = SqliteStore::open_with(&path, OnCorrupt::Fail, ManualClock::new()).unwrap();
    assert_eq!(strict.save("a", &one(1)).unwrap_err().kind(), "decode");
    store.save("a", &one(1)).unwrap();
    assert_eq!(store.take_damage()[0].name.as_deref(), Some("a"));
    assert_eq!(store.load("a").unwrap(), Some(one(1)));
    let query = "SELECT value FROM corrupt WHERE name = 'a'";
    let kept: String = other.query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "{", "neither lost nor there twice");
}

/// Goal: a crash while a damaged database and its log are moved aside: neither is the older database opened without
/// its log, nor is the log lost.
/// Method: the files as each crash leaves them, the log with a save that the database does not have yet.
#[test]
fn a_crash_while_a_sqlite_file_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let end = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let store = SqliteStore::open(&path).unwrap();
    store.save("a", &one(1)).unwrap();
    let log = fs::read(end("-wal")).unwrap();
    drop(store);
    // The database went, its log did not.
    fs::rename(&path, end(".corrupt-20231114T221320Z")).unwrap();
    fs::write(end("-wal"), &log).unwrap();
    let strict = SqliteStore::open_with(&path, OnCorrupt::Fail, ManualClock::new());
    assert_eq!(strict.unwrap_err().kind(), "corrupt-file");
    assert_eq!(fs::read(end("-wal")).unwrap(), log, "it is untouched");
    let store = SqliteStore::open_with(&path, OnCorrupt::Quarantine, ManualClock::new()).unwrap();
    let damage = store.take_damage();
    let kept = end(".corrupt-20231114T221320Z-wal");
    assert_eq!(damage[0].kept.as_deref(), kept.to_str(), "beside its database");
    assert_eq!(fs::read(kept).unwrap(), log);
    assert_eq!(store.load("a").unwrap(), None);
    drop(store);
    // One more, for which no database was moved aside: it covers none of the others.
    fs::remove_file(&path).unwrap();
    fs::write(end("-wal"), &log).unwrap();
    let store = SqliteStore::open_with(&path, OnCorrupt::Quarantine, ManualClock::new()).unwrap();
    assert_eq!(fs::read(store.take_damage()[0].kept.as_ref().unwrap()).unwrap(), log);
    assert_eq!(fs::read(end(".corrupt-20231114T221320Z-wal")).unwrap(), log);
}

#[test]
fn a_damaged_sqlite_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    fs::write(&path, "this is no database, and longer than its head is: ".repeat(30)).unwrap();
    let bytes = fs::read(&path).unwrap();
    let strict = SqliteStore::open_with(&path, OnCorrupt::Fail, ManualClock::new());
    assert_eq!(strict.unwrap_err().kind(), "corrupt-file");
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is untouched");
    let store = SqliteStore::open_with(&path, OnCorrupt::Quarantine, ManualClock::new()).unwrap();
    let damage = store.take_damage();
    assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), bytes);
    store.save("a", &one(1)).unwrap();
    drop(store);
    assert_eq!(SqliteStore::open(&path).unwrap().load("a").unwrap(), Some(one(1)));
}

/// Goal: pages that are overwritten in the middle of the file are found when it is opened.
#[test]
fn a_sqlite_file_with_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    for name in 0..200 {
        store.save(&name.to_string(), &object(json!({"text": "x".repeat(200)}))).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 6, "{pages}");
    bytes[3 * 4096..5 * 4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let damage = store.take_damage();
    assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), bytes);
    assert!(store.names().unwrap().is_empty());
}

#[test]
fn an_unreadable_sqlite_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    fs::create_dir(&path).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), "backend");
    assert_eq!(names_in(dir.path()), ["state.db"]);
}
