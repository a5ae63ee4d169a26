//! The way back of a way back; what is read under the lock; where a new store may be; numbers that nobody gave.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tierce_engine::{
    Error, Options, SegmentId, SequenceNumber,
    format::manifest::Edit,
    io::{Disk as _, LockMode, LockOutcome, MemoryDisk},
    repair::{self, Rebuild},
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use super::{
    Files, disk_of,
    forged::{closed, file, rewrite_manifest},
    options, store_files,
};
use crate::basics::hooks::{Call, HookedDisk};

/// A closed store with one damaged record.
fn damaged() -> (Setup, Files) {
    let (setup, mut files) = closed();
    damage(&mut files);
    (setup, files)
}

/// Damages the value of `key`.
fn damage(files: &mut Files) {
    let path = file(files, ".seg");
    let bytes = files.get_mut(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"keyvalue").expect("it is there");
    bytes[at + 4] ^= 1;
}

fn in_store(name: &str) -> PathBuf {
    Path::new(STORE).join(name)
}

/// Goal: a way back loses nothing that was written since the repair: all of it is kept, and can be had back the same
/// way.
#[test]
fn a_way_back_has_a_way_back() {
    let (setup, files) = damaged();
    let disk = disk_of(&files);
    let before = store_files(&disk);
    let options = options(&setup, &disk);
    repair::repair(&options, Path::new(STORE), None).unwrap();
    let engine = options.clone().open(STORE).unwrap();
    engine.put("new", "put since").unwrap();
    engine.sync().unwrap();
    engine.close().unwrap();
    let since = store_files(&disk);
    repair::undo(&options, Path::new(STORE), &in_store("undo-1")).unwrap();
    assert_eq!(store_files(&disk), before);

    repair::undo(&options, Path::new(STORE), &in_store("redo-1")).unwrap();
    assert_eq!(store_files(&disk), since);
    let engine = options.clone().open(STORE).unwrap();
    assert_eq!(engine.get("new").unwrap().as_deref(), Some(&b"put since"[..]));
    engine.close().unwrap();
    assert!(disk.list(&in_store("redo-2")).unwrap().iter().any(|entry| entry.name == "MANIFEST"));
}

/// Goal: unfinished files come back too, that of the manifest included, beside which files are put back.
#[test]
fn unfinished_files_come_back() {
    let (setup, mut files) = damaged();
    files.insert(in_store("MANIFEST.tmp"), b"half a manifest".to_vec());
    files.insert(in_store("00000000000000aa.seg.tmp"), b"half a segment".to_vec());
    let disk = disk_of(&files);
    let before = store_files(&disk);
    let options = options(&setup, &disk);
    repair::repair(&options, Path::new(STORE), None).unwrap();
    assert_ne!(store_files(&disk), before);
    repair::undo(&options, Path::new(STORE), &in_store("undo-1")).unwrap();
    assert_eq!(store_files(&disk), before);
}

