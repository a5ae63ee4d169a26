//! put, get, delete, contains, limits, and values of every size.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tierce_engine::{
    Batch, Change, Durability, Error, Options, PutOptions, ReadMode,
    io::{Access, Disk as _, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup, TestStore},
};

use super::{
    Bench, DURABILITIES, WAYS, Way, assert_seen, filler,
    hooks::{Call, HookedDisk},
    value_of,
};

/// Goal: a put is read back, replaced and deleted; delete says whether something was there.
/// Method: every durability, every way of coming up again.
#[test]
fn put_get_delete() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            let engine = bench.engine();
            assert_eq!(value_of(engine, "a"), None);
            assert!(!engine.delete("a").unwrap(), "nothing to delete");
            engine.put("a", "1").unwrap();
            engine.put("b", "2").unwrap();
            assert_eq!(value_of(engine, "a"), Some(b"1".to_vec()));
            if way == Way::Replay {
                engine.checkpoint().unwrap();
            }
            engine.put("a", "one").unwrap();
            assert!(engine.delete("b").unwrap());
            assert!(!engine.delete("b").unwrap(), "deleted already");
            bench.come_up(way);
            let engine = bench.engine();
            assert_eq!(value_of(engine, "a"), Some(b"one".to_vec()), "{durability:?} {way:?}");
            assert_seen(engine, "a", true);
            assert_seen(engine, "b", false);
            assert!(!engine.delete("b").unwrap());
            engine.put("b", "again").unwrap();
            assert_seen(engine, "b", true);
        }
    }
}

/// Goal: deleting an absent key writes nothing. Method: no sequence number is used and no byte written.
#[test]
fn deleting_nothing_writes_nothing() {
    let bench = Bench::new(Setup::default());
    bench.engine().put("a", "1").unwrap();
    let before = bench.engine().stats();
    assert!(!bench.engine().delete("b").unwrap());
    assert!(!bench.engine().touch("b", None).unwrap());
    let mut batch = Batch::new();
    batch.delete("b").delete("c");
    bench.engine().commit(batch).unwrap();
    bench.engine().commit(Batch::new()).unwrap();
    let after = bench.engine().stats();
    assert_eq!((after.sequence, after.written_bytes), (before.sequence, before.written_bytes));
    assert_eq!(after.deletes, before.deletes);
}

/// Goal: `contains_key` asks nothing of a value: a damaged value is there, and only reading it is an error.
/// Method: overwrite a value's bytes on disk, under an open store that reads by position.
#[test]
fn contains_key_does_not_check_values() {
    let setup = Setup { read_mode: ReadMode::Positioned, ..Setup::default() };
    let mut bench = Bench::new(setup);
    bench.engine().put("good", "fine").unwrap();
    bench.engine().put("bad", [b'x'; 500]).unwrap();
    bench.come_up(Way::Checkpoint);
    let path = bench.files(".seg").remove(0);
    let bytes = bench.disk.files()[&path].clone();
    let at = bytes.windows(20).position(|window| window == [b'x'; 20]).unwrap() as u64;
    let file = bench.disk.open(&path, Access::Write).unwrap();
    file.write_at(b"y", at + 100).unwrap();
    let engine = bench.engine();
    assert!(engine.contains_key("bad").unwrap());
    assert!(matches!(engine.get("bad"), Err(Error::Corruption(_))));
    assert!(matches!(engine.entry("bad"), Err(Error::Corruption(_))));
    assert!(matches!(engine.get_many(&["good", "bad"]), Err(Error::Corruption(_))));
    assert_eq!(engine.iter().unwrap().filter(Result::is_err).count(), 1, "the others follow");
    assert_eq!(value_of(engine, "good"), Some(b"fine".to_vec()));
    file.write_at(b"x", at + 100).unwrap();
}

