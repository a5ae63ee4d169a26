//! A sync leaves a mark: what was on the device once is damage when it is gone, never an unfinished write.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tierce_engine::{
    Durability, Engine, Error, Options, RecoveryPolicy,
    check::check_store,
    io::{Disk, MemoryDisk},
    repair,
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
    rng::Rng,
    seed::cases,
};

const HEADER_BYTES: usize = 4096;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn options(disk: impl Disk + 'static, clock: &TestClock, durability: Durability) -> Options {
    Options::new().disk(disk).background(false).clock(clock.clone()).durability(durability)
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() {}
}

/// What a kill leaves of a store that has this disk.
fn killed(engine: Engine, disk: &MemoryDisk) -> Files {
    let files = disk.files();
    std::mem::forget(engine);
    files
}

fn segment_of(files: &Files) -> PathBuf {
    files.keys().rfind(|path| path.extension().is_some_and(|e| e == "seg")).unwrap().clone()
}

/// How a store's writes come to be on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `Engine::sync`.
    Asked,
    /// The background's sync, and a second in which nothing is written.
    Idle,
}

const WAYS: [Way; 2] = [Way::Asked, Way::Idle];
const MODES: [Durability; 4] =
    [Durability::Buffered, Durability::Os, Durability::Sync, Durability::Periodic];

/// Fills a store with puts, overwrites and a delete, has it synced, and kills it. With what each key then has.
fn filled(mode: Durability, way: Way, rng: &mut Rng) -> (Files, BTreeMap<String, Option<Vec<u8>>>) {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock, mode).open("store").unwrap();
    let mut expected = BTreeMap::new();
    // A delete of what was never there begins no segment.
    engine.put("0", "first").unwrap();
    expected.insert("0".to_owned(), Some(b"first".to_vec()));
    for n in 0..4 + rng.below(12) {
        let (key, value) = (rng.below(6).to_string(), vec![n as u8; rng.below(80) as usize]);
        if rng.below(4) == 0 {
            engine.delete(&key).unwrap();
            expected.insert(key, None);
        } else {
            engine.put(&key, &value).unwrap();
            expected.insert(key, Some(value));
        }
        if rng.below(5) == 0 {
            engine.sync().unwrap();
        }
    }
    match way {
        Way::Asked => engine.sync().unwrap(),
        Way::Idle => (0..8).for_each(|_| {
            clock.advance(1_000);
            settle(&engine);
        }),
    }
    (killed(engine, &disk), expected)
}

fn with_damage(files: &Files, damage: impl FnOnce(&mut Vec<u8>)) -> MemoryDisk {
    let mut files = files.clone();
    damage(files.get_mut(&segment_of(&files)).unwrap());
    MemoryDisk::with_files(files)
}

/// What of the store may not be said of damage: that nothing is wrong, that all was salvaged, a value that is not the
/// key's, a key that is there although it was deleted.
fn assert_told(disk: &MemoryDisk, expected: &BTreeMap<String, Option<Vec<u8>>>, what: &str) {
    let shared: Arc<dyn Disk> = Arc::new(MemoryDisk::with_files(disk.files()));
    assert!(!check_store(&shared, "store".as_ref()).unwrap().is_healthy(), "{what}: check");
    let clock = TestClock::new();
    let reopened = |policy| {
        options(MemoryDisk::with_files(disk.files()), &clock, Durability::Os)
            .recovery(policy)
            .open("store")
    };
    let refused = reopened(RecoveryPolicy::Strict);
    assert!(matches!(refused, Err(Error::Corruption(_))), "{what}: {refused:?}");
    let engine = reopened(RecoveryPolicy::Salvage).unwrap();
    assert!(!engine.recovery_report().damaged.is_empty(), "{what}: opened without a word");
    drop(engine);
    let home = Options::new().disk(MemoryDisk::with_files(disk.files()));
    let salvaged = repair::salvage(&home, "store".as_ref(), "new".as_ref()).unwrap();
    let engine = home.open("new").unwrap();
    let is_whole = expected.iter().all(|(key, value)| {
        let found = engine.get(key).unwrap().map(|value| value.to_vec());
        found == *value
    });
    assert!(is_whole || !salvaged.is_whole(), "{what}: salvaged in silence: {salvaged:?}");
}

/// Goal: after `sync()`, or when the store has been idle for a while, one damaged byte anywhere in what was written, in
/// any mode, is damage: found by a check, refused under the strict policy, told by salvage. Method: a random bit of each
/// of some records of random stores.
#[test]
fn a_damaged_byte_of_what_was_synced_is_found() {
    cases("trials::marks::a_damaged_byte_of_what_was_synced_is_found", 8, |seed| {
        let mut rng = Rng::new(seed);
        for mode in MODES {
            for way in WAYS {
                let (files, expected) = filled(mode, way, &mut rng);
                let bytes = &files[&segment_of(&files)];
                let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
                for _ in 0..4 {
                    let at = HEADER_BYTES + rng.below((end - HEADER_BYTES) as u64 + 1) as usize;
                    let bit = rng.below(8);
                    let disk = with_damage(&files, |bytes| bytes[at] ^= 1 << bit);
                    assert_told(&disk, &expected, &format!("{mode:?} {way:?} bit {bit} of {at}"));
                }
            }
        }
    });
}

