//! The typed face of a reader beside a writer.

use std::sync::Arc;

use tierce::{Error, Options, Store, engine};

fn is_refused<T>(done: Result<T, Error>) -> bool {
    matches!(done, Err(Error::Engine(engine::Error::ReadOnly)))
}

/// Goal: what a writer did is read with its types, lifetimes and tags after a refresh, and not before; spaces that are
/// not there are not made; every write is refused and nothing in the directory changes.
#[test]
fn reads_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = Store::open(&path).unwrap();
    let cache = writer.cache::<String, u32>("weather").unwrap();
    cache.insert("berlin", &7).unwrap();
    let motions = writer.counter("motions").unwrap();
    motions.add(3).unwrap();
    let reader = Arc::new(Options::new().open_reader(&path).unwrap());
    let store = Store::from(Arc::clone(&reader));
    let read = store.cache::<String, u32>("weather").unwrap();
    assert_eq!(read.get("berlin").unwrap(), Some(7));
    assert_eq!(store.counter("motions").unwrap().get().unwrap(), 3);
    assert_eq!(store.spaces().unwrap(), writer.spaces().unwrap());
    cache.insert("berlin", &8).unwrap();
    cache.insert("oslo", &1).unwrap();
    assert_eq!(read.get("berlin").unwrap(), Some(7));
    assert!(reader.refresh().unwrap());
    assert_eq!(read.get("berlin").unwrap(), Some(8));
    assert_eq!(read.len().unwrap(), 2);
    assert!(is_refused(read.insert("paris", &1)));
    assert!(is_refused(read.remove("berlin")));
    assert!(is_refused(read.clear()));
    assert!(store.map::<u32, u32>("not there").is_err());
    assert!(store.cache::<u64, u32>("weather").is_err(), "another type of key");
    cache.clear().unwrap();
    reader.refresh().unwrap();
    assert_eq!(read.get("berlin").unwrap(), None);
    store.close().unwrap();
    assert_eq!(writer.spaces().unwrap().len(), 2);
}
