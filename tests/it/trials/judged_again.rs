//! What was judged outside of the writer's turn is judged again in it, and no touch outlives its record.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tierce_engine::{
    Change, Durability, Engine, Error, Evict, Knobs, Options, PutOptions, SegmentId, Timestamp,
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
};

use crate::basics::hooks::{Call, HookedDisk};

const HOUR_MS: u64 = 3_600_000;

fn quiet(disk: impl Disk + 'static, clock: &TestClock) -> Options {
    let mut options = Options::new()
        .disk(disk)
        .clock(clock.clone())
        .background(false)
        .segment_bytes(8 << 10)
        .knobs(Knobs::worst());
    options.compaction.automatic = false;
    options
}

/// The store as the death of the process leaves it.
fn killed(engine: Engine, disk: &MemoryDisk) -> MemoryDisk {
    let files = disk.files();
    std::mem::forget(engine);
    MemoryDisk::with_files(files.into_iter().filter(|(path, _)| !path.ends_with("LOCK")))
}

fn sealed(engine: &Engine) -> Vec<SegmentId> {
    engine.segments().iter().filter(|segment| segment.sealed).map(|segment| segment.id).collect()
}

fn compact_all(engine: &Engine) {
    engine.compact_with(Some(&sealed(engine)), |_| ControlFlow::Continue(())).unwrap();
}

/// Time passes, in steps that store time believes.
fn pass(engine: &Engine, clock: &TestClock, ms: u64) {
    for _ in 0..ms.div_ceil(200_000) {
        clock.advance(200_000);
        let _ = engine.now();
    }
}

/// Sessions were stored for an hour and touched, and the store was closed; it was opened, the sessions were deleted and
/// their segments left; the process died; the store was opened from the old checkpoint, and others got the slots.
fn after_a_crash(clock: &TestClock, options: &PutOptions) -> Engine {
    let disk = MemoryDisk::new();
    let engine = quiet(disk.clone(), clock).open("store").unwrap();
    let soon = engine.now().saturating_add_ms(HOUR_MS);
    for n in 0..20 {
        let put = PutOptions::new().expires_at(soon);
        engine.put_with(format!("session {n}"), [1; 3_500], &put).unwrap();
    }
    for n in 0..20 {
        let later = Some(soon.saturating_add_ms(HOUR_MS));
        assert!(engine.touch(format!("session {n}"), later).unwrap());
    }
    engine.close().unwrap();
    let engine = quiet(disk.clone(), clock).open("store").unwrap();
    for n in 0..20 {
        assert!(engine.delete(format!("session {n}")).unwrap());
    }
    while engine.compact().unwrap().segments > 0 {}
    let engine = quiet(killed(engine, &disk), clock).open("store").unwrap();
    assert!(engine.recovery_report().from_checkpoint);
    for n in 0..150_u8 {
        engine.put_with(format!("state {n}"), [n; 3_500], options).unwrap();
    }
    engine.audit().unwrap();
    engine
}

fn lost(engine: &Engine) -> Vec<u8> {
    (0..150).filter(|n| engine.get(format!("state {n}")).unwrap().is_none()).collect()
}

/// Goal: the touch of a record that is gone ends no other record, however it is looked at: entries without an expiry
/// stay when the touch's time is over.
#[test]
fn a_touch_ends_with_its_record() {
    let clock = TestClock::new();
    let engine = after_a_crash(&clock, &PutOptions::new());
    pass(&engine, &clock, 3 * HOUR_MS);
    engine.sweep(None).unwrap();
    compact_all(&engine);
    assert_eq!(lost(&engine), Vec::<u8>::new(), "entries without an expiry are gone");
    engine.audit().unwrap();
}

/// Goal: nor does it give one an expiry: before its time is over, compaction copies entries as they are.
#[test]
fn a_touch_gives_strangers_no_expiry() {
    let clock = TestClock::new();
    let engine = after_a_crash(&clock, &PutOptions::new());
    compact_all(&engine);
    for n in 0..150 {
        let entry = engine.entry(format!("state {n}")).unwrap().unwrap();
        assert_eq!(entry.expires_at, None, "state {n} was put without an expiry");
    }
}

