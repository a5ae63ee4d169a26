//! Stores that are opened with smaller limits than they were written under.

use crate::limits::{Limited, evictable, name};

/// Goal: a lower limit on entries holds soon after opening, by the background alone.
#[test]
fn fewer_entries_after_opening() {
    let mut store = Limited::new(|options| options);
    for key in 0..1_000 {
        store.engine().put_with(name(key), "v", &evictable()).unwrap();
    }
    store.close();
    store.options.max_entries = Some(100);
    store.reopen();
    store.settle();
    assert_eq!(store.engine().stats().entries, 100);
}
