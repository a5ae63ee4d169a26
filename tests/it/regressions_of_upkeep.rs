//! Faults of compaction, limits and eviction that were found once, by what went wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{Batch, Error, Evict, Options, PutOptions, io::MemoryDisk};

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
