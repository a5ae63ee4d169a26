//! What recovery writes again fits below the limit: after a crash, and after a failure beside a compaction.

use std::{ops::ControlFlow, sync::mpsc, thread, time::Duration};

use tierce_engine::{Durability, Error, Health, PutOptions, SegmentId};
use tierce_kit::{rng::Rng, seed::cases};

use super::{Limited, evictable, name, value};

/// Goal: a store that is full and holds a large record that is not sealed opens after a crash within its limit.
/// Method: full of what may go, then a few large records of any size, a crash after each of them.
#[test]
fn a_large_record_in_a_full_store() {
    cases("limits::again::a_large_record_in_a_full_store", 20, |seed| {
        let mut rng = Rng::new(seed);
        let limit = rng.weighted(&[(1, 256 << 10), (1, 1 << 20), (1, 3 << 20)]);
        let mut store = Limited::new(|options| options.max_bytes(limit));
        for key in 0..limit / 1_000 {
            store.engine().put_with(name(key), value(key, 0, 1_000), &evictable()).unwrap();
        }
        for round in 0..6 {
            let bytes = rng.between(limit / 20, limit / 2) as usize;
            let large = value(1 << 30, round, bytes);
            match store.engine().put_with("large", &large, &evictable()) {
                Ok(_) => {}
                Err(Error::TooLarge { .. }) => continue,
                Err(error) => panic!("{bytes} of {limit}: {error}"),
            }
            store.crash();
            store.disk.assert_peak(limit, "opening after a crash");
            assert_eq!(store.engine().get("large").unwrap().as_deref(), Some(&large[..]));
            assert_eq!(store.engine().health(), Health::Good);
        }
        store.close();
    });
}

/// Goal: recovery from a failed sync beside a compaction that has taken all the room there is stays within the limit,
/// and succeeds.
/// Method: the sync fails and recovery begins in another thread when the outputs have taken most of the room.
#[test]
fn recovery_beside_a_compaction() {
    const LIMIT: u64 = 4 << 20;
    const LARGE: usize = 600_000;
    let store = Limited::new(|options| options.max_bytes(LIMIT).segment_bytes(64 << 10));
    let engine = store.engine();
    let mut keys = 0;
    while engine.usage().used < LIMIT - 2 * LARGE as u64 - (320 << 10) {
        engine.put(name(keys), value(keys, 0, 2_000)).unwrap();
        keys += 1;
    }
    store.settle();
    engine.checkpoint().unwrap();
    let large = value(1 << 30, 0, LARGE);
    engine.put_with("large", &large, &PutOptions::new().durability(Durability::Os)).unwrap();
    let ids: Vec<_> = (0..1_000).map(SegmentId).collect();
    let before = store.disk.total();
    let (recovered, outcome) = mpsc::channel();
    let mut recovery = None;
    let compacted = engine.compact_with(Some(&ids), |_| {
        let outputs = store.disk.total() - before;
        if recovery.is_none() && outputs > LARGE as u64 {
            store.disk.set_broken(true);
            let failing = engine.clone();
            thread::spawn(move || failing.sync()).join().unwrap().unwrap_err();
            store.disk.set_broken(false);
            let (engine, recovered) = (engine.clone(), recovered.clone());
            recovery = Some(thread::spawn(move || recovered.send(engine.try_recover())));
            // It is given the time to do what it must not do now.
            thread::sleep(Duration::from_millis(200));
        }
        ControlFlow::Continue(())
    });
    compacted.unwrap_err();
    recovery.expect("the outputs take some room").join().unwrap().unwrap();
    outcome.recv().unwrap().unwrap();
    store.disk.assert_peak(LIMIT, "recovery beside a compaction");
    assert_eq!(engine.get("large").unwrap().as_deref(), Some(&large[..]));
    for key in 0..keys {
        let read = engine.get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key, 0, 2_000)[..]), "{key}");
    }
    engine.put("more", "fits").unwrap();
}
