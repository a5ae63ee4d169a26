//! Limits on entries and on live bytes are exact at every moment.

use tierce_engine::{Batch, Engine, Error, Evict, PutOptions};
use tierce_kit::seed::cases;

use super::{Limited, evictable, name, value};

const POLICIES: [Evict; 3] = [Evict::Lru, Evict::S3Fifo, Evict::Fifo];

fn put(store: &Limited, key: u64) {
    store.engine().put_with(name(key), "x", &evictable()).unwrap();
}

/// What can be read, counted by iterating.
fn readable(engine: &Engine) -> u64 {
    engine.iter().unwrap().map(Result::unwrap).count() as u64
}

/// Goal: there are never more entries than the limit, after every put, batch, overwrite, delete and opening, and
/// exactly as many as there may be once there were enough.
#[test]
fn entries_are_exact() {
    cases("limits::counts::entries_are_exact", 6, |seed| {
        let mut rng = tierce_kit::rng::Rng::new(seed);
        let (limit, evict) = (rng.between(1, 200), POLICIES[rng.below(3) as usize]);
        let mut store = Limited::new(|options| options.max_entries(limit).evict(evict));
        for step in 0..1_500 {
            let key = rng.below(limit * 3);
            let before = store.engine().stats().entries;
            match rng.below(20) {
                0 => assert!(store.engine().delete(name(key)).is_ok()),
                1 if limit > 10 => {
                    let mut batch = Batch::new();
                    (0..7).for_each(|more| {
                        batch.put_with(name(key + more), value(key, step, 30), evictable());
                    });
                    store.engine().commit(batch).unwrap();
                }
                2 => assert!(store.engine().get(name(key)).is_ok()),
                3 if step % 10 == 0 => store.reopen(),
                _ => {
                    let is_there = store.engine().contains_key(name(key)).unwrap();
                    let evicted = store.engine().stats().evicted;
                    let put = value(key, step, 30);
                    store.engine().put_with(name(key), &put, &evictable()).unwrap();
                    let gone = store.engine().stats().evicted - evicted;
                    assert!(!is_there || gone == 0, "an overwrite evicted {gone}");
                    assert!(gone <= 1.max(limit / 64), "one put evicted {gone}");
                    assert!(store.engine().contains_key(name(key)).unwrap());
                }
            }
            let entries = store.engine().stats().entries;
            assert!(entries <= limit, "{entries} of {limit} (before: {before})");
            assert_eq!(entries, readable(store.engine()), "{evict:?}, {limit}, step {step}");
        }
        assert!(store.engine().stats().evicted > 0);
    });
}

/// Goal: live bytes never exceed their limit, and overwriting at the limit evicts only what it grows by.
#[test]
fn live_bytes_are_exact() {
    const LIMIT: u64 = 40_000;
    let store = Limited::new(|options| options.max_live_bytes(LIMIT));
    for key in 0..3_000_u64 {
        let bytes = (key as usize * 131) % 900;
        store.engine().put_with(name(key % 150), value(key, 0, bytes), &evictable()).unwrap();
        let live = store.engine().stats().live_bytes;
        assert!(live <= LIMIT, "{live}");
        assert!(key < 500 || live > LIMIT * 8 / 10, "{live}");
    }
    let refused = store.engine().put_with("large", vec![0; LIMIT as usize], &evictable());
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert!(store.engine().stats().live_bytes > LIMIT * 8 / 10, "evicted for what was refused");
}

/// Goal: a batch of more entries than the limit is refused whole and evicts nothing; one of just as many is taken
/// and nothing else is left.
#[test]
fn batches_at_the_limit() {
    let store = Limited::new(|options| options.max_entries(50));
    (0..50).for_each(|key| put(&store, key));
    let batch = |count: u64| {
        let mut batch = Batch::new();
        for key in 100..100 + count {
            batch.put_with(name(key), "y", evictable());
        }
        batch
    };
    let refused = store.engine().commit(batch(51));
    assert!(matches!(refused, Err(Error::Full { what: "entries", .. })), "{refused:?}");
    assert_eq!(readable(store.engine()), 50);
    assert!((0..50).all(|key| store.engine().contains_key(name(key)).unwrap()));
    store.engine().commit(batch(50)).unwrap();
    assert_eq!((readable(store.engine()), store.engine().stats().entries), (50, 50));
    assert!((100..150).all(|key| store.engine().contains_key(name(key)).unwrap()));
}

/// Goal: state is never counted as room: it is refused when evictable entries are used up, and evictable ones are
/// refused when state fills the limit. Overwriting state at the limit works.
#[test]
fn state_is_no_room() {
    let mut store = Limited::new(|options| options.max_entries(10));
    (0..6).for_each(|key| store.engine().put(name(key), "state").unwrap());
    for key in 100..200 {
        store.engine().put_with(name(key), "cache", &evictable()).unwrap();
        assert!(store.engine().stats().entries <= 10);
    }
    (6..10).for_each(|key| store.engine().put(name(key), "state").unwrap());
    for options in [PutOptions::new(), evictable()] {
        let refused = store.engine().put_with("more", "x", &options);
        let Err(Error::Full { what, used, limit }) = refused else { panic!("{refused:?}") };
        assert_eq!((what, used, limit), ("entries", 10, 10));
    }
    store.reopen();
    (0..10).for_each(|key| store.engine().put(name(key), "again").unwrap());
    assert_eq!(readable(store.engine()), 10);
    assert!(store.engine().delete(name(3)).unwrap());
    store.engine().put("more", "x").unwrap();
    assert!(store.engine().put("one too many", "x").is_err());
}

/// Goal: limits set at run time hold from the next write on, down and up.
#[test]
fn moved_at_run_time() {
    let store = Limited::new(|options| options.max_entries(100));
    (0..200).for_each(|key| put(&store, key));
    store.engine().set_max_entries(Some(20));
    put(&store, 200);
    assert_eq!(store.engine().stats().entries, 20);
    store.engine().set_max_entries(Some(60));
    (300..400).for_each(|key| put(&store, key));
    assert_eq!(store.engine().stats().entries, 60);
    store.engine().set_max_entries(None);
    store.engine().set_max_live_bytes(Some(2_000));
    put(&store, 400);
    assert!(store.engine().stats().live_bytes <= 2_000);
    assert!(store.engine().contains_key(name(400)).unwrap());
}