/// Goal: `contains_key` reads no value from the disk.
/// Method: count the bytes that it reads for a value of 1 MiB by position.
#[test]
fn contains_key_reads_no_value() {
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let disk = HookedDisk::new(MemoryDisk::new(), move |call| {
        if let Call::Read(bytes) = call {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    let setup = Setup { read_mode: ReadMode::Positioned, ..Setup::default() };
    let mut store = TestStore::with(disk, setup);
    store.engine().put("big", filler(1, 1 << 20)).unwrap();
    store.reopen();
    let before = read.load(Ordering::Relaxed);
    assert!(store.engine().contains_key("big").unwrap());
    let bytes = read.load(Ordering::Relaxed) - before;
    assert!(bytes <= 64 << 10, "contains_key read {bytes} bytes for a value of 1 MiB");
    assert_eq!(store.engine().get("big").unwrap().unwrap().len(), 1 << 20);
    assert!(read.load(Ordering::Relaxed) - before >= 1 << 20, "the counter counts");
}

/// Goal: empty keys and empty values are keys and values like others.
#[test]
fn empty_keys_and_values() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        bench.engine().put("", "under nothing").unwrap();
        bench.engine().put("nothing", "").unwrap();
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
            bench.engine().put("more", "").unwrap();
        }
        bench.come_up(way);
        let engine = bench.engine();
        assert_eq!(value_of(engine, ""), Some(b"under nothing".to_vec()), "{way:?}");
        assert_eq!(value_of(engine, "nothing"), Some(Vec::new()), "{way:?}");
        assert_seen(engine, "", true);
        assert_seen(engine, "nothing", true);
        assert!(engine.delete("").unwrap());
        assert_seen(engine, "", false);
    }
}

/// Fails unless the result is the refusal of a size, which says both numbers.
#[track_caller]
fn assert_too_large<T: std::fmt::Debug>(result: Result<T, Error>, wanted: (&str, u64, u64)) {
    match result {
        Err(Error::TooLarge { what, bytes, limit }) => assert_eq!((what, bytes, limit), wanted),
        other => panic!("{wanted:?} is not {other:?}"),
    }
}

/// Goal: the longest key works everywhere, the next longer one nowhere, and a refusal writes nothing.
#[test]
fn key_limit() {
    let (longest, longer) = (filler(1, 65_535), filler(1, 65_536));
    for durability in DURABILITIES {
        let mut bench = Bench::new(Setup::new(durability));
        bench.engine().put(&longest, "v").unwrap();
        bench.come_up(Way::Checkpoint);
        let engine = bench.engine();
        assert_seen(engine, &longest, true);
        let before = engine.stats();
        let refused = ("key", 65_536, 65_535);
        assert_too_large(engine.put(&longer, "v"), refused);
        assert_too_large(engine.submit(&longer, "v", &PutOptions::new()), refused);
        assert_too_large(engine.delete(&longer), refused);
        assert_too_large(engine.touch(&longer, None), refused);
        let put = |_: Option<&_>| Change::Put(Vec::new(), PutOptions::new());
        assert_too_large(engine.update(&longer, put), refused);
        let mut batch = Batch::new();
        batch.put("small", "v").put(longer.clone(), "v");
        assert_too_large(engine.commit(batch), refused);
        let after = engine.stats();
        assert_eq!((after.sequence, after.staged), (before.sequence, before.staged));
        assert_seen(engine, &longer, false);
        assert_seen(engine, "small", false);
        assert!(engine.delete(&longest).unwrap());
    }
}

/// Goal: the value limit is the configured one, and over it nothing is written, in a batch neither.
#[test]
fn value_limit() {
    let options = Setup::default().options(Arc::new(MemoryDisk::new()), &TestClock::new());
    let engine = options.value_bytes_max(1_000).open(STORE).unwrap();
    engine.put("k", filler(1, 1_000)).unwrap();
    let before = engine.stats();
    let refused = ("value", 1_001, 1_000);
    assert_too_large(engine.put("k", filler(2, 1_001)), refused);
    assert_too_large(engine.submit("k", filler(2, 1_001), &PutOptions::new()), refused);
    let mut batch = Batch::new();
    batch.put("other", "v").put("k", filler(2, 1_001));
    assert_too_large(engine.commit(batch), refused);
    let put = |_: Option<&_>| Change::Put(filler(2, 1_001), PutOptions::new());
    assert_too_large(engine.update("k", put), refused);
    assert_eq!(engine.stats().sequence, before.sequence);
    assert_eq!(value_of(&engine, "k"), Some(filler(1, 1_000)));
    assert_seen(&engine, "other", false);
}

