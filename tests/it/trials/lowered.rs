//! Stores that are opened with smaller limits than they were written under.

use tierce_engine::Evict;

use crate::limits::{Limited, evictable, name, value};

/// Goal: a cache that was written without a limit keeps most of what a limit allows, the newest entries among it, though
/// its segments are larger than all that compaction has in reserve.
#[test]
fn an_unlimited_cache_with_a_limit() {
    const BYTES: usize = 1_000;
    for (keys, limit) in [(4_000, 2 << 20), (1_800, 2 << 20), (4_000, 1 << 20)] {
        let mut store = Limited::new(|options| options.segment_bytes(512 << 10).evict(Evict::Lru));
        for key in 0..keys {
            store.engine().put_with(name(key), value(key, 0, BYTES), &evictable()).unwrap();
        }
        store.close();
        store.options.max_bytes = Some(limit);
        store.reopen();
        for _ in 0..40 {
            store.clock.advance(500);
            store.settle();
        }
        assert!(store.disk.total() <= limit, "{}", store.disk.total());
        let live = store.engine().stats().live_bytes;
        let most = limit.min(keys * BYTES as u64);
        assert!(live > most * 7 / 10, "{live} of {most}");
        for key in keys..keys + 300 {
            store.engine().put_with(name(key), value(key, 0, BYTES), &evictable()).unwrap();
        }
        let live = store.engine().stats().live_bytes;
        assert!(live > most * 7 / 10, "{live} of {most} after more writes");
        let newest =
            (keys - 100..keys).filter(|key| store.engine().contains_key(name(*key)).unwrap());
        assert!(newest.count() > 90);
    }
}

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
