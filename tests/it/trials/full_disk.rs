//! A disk with a few KiB left: deletes, cuts, compaction and opening go on, before and after a crash.

use std::sync::Arc;

use tierce_engine::{Durability, Engine, Error, Health, Options, PutOptions, io::Disk};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    recorder::RecordingDisk,
    store::{STORE, soundness},
};

use crate::limits::{Limited, name, value};

/// Bytes that are free when it counts.
const LITTLE: u64 = 24 << 10;

fn options(options: Options) -> Options {
    options.segment_bytes(512 << 10)
}

/// Writes until the disk, which has so much more, takes no more; says what was acknowledged.
fn fill(store: &Limited, bytes: usize) -> u64 {
    let mut key = 0;
    let options = PutOptions::new().scope("all");
    while store.engine().put_with(name(key), value(key, 0, bytes), &options).is_ok() {
        key += 1;
        assert!(key < 10_000, "it is never full");
    }
    key
}

#[track_caller]
fn assert_all(engine: &Engine, keys: std::ops::Range<u64>, bytes: usize) {
    for key in keys {
        let read = engine.get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key, 0, bytes)[..]), "{key}");
    }
}

/// Deletes, cuts, compacts, and writes again.
#[track_caller]
fn empty(engine: &Engine, keys: u64) {
    for key in 0..keys.min(30) {
        assert!(engine.delete(name(key)).unwrap(), "{key} of {keys}");
    }
    engine.cut_scope("all").unwrap();
    engine.compact().unwrap();
    engine.put("again", "fits").unwrap();
    assert_eq!(engine.health(), Health::Good);
}

/// Goal: a store that a full disk stopped goes on with a few KiB, with `try_recover` and by itself, though its unsealed
/// segment is far larger than that; so does one that is opened after a crash. Records of several lengths, so that
/// there is room for the footer, and not.
#[test]
fn a_few_kib_are_enough() {
    for bytes in [20, 700, 60_000] {
        for is_crash in [false, true] {
            let mut store = Limited::new(options);
            store.engine().put("first", "v").unwrap();
            store.disk.set_capacity(Some(store.disk.total() + (300 << 10)));
            let keys = fill(&store, bytes);
            assert!(keys > 3, "{keys}");
            store.disk.set_capacity(Some(store.disk.total() + LITTLE));
            let capacity = store.disk.total() + LITTLE;
            if is_crash {
                let dead = store.disk.copy();
                dead.set_capacity(Some(capacity));
                store.disk = dead;
                store.options = store.options.clone().disk(store.disk.clone());
                let engine = store.options.clone().open(STORE).unwrap();
                assert_eq!(engine.health(), Health::Good, "{bytes}");
                assert_all(&engine, 0..keys, bytes);
                empty(&engine, keys);
                engine.close().unwrap();
            } else {
                assert_all(store.engine(), 0..keys, bytes);
                if bytes == 700 {
                    store.clock.advance(2_000);
                    store.settle();
                } else {
                    store.engine().try_recover().unwrap();
                }
                assert_eq!(store.engine().health(), Health::Good, "{bytes}");
                assert_all(store.engine(), 0..keys, bytes);
                empty(store.engine(), keys);
                store.close();
            }
            assert!(store.disk.total() <= capacity);
            store.check_files();
            let engine = store.options.clone().open(STORE).unwrap();
            assert_eq!(engine.get("again").unwrap().as_deref(), Some(&b"fits"[..]));
            assert!(!engine.contains_key(name(1)).unwrap());
        }
    }
}

/// Goal: a power cut at any effect of opening on a full disk takes nothing that was on the device.
#[test]
fn a_power_cut_while_a_segment_is_sealed_in_place() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let of = |disk: Arc<dyn Disk>| {
        let mut options = options(Options::new()).background(false).clock(clock.clone());
        options.disk = disk;
        options
    };
    let engine = of(Arc::new(disk.clone())).open(STORE).unwrap();
    let sync = PutOptions::new().durability(Durability::Sync);
    for key in 0..40 {
        engine.put_with(name(key), value(key, 0, 3_000), &sync).unwrap();
    }
    let mut batch = tierce_engine::Batch::new();
    batch.put("one", "1").put("two", "2").durability(Durability::Sync);
    engine.commit(batch).unwrap();
    let crashed = disk.image();
    for little in [6_000, 9_000, LITTLE] {
        let disk = RecordingDisk::with_image(&crashed);
        disk.set_capacity(Some(disk.used() + little));
        let opened = of(Arc::new(disk.clone())).open(STORE).unwrap();
        assert_all(&opened, 0..40, 3_000);
        let log = disk.log();
        for point in 0..=log.events.len() {
            for plan in [CrashPlan::Nothing, CrashPlan::Everything] {
                let left: Arc<dyn Disk> = Arc::new(image(&log, point, &plan).memory_disk());
                let again = of(Arc::clone(&left)).open(STORE).unwrap();
                assert_all(&again, 0..40, 3_000);
                assert!(again.contains_key("one").unwrap() && again.contains_key("two").unwrap());
                again.close().unwrap();
                soundness(&left, STORE.as_ref()).unwrap();
            }
        }
    }
}

