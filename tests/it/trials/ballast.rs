//! The ballast of a store: whose file it is, crashes beside it, and what it makes upkeep do.

use tierce_engine::{Durability, Error, Health, Options, PutOptions};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    fault::{CallKind, EIO, Fault},
    image::Image,
    recorder::RecordingDisk,
    store::STORE,
};

use crate::limits::{name, value};

/// Goal: a file of another program that has the ballast's name, in a directory that is no store, is not taken for ours.
#[test]
fn a_file_with_the_name_of_the_ballast() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("BALLAST");
    std::fs::write(&file, "tons").unwrap();
    let opened = Options::new().max_bytes(1 << 20).background(false).open(dir.path());
    assert!(matches!(opened, Err(Error::NotAStore { .. })), "{opened:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"tons");
}

/// So many puts and as many deletes in a store on a disk that is full in between, which makes the store give up its
/// ballast: how many writes were acknowledged after how many effects.
fn with_a_ballast(disk: &RecordingDisk, segment_bytes: u64, puts: u64) -> Vec<(usize, u64)> {
    disk.set_capacity(Some(1 << 20));
    let options = Options::new().disk(disk.clone()).clock(TestClock::new()).background(false);
    let engine =
        options.segment_bytes(segment_bytes).durability(Durability::Sync).open(STORE).unwrap();
    let mut acknowledged = Vec::new();
    let mut note = |number| acknowledged.push((disk.event_count(), number));
    for number in 0..puts {
        engine.put(name(number), value(number, 0, 900)).unwrap();
        note(number + 1);
    }
    disk.set_capacity(Some(disk.used()));
    for number in 0..puts {
        assert!(engine.delete(name(number)).unwrap());
        note(number + puts + 1);
    }
    assert!(!disk.paths().iter().any(|path| path.ends_with("BALLAST")), "it was not given up");
    let refused = engine.put("more", [1; 900]);
    assert!(matches!(refused, Err(Error::LowSpace { .. })), "{refused:?}");
    disk.set_capacity(None);
    engine.put("more", [1; 900]).unwrap();
    std::mem::forget(engine);
    acknowledged
}

/// Goal: a crash at any effect while a ballast is made, given up and made again loses nothing that was acknowledged, and
/// the store opens with a ballast or without. Method: a power cut after each effect, with all, none and some of what was
/// not synced.
#[test]
fn cut_off_beside_the_ballast() {
    let (mut with, mut without) = (0, 0);
    // Small segments fill up, and begin again; in large ones a record itself finds no room.
    for (segment_bytes, puts) in [(16 << 10, 30), (256 << 10, 31)] {
        let disk = RecordingDisk::new();
        let acknowledged = with_a_ballast(&disk, segment_bytes, puts);
        let log = disk.log();
        for point in 0..=log.events.len() {
            for plan in [CrashPlan::Everything, CrashPlan::Nothing, CrashPlan::Random(point as u64)]
            {
                let left = image(&log, point, &plan);
                let has_ballast = left.files.keys().any(|path| path.ends_with("BALLAST"));
                *(if has_ballast { &mut with } else { &mut without }) += 1;
                let done = acknowledged.iter().rfind(|(at, _)| *at <= point);
                let what = format!("{segment_bytes}, after {point} effects, {plan:?}");
                holds(&left, puts, done.map_or(0, |(_, done)| *done), &what);
            }
        }
    }
    assert!(with > 50 && without > 50, "{with} with a ballast, {without} without");
}

/// What a crash left has the first `done` writes, of so many puts and as many deletes; the next one may be there, too.
fn holds(left: &Image, puts: u64, done: u64, what: &str) {
    let disk = RecordingDisk::with_image(left);
    disk.set_capacity(Some(1 << 20));
    let options = Options::new().disk(disk).clock(TestClock::new()).background(false);
    let engine = options.open(STORE).unwrap_or_else(|error| panic!("{what}: {error}"));
    for number in 0..puts {
        let found = engine.contains_key(name(number)).unwrap();
        let must_be = number < done && done < number + puts;
        let may_be = number <= done && done < number + puts + 1;
        assert!(found || !must_be, "{what}: {number} is lost");
        assert!(!found || may_be, "{what}: {number} is back");
    }
    engine.put("after", "v").unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Goal: on a full disk upkeep recovers from what a full disk stopped, and from nothing else.
#[test]
fn a_failure_of_the_device_stays_one() {
    let disk = RecordingDisk::new();
    disk.set_capacity(Some(1 << 20));
    let mut options = Options::new().disk(disk.clone()).clock(TestClock::new()).background(false);
    options.compaction.automatic = false;
    let engine = options.segment_bytes(16 << 10).open(STORE).unwrap();
    for number in 0..60_u64 {
        engine.put(name(number), value(number, 0, 900)).unwrap();
    }
    engine.sync().unwrap();
    disk.set_capacity(Some(disk.used()));
    let buffered = PutOptions::new().durability(Durability::Buffered);
    for number in 0..60_u64 {
        engine.delete(name(number)).unwrap();
    }
    let refused = (0..60).find_map(|_| engine.put_with("more", [1; 900], &buffered).err());
    assert!(matches!(refused, Some(Error::LowSpace { .. })), "{refused:?}");
    // Enough to recover with, and too little for the ballast.
    disk.set_capacity(Some(disk.used() + (28 << 10)));
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Write]));
    let _ = engine.compact();
    disk.disarm();
    assert!(matches!(engine.health(), Health::Stopped { .. }), "{:?}", engine.health());
}
