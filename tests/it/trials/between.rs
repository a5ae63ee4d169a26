//! What comes between two steps of one piece of work: a write, a failure or a recovery while a flush, a sync or a sweep
//! is at the disk.

use std::sync::{Arc, Mutex};

use tierce_engine::{
    Durability, Engine, Health, Options, PutOptions, ReadMode, Timestamp, io::Disk,
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
};

use crate::basics::hooks::{Call, HookedDisk};

type Deed = Box<dyn FnOnce() + Send>;

/// Runs something once, in front of the next call to the disk that is asked for.
#[derive(Clone, Default)]
struct Between {
    deed: Arc<Mutex<Option<Deed>>>,
}

impl Between {
    fn disk(&self, inner: impl Disk + 'static, is_asked: fn(Call) -> bool) -> HookedDisk {
        let deed = Arc::clone(&self.deed);
        HookedDisk::new(inner, move |call| {
            if is_asked(call) {
                let deed = deed.lock().unwrap().take();
                if let Some(deed) = deed {
                    deed();
                }
            }
        })
    }

    fn next(&self, deed: impl FnOnce() + Send + 'static) {
        *self.deed.lock().unwrap() = Some(Box::new(deed));
    }

    #[track_caller]
    fn assert_done(&self) {
        assert!(self.deed.lock().unwrap().is_none(), "the call never came");
    }
}

fn is_sync(call: Call) -> bool {
    call == Call::Sync
}

fn is_read(call: Call) -> bool {
    matches!(call, Call::Read(_))
}

fn options(disk: impl Disk + 'static, clock: &TestClock) -> Options {
    let mut options = Options::new().disk(disk).clock(clock.clone()).background(false);
    options = options.segment_bytes(8 << 10).read_mode(ReadMode::Positioned);
    options.compaction.automatic = false;
    options
}

fn periodic() -> PutOptions {
    PutOptions::new().durability(Durability::Periodic)
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn value(engine: &Engine, key: &str) -> Option<Vec<u8>> {
    engine.get(key).unwrap().map(|value| value.to_vec())
}

/// Goal: a write that is staged while a touch of its key is carried out stays staged: the touch was of the older value.
/// Method: another staged write cannot be flushed, as what it replaces cannot be read; the touch is carried out beside
/// it, and the key is staged at its sync.
#[test]
fn a_put_staged_beside_a_touch() {
    let (disk, clock, between) = (RecordingDisk::new(), TestClock::new(), Between::default());
    let options = options(between.disk(disk.clone(), is_sync), &clock);
    let engine = options.durability(Durability::Sync).open("store").unwrap();
    for number in 0..4_u8 {
        engine.put([number], [number; 3_000]).unwrap();
    }
    settle(&engine);
    let later = engine.now().saturating_add_ms(3_600_000);
    engine.put_with("k", "old", &PutOptions::new().expires_at(later)).unwrap();
    engine.put_with([0], "staged", &periodic()).unwrap();
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Read]).lasting());
    let other = engine.clone();
    between.next(move || {
        other.put_with("k", "new", &periodic()).unwrap();
    });
    assert!(engine.touch("k", Some(later.saturating_add_ms(1_000))).unwrap());
    between.assert_done();
    assert_eq!(value(&engine, "k"), Some(b"new".to_vec()));
    disk.disarm();
    engine.sync().unwrap();
    assert_eq!(value(&engine, "k"), Some(b"new".to_vec()));
    assert_eq!(value(&engine, "\0"), Some(b"staged".to_vec()));
}

