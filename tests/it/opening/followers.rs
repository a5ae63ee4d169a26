//! Readers beside a writer: a state that the store was in, not a byte written, nobody waits.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tierce_engine::{
    Batch, Durability, Engine, Error, Options, PutOptions, ReadMode, SequenceNumber,
};

use super::{closed_store, copy_files, crashed_store, names, options, tear, tree};

/// Goal: a closed store and a crashed one read the same as by opening them; nothing is written, and whoever wants to
/// write may.
#[test]
fn the_same_as_by_opening() {
    for make in [closed_store as fn(&Path), crashed_store] {
        for read_mode in [ReadMode::Map, ReadMode::Positioned] {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            let before = tree(dir.path());
            let reader = options().read_mode(read_mode).open_reader(dir.path()).unwrap();
            for number in 0..60_u8 {
                let key = format!("key {number}");
                assert_eq!(reader.get(&key).unwrap().as_deref(), Some(&vec![number; 300][..]));
                assert!(reader.contains_key(&key).unwrap());
                let bytes = reader.view(&key, |entry| entry.value.len()).unwrap();
                assert_eq!(bytes, Some(300));
                assert_eq!(reader.peek(&key, |entry| entry.value.len()).unwrap(), Some(0));
            }
            assert_eq!(reader.get("absent").unwrap().as_deref(), None);
            assert_eq!(reader.iter().filter(Result::is_ok).count(), 60);
            assert_eq!(reader.stats().entries, 60);
            let staleness = reader.staleness().unwrap();
            assert!(staleness.is_current && staleness.sequence >= SequenceNumber(60));
            assert!(!reader.refresh().unwrap(), "nothing is new");
            assert_eq!(tree(dir.path()), before);
            let writer = options().open(dir.path()).unwrap();
            writer.put("new", "value").unwrap();
            assert!(!reader.staleness().unwrap().is_current);
            assert!(reader.refresh().unwrap());
            assert_eq!(reader.get("new").unwrap().as_deref(), Some(&b"value"[..]));
        }
    }
}

/// Goal: what is written after the look is not seen before the next one, and then all of it is; every kind of write
/// counts as news.
#[test]
fn one_look_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let writer = options().open(dir.path()).unwrap();
    writer.put_with("k", "1", &PutOptions::new().scope("s")).unwrap();
    writer.put("gone", "1").unwrap();
    let reader = options().open_reader(dir.path()).unwrap();
    let snapshot = reader.snapshot();
    let news: [&dyn Fn(); 5] = [
        &|| writer.put("k2", "2").unwrap(),
        &|| assert!(writer.delete("gone").unwrap()),
        &|| assert!(writer.touch("k2", Some(writer.now().saturating_add_ms(60_000))).unwrap()),
        &|| writer.cut_scope("s").unwrap(),
        &|| {
            let mut batch = Batch::new();
            batch.put("k3", "3").put("k4", "4");
            writer.commit(batch).unwrap();
        },
    ];
    for (number, write) in news.into_iter().enumerate() {
        assert!(reader.staleness().unwrap().is_current, "before {number}");
        write();
        assert!(!reader.staleness().unwrap().is_current, "write {number} is news");
        assert!(reader.refresh().unwrap(), "write {number}");
        assert!(!reader.refresh().unwrap(), "write {number} again");
    }
    assert_eq!(reader.get("k").unwrap().as_deref(), None, "its scope was cut");
    assert_eq!(reader.get("gone").unwrap().as_deref(), None);
    assert_eq!(reader.get("k4").unwrap().as_deref(), Some(&b"4"[..]));
    assert!(reader.entry("k2").unwrap().unwrap().expires_at.is_some());
    assert_eq!(snapshot.get("gone").unwrap().as_deref(), Some(&b"1"[..]), "as it was");
    let changes = reader.changes_since(SequenceNumber(0), 100).unwrap();
    assert!(changes.is_complete);
    assert_eq!(changes.next, reader.staleness().unwrap().sequence);
    assert_eq!(changes.changes.last().map(|change| &change.key[..]), Some(&b"k4"[..]));
}

/// Goal: segments that compaction removes under a reader stay readable to it, and the next look does without them.
#[test]
fn segments_vanish_under_it() {
    for read_mode in [ReadMode::Map, ReadMode::Positioned] {
        let dir = tempfile::tempdir().unwrap();
        let writer = options().open(dir.path()).unwrap();
        for number in 0..200_u32 {
            writer.put(format!("{}", number % 100), number.to_le_bytes().repeat(40)).unwrap();
        }
        let reader = options().read_mode(read_mode).open_reader(dir.path()).unwrap();
        let before = names(dir.path());
        for number in 200..400_u32 {
            writer.put(format!("{}", number % 100), number.to_le_bytes().repeat(40)).unwrap();
        }
        writer.compact().unwrap();
        let after = names(dir.path());
        let gone = before.iter().filter(|name| name.ends_with(".seg") && !after.contains(name));
        assert!(gone.count() > 3, "compaction removed what the reader reads: {after:?}");
        let check = |from: u32| {
            for number in 0..100_u32 {
                let value = reader.get(format!("{number}")).unwrap().unwrap();
                assert_eq!(value[..4], (from + number).to_le_bytes(), "{number}");
            }
        };
        check(100);
        assert!(reader.refresh().unwrap());
        check(300);
    }
}

