//! A seal that fails half-way, batches at the end of a sealed segment, and feeds across a crash.

use std::{ops::ControlFlow, sync::Arc};

use tierce_engine::{
    Batch, Durability, Engine, Health, Options, ReadMode, RecoveryPolicy, SequenceNumber,
    backup::{BackupOptions, back_up},
    check::check_store,
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    fault::{CallKind, EIO, EMFILE, Fault},
    recorder::RecordingDisk,
    store::soundness,
};

const ENOMEM: i32 = 12;

fn options(disk: impl Disk + 'static) -> Options {
    let options = Options::new().disk(disk).background(false).segment_bytes(8 << 10);
    let mut compaction = options.compaction.clone();
    compaction.automatic = false;
    options.compaction(compaction)
}

/// Fills the first segment and begins another, so that one waits to be sealed.
fn with_a_full_segment(engine: &Engine) {
    for n in 0..6_u8 {
        engine.put([n], [n; 1_000]).unwrap();
    }
}

fn assert_all_there(engine: &Engine) {
    for n in 0..6_u8 {
        assert_eq!(engine.get([n]).unwrap().as_deref(), Some(&[n; 1_000][..]), "{n}");
    }
}

/// Goal: a manifest that cannot say that a segment is sealed does not lead to a second footer in its file: whatever the
/// manifest on disk says, file and manifest agree, a check is clean, and a backup is made. Method: each write and sync
/// of the manifest after the footer fails, once or for good; before the seal is tried again and after.
#[test]
fn no_second_footer() {
    for mode in [Durability::Os, Durability::Buffered, Durability::Periodic] {
        for (kind, nth) in [(CallKind::Sync, 2), (CallKind::Write, 2)] {
            for lasts in [false, true] {
                let disk = RecordingDisk::new();
                let engine = options(disk.clone()).durability(mode).open("store").unwrap();
                with_a_full_segment(&engine);
                engine.sync().unwrap();
                with_a_full_segment(&engine);
                let fault = Fault::nth(nth, EIO).of(&[kind]);
                disk.arm(if lasts { fault.lasting() } else { fault });
                let failed = (0..4).filter(|_| engine.step().is_err()).count();
                disk.disarm();
                let what = format!("{mode:?}, {kind:?} {nth}, lasting {lasts}, {failed} failed");
                // What a crash leaves now, and what there is when it is tried again.
                let crashed: Arc<dyn Disk> = Arc::new(disk.image().memory_disk());
                soundness(&crashed, "store".as_ref()).unwrap_or_else(|e| panic!("{what}: {e}"));
                while engine.step().unwrap_or(true) {}
                assert_all_there(&engine);
                let shared: Arc<dyn Disk> = Arc::new(disk.image().memory_disk());
                soundness(&shared, "store".as_ref()).unwrap_or_else(|e| panic!("{what}: {e}"));
                let all = &mut |_, _| ControlFlow::Continue(());
                let options = BackupOptions::new();
                let copied = back_up(&shared, "store".as_ref(), "copy".as_ref(), &options, all);
                copied.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}

/// Goal: a file that was sealed by its footer is not written to again, however often the manifest fails. Method: the
/// bytes of the first segment after each failure.
#[test]
fn a_footer_is_written_once() {
    let disk = RecordingDisk::new();
    let engine = options(disk.clone()).open("store").unwrap();
    with_a_full_segment(&engine);
    with_a_full_segment(&engine);
    let first = || {
        let files = disk.image().files;
        let path = files.keys().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
        files[path].clone()
    };
    // Footer and length are written and synced; then every sync of the manifest fails.
    disk.arm(Fault::nth(2, EIO).of(&[CallKind::Sync]).lasting());
    assert!(engine.step().is_err());
    let sealed = first();
    // What is dead now makes a footer that is written again another one.
    disk.disarm();
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]).lasting());
    for n in 0..2_u8 {
        let _ = engine.put([n], [n; 10]);
        assert!(engine.step().is_err());
        assert_eq!(first(), sealed, "after {n} more");
    }
    disk.disarm();
    while engine.step().unwrap() {}
    assert_eq!(first(), sealed);
    assert_eq!(engine.health(), Health::Good);
}

/// Goal: what is not a failed write or sync stops no write: a file that cannot be opened, a map that is not given, once
/// or for good, while segments are sealed, compacted and rewritten. What was sealed can be read meanwhile.
#[test]
fn a_file_that_cannot_be_opened_stops_nothing() {
    for (kind, errno) in
        [(CallKind::Open, EMFILE), (CallKind::Map, ENOMEM), (CallKind::Map, EMFILE)]
    {
        for read_mode in [ReadMode::Map, ReadMode::Positioned] {
            let disk = RecordingDisk::new();
            let engine = options(disk.clone()).read_mode(read_mode).open("store").unwrap();
            disk.arm(Fault::nth(1, errno).of(&[kind]).lasting());
            for _ in 0..4 {
                with_a_full_segment(&engine);
                while engine.step().unwrap() {}
            }
            assert_eq!(engine.health(), Health::Good, "{kind:?} {errno} {read_mode:?}");
            assert_all_there(&engine);
            engine.compact().unwrap();
            assert_all_there(&engine);
            // A failed sync does stop writes; they come back while files still cannot be opened.
            disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
            engine.put("a", "b").unwrap();
            engine.sync().unwrap_err();
            engine.try_recover().unwrap();
            engine.put("a", "c").unwrap();
            assert_all_there(&engine);
            disk.disarm();
            engine.close().unwrap();
            assert_all_there(&options(disk.image().memory_disk()).open("store").unwrap());
        }
    }
}

