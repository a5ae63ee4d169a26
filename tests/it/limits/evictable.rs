//! A store that may forget takes every write that could ever fit, and uses its limit well.

use tierce_engine::{Error, Evict};

use super::{Limited, evictable, name, value};

/// Goal: at the limit every write succeeds and what was just written can be read, under every policy that evicts.
#[test]
fn every_write_succeeds() {
    for evict in [Evict::Lru, Evict::S3Fifo, Evict::Fifo] {
        let store = Limited::new(|options| options.max_bytes(512 << 10).evict(evict));
        for key in 0..4_000 {
            let wanted = value(key, 0, 100 + (key as usize * 91) % 2_000);
            store.engine().put_with(name(key), &wanted, &evictable()).unwrap();
            let read = store.engine().get(name(key)).unwrap();
            assert_eq!(read.as_deref(), Some(&wanted[..]), "{evict:?}: {key}");
        }
        store.disk.assert_peak(512 << 10, "written");
        assert!(store.engine().stats().evicted > 1_000 && store.engine().stats().refused == 0);
    }
}

/// Goal: an entry that is larger than the limit is refused, and nothing is evicted for it, even if asked often.
#[test]
fn too_large_for_the_limit() {
    let store = Limited::new(|options| options.max_bytes(256 << 10));
    for key in 0..500 {
        store.engine().put_with(name(key), value(key, 0, 500), &evictable()).unwrap();
    }
    let before = store.engine().stats();
    for bytes in [256 << 10, 1 << 20, (256 << 10) - 5_000] {
        let refused = store.engine().put_with("large", vec![7; bytes], &evictable());
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{bytes}: {refused:?}");
    }
    let after = store.engine().stats();
    assert_eq!((after.entries, after.evicted), (before.entries, before.evicted));
    assert!(!store.engine().contains_key("large").unwrap());
    store.disk.assert_peak(256 << 10, "refused");
}

/// Goal: large values among small ones: each of them succeeds as long as the limit says it can.
#[test]
fn large_among_small() {
    let store = Limited::new(|options| options.max_bytes(1 << 20));
    for round in 0..40 {
        for key in 0..40 {
            store.engine().put_with(name(key), value(key, round, 600), &evictable()).unwrap();
        }
        let wanted = value(1_000, round, 400_000);
        store.engine().put_with("large", &wanted, &evictable()).unwrap();
        assert_eq!(store.engine().get("large").unwrap().as_deref(), Some(&wanted[..]));
    }
    store.disk.assert_peak(1 << 20, "written");
}

/// Goal: a limit is used: at least 80 % of it holds live records when values are small against it.
#[test]
fn the_limit_is_used_well() {
    const LIMIT: u64 = 64 << 20;
    let store = Limited::new(|options| options.max_bytes(LIMIT).segment_bytes(8 << 20));
    let mut least = u64::MAX;
    for key in 0..(3 * LIMIT / 1024) {
        store.engine().put_with(name(key), value(key, 0, 1024), &evictable()).unwrap();
        if key > 2 * LIMIT / 1024 {
            least = least.min(store.engine().stats().live_bytes);
        }
    }
    store.disk.assert_peak(LIMIT, "written");
    let stats = store.engine().stats();
    assert!(stats.live_bytes >= LIMIT * 80 / 100, "{} live of {LIMIT}", stats.live_bytes);
    assert!(least >= LIMIT * 75 / 100, "once only {least} of {LIMIT}");
}

/// Goal: overwriting a working set that fits evicts nothing of it, however long it goes on.
#[test]
fn overwriting_what_fits_evicts_nothing() {
    const LIMIT: u64 = 8 << 20;
    let store = Limited::new(|options| options.max_bytes(LIMIT).segment_bytes(64 << 10));
    for version in 0..12 {
        for key in 0..4_000 {
            store.engine().put_with(name(key), value(key, version, 1_000), &evictable()).unwrap();
        }
    }
    let stats = store.engine().stats();
    assert_eq!((stats.entries, stats.evicted), (4_000, 0));
    store.disk.assert_peak(LIMIT, "written");
}
