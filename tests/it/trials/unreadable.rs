//! Records that cannot be read, and everything beside them: one bad block holds up no other entry, no upkeep and no
//! write of another key.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tierce_engine::{
    Durability, Engine, Error, Evict, Options, PutOptions, ReadMode, Timestamp,
    io::{Access, Disk, MemoryDisk},
};
use tierce_kit::{bad_blocks::BadBlocks, clock::TestClock};

use crate::basics::hooks::{Call, HookedDisk};

const BLOCK_BYTES: u64 = 4096;

fn options(disk: &Arc<dyn Disk>) -> Options {
    let mut options = Options::new().segment_bytes(32 << 10);
    options.disk = Arc::clone(disk);
    options.background(false).read_mode(ReadMode::Positioned)
}

fn segments(memory: &MemoryDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "seg");
    memory.files().into_keys().filter(is_segment).collect()
}

/// A disk on which the records of one segment cannot be read: the one that `memory` has as number `at`.
fn broken(memory: &MemoryDisk, at: usize) -> (BadBlocks, PathBuf) {
    let bad = BadBlocks::new(memory.clone());
    let path = segments(memory).remove(at);
    break_at(&bad, &path);
    (bad, path)
}

fn break_at(bad: &BadBlocks, path: &Path) {
    bad.break_at(path, BLOCK_BYTES..5 * BLOCK_BYTES);
}

fn key(number: u16) -> Vec<u8> {
    format!("key-{number:03}").into_bytes()
}

/// Goal: compaction leaves a segment that the device cannot read where it is, names it, and does all other work.
#[test]
fn compaction_goes_round_them() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    {
        let engine = options(&disk).open("store").unwrap();
        (0..200).for_each(|number| engine.put(key(number), vec![1; 900]).unwrap());
        engine.close().unwrap();
    }
    let (bad, path) = broken(&memory, 1);
    let disk: Arc<dyn Disk> = Arc::new(bad);
    let engine = options(&disk).open("store").unwrap();
    // Of each segment two of three are garbage, of the broken one too.
    let gone: Vec<_> = (0..200).filter(|number| number % 3 > 0).collect();
    for number in &gone {
        let _ = engine.delete(key(*number));
    }
    engine.sync().unwrap();
    let report = engine.compact().unwrap();
    assert_eq!(report.unreadable.len(), 1, "{report:?}");
    assert_eq!(report.unreadable[0].file, path);
    assert!(report.jobs > 0 && report.bytes_reclaimed > 50_000, "{report:?}");
    let served = (0..200).filter(|number| {
        let found = engine.get(key(*number));
        assert!(number % 3 > 0 || !matches!(found, Ok(None)), "{number} is lost");
        matches!(found, Ok(Some(_)))
    });
    assert!(served.count() > 50);
}

/// Goal: entries that have expired are removed wherever they can be read.
#[test]
fn a_sweep_goes_round_them() {
    let (memory, clock) = (MemoryDisk::new(), TestClock::new());
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let put = |engine: &Engine| {
        for number in 0..200_u16 {
            let lifetime = if number % 2 == 0 { 60_000 } else { 3_600_000 };
            let until = Timestamp(engine.now().0 + lifetime);
            let options = PutOptions::new().expires_at(until);
            engine.put_with(key(number), vec![1; 900], &options).unwrap();
        }
    };
    {
        let engine = options(&disk).clock(clock.clone()).open("store").unwrap();
        put(&engine);
        engine.close().unwrap();
    }
    let bad = broken(&memory, 1).0;
    let disk: Arc<dyn Disk> = Arc::new(bad.clone());
    let engine = options(&disk).clock(clock.clone()).open("store").unwrap();
    clock.advance(120_000);
    let swept = engine.sweep(None).unwrap();
    assert!((75..100).contains(&swept.entries), "{swept:?}");
    // What stands on the block is no failure of the next one, and is looked at again after five minutes.
    clock.advance(120_000);
    assert_eq!(engine.sweep(None).unwrap().entries, 0);
    bad.heal();
    clock.advance(300_000);
    assert_eq!(engine.sweep(None).unwrap().entries, 100 - swept.entries);
}

