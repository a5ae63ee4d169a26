//! Readers and writers on many threads while entries go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tierce_engine::{Evict, Options};
use tierce_kit::rng::Rng;

use crate::limits::{evictable, meter::MeteredDisk, name, value};

const BYTES: usize = 400;

/// Goal: with readers and writers on six threads and the background thread, values are whole and their own, both
/// limits hold at every look, nothing fails, and the counters add up at the end.
#[test]
fn many_threads_at_the_limit() {
    const ENTRIES: u64 = 1_500;
    const LIMIT: u64 = 2 << 20;
    for evict in [Evict::Lru, Evict::S3Fifo, Evict::Fifo] {
        let disk = MeteredDisk::new();
        let options = Options::new().max_entries(ENTRIES).max_bytes(LIMIT).evict(evict);
        let engine = options.segment_bytes(16 << 10).disk(disk.clone()).open("s").unwrap();
        let (stop, hits) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for reader in 0..4_u64 {
                let (engine, stop, hits) = (engine.clone(), &stop, &hits);
                scope.spawn(move || {
                    let mut rng = Rng::new(reader);
                    while !stop.load(Ordering::Relaxed) {
                        let key = rng.below(4_000).min(rng.below(4_000));
                        if let Some(read) = engine.get(name(key)).unwrap() {
                            let version = u64::from(read[0]);
                            let mut wanted = value(key, version, BYTES);
                            wanted[0] = version as u8;
                            assert_eq!(&read[..], &wanted[..]);
                            hits.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(engine.stats().entries <= ENTRIES);
                    }
                });
            }
            let writers: Vec<_> = (0..2_u64)
                .map(|writer| {
                    let engine = engine.clone();
                    scope.spawn(move || {
                        let mut rng = Rng::new(100 + writer);
                        for step in 0..6_000_u64 {
                            let (key, version) = (rng.below(4_000), step % 200);
                            let mut value = value(key, version, BYTES);
                            value[0] = version as u8;
                            engine.put_with(name(key), value, &evictable()).unwrap();
                            if rng.one_in(20) {
                                engine.delete(name(rng.below(4_000))).unwrap();
                            }
                        }
                    })
                })
                .collect();
            let ends: Vec<_> =
                writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            stop.store(true, Ordering::Relaxed);
            ends.into_iter().for_each(|end| end.unwrap());
        });
        let (stats, readable) = (engine.stats(), engine.iter().unwrap().count() as u64);
        assert_eq!(stats.entries, readable, "{evict:?}");
        assert!(stats.evicted > 1_000 && hits.load(Ordering::Relaxed) > 100, "{stats:?}");
        assert_eq!(stats.refused, 0);
        disk.assert_peak(LIMIT, "all threads");
        engine.close().unwrap();
    }
}