/// Goal: a batch whose marker is the last record of a sealed segment counts, whatever became of the manifest and under
/// every policy that opens without one; the store's own check and a second opening agree.
#[test]
fn a_batch_at_the_end_of_a_segment_counts_without_a_manifest() {
    let disk = MemoryDisk::new();
    let engine = options(disk.clone()).open("store").unwrap();
    engine.put("k1", vec![b'o'; 3_600]).unwrap();
    let mut batch = Batch::new();
    batch.put("k1", vec![b'n'; 50]).put("k2", vec![b'n'; 50]);
    engine.commit(batch).unwrap();
    // The next records do not fit behind the batch: its marker stays the last one of the segment.
    engine.put("k9", vec![b'z'; 3_600]).unwrap();
    engine.put("k8", vec![b'z'; 3_600]).unwrap();
    while engine.step().unwrap() {}
    assert!(engine.stats().segments >= 2, "{:?}", engine.stats());
    engine.close().unwrap();
    for is_missing in [true, false] {
        let mut files = disk.files();
        files.retain(|path, bytes| {
            let is_manifest = path.ends_with("MANIFEST");
            if is_manifest && !is_missing {
                bytes[70] ^= 1;
            }
            !(is_manifest && is_missing) && path.extension().is_none_or(|e| e != "ckpt")
        });
        let damaged = MemoryDisk::with_files(files);
        let open = || options(damaged.clone()).recovery(RecoveryPolicy::Salvage).open("store");
        for opening in 0..3 {
            let engine = open().unwrap();
            for key in ["k1", "k2"] {
                let found = engine.get(key).unwrap().map(|value| value.to_vec());
                assert_eq!(found, Some(vec![b'n'; 50]), "missing {is_missing}, {opening}: {key}");
            }
            if opening == 1 {
                engine.compact().unwrap();
            }
            engine.close().unwrap();
        }
        let shared: Arc<dyn Disk> = Arc::new(damaged);
        assert!(check_store(&shared, "store".as_ref()).unwrap().is_healthy());
    }
}

/// What a kill leaves.
fn killed(engine: Engine, disk: &MemoryDisk) -> MemoryDisk {
    let files = disk.files();
    std::mem::forget(engine);
    MemoryDisk::with_files(files)
}

/// Goal: a crash leaves no hole in the feed of changes: a reader that goes on from where it was, or from the start, is told
/// that nothing is missing; however often the store crashes, with batches at the end and segments that are full.
#[test]
fn changes_after_a_crash_are_complete() {
    let mut disk = MemoryDisk::new();
    let mut at = SequenceNumber(0);
    let mut written = 0;
    for round in 0..6_u8 {
        let engine = options(disk.clone()).open("store").unwrap();
        let seen = engine.changes_since(at, 1_000).unwrap();
        assert!(seen.is_complete && seen.changes.is_empty(), "round {round}: {seen:?}");
        let all = engine.changes_since(SequenceNumber(0), 1_000).unwrap();
        assert!(all.is_complete, "round {round}, from the start");
        assert_eq!(all.changes.len(), written, "round {round}");
        for n in 0..=round {
            engine.put([round, n], [n; 1_500]).unwrap();
            written += 1;
            let seen = engine.changes_since(at, 1_000).unwrap();
            assert!(seen.is_complete && seen.changes.len() == 1, "round {round}, write {n}");
            at = seen.next;
        }
        if round % 2 == 0 {
            let mut batch = Batch::new();
            batch.put([round, 100], "a").put([round, 101], "b");
            engine.commit(batch).unwrap();
            written += 2;
            let seen = engine.changes_since(at, 1_000).unwrap();
            assert!(seen.is_complete && seen.changes.len() == 2, "round {round}, batch");
            at = seen.next;
        }
        disk = killed(engine, &disk);
    }
}

/// Goal: the same after a failure that was recovered from; and who saw a write that a crash took back is told so.
#[test]
fn changes_tell_what_a_crash_took_back() {
    let disk = RecordingDisk::new();
    let engine = options(disk.clone()).open("store").unwrap();
    engine.put("a", "1").unwrap();
    let at = engine.changes_since(SequenceNumber(0), 10).unwrap().next;
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Write]));
    engine.put("b", "2").unwrap_err();
    engine.try_recover().unwrap();
    engine.put("c", "3").unwrap();
    let seen = engine.changes_since(at, 10).unwrap();
    assert!(seen.is_complete && seen.changes.len() == 1, "{seen:?}");
    assert!(engine.changes_since(SequenceNumber(0), 10).unwrap().is_complete);

    let disk = MemoryDisk::new();
    let engine = options(disk.clone()).durability(Durability::Buffered).open("store").unwrap();
    engine.put("a", "1").unwrap();
    engine.sync().unwrap();
    let kept = engine.changes_since(SequenceNumber(0), 10).unwrap().next;
    engine.put("b", "2").unwrap();
    engine.put("c", "3").unwrap();
    let lost = engine.changes_since(kept, 10).unwrap();
    assert_eq!(lost.changes.len(), 2);
    let engine = options(killed(engine, &disk)).open("store").unwrap();
    assert!(engine.changes_since(kept, 10).unwrap().is_complete);
    assert!(!engine.changes_since(lost.next, 10).unwrap().is_complete, "it saw what is no more");
    engine.put("d", "4").unwrap();
    assert!(engine.changes_since(kept, 10).unwrap().is_complete);
    assert!(!engine.changes_since(lost.next, 10).unwrap().is_complete);
}
