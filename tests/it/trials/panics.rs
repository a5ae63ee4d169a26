//! Panics in the turn, in the background and in callbacks: nothing diverges, and the background works when health is good.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{
    Durability, Engine, Error, Health, Options, PutOptions, SequenceNumber, io::MemoryDisk,
};
use tierce_kit::{
    fault::{CallKind, EIO, Failure, Fault},
    recorder::RecordingDisk,
};

fn panics<T>(op: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(op)).is_err()
}

fn panic_now<T>() -> T {
    panic!("the callback panics")
}

fn value(engine: &Engine, key: &str) -> Option<Vec<u8>> {
    engine.get(key).unwrap().map(|value| value.to_vec())
}

/// Goal: a write that panics at the device is not half in: the store stops, does not show it, and after `try_recover` the
/// stored state is the shown one; the other writers of its group get an error.
#[test]
fn a_write_that_panics_stops_the_log() {
    for kind in [CallKind::Write, CallKind::Sync] {
        let disk = RecordingDisk::new();
        let open = |disk| Options::new().disk(disk).background(false).open("store");
        let engine = Options::new().disk(disk.clone()).background(false).open("store").unwrap();
        engine.put("a", "1").unwrap();
        disk.arm(Fault::nth(1, EIO).of(&[kind]).with(Failure::Panic));
        let sync = PutOptions::new().durability(Durability::Sync);
        assert!(panics(|| engine.put_with("b", "2", &sync)), "{kind:?}");
        disk.disarm();
        assert!(matches!(engine.health(), Health::Stopped { .. }), "{kind:?}");
        assert!(matches!(engine.put("c", "3"), Err(Error::Stopped { .. })));
        assert_eq!(value(&engine, "b"), None);
        engine.try_recover().unwrap();
        engine.put("c", "3").unwrap();
        engine.sync().unwrap();
        let stored = open(disk.image().memory_disk()).unwrap();
        for key in ["a", "b", "c"] {
            assert_eq!(value(&engine, key), value(&stored, key), "{kind:?} {key}");
        }
    }
}

/// Goal: after a panic of the background and `try_recover` the background works again, or the health says that it does
/// not: a buffered write reaches the file by itself.
#[test]
fn the_background_works_again_after_a_panic() {
    let disk = RecordingDisk::new();
    let options = Options::new().disk(disk.clone()).durability(Durability::Buffered);
    let engine = options.flush_interval_ms(5).sync_interval_ms(10).open("store").unwrap();
    let eventually = |what: &str, is_so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    };
    for round in 0..3_u8 {
        engine.put([round], "v").unwrap();
        engine.sync().unwrap();
        disk.arm(Fault::nth(1, EIO).of(&[CallKind::Write]).with(Failure::Panic));
        engine.put([round], "written by no one else").unwrap();
        let stops = || matches!(engine.health(), Health::Stopped { .. });
        eventually("the background panics", &stops);
        disk.disarm();
        engine.try_recover().unwrap();
        assert_eq!(engine.health(), Health::Good);
        engine.put([round, 1], "after").unwrap();
        let is_written = || {
            let stored = Options::new().disk(disk.image().memory_disk()).background(false);
            let stored = stored.open("store").unwrap();
            stored.get([round, 1]).unwrap().is_some()
        };
        eventually("a buffered write reaches the file", &is_written);
    }
}

/// Goal: a callback that panics leaves the store as it was, and able to do everything.
#[test]
fn callbacks_that_panic_change_nothing() {
    let disk = MemoryDisk::new();
    let engine = Options::new().disk(disk).background(false).segment_bytes(8 << 10);
    let engine = engine.open("store").unwrap();
    for n in 0..40_u8 {
        engine.put([n % 4], vec![n; 1_000]).unwrap();
    }
    assert!(panics(|| engine.update([1], |_| panic_now())));
    assert!(panics(|| engine.view([1], |_| panic_now::<()>())));
    assert!(panics(|| engine.compact_with(None, |_| panic_now())));
    assert_eq!(engine.health(), Health::Good);
    engine.put([1], "new").unwrap();
    engine.compact().unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.get([1]).unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(engine.get([2]).unwrap().as_deref(), Some(&[38; 1_000][..]));
    engine.close().unwrap();
}

/// Goal: a reader beside a batch that was torn is current as soon as it has looked, and looks again when something comes.
#[test]
fn a_reader_of_a_torn_batch_is_current() {
    let disk = MemoryDisk::new();
    let options = || Options::new().background(false);
    let engine = options().disk(disk.clone()).open("store").unwrap();
    engine.put("a", "1").unwrap();
    let mut batch = tierce_engine::Batch::new();
    batch.put("b", "2").put("c", "3");
    engine.commit(batch).unwrap();
    engine.put("d", "4").unwrap();
    let files = disk.files();
    std::mem::forget(engine);
    let path = files.keys().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    let bytes = &files[path];
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let (mut torn, mut current) = (0, 0);
    for cut in 4096..=end {
        let mut left = files.clone();
        left.get_mut(path).unwrap().truncate(cut);
        let reader = options().disk(MemoryDisk::with_files(left)).open_reader("store").unwrap();
        torn += u32::from(!reader.recovery_report().torn.is_empty());
        assert!(!reader.refresh().unwrap(), "cut at {cut}");
        current += u32::from(reader.staleness().unwrap().is_current);
    }
    assert!(torn > 100 && current as usize == end - 4095, "{torn} torn, {current} current");
    // The rest of the batch comes while the reader has the torn one.
    let at = bytes.windows(4).rposition(|window| window == b"d4\0\0").unwrap();
    let part = MemoryDisk::with_files(files.clone());
    let disk = part.clone();
    let file =
        tierce_engine::io::Disk::open(&disk, path, tierce_engine::io::Access::Write).unwrap();
    file.set_bytes(at as u64 - 40).unwrap();
    let reader = options().disk(part).open_reader("store").unwrap();
    assert!(!reader.refresh().unwrap());
    let from = reader.changes_since(SequenceNumber(0), 10).unwrap().next;
    let start = usize::try_from(file.bytes().unwrap()).unwrap();
    file.write_at(&bytes[start..], start as u64).unwrap();
    assert!(reader.refresh().unwrap(), "the rest came");
    assert!(reader.get("d").unwrap().is_some());
    assert!(!reader.changes_since(from, 10).unwrap().changes.is_empty());
}
