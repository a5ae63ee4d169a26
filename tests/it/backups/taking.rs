//! What comes out of a backup, in every way of taking it.

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tierce_engine::{
    Batch, Durability, Engine, Error, Options,
    backup::{BackupOptions, SHEET, back_up},
    io::Disk,
    verify_backup,
};
use tierce_kit::{
    crash::{Bounds, sweep},
    recorder::RecordingDisk,
};

use super::{Files, contents, disk, entries, fill, names, options, take};

/// Goal: a backup of an open, a closed and a crashed store holds what the store held, linked, copied or streamed; it is
/// proven sound; the store is not changed.
#[test]
fn the_same_entries() {
    for state in ["open", "closed", "crashed"] {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("store");
        let engine = options().open(&store).unwrap();
        fill(&engine);
        engine.sync().unwrap();
        let expected = entries(&engine);
        let from = match state {
            "open" => store.clone(),
            "closed" => {
                engine.clone().close().unwrap();
                drop(engine);
                store.clone()
            }
            _ => {
                let crashed = root.path().join("crashed");
                fs::create_dir(&crashed).unwrap();
                for name in names(&store) {
                    fs::copy(store.join(&name), crashed.join(&name)).unwrap();
                }
                crashed
            }
        };
        let before: Vec<_> = names(&from).iter().map(|n| fs::read(from.join(n)).unwrap()).collect();
        for copies in [false, true] {
            let to = root.path().join(format!("backup {copies}"));
            let report = take(&from, &to, &BackupOptions::new().copies(copies)).unwrap();
            assert_eq!(report.linked_bytes == 0, copies, "{report:?}");
            assert_eq!(
                report.bytes,
                report.linked_bytes + report.copied_bytes + report.reused_bytes
            );
            let on_disk: u64 =
                names(&to).iter().map(|n| fs::metadata(to.join(n)).unwrap().len()).sum();
            assert_eq!(report.bytes, on_disk);
            let verified = verify_backup(&disk(), &to).unwrap();
            assert!(verified.is_sound(), "{state} {verified:?}");
            assert_eq!(verified.sequence, report.sequence);
            assert_eq!(contents(&to), expected, "{state} {copies}");
        }
        let (files, report) = Files::of(&from, None);
        assert_eq!(files.0.last().map(|(name, _)| name.as_str()), Some(SHEET));
        assert_eq!(report.copied_bytes, report.bytes);
        let to = root.path().join("restored");
        files.restore(&to, None).unwrap();
        assert_eq!(contents(&to), expected, "{state} streamed");
        let after: Vec<_> = names(&from).iter().map(|n| fs::read(from.join(n)).unwrap()).collect();
        assert!(before == after, "{state}: not a byte of the store is changed");
    }
}

/// Goal: what only this process has is in its own backup.
#[test]
fn an_open_store_writes_out_first() {
    let root = tempfile::tempdir().unwrap();
    for durability in [Durability::Buffered, Durability::Periodic] {
        let dir = root.path().join(format!("{durability:?}"));
        let engine = options().durability(durability).open(dir.join("store")).unwrap();
        engine.put("k", "v").unwrap();
        engine.back_up(dir.join("backup"), &BackupOptions::new()).unwrap();
        let copy = options().open(dir.join("backup")).unwrap();
        assert_eq!(copy.get("k").unwrap().as_deref(), Some(&b"v"[..]), "{durability:?}");
    }
}