/// Goal: an entry that is written while a sweep is at work, into a segment that is sealed meanwhile, is removed when its
/// own time is over. Method: the sweep reads the records of sealed segments; at its first read the entry is put, and its
/// segment is filled and sealed.
#[test]
fn an_expiry_in_a_segment_that_a_sweep_saw_unsealed() {
    for round in 0..6_u8 {
        let (disk, clock, between) = (RecordingDisk::new(), TestClock::new(), Between::default());
        let engine = options(between.disk(disk, is_read), &clock).open("store").unwrap();
        let at = |ms| PutOptions::new().expires_at(engine.now().saturating_add_ms(ms));
        let (soon, late) = (at(1_000), at(30_000));
        for number in 0..16_u8 {
            engine.put_with([number], [number; 1_500], &soon).unwrap();
            engine.put([number, 1], [number; 1_500]).unwrap();
        }
        settle(&engine);
        // One that has ended in the segment that is not sealed, too: the sweep looks into it.
        engine.put_with("unsealed", "v", &soon).unwrap();
        clock.advance(2_000);
        let other = engine.clone();
        between.next(move || {
            other.put_with("late", [7; 100], &late).unwrap();
            // So many that the first segments of them are sealed on the way.
            for number in 0..120_u8 {
                other.put([number, 2], [number; 1_500]).unwrap();
            }
        });
        settle(&engine);
        between.assert_done();
        let before = engine.stats().entries;
        clock.advance(60_000);
        settle(&engine);
        assert_eq!(engine.stats().entries, before - 1, "round {round}: it is never removed");
    }
}

/// A store whose sync in the background is under way when a write finds the disk full; then the sync fails.
fn full_and_then_a_failed_sync() -> (RecordingDisk, Engine, TestClock) {
    let (disk, clock, between) = (RecordingDisk::new(), TestClock::new(), Between::default());
    let options = options(between.disk(disk.clone(), is_sync), &clock);
    // Two segments: at the sync of the first one the other can be written to.
    let engine = options.segment_bytes(64 << 10).open("store").unwrap();
    for number in 0..36_u8 {
        engine.put([number], [number; 3_000]).unwrap();
    }
    let (other, full) = (engine.clone(), disk.clone());
    between.next(move || {
        full.set_capacity(Some(full.used()));
        let failed = (0..2_000_u32).find_map(|n| other.put(n.to_le_bytes(), [1; 900]).err());
        assert!(failed.is_some(), "the disk is not full");
        full.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
    });
    clock.advance(1_000);
    assert!(engine.step().is_err());
    between.assert_done();
    disk.disarm();
    assert!(matches!(engine.health(), Health::Stopped { .. }));
    (disk, engine, clock)
}

/// Goal: after a failed sync what is in the files is not trusted, also if the disk was full before: nothing is sealed
/// where it is; with room for copies everything acknowledged is there again. Method: a power cut after the recovery.
#[test]
fn a_sync_fails_behind_a_full_disk() {
    let (disk, engine, clock) = full_and_then_a_failed_sync();
    disk.set_capacity(Some(disk.used() + (24 << 10)));
    assert!(engine.try_recover().is_err(), "what could not be synced was sealed");
    disk.set_capacity(None);
    engine.try_recover().unwrap();
    engine.sync().unwrap();
    let stored = options(disk.image().memory_disk(), &clock).open("store").unwrap();
    for number in 0..36_u8 {
        assert_eq!(stored.get([number]).unwrap().as_deref(), Some(&[number; 3_000][..]));
    }
}

/// Goal: nor after a panic: the store does not go on by itself, and seals nothing where it is. Method: the disk is full,
/// and the recovery panics at the device.
#[test]
fn a_panic_behind_a_full_disk() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let options = options(disk.clone(), &clock).segment_bytes(1 << 20);
    let engine = options.open("store").unwrap();
    for number in 0..40_u8 {
        engine.put([number], [number; 3_000]).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    let failed = (0..2_000_u32).find_map(|n| engine.put(n.to_le_bytes(), [1; 900]).err());
    assert!(failed.is_some(), "the disk is not full");
    disk.set_capacity(None);
    let fault = Fault::nth(1, EIO).of(&[CallKind::Write]);
    disk.arm(fault.with(tierce_kit::fault::Failure::Panic));
    let recovers = std::panic::AssertUnwindSafe(|| engine.try_recover().is_ok());
    assert!(std::panic::catch_unwind(recovers).is_err());
    disk.disarm();
    for _ in 0..5 {
        clock.advance(5_000);
        let _ = engine.step();
    }
    assert!(matches!(engine.health(), Health::Stopped { .. }), "it goes on by itself");
    disk.set_capacity(Some(disk.used() + (24 << 10)));
    assert!(engine.try_recover().is_err(), "it was sealed where it is");
    disk.set_capacity(None);
    engine.try_recover().unwrap();
    engine.put("again", "v").unwrap();
}

