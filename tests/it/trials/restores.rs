//! Restores and backups that are cut off at any effect on the disk, under the strictest order of names; places that can
//! only be filled; backups inside the store.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use tierce_engine::{
    Engine, Error, Options, SequenceNumber,
    backup::{BackupOptions, back_up},
    io::{Access, Disk, MemoryDisk},
    restore, verify_backup,
};
use tierce_kit::{
    crash::{Bounds, CrashPlan, sweep},
    image::Image,
    recorder::RecordingDisk,
    seed,
};

use crate::basics::hooks::{Call, HookedDisk};

const STORE: &str = "data/store";
const BACKUP: &str = "kept/backup";

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(disk: &RecordingDisk) -> Options {
    Options::new().disk(disk.clone()).segment_bytes(8 << 10).background(false)
}

fn contents(engine: &Engine) -> Contents {
    engine
        .iter()
        .unwrap()
        .map(|entry| entry.map(|(key, entry)| (key, entry.value.to_vec())).unwrap())
        .collect()
}

/// What the store in `dir` holds, if it opens; a copy of the disk is opened.
fn read(disk: &RecordingDisk, dir: &Path) -> Result<Contents, Error> {
    let copy = RecordingDisk::with_image(&disk.image());
    options(&copy).create(false).open(dir).map(|engine| contents(&engine))
}

fn restored(disk: &RecordingDisk) -> Result<(), Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let go_on = &mut |_, _| ControlFlow::Continue(());
    restore(&disk, Path::new(BACKUP), Path::new(STORE), true, go_on).map(drop)
}

/// A disk with a store, a backup of it, and newer writes in the store; and what both hold.
fn before() -> (Image, Contents, Contents) {
    let disk = RecordingDisk::new();
    let engine = options(&disk).open(STORE).unwrap();
    for number in 0..12_u8 {
        engine.put([number], vec![number; 900]).unwrap();
    }
    engine.sync().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let go_on = &mut |_, _| ControlFlow::Continue(());
    back_up(&shared, Path::new(STORE), Path::new(BACKUP), &BackupOptions::new(), go_on).unwrap();
    let backed_up = contents(&engine);
    for number in 0..8_u8 {
        engine.put([number, 1], vec![number; 900]).unwrap();
        engine.delete([number]).unwrap();
    }
    let newer = contents(&engine);
    engine.close().unwrap();
    (disk.image(), backed_up, newer)
}

fn bounds() -> Bounds {
    Bounds { prefixes: 4, singles: 5, randoms: 4, tears: 0 }
}