/// Goal: nor does it shorten one: entries stored for a month are there after some hours, sweeps or not.
#[test]
fn a_touch_shortens_no_lifetime() {
    let clock = TestClock::new();
    let month = Timestamp(TestClock::START_MS).saturating_add_ms(30 * 24 * HOUR_MS);
    let engine = after_a_crash(&clock, &PutOptions::new().expires_at(month));
    pass(&engine, &clock, 3 * HOUR_MS);
    engine.sweep(None).unwrap();
    compact_all(&engine);
    assert_eq!(lost(&engine), Vec::<u8>::new(), "entries stored for a month are gone");
    assert!(engine.entry("state 1").unwrap().unwrap().expires_at == Some(month));
}

/// A disk whose next sync waits until it is let go.
#[derive(Clone, Default)]
struct Gate {
    is_armed: Arc<AtomicBool>,
    is_reached: Arc<AtomicBool>,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn disk(&self, inner: MemoryDisk) -> HookedDisk {
        let gate = self.clone();
        HookedDisk::new(inner, move |call| {
            if call == Call::Sync && gate.is_armed.swap(false, Ordering::SeqCst) {
                gate.is_reached.store(true, Ordering::SeqCst);
                let (open, signal) = &*gate.is_open;
                let mut open = open.lock().unwrap();
                while !*open {
                    open = signal.wait(open).unwrap();
                }
            }
        })
    }