/// Goal: compaction of a store that is half dead wins with whatever room there is, and ends; what is to stay free stays
/// so.
#[test]
fn compaction_with_little_room() {
    for (extra, min_free) in [(200 << 10, 0), (300 << 10, 0)] {
        let mut store =
            Limited::new(|options| options.segment_bytes(16 << 10).min_free_bytes(min_free));
        store.engine().pause_compaction();
        for key in 0..1_500 {
            store.engine().put(name(key), value(key, 0, 700)).unwrap();
        }
        for key in (0..1_500).filter(|key| key % 7 < 4) {
            assert!(store.engine().delete(name(key)).unwrap());
        }
        store.engine().resume_compaction();
        let before = store.disk.total();
        let capacity = before + extra;
        store.disk.set_capacity(Some(capacity));
        store.disk.forget_peak();
        let report = store.engine().compact().unwrap();
        store.disk.assert_peak(capacity - min_free, "what is to stay free");
        let won = before - store.disk.total();
        assert!(won > before / 3, "{extra}: {won} of {before}: {report:?}");
        store.disk.set_capacity(None);
        store.reopen();
        for key in (0..1_500).filter(|key| key % 7 >= 4) {
            assert!(store.engine().contains_key(name(key)).unwrap(), "{key}");
        }
    }
}

/// Bytes that are free on the full disk.
const SPARES: [u64; 6] = [0, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 20 << 10];

/// Goal: with so many bytes to spare, or none, a store on a full disk opens, is read, deletes, cuts, compacts and then
/// takes writes again, before and after a crash; what is refused meanwhile says that there is no room, and the store
/// keeps to the room that there is.
#[test]
fn any_spare_is_enough() {
    for spare in SPARES {
        for (bytes, is_crash) in [(20, true), (700, false), (700, true), (60_000, true)] {
            let what = format!("{spare} bytes to spare, values of {bytes}, crash: {is_crash}");
            let mut store =
                Limited::new(|options| options.segment_bytes(256 << 10).durability(Durability::Os));
            store.engine().put("first", "v").unwrap();
            store.disk.set_capacity(Some(store.disk.total() + (300 << 10)));
            let keys = fill(&store, bytes);
            let capacity = store.disk.total() + spare;
            store.disk.set_capacity(Some(capacity));
            if is_crash {
                store.disk = store.disk.copy();
                store.disk.set_capacity(Some(capacity));
                store.options = store.options.clone().disk(store.disk.clone());
                let engine = store.options.clone().open(STORE).unwrap();
                assert_eq!(engine.health(), Health::Good, "{what}");
                assert_all(&engine, 0..keys, bytes);
                assert!(engine.put("large", vec![1; 40_000]).is_err(), "{what}");
                if engine.health() != Health::Good {
                    engine.try_recover().unwrap();
                }
                empty(&engine, keys);
                engine.close().unwrap();
            } else {
                store.clock.advance(2_000);
                store.settle();
                assert_all(store.engine(), 0..keys, bytes);
                empty(store.engine(), keys);
                store.close();
            }
            assert!(store.disk.total() <= capacity, "{what}");
            store.check_files();
            let engine = store.options.clone().open(STORE).unwrap();
            assert_eq!(engine.get("again").unwrap().as_deref(), Some(&b"fits"[..]), "{what}");
            assert!(!engine.contains_key(name(1)).unwrap(), "{what}");
        }
    }
}

/// Goal: a disk that others fill up to the last byte while the store is open stops no delete, and no small put stops
/// the store: puts are refused with the numbers until there is room, and then go on by themselves.
#[test]
fn others_fill_the_disk() {
    for durability in [Durability::Os, Durability::Sync, Durability::Buffered, Durability::Periodic]
    {
        let store = Limited::new(|options| {
            options.segment_bytes(64 << 10).durability(durability).periodic_ms(500)
        });
        let engine = store.engine();
        store.disk.set_capacity(Some(1 << 20));
        for key in 0..100 {
            engine.put(name(key), value(key, 0, 900)).unwrap();
        }
        engine.sync().unwrap();
        store.disk.set_capacity(Some(store.disk.total()));
        for key in 0..60 {
            assert!(engine.delete(name(key)).unwrap(), "{durability:?}: {key}");
        }
        engine.sync().unwrap();
        let refused = (0..40).find_map(|n| engine.put(name(n), value(n, 1, 900)).err());
        assert!(matches!(refused, Some(Error::LowSpace { .. })), "{durability:?}: {refused:?}");
        assert_eq!(engine.health(), Health::Good, "{durability:?}");
        assert!(engine.delete(name(99)).unwrap(), "{durability:?}");
        store.disk.set_capacity(None);
        engine.put(name(99), value(99, 0, 900)).unwrap();
        assert_all(engine, 60..100, 900);
    }
}

/// Goal: compaction of a store that is half dead wins with hardly more to spare than what is alive in one segment: job
/// by job, each no larger than the room there is.
#[test]
fn compaction_with_hardly_any_room() {
    let cases = [(8 << 10, 24), (16 << 10, 20), (16 << 10, 64), (64 << 10, 44), (64 << 10, 64)];
    for (segment, spare) in cases.map(|(segment, kib)| (segment, kib << 10)) {
        let mut store = Limited::new(|options| options.segment_bytes(segment));
        store.engine().pause_compaction();
        for key in 0..2_000 {
            store.engine().put(name(key), value(key, 0, 700)).unwrap();
        }
        for key in (0..2_000).filter(|key| key % 7 < 4) {
            assert!(store.engine().delete(name(key)).unwrap());
        }
        store.engine().sync().unwrap();
        while store.engine().step().unwrap() {}
        let before = store.disk.total();
        store.disk.set_capacity(Some(before + spare));
        let report = store.engine().compact();
        let won = before.saturating_sub(store.disk.total());
        assert!(won > before / 3, "{segment}, {spare}: {won} of {before}: {report:?}");
        store.disk.set_capacity(None);
        store.reopen();
        for key in (0..2_000).filter(|key| key % 7 >= 4) {
            assert!(store.engine().contains_key(name(key)).unwrap(), "{key}");
        }
    }
}