/// Where the store is after a crash: under its name, aside, or in a place that says that it has to be restored again.
fn assert_is_kept(disk: &RecordingDisk, newer: &Contents, backed_up: &Contents, what: &str) {
    let image = disk.image();
    let aside = image.directories.iter().filter(|dir| dir.to_string_lossy().contains(".replaced-"));
    let is_aside =
        aside.map(|dir| read(disk, dir)).any(|found| found.is_ok_and(|found| found == *newer));
    match read(disk, Path::new(STORE)) {
        Ok(found) if found == *newer => {}
        Ok(found) => assert!(is_aside && found == *backed_up, "{what}: {} entries", found.len()),
        Err(Error::NotAStore { reason, .. }) if reason.contains("cut off") => {}
        Err(Error::NotAStore { reason, .. }) => assert!(is_aside, "{what}: {reason}"),
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Goal: a restore that power cuts off anywhere leaves the old store whole, in its place or aside, or a place that says
/// what happened; nothing else ever opens there; and restoring again ends it, with the old store kept. Method: every
/// effect on the disk, every name and byte that no sync covers lost or kept on its own; a place that can be renamed, and
/// one that can only be filled.
#[test]
fn cut_off_anywhere() {
    let (image, backed_up, newer) = before();
    for is_fixed in [false, true] {
        let disk = RecordingDisk::with_image(&image);
        if is_fixed {
            disk.fix(Path::new(STORE));
        }
        restored(&disk).unwrap();
        assert_eq!(read(&disk, Path::new(STORE)).unwrap(), backed_up);
        let mut states = 0;
        let visit = |point: usize, plan: &CrashPlan, left: Image| {
            states += 1;
            let what = format!("fixed {is_fixed}, after {point} effects, {plan:?}");
            let disk = RecordingDisk::with_image(&left);
            if is_fixed {
                disk.fix(Path::new(STORE));
            }
            assert_is_kept(&disk, &newer, &backed_up, &what);
            restored(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(read(&disk, Path::new(STORE)).unwrap(), backed_up, "{what}");
            let left = disk.image();
            let mut aside =
                left.directories.iter().filter(|dir| dir.to_string_lossy().contains(".replaced-"));
            assert!(aside.any(|dir| read(&disk, dir).is_ok_and(|found| found == newer)), "{what}");
            assert!(
                !left
                    .directories
                    .iter()
                    .any(|dir| dir.ends_with("store.restoring") || dir.ends_with(".restoring")),
                "{what}"
            );
            Ok::<(), ()>(())
        };
        let mut visit = visit;
        seed::cases("trials::restores::cut_off_anywhere", 1, |seed| {
            sweep(&disk.log(), 0, &bounds(), seed, &mut visit).unwrap();
        });
        assert!(states > 300, "{states}");
    }
}

/// Goal: a backup that power cuts off anywhere is none, or is whole: its sheet comes last. The store is as it was.
#[test]
fn backups_cut_off_anywhere() {
    let (image, _, newer) = before();
    for copies in [true, false] {
        let disk = RecordingDisk::with_image(&image);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let to = Path::new("kept/second");
        let go_on = &mut |_, _| ControlFlow::Continue(());
        back_up(&shared, Path::new(STORE), to, &BackupOptions::new().copies(copies), go_on)
            .unwrap();
        let end = disk.event_count();
        let visit = |point: usize, plan: &CrashPlan, left: Image| {
            let what = format!("copies {copies}, after {point} effects, {plan:?}");
            let disk = RecordingDisk::with_image(&left);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            match verify_backup(&shared, to) {
                Ok(verified) => {
                    assert!(verified.is_sound(), "{what}");
                    assert_eq!(read(&disk, to).unwrap(), newer, "{what}");
                }
                Err(Error::NotAStore { .. } | Error::Corruption(_)) => {
                    assert!(point < end, "{what}")
                }
                Err(error) => panic!("{what}: {error}"),
            }
            assert_eq!(read(&disk, Path::new(STORE)).unwrap(), newer, "{what}");
            Ok::<(), ()>(())
        };
        seed::cases("trials::restores::backups_cut_off_anywhere", 1, |seed| {
            sweep(&disk.log(), 0, &bounds(), seed, visit).unwrap();
        });
    }
}

/// Goal: a restore into a mount point fills it and moves what was there aside, inside; one that fails puts everything back;
/// what a mount leaves there stays. Method: an empty one, one with `lost+found`, one with a store; a failure of every
/// call in turn.
#[test]
fn into_a_mount_point() {
    let (image, backed_up, newer) = before();
    for holds in ["nothing", "lost+found", "a store"] {
        let mut image = image.clone();
        if holds != "a store" {
            image.files.retain(|path, _| !path.starts_with(STORE));
        }
        if holds == "lost+found" {
            image.directories.insert(Path::new(STORE).join("lost+found"));
        }
        let fresh = || {
            let disk = RecordingDisk::with_image(&image);
            disk.fix(Path::new(STORE));
            disk
        };
        let disk = fresh();
        restored(&disk).unwrap();
        assert_eq!(read(&disk, Path::new(STORE)).unwrap(), backed_up, "{holds}");
        let kept = disk.image().directories.contains(&Path::new(STORE).join("lost+found"));
        assert_eq!(kept, holds == "lost+found");
        let aside = Path::new(STORE).join(".replaced-1");
        assert_eq!(
            read(&disk, &aside).ok(),
            (holds == "a store").then(|| newer.clone()),
            "{holds}"
        );
        let calls = disk.call_count();
        for nth in (1..=calls).step_by(3) {
            let disk = fresh();
            disk.arm(tierce_kit::fault::Fault::nth(nth, tierce_kit::fault::EIO));
            let done = restored(&disk);
            disk.disarm();
            let what = format!("{holds}, call {nth}: {done:?}");
            let found = read(&disk, Path::new(STORE));
            match (done, found) {
                (Ok(()), Ok(found)) => assert_eq!(found, backed_up, "{what}"),
                (Err(_), Ok(found)) => assert!(found == newer || found == backed_up, "{what}"),
                (Err(_), Err(_)) if holds != "a store" => {}
                (Err(_), Err(Error::NotAStore { reason, .. })) => {
                    assert!(reason.contains("cut off"), "{what}: {reason}")
                }
                (done, found) => panic!("{what}: {done:?}, {found:?}"),
            }
            restored(&disk).unwrap_or_else(|error| panic!("{what}, then {error}"));
            assert_eq!(read(&disk, Path::new(STORE)).unwrap(), backed_up, "{what}");
        }
    }
}

/// Goal: a backup inside the store that is to be replaced is refused before anything is touched: it would be moved aside
/// with it.
#[test]
fn a_backup_inside_the_store() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    let engine = Options::new().open(&store).unwrap();
    engine.put("k", "v").unwrap();
    engine.back_up(store.join("backup"), &BackupOptions::new()).unwrap();
    engine.close().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(tierce_engine::io::OsDisk);
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let refused = restore(&disk, &store.join("backup"), &store, true, go_on).unwrap_err();
    assert!(refused.to_string().contains("move it out"), "{refused}");
    assert!(Options::new().open(&store).unwrap().get("k").unwrap().is_some());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

/// Goal: a follower of a store by its writes is told when an older state of it was restored: the answer is not complete,
/// whatever was written since, and complete again when it went on from there. Method: a place far ahead of the backup and
/// one just at it; asked before and after new writes, more than were lost.
#[test]
fn a_feed_across_a_restore() {
    let disk = RecordingDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let (store, backup) = (Path::new(STORE), Path::new(BACKUP));
    let engine = options(&disk).open(store).unwrap();
    for number in 0..12_u8 {
        engine.put([number], "v").unwrap();
    }
    engine.close().unwrap();
    let engine = options(&disk).open(store).unwrap();
    back_up(&shared, store, backup, &BackupOptions::new().copies(true), go_on).unwrap();
    for number in 0..5_u8 {
        engine.put([number, 1], "lost").unwrap();
    }
    let place = engine.changes_since(SequenceNumber(0), 100).unwrap().next;
    assert!(engine.changes_since(place, 100).unwrap().is_complete);
    engine.close().unwrap();
    restored(&disk).unwrap();
    let engine = options(&disk).open(store).unwrap();
    let found = engine.changes_since(place, 100).unwrap();
    assert!(!found.is_complete, "{found:?}");
    for number in 0..40_u8 {
        engine.put([number, 2], "new").unwrap();
    }
    let found = engine.changes_since(place, 100).unwrap();
    assert!(!found.is_complete);
    assert_eq!(found.changes.len(), 40, "no number is given twice");
    engine.put("more", "v").unwrap();
    let found = engine.changes_since(found.next, 100).unwrap();
    assert!(found.is_complete && found.changes.len() == 1, "{found:?}");
}

/// Goal: a place that a link leads to is restored where it is: the link stays.
#[cfg(unix)]
#[test]
fn a_place_behind_a_link() {
    let root = tempfile::tempdir().unwrap();
    let (real, link, backup) =
        (root.path().join("far/real"), root.path().join("link"), root.path().join("backup"));
    let engine = Options::new().open(&real).unwrap();
    engine.put("k", "v").unwrap();
    engine.back_up(&backup, &BackupOptions::new()).unwrap();
    engine.close().unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(tierce_engine::io::OsDisk);
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let done = restore(&disk, &backup, &link, true, go_on).unwrap().unwrap();
    assert_eq!(
        done.replaced,
        Some(root.path().canonicalize().unwrap().join("far/real.replaced-1"))
    );
    assert!(link.is_symlink());
    assert!(Options::new().open(&link).unwrap().get("k").unwrap().is_some());
}

/// Goal: a restore that began after the directory was looked at and was cut off before it was locked is seen: half a
/// store is not opened.
#[test]
fn cut_off_before_the_lock() {
    let memory = MemoryDisk::new();
    let options = |disk: HookedDisk| Options::new().disk(disk).background(false);
    options(HookedDisk::new(memory.clone(), |_| ())).open("store").unwrap().close().unwrap();
    let disk = {
        let memory = memory.clone();
        HookedDisk::new(memory.clone(), move |call| {
            if call == Call::Lock {
                let path = Path::new("store/.restore-unfinished");
                memory.open(path, Access::CreateNew).unwrap();
            }
        })
    };
    let opened = options(disk).open("store");
    assert!(matches!(opened, Err(Error::NotAStore { .. })), "{opened:?}");
}