    fn let_go(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

/// An entry is touched in time; while the touch is on its way to the device its old time passes, and `remover` looks for
/// what has ended. The touch was acknowledged, so the entry is there, now and after a power cut.
fn a_renewal_beside(remover: fn(&Engine)) {
    let (clock, disk, gate) = (TestClock::new(), MemoryDisk::new(), Gate::default());
    let options = quiet(gate.disk(disk.clone()), &clock).durability(Durability::Sync);
    let engine = options.open("store").unwrap();
    let put = PutOptions::new().expires_at(engine.now().saturating_add_ms(1_000));
    for name in ["lease", "other", "third"] {
        engine.put_with(name, [7; 3_000], &put).unwrap();
    }
    while engine.step().unwrap() {}
    assert!(!sealed(&engine).is_empty());
    clock.advance(900);
    gate.is_armed.store(true, Ordering::SeqCst);
    let later = engine.now().saturating_add_ms(HOUR_MS);
    thread::scope(|scope| {
        let touched = scope.spawn(|| engine.touch("lease", Some(later)).unwrap());
        while !gate.is_reached.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        clock.advance(200);
        let removed = scope.spawn(|| remover(&engine));
        // It comes as far as it can, and that is the turn.
        thread::sleep(Duration::from_millis(60));
        gate.let_go();
        assert!(touched.join().unwrap(), "acknowledged: the entry was there");
        removed.join().unwrap();
    });
    engine.audit().unwrap();
    assert!(engine.get("lease").unwrap().is_some(), "renewed for an hour, and gone");
    assert!(engine.get("other").unwrap().is_none());
    let engine = quiet(killed(engine, &disk), &clock).open("store").unwrap();
    assert!(engine.get("lease").unwrap().is_some(), "gone after a crash");
}

/// Goal: an acknowledged touch is not lost to a sweep that judged before it.
#[test]
fn a_renewal_beside_a_sweep() {
    a_renewal_beside(|engine| {
        engine.sweep(None).unwrap();
    });
}

/// Goal: nor to a compaction of the entry's segment.
#[test]
fn a_renewal_beside_a_compaction() {
    a_renewal_beside(compact_all);
}

/// Goal: nor to the removal of whole expired segments, from the disk least of all.
#[test]
fn a_renewal_beside_dropped_segments() {
    a_renewal_beside(|engine| while engine.step().unwrap() {});
}

/// Goal: a touch or slide between the reading and the writing of an update is seen: it is asked again.
#[test]
fn an_update_takes_no_renewal_back() {
    for is_slide in [false, true] {
        let clock = TestClock::new();
        let engine = quiet(MemoryDisk::new(), &clock).open("store").unwrap();
        let day = Duration::from_secs(86_400);
        let soon = engine.now().saturating_add_ms(86_400_000);
        engine.put_with("counter", "1", &PutOptions::new().expires_at(soon)).unwrap();
        clock.advance(250_000);
        let mut asked = 0;
        let change = |old: Option<&tierce_engine::Entry>| {
            asked += 1;
            if asked == 1 {
                // Another thread, just now.
                let later = soon.saturating_add_ms(HOUR_MS);
                let renewed = match is_slide {
                    true => engine.slide("counter", day),
                    false => engine.touch("counter", Some(later)),
                };
                assert!(renewed.unwrap(), "acknowledged");
            }
            let at = old.unwrap().expires_at.unwrap();
            Change::Put(b"2".to_vec(), PutOptions::new().expires_at(at))
        };
        engine.update("counter", change).unwrap();
        let entry = engine.entry("counter").unwrap().unwrap();
        assert!(asked == 2 && entry.expires_at > Some(soon), "slide {is_slide}: {entry:?}");
    }
}

/// Goal: a delete that was decided by an expiry does not hit what has none any more; nor does a conditional put.
#[test]
fn a_condition_covers_the_expiry() {
    let clock = TestClock::new();
    let engine = quiet(MemoryDisk::new(), &clock).open("store").unwrap();
    let soon = engine.now().saturating_add_ms(1_000);
    let put = PutOptions::new().expires_at(soon);
    engine.put_with("k", "v", &put).unwrap();
    let read = engine.entry("k").unwrap().unwrap();
    let mut is_first = true;
    let deleted = engine.update("k", |old| {
        if std::mem::take(&mut is_first) {
            assert!(engine.touch("k", None).unwrap());
        }
        if old.is_some_and(|old| old.expires_at.is_some()) { Change::Delete } else { Change::Keep }
    });
    assert_eq!(deleted.unwrap(), None, "it was made to stay");
    for stale in [read.version(), read.sequence.into()] {
        let late = engine.put_with("k", "late", &PutOptions::new().only_if_unchanged(stale));
        assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    }
    let now = engine.entry("k").unwrap().unwrap();
    engine.put_with("k", "in time", &PutOptions::new().only_if_unchanged(now.sequence)).unwrap();
}

/// Goal: the version of a touched entry stays the same through compaction and reopening, and so does what it is stored
/// by.
#[test]
fn a_version_outlives_compaction() {
    let (clock, disk) = (TestClock::new(), MemoryDisk::new());
    let mut engine = quiet(disk.clone(), &clock).open("store").unwrap();
    let later = engine.now().saturating_add_ms(HOUR_MS);
    engine.put("k", [1; 5_000]).unwrap();
    assert!(engine.touch("k", Some(later)).unwrap());
    engine.put("other", [1; 5_000]).unwrap();
    let read = engine.entry("k").unwrap().unwrap();
    assert!(read.sequence > read.stored);
    for _ in 0..2 {
        while engine.step().unwrap() {}
        compact_all(&engine);
        let now = engine.entry("k").unwrap().unwrap();
        assert_eq!((now.version(), now.stored), (read.version(), read.stored));
        engine.close().unwrap();
        engine = quiet(disk.clone(), &clock).open("store").unwrap();
        assert_eq!(engine.entry("k").unwrap().unwrap().version(), read.version());
    }
}

/// Goal: a crash takes back an eighth of a lifetime at most, also when the slides were spread over many openings and
/// the checkpoint that knew of them is of no use any more.
#[test]
fn slides_over_many_openings() {
    let (clock, disk) = (TestClock::new(), MemoryDisk::new());
    let lifetime = Duration::from_millis(800_000);
    let engine = quiet(disk.clone(), &clock).open("store").unwrap();
    let put = PutOptions::new().expires_at(engine.now().saturating_add_ms(800_000));
    engine.put_with("session", "s", &put).unwrap();
    engine.close().unwrap();
    for _ in 0..20 {
        let engine = quiet(disk.clone(), &clock).open("store").unwrap();
        clock.advance(90_000);
        assert!(engine.slide("session", lifetime).unwrap(), "it is in use all the time");
        engine.close().unwrap();
    }
    let files = disk.files().into_iter().filter(|(path, _)| {
        !path.ends_with("LOCK") && path.extension().is_none_or(|end| end != "ckpt")
    });
    let engine = quiet(MemoryDisk::with_files(files), &clock).open("store").unwrap();
    let entry = engine.entry("session").unwrap().expect("it was used a moment ago");
    let least = engine.now().saturating_add_ms(800_000 - 100_000);
    assert!(entry.expires_at >= Some(least), "{:?} is before {least:?}", entry.expires_at);
}

/// Goal: after a recovery in the open store the segments count what is live and not what was evicted.
#[test]
fn accounts_after_a_recovery() {
    let (clock, disk) = (TestClock::new(), RecordingDisk::new());
    let options = quiet(disk.clone(), &clock).segment_bytes(64 << 10).max_entries(10);
    let engine = options.durability(Durability::Sync).open("store").unwrap();
    let evictable = PutOptions::new().evictable(true);
    for n in 0..100 {
        engine.put_with(format!("{n}"), [7; 100], &evictable).unwrap();
    }
    let live = || engine.segments().iter().map(|segment| segment.live_records).sum::<u64>();
    assert_eq!(live(), engine.stats().entries);
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
    assert!(engine.put("x", "v").is_err());
    disk.disarm();
    engine.try_recover().unwrap();
    assert_eq!(live(), engine.stats().entries, "evicted entries count as live");
    engine.audit().unwrap();
}

/// Goal: an answer is as safe as was asked: what is reported gone under `Os` does not come back by the death of the
/// process, though another had deleted it less safely.
#[test]
fn an_answer_rests_on_what_is_safe() {
    let (clock, disk) = (TestClock::new(), MemoryDisk::new());
    let engine = quiet(disk.clone(), &clock).open("store").unwrap();
    engine.put("k", "v").unwrap();
    assert!(engine.delete_with("k", Durability::Buffered).unwrap());
    assert!(!engine.delete_with("k", Durability::Os).unwrap(), "it is gone");
    let engine = quiet(killed(engine, &disk), &clock).open("store").unwrap();
    assert!(engine.get("k").unwrap().is_none(), "reported gone, and back");
}

/// Goal: an entry that a reader marks as used just before its end is not passed over by the sweep.
#[test]
fn a_use_keeps_no_ended_entry() {
    let clock = TestClock::new();
    let reading = Arc::new(Mutex::new(None::<Box<dyn FnOnce() + Send>>));
    let hook = Arc::clone(&reading);
    let disk = HookedDisk::new(MemoryDisk::new(), move |call| {
        if matches!(call, Call::Read(_)) {
            let look = hook.lock().unwrap().take();
            if let Some(look) = look {
                look();
            }
        }
    });
    let options = quiet(disk, &clock).read_mode(tierce_engine::ReadMode::Positioned);
    let options = options.max_entries(1_000).evict(tierce_engine::Evict::S3Fifo);
    let engine = options.open("store").unwrap();
    let put = PutOptions::new().expires_at(engine.now().saturating_add_ms(1_000));
    // Something stays in every segment, so that none is dropped unread.
    for n in 0..8 {
        engine.put_with(format!("lock {n}"), [7; 1_500], &put).unwrap();
        engine.put(format!("stays {n}"), [7; 1_500]).unwrap();
    }
    while engine.step().unwrap() {}
    clock.advance(2_000);
    let reader = engine.clone();
    // While the sweep reads a record, a reader looks the entries up, which marks them as used.
    *reading.lock().unwrap() = Some(Box::new(move || {
        for n in 0..8 {
            assert!(reader.get(format!("lock {n}")).unwrap().is_none(), "it has expired");
        }
    }));
    engine.sweep(None).unwrap();
    assert_eq!(engine.stats().entries, 8, "an ended entry still counts towards the limit");
}

/// Goal: an expiry that is written while a sweep walks the index is not forgotten: a store full of what has expired
/// takes the next write.
/// Method: the first write is held at its sync while a sweep looks for expired entries.
#[test]
fn an_expiry_written_beside_a_sweep() {
    let (clock, armed) = (TestClock::new(), Arc::new(AtomicBool::new(false)));
    let (entered, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let disk = {
        let (armed, entered, gate) = (Arc::clone(&armed), Arc::clone(&entered), Arc::clone(&gate));
        HookedDisk::new(MemoryDisk::new(), move |call| {
            if call == Call::Sync && armed.swap(false, Ordering::SeqCst) {
                entered.store(true, Ordering::SeqCst);
                while !gate.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            }
        })
    };
    let options = quiet(disk, &clock).max_entries(1).evict(Evict::None);
    let engine = options.durability(Durability::Sync).open("store").unwrap();
    engine.put("begun", "segment").unwrap();
    engine.delete("begun").unwrap();
    let soon = PutOptions::new().expires_at(engine.now().saturating_add_ms(500));
    armed.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let put = scope.spawn(|| engine.put_with("old", "v", &soon).unwrap());
        while !entered.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let swept = scope.spawn(|| engine.sweep(None).unwrap());
        thread::sleep(Duration::from_millis(100));
        gate.store(true, Ordering::SeqCst);
        put.join().unwrap();
        swept.join().unwrap();
    });
    clock.advance(900);
    engine.put("new", "v").unwrap();
}