/// Goal: a second backup takes from an earlier one what that has, and is complete without it.
#[test]
fn incremental() {
    let root = tempfile::tempdir().unwrap();
    let (store, first, second) =
        (root.path().join("store"), root.path().join("1"), root.path().join("2"));
    let engine = options().open(&store).unwrap();
    fill(&engine);
    take(&store, &first, &BackupOptions::new().copies(true)).unwrap();
    for number in 0..60_u8 {
        engine.put(format!("later {number}"), vec![number; 300]).unwrap();
    }
    engine.sync().unwrap();
    let expected = entries(&engine);
    let options = BackupOptions::new().copies(true).base(&first);
    let report = take(&store, &second, &options).unwrap();
    assert!(report.reused_bytes > 16 << 10 && report.copied_bytes > 8 << 10, "{report:?}");
    let (files, streamed) = Files::of(&store, Some(&first));
    assert_eq!(streamed.reused_bytes, report.reused_bytes);
    let alone = files.restore(&root.path().join("alone"), None);
    assert!(matches!(alone, Err(Error::Corruption(_))), "{alone:?}");
    files.restore(&root.path().join("with"), Some(&first)).unwrap();
    assert_eq!(contents(&root.path().join("with")), expected);
    // A base of another store is of no use, and no harm.
    let other = root.path().join("other");
    fill(&super::options().open(root.path().join("another store")).unwrap());
    take(&root.path().join("another store"), &other, &BackupOptions::new()).unwrap();
    let third = root.path().join("3");
    let report = take(&store, &third, &BackupOptions::new().base(&other)).unwrap();
    assert_eq!(report.reused_bytes, 0);
    fs::remove_dir_all(&first).unwrap();
    for dir in [&second, &third] {
        assert!(verify_backup(&disk(), dir).unwrap().is_sound());
        assert_eq!(contents(dir), expected);
    }
}

fn write_without_end(writer: &Engine, stop: &AtomicBool) {
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let value = number.to_le_bytes();
        let mut batch = Batch::new();
        batch.put("together a", value).put("together b", value);
        writer.commit(batch).unwrap();
        writer.put("after", value).unwrap();
        writer.put(format!("other {}", number * 7 % 50), value.repeat(30)).unwrap();
        if number.is_multiple_of(64) {
            writer.compact().unwrap();
        }
        if number.is_multiple_of(500) {
            writer.checkpoint().unwrap();
        }
    }
}

fn number(dir: &Path, key: &str) -> u64 {
    let store = options().read_only(true).open(dir).unwrap();
    let value = store.get(key).unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()))
}

/// Goal: beside a writer that writes, seals, compacts and checkpoints without a pause, every backup is sound and is a
/// state that the store was in.
#[test]
fn beside_a_hard_writer() {
    const BACKUPS: u32 = 40;
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    let writer = Options::new().segment_bytes(8 << 10).open(&store).unwrap();
    writer.put("start", "").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| write_without_end(&writer, &stop));
        let mut last = 0;
        let mut round = || -> Result<(), String> {
            for round in 0..BACKUPS {
                let to = root.path().join("backup");
                let options = BackupOptions::new().copies(round % 2 == 0);
                let taken = take(&store, &to, &options);
                taken.map_err(|error| format!("round {round}: {error}"))?;
                let verified = verify_backup(&disk(), &to).unwrap();
                if !verified.is_sound() {
                    return Err(format!("round {round}: {verified:?}"));
                }
                let (a, b) = (number(&to, "together a"), number(&to, "together b"));
                let after = number(&to, "after");
                if a != b || !(after == a || after + 1 == a) || a < last {
                    return Err(format!("round {round}: {a} {b} {after}, before it {last}"));
                }
                last = a;
                fs::remove_dir_all(&to).unwrap();
            }
            Ok(())
        };
        let outcome = round();
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        outcome.unwrap();
        assert!(last > 0, "the writer wrote meanwhile");
    });
}

