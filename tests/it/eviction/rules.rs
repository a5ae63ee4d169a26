//! State stays, what has expired goes before what lives, and the journal tells what went and why.

use tierce_engine::{Cause, Evict, PutOptions, Timestamp};

use super::{put, store_of, there};
use crate::limits::{Limited, evictable, name, value};

const POLICIES: [Evict; 3] = [Evict::Lru, Evict::S3Fifo, Evict::Fifo];

/// Goal: state is never evicted, under no policy, however old it is and however much is written beside it, and
/// whether an entry is state is known after a restart, after compaction, and after the last write of a key changed it.
#[test]
fn state_stays() {
    for evict in POLICIES {
        let mut store = Limited::new(|options| {
            options.max_entries(300).max_bytes(1 << 20).max_live_bytes(200_000).evict(evict)
        });
        for key in 0..50 {
            store.engine().put(name(key), value(key, 0, 300)).unwrap();
        }
        for key in 50..60 {
            put(store.engine(), key);
            store.engine().put(name(key), value(key, 0, 300)).unwrap();
            store.engine().put(name(key + 100), "state").unwrap();
            put(store.engine(), key + 100);
        }
        for round in 0..4 {
            for key in 1_000..2_500 {
                let bytes = (key as usize * 17) % 900;
                store.engine().put_with(name(key), value(key, round, bytes), &evictable()).unwrap();
            }
            assert_eq!(there(store.engine(), 0..60).len(), 60, "{evict:?}, round {round}");
            assert_eq!(there(store.engine(), 150..160), [0; 0], "{evict:?}: made evictable");
            if round == 1 {
                store.engine().compact().unwrap();
            }
            store.reopen();
        }
        assert!(store.engine().shrink_to(0).unwrap() > 0);
        assert_eq!(store.engine().stats().entries, 60, "{evict:?}");
        for key in 0..60 {
            let read = store.engine().get(name(key)).unwrap();
            assert_eq!(read.as_deref(), Some(&value(key, 0, 300)[..]));
        }
    }
}

/// Goal: at a limit on entries or on live bytes an expired entry goes before any that is live, even if it was used
/// last.
#[test]
fn expired_goes_before_live() {
    for evict in POLICIES {
        for by_entries in [true, false] {
            let store = Limited::new(|options| match by_entries {
                true => options.max_entries(100).evict(evict),
                false => options.max_live_bytes(100 * 96).evict(evict),
            });
            let soon = store.engine().now().saturating_add_ms(1_000);
            (0..60).for_each(|key| put(store.engine(), key));
            for key in 60..80 {
                let expiring = evictable().expires_at(soon);
                store.engine().put_with(name(key), key.to_le_bytes(), &expiring).unwrap();
            }
            store.clock.advance(1_000);
            (100..120).for_each(|key| put(store.engine(), key));
            let before = there(store.engine(), 0..60).len();
            assert_eq!(before, 60, "{evict:?}: nothing live goes while there is room");
            (120..140).for_each(|key| put(store.engine(), key));
            let live = there(store.engine(), 0..60).len();
            assert_eq!(live, 60, "{evict:?}, by entries {by_entries}: 20 expired were there to go");
        }
    }
}

/// Goal: at the limit of bytes, too, what has expired goes and what lives stays.
#[test]
fn expired_goes_before_live_at_the_limit_of_bytes() {
    let store = Limited::new(|options| options.max_bytes(2 << 20).segment_bytes(64 << 10));
    let soon = store.engine().now().saturating_add_ms(60_000);
    let expiring = evictable().expires_at(soon);
    for key in 0..700 {
        store.engine().put_with(name(key), value(key, 0, 1_000), &evictable()).unwrap();
        let beside = name(10_000 + key);
        store.engine().put_with(beside, value(key, 1, 1_000), &expiring).unwrap();
    }
    let before = there(store.engine(), 0..700).len();
    assert_eq!(before, 700, "all of them fit");
    store.clock.advance(60_000);
    for key in 20_000..20_500 {
        store.engine().put_with(name(key), value(key, 0, 1_000), &evictable()).unwrap();
    }
    assert_eq!(there(store.engine(), 0..700).len(), 700, "live ones went while expired ones stood");
    store.disk.assert_peak(2 << 20, "at the end");
}

/// Goal: the journal has what was evicted, newest last, with its cause and size, and answers by key.
#[test]
fn the_journal_tells() {
    let mut store = store_of(100, Evict::Lru);
    for key in 0..100 {
        store.engine().put_with(name(key), vec![7; 200], &evictable()).unwrap();
    }
    assert_eq!(store.engine().evictions().len(), 0);
    store.clock.advance(5_000);
    (100..110).for_each(|key| put(store.engine(), key));
    let evictions = store.engine().evictions();
    assert_eq!((evictions.len(), store.engine().stats().evicted), (10, 10));
    for key in 0..10 {
        let eviction = store.engine().eviction_of(name(key)).unwrap();
        assert_eq!((eviction.cause, eviction.at), (Cause::Capacity, store.engine().now()));
        assert!((200..300).contains(&eviction.bytes), "{eviction:?}");
        assert_eq!(evictions[key as usize].hash, eviction.hash, "in order");
    }
    assert_eq!(store.engine().eviction_of(name(50)), None);
    let soon = Timestamp(store.engine().now().0 + 10);
    for key in 200..210 {
        store.engine().put_with(name(key), "x", &evictable().expires_at(soon)).unwrap();
    }
    store.clock.advance(10);
    let swept = store.engine().sweep(None).unwrap();
    let stats = store.engine().stats();
    assert_eq!((swept.entries, stats.expired, stats.evicted), (10, 10, 20));
    assert_eq!(store.engine().eviction_of(name(205)).unwrap().cause, Cause::Expired);
    (0..3_000).for_each(|key| put(store.engine(), 10_000 + key));
    assert_eq!(store.engine().evictions().len(), 1_024);
    store.close();
}

/// Goal: the age in the journal is that of the policy: an entry not used for a whole capacity has about 1,024.
#[test]
fn the_journal_knows_ages() {
    let store = store_of(4_096, Evict::Lru);
    (0..4_096).for_each(|key| put(store.engine(), key));
    (4_096..4_200).for_each(|key| put(store.engine(), key));
    let eviction = store.engine().eviction_of(name(0)).unwrap();
    let age = eviction.age.unwrap();
    assert!((900..=1_100).contains(&age), "{age}");
}

/// Goal: entries of a cut scope are counted when they are removed, and are not evictions.
#[test]
fn cut_entries_are_counted() {
    let store = store_of(1_000, Evict::Lru);
    for key in 0..100 {
        let options = PutOptions::new().scope("s").evictable(true);
        store.engine().put_with(name(key), value(key, 0, 500), &options).unwrap();
    }
    store.engine().cut_scope("s").unwrap();
    store.engine().compact().unwrap();
    let stats = store.engine().stats();
    assert!(stats.cut > 50 && stats.evicted == 0, "{stats:?}");
    assert_eq!(there(store.engine(), 0..100), [0; 0]);
}