/// Goal: what a plan, a repair or a rebuild goes by was read while nobody could write. Method: at each read the lock is
/// asked for.
#[test]
fn nothing_is_read_before_the_lock() {
    let (setup, files) = damaged();
    let free = || {
        let disk = disk_of(&files);
        let (unlocked, seen) = (Arc::new(AtomicU64::new(0)), disk.clone());
        let count = Arc::clone(&unlocked);
        let hooked = HookedDisk::new(disk, move |call| {
            let asked = seen.lock(&in_store("LOCK"), LockMode::Exclusive).unwrap();
            if matches!(call, Call::Read(_)) && matches!(asked, LockOutcome::Held(_)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        (setup.options(Arc::new(hooked), &TestClock::new()), unlocked)
    };
    let what = Rebuild { footers: true, checkpoint: true };
    let (planning, unlocked) = free();
    repair::plan(&planning, Path::new(STORE)).unwrap();
    assert_eq!(unlocked.load(Ordering::Relaxed), 0, "plan");
    let (rebuilding, unlocked) = free();
    repair::rebuild(&rebuilding, Path::new(STORE), what).unwrap_err();
    assert_eq!(unlocked.load(Ordering::Relaxed), 0, "rebuild");
    let (repairing, unlocked) = free();
    repair::repair(&repairing, Path::new(STORE), None).unwrap();
    assert_eq!(unlocked.load(Ordering::Relaxed), 0, "repair");
}

/// Goal: what is no store gets no lock file.
#[test]
fn no_store_is_not_locked() {
    let setup = closed().0;
    let mut files = Files::new();
    files.insert(in_store("letter"), b"somebody's".to_vec());
    let disk = disk_of(&files);
    let options = options(&setup, &disk);
    let what = Rebuild { footers: true, checkpoint: true };
    for path in [STORE, "nowhere"].map(Path::new) {
        for refused in [
            repair::plan(&options, path).map(drop),
            repair::repair(&options, path, None).map(drop),
            repair::rebuild(&options, path, what).map(drop),
        ] {
            assert!(matches!(refused, Err(Error::NotAStore { .. })), "{refused:?}");
        }
    }
    assert_eq!(disk.files(), files);
}

/// Goal: where a salvaged store may be goes by real places, whatever way leads there.
#[test]
fn salvaged_beside_by_any_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let engine = Options::new().open(&store).unwrap();
    engine.put("key", "value").unwrap();
    engine.close().unwrap();
    let mut inside = vec!["store/new", "store/../store/new", "new/../store/new", "store/a/../b"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&store, dir.path().join("link")).unwrap();
        inside.extend(["link/new", "new/../link/new"]);
    }
    for out in inside {
        let refused = repair::salvage(&Options::new(), &store, &dir.path().join(out));
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{out}: {refused:?}");
    }
    for out in ["store/../beside", "store-2"] {
        let out = dir.path().join(out);
        let report = repair::salvage(&Options::new(), &store, &out).unwrap();
        assert!(report.is_whole(), "{report:?}");
        let engine = Options::new().open(&out).unwrap();
        assert_eq!(engine.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    }
}

/// Repairs and salvages a store, neither of which may panic; the repaired one must work. Gives what it has for the two
/// keys, repaired and salvaged.
fn mended(setup: &Setup, files: &Files) -> [[bool; 2]; 2] {
    let has = |options: &Options, path: &str| {
        let engine = options.clone().open(path).unwrap();
        let found = ["key", "other"].map(|key| engine.get(key).unwrap().is_some());
        engine.put("new", "value").unwrap();
        engine.sync().unwrap();
        engine.close().unwrap();
        let engine = options.clone().open(path).unwrap();
        assert!(engine.get("new").unwrap().is_some());
        found
    };
    let disk = disk_of(files);
    let with = options(setup, &disk);
    let report = repair::repair(&with, Path::new(STORE), None).unwrap();
    assert!(report.after.is_healthy(), "{:#?}", report.after.findings);
    let repaired = has(&with, STORE);
    let disk: MemoryDisk = disk_of(files);
    let with = options(setup, &disk);
    repair::salvage(&with, Path::new(STORE), Path::new("new")).unwrap();
    [repaired, has(&with, "new")]
}

/// Goal: a sound footer is believed before what the manifest says of it; without both, records speak for themselves.
#[test]
fn a_senseless_end_of_records() {
    for records_end in [0, 4_095, u64::MAX] {
        let (setup, mut files) = closed();
        rewrite_manifest(&mut files, |edit| {
            if let Edit::Seal(seal) = edit {
                seal.records_end = records_end;
            }
        });
        assert_eq!(mended(&setup, &files), [[true; 2]; 2], "{records_end}");
        let path = file(&files, ".seg");
        *files.get_mut(&path).unwrap().last_mut().unwrap() ^= 1;
        assert_eq!(mended(&setup, &files), [[true; 2]; 2], "{records_end}, no footer");
        for length in [4_096, 50, 0] {
            files.get_mut(&path).unwrap().truncate(length);
            mended(&setup, &files);
        }
    }
}

/// Goal: numbers that were never given are damage: they are neither counted on nor believed.
#[test]
fn numbers_that_nobody_gave() {
    let most = u64::MAX;
    type Change = fn(&mut Edit, u64);
    let changes: [(&str, Change); 5] = [
        ("segment", |edit, most| {
            if let Edit::Floors { segment, .. } = edit {
                *segment = SegmentId(most);
            }
        }),
        ("sequence", |edit, most| {
            if let Edit::Floors { sequence, .. } = edit {
                *sequence = SequenceNumber(most);
            }
        }),
        ("seal", |edit, most| {
            if let Edit::Seal(seal) = edit {
                seal.sequence_max = SequenceNumber(most);
            }
        }),
        ("checkpoint", |edit, most| {
            if let Edit::Checkpoint { number, .. } = edit {
                *number = most;
            }
        }),
        ("quarantine", |edit, most| {
            if let Edit::Clean = edit {
                *edit = Edit::Quarantine(SegmentId(most));
            }
        }),
    ];
    for (name, change) in changes {
        for most in [most, most - 1] {
            let (setup, mut files) = closed();
            rewrite_manifest(&mut files, |edit| change(edit, most));
            assert_eq!(mended(&setup, &files), [[true; 2]; 2], "{name} {most}");
            damage(&mut files);
            assert_eq!(mended(&setup, &files), [[false, true]; 2], "{name} {most}");
        }
    }
}