/// Goal: what is damaged is not backed up as if it were not, and nothing stays of the attempt. A place that holds
/// something is refused and left alone.
#[test]
fn refusals() {
    let root = tempfile::tempdir().unwrap();
    let (store, to) = (root.path().join("store"), root.path().join("to"));
    let engine = options().open(&store).unwrap();
    fill(&engine);
    engine.close().unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(to.join("mine"), "mine").unwrap();
    let refused = take(&store, &to, &BackupOptions::new());
    assert!(matches!(&refused, Err(Error::Io { .. })), "{refused:?}");
    assert_eq!(names(&to), ["mine"]);
    fs::remove_file(to.join("mine")).unwrap();
    let segment = names(&store).into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let bytes = fs::read(store.join(&segment)).unwrap();
    type Damage<'a> = Box<dyn Fn() + 'a>;
    let faults: [(&str, Damage<'_>); 5] = [
        ("missing", Box::new(|| fs::remove_file(store.join(&segment)).unwrap())),
        ("cut", Box::new(|| fs::write(store.join(&segment), &bytes[..bytes.len() - 1]).unwrap())),
        ("flipped", {
            let mut bytes = bytes.clone();
            bytes[5_000] ^= 1;
            let path = store.join(&segment);
            Box::new(move || fs::write(&path, &bytes).unwrap())
        }),
        ("flipped in the footer", {
            let mut bytes = bytes.clone();
            let at = bytes.len() - 200;
            bytes[at] ^= 1;
            let path = store.join(&segment);
            Box::new(move || fs::write(&path, &bytes).unwrap())
        }),
        ("manifest", Box::new(|| fs::write(store.join("MANIFEST"), [0; 70]).unwrap())),
    ];
    for (fault, damage) in faults {
        damage();
        // A link is not read: what stands inside is for `verify`.
        for copies in [true, false] {
            let taken = take(&store, &to, &BackupOptions::new().copies(copies));
            if fault.starts_with("flipped") && !copies {
                assert!(!verify_backup(&disk(), &to).unwrap().is_sound());
                fs::remove_dir_all(&to).unwrap();
                continue;
            }
            assert!(matches!(taken, Err(Error::Corruption(_))), "{fault} {copies}: {taken:?}");
            assert!(!to.exists() || names(&to).is_empty(), "{fault} {copies}");
        }
        fs::write(store.join(&segment), &bytes).unwrap();
    }
    let none = take(root.path(), &root.path().join("x"), &BackupOptions::new());
    assert!(matches!(none, Err(Error::NotAStore { .. })), "{none:?}");
}

/// Goal: a backup that is told to stop leaves nothing.
#[test]
fn cancelled() {
    let root = tempfile::tempdir().unwrap();
    let (store, to) = (root.path().join("store"), root.path().join("to"));
    let engine = options().open(&store).unwrap();
    fill(&engine);
    for copies in [true, false] {
        let mut calls = 0;
        let go_on = &mut |_, _| {
            calls += 1;
            if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = BackupOptions::new().copies(copies);
        assert!(back_up(&disk(), &store, &to, &options, go_on).unwrap().cancelled);
        assert_eq!(names(&to), [""; 0]);
    }
}

/// Goal: a crash at any moment of a backup leaves either no backup or a sound one, and the store as it was.
#[test]
fn a_crash_meanwhile() {
    tierce_kit::seed::cases("a crash during a backup", 1, |seed| {
        let recorder = RecordingDisk::new();
        let engine = options().disk(recorder.clone()).open("store").unwrap();
        fill(&engine);
        engine.sync().unwrap();
        let expected = entries(&engine);
        let first = recorder.event_count();
        engine.back_up("backup", &BackupOptions::new()).unwrap();
        let log = recorder.log();
        let (mut none, mut sound) = (0_u32, 0_u32);
        let visited = sweep(&log, first, &Bounds::default(), seed, |point, plan, image| {
            let disk: Arc<dyn Disk> = Arc::new(image.memory_disk());
            match verify_backup(&disk, Path::new("backup")) {
                Err(Error::NotAStore { .. } | Error::Corruption(_)) => none += 1,
                Ok(verified) if verified.is_sound() => sound += 1,
                other => return Err(format!("{point} {plan:?}: {other:?}")),
            }
            let reopened = options().disk(image.memory_disk()).open("store");
            let reopened = reopened.map_err(|error| format!("{point} {plan:?}: {error}"))?;
            let found = entries(&reopened);
            (found == expected).then_some(()).ok_or_else(|| format!("{point} {plan:?}"))
        });
        visited.unwrap();
        assert!(none > 100 && sound > 0, "{none} none, {sound} sound");
    });
}