/// Goal: a batch over the limit is refused before anything of it is copied.
/// Method: two values of 1 GiB that are never touched.
#[test]
fn batch_limit() {
    let bench = Bench::new(Setup::default());
    bench.engine().put("before", "v").unwrap();
    let before = bench.engine().stats();
    let mut batch = Batch::new();
    batch.put("a", vec![0; 1 << 30]).put("b", vec![0; 1 << 30]);
    let bytes = (2 << 30) + 2 * (256 + 1);
    let refused = bench.engine().commit(batch);
    assert_too_large(refused, ("batch", bytes, Options::BATCH_BYTES_MAX));
    let after = bench.engine().stats();
    assert_eq!((after.sequence, after.written_bytes), (before.sequence, before.written_bytes));
}

/// Goal: scope names, items and the extension as a whole have their limits, each with a clear refusal.
#[test]
fn option_limits() {
    let bench = Bench::new(Setup::default());
    let put = |options: PutOptions| bench.engine().put_with("k", "v", &options);
    assert_too_large(put(PutOptions::new().scope([b's'; 256])), ("scope name", 256, 255));
    let wide = PutOptions::new().item(0x20, vec![0; 256]);
    assert_too_large(put(wide), ("extension item", 256, 255));
    let mut many = PutOptions::new();
    for _ in 0..256 {
        many = many.item(0x20, vec![0; 255]);
    }
    assert_too_large(put(many), ("extension", 256 * 257, 65_535));
    for options in [
        PutOptions::new().scope(""),
        PutOptions::new().item(0x1f, "x"),
        PutOptions::new().item(0x80, "x"),
    ] {
        let refused = put(options.clone());
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{options:?}: {refused:?}");
    }
    assert!(matches!(bench.engine().cut_scope(""), Err(Error::InvalidOptions { .. })));
    assert_too_large(bench.engine().cut_scope([b's'; 256]), ("scope name", 256, 255));
    assert_eq!(bench.engine().stats().sequence, 0, "nothing was written");
    let mut most = PutOptions::new().scope([b's'; 255]);
    for _ in 0..254 {
        most = most.item(0x7f, vec![1; 255]);
    }
    put(most).unwrap();
    assert_eq!(bench.engine().entry("k").unwrap().unwrap().items.len(), 254);
}

/// Goal: a record that just fits a segment, one that just does not, and values larger than a segment are stored
/// alike. Method: lengths around the end of the smallest segment, and up to many segments.
#[test]
fn values_around_the_end_of_a_segment() {
    let near_the_end = (3_880..=4_080).step_by(8).flat_map(|n| [n, n + 1]);
    let lengths = near_the_end.chain([8_191, 8_192, 8_193, 100_000, 1 << 20]);
    for (number, length) in lengths.enumerate() {
        let mut bench = Bench::new(Setup::default());
        bench.engine().put("before", "b").unwrap();
        bench.engine().put("big", filler(1, length)).unwrap();
        bench.engine().put("after", "a").unwrap();
        bench.come_up(WAYS[number % 4]);
        let engine = bench.engine();
        assert!(value_of(engine, "big") == Some(filler(1, length)), "{length}");
        assert_eq!(value_of(engine, "before"), Some(b"b".to_vec()), "{length}");
        assert_eq!(value_of(engine, "after"), Some(b"a".to_vec()), "{length}");
    }
}

/// Goal: large, small, large again: only the last is there, and the accounts follow.
#[test]
fn sizes_change_under_one_key() {
    let mut bench = Bench::new(Setup::default());
    for length in [50_000, 3, 50_000, 0, 9_000] {
        bench.engine().put("k", filler(length as u64, length)).unwrap();
        assert!(value_of(bench.engine(), "k") == Some(filler(length as u64, length)));
        let live = bench.engine().stats().live_bytes;
        assert!((length as u64..length as u64 + 64).contains(&live), "{live} for {length}");
    }
    bench.come_up(Way::Footers);
    assert!(value_of(bench.engine(), "k") == Some(filler(9_000, 9_000)));
}

