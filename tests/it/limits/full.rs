//! A store that may not forget says `Full`, takes deletes, and takes writes again when there is room.

use std::time::{Duration, Instant};

use tierce_engine::{Engine, Error, Evict, PutOptions};

use super::{Limited, evictable, name, value};

const LIMIT: u64 = 512 << 10;
const BYTES: usize = 700;

/// Writes new keys from `first` on until the store is full; says how many it took.
#[track_caller]
fn fill(engine: &Engine, first: u64, options: &PutOptions) -> u64 {
    for key in first..first + 100_000 {
        match engine.put_with(name(key), value(key, 0, BYTES), options) {
            Ok(_) => {}
            Err(Error::Full { what, used, limit }) => {
                assert_eq!((what, limit), ("bytes", LIMIT));
                assert!(used <= limit && used > limit / 2, "{used} of {limit}");
                return key - first;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never full");
}

#[track_caller]
fn assert_all(engine: &Engine, keys: std::ops::Range<u64>) {
    for key in keys {
        let read = engine.get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key, 0, BYTES)[..]), "{key}");
    }
}

/// Goal: a store of state, and one of evictable entries that must not evict, are full at a good part of the limit,
/// have lost nothing, take deletes, and then as many writes again, round after round; nothing is ever too much.
#[test]
fn full_emptied_and_full_again() {
    for (evict, entry) in [(Evict::Lru, PutOptions::new()), (Evict::None, evictable())] {
        let mut store = Limited::new(|options| options.max_bytes(LIMIT).evict(evict));
        let (mut oldest, mut next) = (0, 0);
        for round in 0..6 {
            next += fill(store.engine(), next, &entry);
            assert_all(store.engine(), oldest..next);
            let live = (next - oldest) * BYTES as u64;
            assert!(live > LIMIT / 4, "{evict:?}, round {round}: only {live} of {LIMIT}");
            let half = oldest + (next - oldest) / 2;
            for key in oldest..half {
                assert!(store.engine().delete(name(key)).unwrap(), "{evict:?}, {round}: {key}");
            }
            oldest = half;
            assert_all(store.engine(), oldest..next);
            if round % 2 == 1 {
                store.reopen();
            }
        }
        store.disk.assert_peak(LIMIT, "all rounds");
        assert_eq!(store.engine().stats().evicted, 0);
        assert_all(store.engine(), oldest..next);
    }
}

/// Goal: every single entry of a full store can be deleted, and its files then nearly all go.
#[test]
fn a_full_store_can_be_emptied() {
    let mut store = Limited::new(|options| options.max_bytes(LIMIT));
    let count = fill(store.engine(), 0, &PutOptions::new());
    for key in 0..count {
        assert!(store.engine().delete(name(key)).unwrap(), "{key} of {count}");
    }
    store.settle();
    store.engine().compact().unwrap();
    let left = store.disk.total();
    assert!(left < LIMIT / 4, "{left} bytes of nothing");
    store.reopen();
    assert_eq!(store.engine().stats().entries, 0);
    assert!(fill(store.engine(), 0, &PutOptions::new()) >= count * 9 / 10);
    store.disk.assert_peak(LIMIT, "at the end");
}

/// Goal: with the background thread, a full store from which something was deleted takes writes within a second or
/// two, by itself.
#[test]
fn room_comes_back_by_itself() {
    let store = Limited::new(|options| options.max_bytes(LIMIT).background(true));
    let count = fill(store.engine(), 0, &PutOptions::new());
    for key in 0..count / 2 {
        store.engine().delete(name(key)).unwrap();
    }
    let (start, mut written) = (Instant::now(), 0);
    while written < count / 4 {
        match store.engine().put(name(10_000 + written), value(1, 1, BYTES)) {
            Ok(()) => written += 1,
            Err(Error::Full { .. }) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{written} of {count} writes");
    }
    assert_all(store.engine(), count / 2..count);
    store.disk.assert_peak(LIMIT, "at the end");
}

/// Goal: state stays when evictable entries are written beside it up to the limit, which then go for it.
#[test]
fn state_beside_evictable_entries() {
    let mut store = Limited::new(|options| options.max_bytes(LIMIT));
    for key in 0..100 {
        store.engine().put(name(key), value(key, 0, BYTES)).unwrap();
        store.engine().put_with(name(5_000 + key), value(key, 1, BYTES), &evictable()).unwrap();
    }
    for key in 0..3_000 {
        store.engine().put_with(name(6_000 + key), value(key, 1, BYTES), &evictable()).unwrap();
    }
    assert_all(store.engine(), 0..100);
    store.reopen();
    assert_all(store.engine(), 0..100);
    let more = fill(store.engine(), 100, &PutOptions::new());
    assert_all(store.engine(), 0..100 + more);
    assert!(more > 100, "evictable entries go for state: {more}");
    store.disk.assert_peak(LIMIT, "at the end");
}

/// Goal: a store whose state alone is more than the limit opens, reads everything, refuses to write, and can be
/// emptied until it takes writes again.
#[test]
fn opened_with_more_than_the_limit() {
    let mut store = Limited::new(|options| options);
    for key in 0..2_000 {
        store.engine().put(name(key), value(key, 0, BYTES)).unwrap();
    }
    store.options.max_bytes = Some(LIMIT);
    store.reopen();
    assert_all(store.engine(), 0..2_000);
    let refused = store.engine().put("more", value(9, 9, BYTES));
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    for key in 0..1_900 {
        assert!(store.engine().delete(name(key)).unwrap(), "{key}");
    }
    for _ in 0..1_000 {
        store.clock.advance(50);
        if store.engine().put("more", value(9, 9, BYTES)).is_ok() {
            break;
        }
        let _ = store.engine().step().unwrap();
    }
    store.engine().put("more", value(9, 9, BYTES)).unwrap();
    assert_all(store.engine(), 1_900..2_000);
    assert!(store.disk.total() <= LIMIT, "{}", store.disk.total());
    store.disk.forget_peak();
    fill(store.engine(), 20_000, &PutOptions::new());
    store.reopen();
    assert_all(store.engine(), 1_900..2_000);
    store.disk.assert_peak(LIMIT, "once it fits");
}