/// Goal: the same of a segment that is cut anywhere, its header included, or emptied.
#[test]
fn a_cut_of_what_was_synced_is_found() {
    cases("trials::marks::a_cut_of_what_was_synced_is_found", 8, |seed| {
        let mut rng = Rng::new(seed);
        for mode in MODES {
            for way in WAYS {
                let (files, expected) = filled(mode, way, &mut rng);
                let bytes = &files[&segment_of(&files)];
                let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
                let cuts = [0, rng.below(4096) as usize, HEADER_BYTES];
                let behind = HEADER_BYTES + rng.below((end - HEADER_BYTES) as u64) as usize;
                for at in cuts.into_iter().chain([behind]) {
                    let disk = with_damage(&files, |bytes| bytes.truncate(at));
                    assert_told(&disk, &expected, &format!("{mode:?} {way:?} cut at {at}"));
                }
            }
        }
    });
}

/// Goal: damage in front of the mark takes only what it hit: what stands behind it is kept where the policy allows.
#[test]
fn what_stands_behind_the_damage_is_kept() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock, Durability::Os).open("store").unwrap();
    for n in 0..50_u8 {
        engine.put([n], [n; 40]).unwrap();
    }
    engine.sync().unwrap();
    let files = killed(engine, &disk);
    let disk = with_damage(&files, |bytes| bytes[HEADER_BYTES + 30] ^= 1);
    let engine = options(disk, &clock, Durability::Os).recovery(RecoveryPolicy::SkipRecord);
    let engine = engine.open("store").unwrap();
    assert_eq!((engine.iter().unwrap().count(), engine.recovery_report().damaged.len()), (49, 1));
}

/// Goal: an unsealed segment that was emptied or cut inside its header is a loss to salvage and repair, although nothing
/// was synced: the header was on the device before anything was written behind it.
#[test]
fn an_emptied_segment_is_a_loss() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock, Durability::Os).open("store").unwrap();
    engine.put("a", "1").unwrap();
    let files = killed(engine, &disk);
    for length in [0, 1, 200, HEADER_BYTES - 1] {
        let damaged = || Options::new().disk(with_damage(&files, |bytes| bytes.truncate(length)));
        let salvaged = repair::salvage(&damaged(), "store".as_ref(), "new".as_ref()).unwrap();
        assert!(!salvaged.is_whole(), "cut at {length}: {salvaged:?}");
        let repaired = repair::repair(&damaged(), "store".as_ref(), None).unwrap();
        assert!(repaired.plan.loses(), "cut at {length}: {:?}", repaired.plan);
    }
    let zeroed = with_damage(&files, |bytes| bytes[..HEADER_BYTES].fill(0));
    let zeroed = Options::new().disk(zeroed);
    assert!(!repair::salvage(&zeroed, "store".as_ref(), "new".as_ref()).unwrap().is_whole());
}

/// Goal: the mark costs nothing where it says nothing new: none for a put, none while there are writes, one when the
/// store falls idle, none from then on; and a second `sync()` in a row does not touch the disk.
#[test]
fn marks_are_few() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock, Durability::Os).open("store").unwrap();
    let writes = || disk.calls_of(CallKind::Write);
    let syncs = || disk.calls_of(CallKind::Sync);
    engine.put("0", "v").unwrap();
    settle(&engine);
    let before = (writes(), syncs());
    for n in 1..=20_u8 {
        engine.put([n], "v").unwrap();
        clock.advance(1_000);
        settle(&engine);
    }
    assert_eq!((writes() - before.0, syncs() - before.1), (20, 20), "while there are writes");
    let before = (writes(), syncs());
    clock.advance(1_000);
    settle(&engine);
    assert_eq!((writes() - before.0, syncs() - before.1), (1, 1), "when it falls idle");
    for _ in 0..20 {
        clock.advance(1_000);
        settle(&engine);
    }
    engine.sync().unwrap();
    assert_eq!((writes() - before.0, syncs() - before.1), (1, 1), "idle and marked");
}

/// Goal: a mark that cannot be written is an error of `sync()`, stops nothing, and is made up for; a mark never says more
/// than what the device has.
#[test]
fn a_mark_that_fails_is_made_up_for() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock, Durability::Os).open("store").unwrap();
    engine.put("a", "1").unwrap();
    // The first sync is that of the segment.
    disk.arm(Fault::nth(2, EIO).of(&[CallKind::Sync]));
    engine.sync().unwrap_err();
    engine.put("b", "2").unwrap();
    engine.sync().unwrap();
    std::mem::forget(engine);
    let files = disk.image().memory_disk().files();
    let disk = with_damage(&files, |bytes| bytes[HEADER_BYTES + 30] ^= 1);
    let refused = options(disk, &clock, Durability::Os).open("store");
    assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
}
