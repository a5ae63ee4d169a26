//! Restores of which one call to the disk fails, and restores that are cut off twice.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use tierce_engine::{
    Engine, Error, Options,
    backup::{BackupOptions, back_up},
    io::Disk,
    restore,
};
use tierce_kit::{
    crash::{CrashPlan, image},
    fault::{EIO, Fault},
    image::Image,
    recorder::RecordingDisk,
};

const STORE: &str = "data/store";
const BACKUP: &str = "kept/backup";

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(engine: &Engine) -> Contents {
    let pairs = engine.iter().unwrap().map(Result::unwrap);
    pairs.map(|(key, entry)| (key, entry.value.to_vec())).collect()
}

fn options(disk: &RecordingDisk) -> Options {
    Options::new().disk(disk.clone()).segment_bytes(8 << 10).background(false)
}

/// A store, a backup of it, and newer writes in the store; what the backup holds, and what the store holds.
fn before() -> (Image, Contents, Contents) {
    let disk = RecordingDisk::new();
    let engine = options(&disk).open(STORE).unwrap();
    for number in 0..6_u8 {
        engine.put([number], vec![number; 900]).unwrap();
    }
    engine.sync().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let all = &mut |_, _| ControlFlow::Continue(());
    back_up(&shared, STORE.as_ref(), BACKUP.as_ref(), &BackupOptions::new(), all).unwrap();
    let backed_up = contents(&engine);
    engine.put("newer", "v").unwrap();
    let newer = contents(&engine);
    engine.close().unwrap();
    (disk.image(), backed_up, newer)
}

fn disk_with(image: &Image, is_fixed: bool) -> RecordingDisk {
    let disk = RecordingDisk::with_image(image);
    if is_fixed {
        disk.fix(Path::new(STORE));
    }
    disk
}

fn restored(disk: &RecordingDisk) -> Result<(), Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let all = &mut |_, _| ControlFlow::Continue(());
    restore(&disk, Path::new(BACKUP), Path::new(STORE), true, all).map(drop)
}

/// What the store in `dir` holds, if it opens; a copy of the disk is opened.
fn read(disk: &RecordingDisk, dir: &Path) -> Result<Contents, Error> {
    let copy = RecordingDisk::with_image(&disk.image());
    options(&copy).create(false).open(dir).map(|engine| contents(&engine))
}

/// Whether the older store is whole in one of the directories aside.
fn is_aside(disk: &RecordingDisk, held: &Contents) -> bool {
    let image = disk.image();
    let mut dirs = image.directories.iter();
    dirs.any(|dir| {
        dir.to_string_lossy().contains(".replaced-")
            && read(disk, dir).is_ok_and(|found| found == *held)
    })
}

/// Goal: a restore that reports a failure has left the store as it was, and one that reports none has restored it.
/// Method: every call to the disk fails once, in a place that can be renamed and in one that can only be filled.
#[test]
fn a_failure_is_told_as_it_is() {
    let (image, backed_up, newer) = before();
    for is_fixed in [false, true] {
        let whole = disk_with(&image, is_fixed);
        restored(&whole).unwrap();
        let (mut failed, mut left, calls) = (0, 0, whole.call_count());
        for nth in 1..=calls {
            let disk = disk_with(&image, is_fixed);
            disk.arm(Fault::nth(nth, EIO));
            let done = restored(&disk);
            disk.disarm();
            failed += u64::from(done.is_err());
            let what = format!("fixed {is_fixed}, call {nth} of {calls}, {done:?}");
            let found = read(&disk, Path::new(STORE)).unwrap_or_else(|e| panic!("{what}: {e}"));
            let expected = if done.is_ok() { &backed_up } else { &newer };
            assert!(found == *expected, "{what}: {} entries", found.len());
            let stage = disk.kind(Path::new(&format!("{STORE}.restoring")));
            left += u64::from(done.is_err() && stage.is_ok_and(|kind| kind.is_some()));
        }
        assert!(left == 0, "of {failed} that failed {left} left their stage");
        assert!(failed > 20, "{failed} of {calls} failed");
    }
}

/// Goal: a restore that is cut off, and of which the putting back is cut off, too, leaves the old store whole: the third
/// attempt restores the backup and has it aside. Method: a place that can only be filled; power cuts after every second
/// effect of the first attempt and after each one of the second, with all that was done and with what was synced.
#[test]
fn cut_off_twice() {
    let (image_before, backed_up, newer) = before();
    let first = disk_with(&image_before, true);
    restored(&first).unwrap();
    let log = first.log();
    let mut states = 0;
    for point in (0..log.events.len()).step_by(2) {
        let left = image(&log, point, &CrashPlan::Everything);
        if !left.files.keys().any(|path| path.ends_with(".restore-unfinished")) {
            continue;
        }
        let second = disk_with(&left, true);
        restored(&second).unwrap();
        let again = second.log();
        for other in 0..again.events.len() {
            for plan in [CrashPlan::Everything, CrashPlan::Nothing] {
                states += 1;
                let third = disk_with(&image(&again, other, &plan), true);
                let what = format!("after {point} effects, then after {other}, {plan:?}");
                restored(&third).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(read(&third, Path::new(STORE)).unwrap() == backed_up, "{what}");
                assert!(is_aside(&third, &newer), "{what}: the old store is lost");
            }
        }
    }
    assert!(states > 100, "{states}");
}