/// Goal: a sync in the background that fails after the store has recovered from another failure does not stop it: what
/// it was about stands in other files by then. Method: at the sync a write fails, and `try_recover` is called.
#[test]
fn a_sync_that_fails_behind_a_recovery() {
    let (disk, clock, between) = (RecordingDisk::new(), TestClock::new(), Between::default());
    let engine = options(between.disk(disk.clone(), is_sync), &clock).open("store").unwrap();
    // Two segments: at the sync of the first one the other can be written to.
    for key in ["filler", "other filler"] {
        engine.put(key, [1; 3_000]).unwrap();
    }
    engine.put("a", "1").unwrap();
    let (other, faults) = (engine.clone(), disk.clone());
    between.next(move || {
        faults.arm(Fault::nth(1, EIO).of(&[CallKind::Write]));
        other.put("b", "2").unwrap_err();
        faults.disarm();
        other.try_recover().unwrap();
        faults.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
    });
    clock.advance(1_000);
    assert!(engine.step().is_err(), "the sync failed");
    between.assert_done();
    disk.disarm();
    assert_eq!(engine.health(), Health::Good);
    engine.put("c", "3").unwrap();
    engine.sync().unwrap();
    let stored = options(disk.image().memory_disk(), &clock).open("store").unwrap();
    let found = ["a", "b", "c"].map(|key| value(&stored, key));
    assert_eq!(found, [Some(b"1".to_vec()), None, Some(b"3".to_vec())]);
}

/// Goal: a segment that is sealed in place on a full disk puts no time in doubt on record: with the clock right again
/// everything is served. Method: a crash, a wall clock in 2100, an opening on a full disk, another crash.
#[test]
fn a_clock_in_doubt_on_a_full_disk() {
    const HOUR_MS: u64 = 3_600_000;
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let large = |disk: &RecordingDisk| options(disk.clone(), &clock).segment_bytes(512 << 10);
    let engine = large(&disk).open("store").unwrap();
    let hour = PutOptions::new().expires_at(engine.now().saturating_add_ms(HOUR_MS));
    for number in 0..40_u8 {
        engine.put_with([number], [number; 3_000], &hour).unwrap();
    }
    engine.sync().unwrap();
    let disk = RecordingDisk::with_image(&disk.image());
    disk.set_capacity(Some(disk.used() + (24 << 10)));
    clock.set_wall(4_102_444_800_000);
    clock.reboot();
    let engine = large(&disk).open("store").unwrap();
    assert!(engine.clock_doubt().is_some() && engine.health() == Health::Good);
    assert!(engine.segments().iter().all(|segment| segment.sealed), "it was sealed in place");
    std::mem::forget(engine);
    let disk = RecordingDisk::with_image(&disk.image());
    clock.set_wall(TestClock::START_MS + 60_000);
    clock.reboot();
    let engine = large(&disk).open("store").unwrap();
    assert_eq!((0..40_u8).filter(|n| engine.get([*n]).unwrap().is_some()).count(), 40);
}

/// Goal: a staged write that has expired by a clock in doubt only is written as it is: with the clock right again it is
/// served. Method: a wall clock in 2100 at opening, a flush, a crash, the right time.
#[test]
fn a_flush_under_a_clock_in_doubt() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let engine = options(disk.clone(), &clock).open("store").unwrap();
    let hour = Timestamp(TestClock::START_MS + 3_600_000);
    engine.put_with("k", "old", &PutOptions::new().expires_at(hour)).unwrap();
    engine.close().unwrap();
    clock.set_wall(4_102_444_800_000);
    clock.reboot();
    let engine = options(disk.clone(), &clock).open("store").unwrap();
    engine.put_with("k", "new", &periodic().expires_at(hour)).unwrap();
    assert_eq!(engine.stats().staged, 1, "nothing is staged, nothing is tested");
    engine.sync().unwrap();
    std::mem::forget(engine);
    let disk = RecordingDisk::with_image(&disk.image());
    clock.set_wall(TestClock::START_MS + 60_000);
    clock.reboot();
    let engine = options(disk, &clock).open("store").unwrap();
    assert_eq!(value(&engine, "k"), Some(b"new".to_vec()));
}