/// What a pair of keys, and a pair written together, say of the moment of a look.
fn numbers(reader: &tierce_engine::Follower) -> [u64; 4] {
    let snapshot = reader.snapshot();
    ["first", "second", "together a", "together b"].map(|key| {
        let value = snapshot.get(key).unwrap();
        value.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()))
    })
}

fn write_without_end(writer: &Engine, stop: &AtomicBool) {
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let value = number.to_le_bytes();
        writer.put("first", value).unwrap();
        writer.put("second", value).unwrap();
        let mut batch = Batch::new();
        batch.put("together a", value).put("together b", value);
        writer.commit(batch).unwrap();
        let other = format!("other {}", number * 7 % 50);
        writer.put(&other, value.repeat(30)).unwrap();
        if number.is_multiple_of(3) {
            writer.delete(&other).unwrap();
        }
        if number.is_multiple_of(10) {
            // Buffered writes are in the files now, too.
            writer.sync().unwrap();
        }
        if number.is_multiple_of(64) {
            writer.compact().unwrap();
        }
        if number.is_multiple_of(500) {
            writer.checkpoint().unwrap();
        }
    }
}

/// Goal: beside a writer that writes, deletes, seals, compacts and checkpoints without a pause, every look succeeds and
/// shows a state that the store was in. Method: keys whose order of writing tells.
#[test]
fn beside_a_hard_writer() {
    const NEWS: u32 = 60;
    const LOOKS_MAX: u32 = 1_000_000;
    for durability in [Durability::Os, Durability::Buffered, Durability::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let writer =
            Options::new().segment_bytes(8 << 10).durability(durability).open(dir.path()).unwrap();
        writer.put("start", "").unwrap();
        writer.sync().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_without_end(&writer, &stop));
            let reader = options().open_reader(dir.path()).unwrap();
            let (mut last, mut news) = ([0; 4], 0);
            for look in 0..LOOKS_MAX {
                if news == NEWS {
                    break;
                }
                let refreshed = reader.refresh();
                let report = reader.recovery_report();
                if refreshed.is_err() || !report.damaged.is_empty() {
                    stop.store(true, Ordering::Relaxed);
                    panic!("look {look}, {durability:?}: {refreshed:?} {report:?}");
                }
                let now = numbers(&reader);
                let [first, second, a, b] = now;
                assert!(first == second || first == second + 1, "{look}: {now:?}");
                assert!(a == b && (a == second || a + 1 == second), "{look}: {now:?}");
                assert!(now >= last, "time goes on: {last:?}, then {now:?}");
                news += u32::from(now != last);
                last = now;
            }
            stop.store(true, Ordering::Relaxed);
            writing.join().unwrap();
            assert_eq!(news, NEWS, "the writer wrote meanwhile");
            writer.sync().unwrap();
            reader.refresh().unwrap();
            let [first, .., b] = numbers(&reader);
            assert_eq!(first, b, "all of it");
        });
    }
}

/// Goal: damage is damage for a reader too, a store that is gone is said to be, and what was seen stays.
#[test]
fn damage_and_loss() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let reader = options().open_reader(dir.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    copy_files(dir.path(), other.path());
    let segment = names(other.path()).into_iter().find(|name| name.ends_with(".seg")).unwrap();
    fs::remove_file(other.path().join(segment)).unwrap();
    let refused = options().open_reader(other.path());
    assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
    for name in names(dir.path()) {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(reader.refresh().is_err());
    assert_eq!(reader.get("key 1").unwrap().as_deref(), Some(&[1; 300][..]));
    let empty = tempfile::tempdir().unwrap();
    let refused = options().open_reader(empty.path());
    assert!(matches!(refused, Err(Error::NotAStore { .. })), "{refused:?}");
    assert!(names(empty.path()).is_empty());
}

/// Goal: what a crash tore is no news, again and again.
#[test]
fn a_torn_tail_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    crashed_store(dir.path());
    tear(dir.path());
    let reader = options().open_reader(dir.path()).unwrap();
    assert_eq!(reader.recovery_report().torn.len(), 1);
    assert!(reader.staleness().unwrap().is_current);
    assert!(!reader.refresh().unwrap());
}

/// Goal: of several who look at once, the latest look is what is shown: time never goes back.
#[test]
fn many_look_at_once() {
    const LOOKS: u32 = 100;
    let dir = tempfile::tempdir().unwrap();
    let writer = options().open(dir.path()).unwrap();
    writer.put("k", "v").unwrap();
    let reader = options().open_reader(dir.path()).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.put("k", "v").unwrap();
            }
        });
        let looking: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = SequenceNumber(0);
                    for _ in 0..LOOKS {
                        reader.refresh().unwrap();
                        let now = reader.staleness().unwrap().sequence;
                        assert!(now >= last, "{last:?}, then {now:?}");
                        last = now;
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = looking.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
    });
}
