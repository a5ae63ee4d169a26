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

/// Goal: a store that had no limit and is opened with one, a fraction of what it holds, fits as soon as upkeep has run,
/// and is used well then.
#[test]
fn a_limit_where_there_was_none() {
    for (count, bytes, mib) in
        [(3_000, 10_000, 24), (3_000, 10_000, 16), (3_000, 10_000, 8), (100_000, 100, 8)]
    {
        let case = format!("{count} entries of {bytes} bytes, {mib} MiB");
        let mut store = Limited::new(|options| options.segment_bytes(8 << 20));
        for key in 0..count {
            store.engine().put_with(name(key), vec![1; bytes], &evictable()).unwrap();
        }
        store.close();
        store.options.max_bytes = Some(mib << 20);
        store.reopen();
        store.settle();
        let usage = store.engine().usage();
        assert!(usage.used <= usage.total, "{case}: {usage:?}");
        // A third of the small records is overhead, and so are key and head.
        let least = if bytes > 1_000 { 60 } else { 50 };
        assert!(usage.live * 100 / usage.total >= least, "{case}: {usage:?}");
        store.close();
    }
}
