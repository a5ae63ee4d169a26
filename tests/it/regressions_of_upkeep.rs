//! Faults of compaction, limits and eviction that were found once, by what went wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{
    Batch, Change, Durability, Engine, Error, Evict, Options, PutOptions, io::MemoryDisk,
};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    recorder::RecordingDisk,
    store::{STORE, Setup},
};

fn options() -> Options {
    Options::new().disk(MemoryDisk::new()).background(false).segment_bytes(8 << 10)
}

/// Goal: a checkpoint beside writers that wait in the queue does not wait for itself.
/// Method: one thread checkpoints in a loop while another submits what fills a segment every few records.
#[test]
fn a_checkpoint_does_not_wait_for_itself() {
    let engine = options().open("store").unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let checkpoints = {
        let (engine, stop, done) = (engine.clone(), Arc::clone(&stop), Arc::clone(&done));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                engine.checkpoint().unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let end = Instant::now() + Duration::from_millis(1_500);
    let mut key = 0_u32;
    while Instant::now() < end {
        drop(engine.submit((key % 50).to_le_bytes(), vec![0; 1_000], &PutOptions::new()).unwrap());
        key += 1;
    }
    let before = done.load(Ordering::Relaxed);
    let patience = Instant::now() + Duration::from_secs(20);
    while done.load(Ordering::Relaxed) <= before + 1 && Instant::now() < patience {
        engine.put("k", "v").unwrap();
    }
    assert!(done.load(Ordering::Relaxed) > before + 1, "stuck after {before} checkpoints");
    stop.store(true, Ordering::Relaxed);
    checkpoints.join().unwrap();
}

/// Goal: what a batch itself replaces is no room that an eviction could make.
#[test]
fn what_a_batch_replaces_is_no_room() {
    let engine = options().max_entries(10).evict(Evict::Lru).open("store").unwrap();
    (0..9).for_each(|key| engine.put(format!("state-{key}"), "x").unwrap());
    engine.put_with("e", "x", &PutOptions::new().evictable(true)).unwrap();
    let mut batch = Batch::new();
    batch.put("e", "state now").put("n", "state too");
    assert!(matches!(
        engine.commit(batch),
        Err(Error::Full { what: "entries", used: 10, limit: 10 })
    ));
    assert_eq!(engine.stats().entries, 10);
}

/// Goal: what a batch deletes is room for what it puts.
#[test]
fn what_a_batch_deletes_is_room() {
    let engine = options().max_entries(1).open("store").unwrap();
    engine.put("a", "1").unwrap();
    let mut batch = Batch::new();
    batch.delete("a").put("b", "2");
    engine.commit(batch).unwrap();
    assert_eq!(engine.stats().entries, 1);
}

/// Goal: a touch that was folded into its record does not falsify what is counted as live.
#[test]
fn a_folded_touch_keeps_the_accounts() {
    let disk = MemoryDisk::new();
    let open = || options().disk(disk.clone()).open("store").unwrap();
    let engine = open();
    let later = engine.now().saturating_add_ms(3_600_000);
    for key in 0..100 {
        engine.put(format!("plain-{key:03}"), "0123456789").unwrap();
        let put = PutOptions::new().expires_at(later);
        engine.put_with(format!("touch-{key:03}"), "0123456789", &put).unwrap();
        assert!(engine.touch(format!("touch-{key:03}"), Some(later.saturating_add_ms(5))).unwrap());
    }
    let plain = engine.stats().live_bytes;
    engine.close().unwrap();
    let engine = open();
    let ids: Vec<_> = (1..200).map(tierce_engine::SegmentId).collect();
    engine.compact_with(Some(&ids), |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(engine.stats().live_bytes > plain, "the touches stand in the records now");
    (0..100).for_each(|key| assert!(engine.delete(format!("touch-{key:03}")).unwrap()));
    let left = engine.stats();
    engine.close().unwrap();
    let engine = open();
    let counted = engine.stats();
    assert_eq!((left.entries, left.live_bytes), (100, counted.live_bytes));
    assert!(left.live_bytes * 2 < plain, "those that are left have no expiry, and are shorter");
}

/// Goal: opening after a crash stays within the limit too, a large record included.
#[test]
fn recovery_stays_within_the_limit() {
    const LIMIT: u64 = 512 << 10;
    let disk = MemoryDisk::new();
    let engine = options().disk(disk.clone()).max_bytes(LIMIT).open("store").unwrap();
    let put = PutOptions::new().durability(tierce_engine::Durability::Sync);
    let largest = (1..50)
        .rev()
        .map(|tenth| tenth * (10 << 10))
        .find(|bytes| engine.put_with("k", vec![7; *bytes], &put).is_ok())
        .unwrap();
    assert!(largest >= 128 << 10, "{largest} is little for {LIMIT}");
    assert!(2 * largest as u64 <= LIMIT, "recovery writes {largest} again beside the old file");
    let engine = options()
        .disk(MemoryDisk::with_files(disk.files()))
        .max_bytes(LIMIT)
        .open("store")
        .unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap().len(), largest);
    assert!(engine.usage().used <= LIMIT);
}

/// How an entry that has expired is deleted.
#[derive(Clone, Copy, Debug)]
enum Way {
    Alone,
    InABatch,
    ByUpdate,
}

/// Deletes an entry that has expired, or was swept, and crashes so that no more is left than the delete promised. The
/// clock is a year back when the store opens again. Says whether the entry is there.
fn comes_back(put: Durability, delete: Durability, sweeps: bool, way: Way) -> bool {
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;
    let (disk, clock, setup) = (RecordingDisk::new(), TestClock::new(), Setup::new(delete));
    let engine = setup.options(Arc::new(disk.clone()), &clock).open(STORE).unwrap();
    // The segment is there before the expiry, and not all dead: to begin or to seal one puts the time on record.
    let first = PutOptions::new().durability(Durability::Sync);
    engine.put_with("stays", vec![1; 500], &first).unwrap();
    let at = engine.now().saturating_add_ms(50);
    engine.put_with("k", "v", &PutOptions::new().expires_at(at).durability(put)).unwrap();
    clock.advance(100);
    if sweeps {
        engine.sweep(None).unwrap();
    }
    assert!(!delete_absent(&engine, delete, way), "it has expired");
    let left = match delete {
        Durability::Sync => CrashPlan::Nothing,
        Durability::Os => CrashPlan::Everything,
        Durability::Buffered | Durability::Periodic => {
            engine.sync().unwrap();
            CrashPlan::Nothing
        }
    };
    let log = disk.log();
    let disk = image(&log, log.events.len(), &left).memory_disk();
    let clock = TestClock::at(clock.time());
    clock.jump_wall(-YEAR_MS);
    clock.reboot();
    let engine = setup.options(Arc::new(disk), &clock).open(STORE).unwrap();
    assert!(engine.get("stays").unwrap().is_some(), "it was synced");
    engine.get("k").unwrap().is_some()
}

fn delete_absent(engine: &Engine, durability: Durability, way: Way) -> bool {
    match way {
        Way::Alone => engine.delete_with("k", durability).unwrap(),
        Way::InABatch => {
            let mut batch = Batch::new();
            batch.delete("k").durability(durability);
            engine.commit(batch).unwrap();
            false
        }
        Way::ByUpdate => engine.update("k", |_| Change::Delete).unwrap().is_some(),
    }
}

/// Goal: an entry that had expired when it was deleted stays absent, whatever the clock says after a crash.
/// Method: every durability of the put and of the delete, swept before or not, deleted in every way.
#[test]
fn a_deleted_entry_that_had_expired_stays_gone() {
    const ALL: [Durability; 4] =
        [Durability::Sync, Durability::Os, Durability::Buffered, Durability::Periodic];
    for (put, delete) in ALL.into_iter().flat_map(|put| ALL.map(|delete| (put, delete))) {
        for sweeps in [false, true] {
            for way in [Way::Alone, Way::InABatch, Way::ByUpdate] {
                assert!(
                    !comes_back(put, delete, sweeps, way),
                    "put {put:?}, delete {delete:?}, swept {sweeps}, {way:?}"
                );
            }
        }
    }
}