/// Goal: a store at its limit goes on being written to: what can be read is made room of.
#[test]
fn the_limit_is_kept_beside_them() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let limit = 1 << 20;
    {
        let engine = options(&disk).max_bytes(limit).open("store").unwrap();
        (0..200).for_each(|number| engine.put(key(number), vec![1; 900]).unwrap());
        engine.close().unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(broken(&memory, 1).0);
    let engine = options(&disk).max_bytes(limit).open("store").unwrap();
    let mut failed = 0;
    for round in 0..20_u8 {
        for number in 0..200 {
            match engine.put(key(number), vec![round; 900]) {
                Ok(()) => {}
                // Its older record is one of those on the block.
                Err(error) if number < 80 && matches!(error, Error::Io { .. }) => failed += 1,
                Err(error) => panic!("round {round}, key {number}: {error}"),
            }
        }
    }
    assert!(failed < 20 * 40, "{failed}");
}

/// Goal: a write that is staged over a record that cannot be read keeps no write of another key from being made, near
/// a limit either.
#[test]
fn staged_beside_one_near_a_limit() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    {
        let engine = options(&disk).open("store").unwrap();
        (0..10).for_each(|number| engine.put(key(number), "old").unwrap());
        engine.close().unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(broken(&memory, 0).0);
    let mode = Durability::Periodic;
    let engine = options(&disk).max_entries(20).durability(mode).open("store").unwrap();
    engine.put(key(0), "new").unwrap();
    for number in 10..20 {
        engine.put(key(number), "new").unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    for number in 10..20 {
        assert_eq!(engine.get(key(number)).unwrap().as_deref(), Some(&b"new"[..]));
    }
}

/// Goal: a put over a damaged record is written beside it, at a limit as anywhere else: another entry is evicted.
#[test]
fn put_over_a_damaged_record_near_a_limit() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    {
        let engine = options(&disk).open("store").unwrap();
        let put = PutOptions::new().evictable(true);
        for number in 0..10 {
            engine.put_with(key(number), [7; 900], &put).unwrap();
        }
        engine.close().unwrap();
    }
    let path = segments(&memory).remove(0);
    let file = disk.open(&path, Access::Write).unwrap();
    // The key of the first record.
    file.write_at(&[0xff; 100], BLOCK_BYTES).unwrap();
    for limit in [None, Some(11)] {
        let mut with = options(&disk).evict(Evict::Lru);
        with.max_entries = limit;
        let engine = with.open("store").unwrap();
        let damaged: Vec<_> = (0..10).filter(|n| engine.get(key(*n)).is_err()).collect();
        if limit.is_none() {
            assert_eq!(damaged, [0]);
        }
        engine.put(key(10), "more").unwrap();
        if limit.is_some() {
            engine.put(key(0), "new").unwrap_or_else(|error| panic!("{limit:?}: {error}"));
            engine.put(key(1), "new").unwrap();
        }
        engine.close().unwrap();
    }
}

/// Goal: a write that is staged while another one of its key is carried out stays: it came later.
#[test]
fn staged_during_a_write_of_its_key() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    {
        let engine = options(&disk).open("store").unwrap();
        engine.put(key(0), "old").unwrap();
        engine.close().unwrap();
    }
    let engine: Arc<OnceLock<Engine>> = Arc::default();
    let staged = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let periodic = PutOptions::new().durability(Durability::Periodic);
    let (inside, armed, options_inside) =
        (Arc::clone(&engine), Arc::clone(&staged), periodic.clone());
    let hooked = HookedDisk::new(broken(&memory, 0).0, move |call| {
        let is_due = matches!(call, Call::Write(_))
            && !armed.swap(true, std::sync::atomic::Ordering::SeqCst);
        if let (true, Some(engine)) = (is_due, inside.get()) {
            engine.put_with(key(1), "later", &options_inside).unwrap();
        }
    });
    let disk: Arc<dyn Disk> = Arc::new(hooked);
    engine.set(options(&disk).open("store").unwrap()).unwrap();
    let store = engine.get().unwrap();
    store.put("another", "so that a segment is there").unwrap();
    // It cannot be flushed: what was there before cannot be read.
    store.put_with(key(0), "new", &periodic).unwrap();
    staged.store(false, std::sync::atomic::Ordering::SeqCst);
    store.put(key(1), "earlier").unwrap();
    assert!(staged.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(store.get(key(1)).unwrap().as_deref(), Some(&b"later"[..]));
}