/// Goal: a value lives as long as whoever holds it: over an overwrite, a delete, the end of the store, and the
/// removal of its file. Method: the real disk, so that maps are maps; both read modes.
#[test]
fn values_outlive_everything() {
    for read_mode in [ReadMode::Map, ReadMode::Positioned] {
        let dir = tempfile::tempdir().unwrap();
        let options = || {
            let options = Options::new().segment_bytes(8 << 10).background(false);
            options.read_mode(read_mode)
        };
        let engine = options().open(dir.path()).unwrap();
        engine.put("k", filler(7, 3_000)).unwrap();
        let unsealed = engine.get("k").unwrap().unwrap();
        engine.close().unwrap();
        let engine = options().open(dir.path()).unwrap();
        let sealed = engine.get("k").unwrap().unwrap();
        assert_eq!(sealed.pins_segment(), read_mode == ReadMode::Map);
        engine.put("k", "other").unwrap();
        engine.delete("k").unwrap();
        let copy = sealed.clone();
        drop(sealed);
        engine.close().unwrap();
        dir.close().unwrap();
        for value in [unsealed, copy] {
            assert!(value == filler(7, 3_000)[..], "{read_mode:?}");
            assert!(value.into_vec() == filler(7, 3_000));
        }
    }
}

/// Goal: a value may be any bytes, those of the store's own files included.
/// Method: store whole files of the store as values; scan them after a crash, where a record inside a value must
/// not count as one.
#[test]
fn values_that_look_like_the_stores_own_bytes() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        bench.engine().put("old", "value of old").unwrap();
        bench.engine().put("old", "newer value of old").unwrap();
        bench.engine().checkpoint().unwrap();
        bench.engine().sync().unwrap();
        let files = bench.disk.files();
        for (number, bytes) in files.values().enumerate() {
            bench.engine().put(format!("file {number}"), bytes).unwrap();
        }
        bench.engine().put("markers", b"TIERCESGTIERCEMF\0\0\0\0").unwrap();
        bench.come_up(way);
        let engine = bench.engine();
        for (number, bytes) in files.values().enumerate() {
            let found = value_of(engine, format!("file {number}"));
            assert!(found.as_ref() == Some(bytes), "{way:?} {number}");
        }
        assert_eq!(value_of(engine, "old"), Some(b"newer value of old".to_vec()));
        assert_eq!(value_of(engine, "markers"), Some(b"TIERCESGTIERCEMF\0\0\0\0".to_vec()));
    }
}

/// Goal: counters and sizes say what happened. Method: a known list of operations.
#[test]
fn stats_add_up() {
    let mut bench = Bench::new(Setup::new(Durability::Os));
    for number in 0..200 {
        bench.engine().put(format!("key {number}"), filler(number, 100)).unwrap();
    }
    for number in 0..50 {
        assert!(bench.engine().delete(format!("key {number}")).unwrap());
        bench.engine().put(format!("key {}", number + 100), "short").unwrap();
    }
    let engine = bench.engine();
    let _ = engine.get("key 0").unwrap();
    let _ = engine.get_many(&["key 60", "key 61", "key 1"]).unwrap();
    let _ = engine.contains_key("key 60").unwrap();
    let stats = engine.stats();
    assert_eq!((stats.puts, stats.deletes), (250, 50));
    assert_eq!((stats.hits, stats.misses), (2, 2), "contains_key is no use");
    assert_eq!((stats.entries, engine.iter().unwrap().count()), (150, 150));
    assert!(stats.sequence >= 300 && stats.durable_sequence <= stats.sequence);
    assert!(stats.segments > 3 && stats.segment_bytes > stats.live_bytes);
    assert!(stats.writes >= 300 && stats.written_bytes > 200 * 100, "each put is written");
    let live = stats.live_bytes;
    for way in WAYS {
        bench.come_up(way);
        let stats = bench.engine().stats();
        assert_eq!((stats.entries, stats.live_bytes), (150, live), "{way:?}");
    }
    bench.engine().sync().unwrap();
    let stats = bench.engine().stats();
    assert_eq!(stats.durable_sequence, stats.sequence);
}

/// Goal: a checkpoint that was lost is written anew when the store is closed, though nothing else was written.
#[test]
fn a_lost_checkpoint_is_written_anew() {
    let disk = MemoryDisk::new();
    let mut store = TestStore::with(disk.clone(), Setup::default());
    store.engine().put("k", "v").unwrap();
    store.close();
    let is_checkpoint = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".ckpt");
    let lost = disk.files().into_keys().find(is_checkpoint).unwrap();
    disk.remove(&lost).unwrap();
    store.open();
    assert!(!store.engine().recovery_report().from_checkpoint);
    // Closing checks the files, and a checkpoint that is named and missing is a problem.
    store.reopen();
    assert!(store.engine().recovery_report().from_checkpoint);
}
