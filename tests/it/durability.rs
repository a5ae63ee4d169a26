//! What each mode promises: which disk calls a write makes, when it is seen, and what a power cut leaves.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{
    Batch, Durability, Engine, Error, Health, Knobs, Options, PutOptions,
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
    store::{STORE, Setup},
};

use crate::basics::{
    DURABILITIES,
    hooks::{Call, HookedDisk},
    value_of,
};

/// An open store whose first segment is there already, with room.
struct Bench {
    disk: RecordingDisk,
    clock: TestClock,
    engine: Engine,
}

/// Writes and syncs of files since the last question.
#[derive(Debug, PartialEq, Eq)]
struct Calls {
    writes: u64,
    syncs: u64,
}

/// With knobs as in production: groups and queues are counted here, and the worst ones end both at two.
fn setup(durability: Durability) -> Setup {
    Setup { segment_bytes: 1 << 20, knobs: Knobs::new(), ..Setup::new(durability) }
}

impl Bench {
    fn new(durability: Durability) -> Self {
        let (disk, clock) = (RecordingDisk::new(), TestClock::new());
        let options = setup(durability).options(Arc::new(disk.clone()), &clock);
        let engine = options.open(STORE).unwrap();
        let sync = PutOptions::new().durability(Durability::Sync);
        engine.put_with("first", vec![0; 20_000], &sync).unwrap();
        Self { disk, clock, engine }
    }

    /// What `work` asks of the disk, in writes and syncs; fails if it asks anything that changes directories.
    #[track_caller]
    fn calls(&self, work: impl FnOnce(&Engine)) -> Calls {
        let count = |kind| self.disk.calls_of(kind);
        let names = || count(CallKind::Create) + count(CallKind::Rename) + count(CallKind::SyncDir);
        let before = (count(CallKind::Write), count(CallKind::Sync), names());
        work(&self.engine);
        assert_eq!(names(), before.2, "no file is made");
        Calls { writes: count(CallKind::Write) - before.0, syncs: count(CallKind::Sync) - before.1 }
    }

    /// What a power cut now leaves if nothing unsynced survives.
    fn after_power_cut(&self) -> Engine {
        let log = self.disk.log();
        let left = image(&log, log.events.len(), &CrashPlan::Nothing);
        let options = setup(Durability::Os).options(Arc::new(left.memory_disk()), &self.clock);
        options.open(STORE).unwrap()
    }

    /// Whether a key survives a power cut now.
    fn survives(&self, key: &str) -> bool {
        self.after_power_cut().contains_key(key).unwrap()
    }
}

const NONE: Calls = Calls { writes: 0, syncs: 0 };
const WRITE: Calls = Calls { writes: 1, syncs: 0 };
const BOTH: Calls = Calls { writes: 1, syncs: 1 };

/// Goal: each mode makes exactly its calls for a put, a delete, a touch, a cut and a batch: none, one write, or one
/// write and one sync.
#[test]
fn calls_of_each_mode() {
    for (durability, expected) in
        [(Durability::Buffered, NONE), (Durability::Os, WRITE), (Durability::Sync, BOTH)]
    {
        let bench = Bench::new(durability);
        type Work = fn(&Engine);
        let works: [(&str, Work); 5] = [
            ("put", |engine| engine.put("k", "v").unwrap()),
            ("touch", |engine| assert!(engine.touch("k", None).unwrap())),
            ("delete", |engine| assert!(engine.delete("k").unwrap())),
            ("cut", |engine| engine.cut_scope("s").unwrap()),
            ("batch", |engine| {
                let mut batch = Batch::new();
                batch.put("a", "1").put("b", "2").delete("a");
                engine.commit(batch).unwrap();
            }),
        ];
        for (name, work) in works {
            assert_eq!(bench.calls(work), expected, "{durability:?}: {name}");
        }
        let refused = bench.calls(|engine| {
            let absent = PutOptions::new().only_if_absent();
            assert!(engine.put_with("b", "3", &absent).is_err());
            assert!(!engine.delete("absent").unwrap());
        });
        assert_eq!(refused, NONE, "{durability:?}: what changes nothing");
    }
}

/// Goal: a write can ask for another mode than the store's, in each direction, and puts with it what came before.
#[test]
fn a_write_overrides_the_mode() {
    for default in DURABILITIES {
        for (asked, expected) in
            [(Durability::Buffered, NONE), (Durability::Os, WRITE), (Durability::Sync, BOTH)]
        {
            let bench = Bench::new(default);
            let options = PutOptions::new().durability(asked);
            let put = bench.calls(|engine| assert!(engine.put_with("k", "v", &options).is_ok()));
            assert_eq!(put, expected, "put: {asked:?} instead of {default:?}");
            let delete = bench.calls(|engine| assert!(engine.delete_with("k", asked).unwrap()));
            assert_eq!(delete, expected, "delete: {asked:?} instead of {default:?}");
            let mut batch = Batch::new();
            batch.put("a", "1").put("b", "2").durability(asked);
            let commit = bench.calls(|engine| engine.commit(batch).unwrap());
            assert_eq!(commit, expected, "batch: {asked:?} instead of {default:?}");
            assert_eq!(bench.survives("b"), asked == Durability::Sync);
        }
        let bench = Bench::new(default);
        bench.engine.put("before", "v").unwrap();
        let sync = PutOptions::new().durability(Durability::Sync);
        bench.engine.put_with("k", "v", &sync).unwrap();
        assert!(bench.survives("before") && bench.survives("k"), "{default:?}");
    }
}

/// Goal: a buffered write goes to the system after the flush interval, not before, and to the device after the
/// sync interval; a write to the system after the sync interval.
#[test]
fn buffered_writes_go_out_in_time() {
    let bench = Bench::new(Durability::Buffered);
    let step = |engine: &Engine| while engine.step().unwrap() {};
    bench.clock.advance(5_000);
    step(&bench.engine);
    bench.engine.put("k", "v").unwrap();
    bench.clock.advance(99);
    assert_eq!(bench.calls(step), NONE, "it is not time");
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), WRITE, "after 100 ms");
    bench.clock.advance(899);
    assert_eq!(bench.calls(step), NONE);
    assert!(!bench.survives("k"));
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), Calls { writes: 0, syncs: 1 }, "after a second");
    assert!(bench.survives("k"));
    bench.clock.advance(999);
    assert_eq!(bench.calls(step), NONE, "nothing is owed");
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), Calls { writes: 1, syncs: 1 }, "idle: the mark in the manifest");
    bench.clock.advance(100_000);
    assert_eq!(bench.calls(step), NONE, "idle and marked");

    let bench = Bench::new(Durability::Os);
    bench.clock.advance(5_000);
    step(&bench.engine);
    bench.engine.put("k", "v").unwrap();
    bench.clock.advance(999);
    assert_eq!(bench.calls(step), NONE);
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), Calls { writes: 0, syncs: 1 });
    assert!(bench.survives("k"));
}

/// Goal: periodic writes make no disk call until their time, then one write and one sync for all, with each key's
/// last value only. Method: 100 puts of a key and one each of others.
#[test]
fn periodic_writes_coalesce() {
    let bench = Bench::new(Durability::Periodic);
    let before = bench.engine.stats();
    let put = bench.calls(|engine| {
        for number in 0..100 {
            engine.put("hot", format!("{number:0100}")).unwrap();
        }
        engine.put("other", "v").unwrap();
        engine.put("gone", "v").unwrap();
        assert!(engine.delete("gone").unwrap());
        assert!(engine.delete("first").unwrap());
    });
    assert_eq!(put, NONE);
    assert_eq!(value_of(&bench.engine, "hot"), Some(format!("{:0100}", 99).into_bytes()));
    assert_eq!((value_of(&bench.engine, "gone"), value_of(&bench.engine, "first")), (None, None));
    assert_eq!(bench.engine.stats().staged, 4);
    let step = |engine: &Engine| while engine.step().unwrap() {};
    bench.clock.advance(4_999);
    assert_eq!(bench.calls(step), NONE, "it is not time");
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), BOTH);
    let after = bench.engine.stats();
    assert_eq!((after.staged, after.puts - before.puts), (0, 2), "each key once");
    assert!(after.written_bytes - before.written_bytes < 600, "one record of the hot key");
    let left = bench.after_power_cut();
    assert_eq!(value_of(&left, "hot"), Some(format!("{:0100}", 99).into_bytes()));
    assert!(left.contains_key("other").unwrap() && !left.contains_key("first").unwrap());
}

/// Goal: the time counts from the first staged write, not from the flush before it.
#[test]
fn periodic_time_counts_from_the_first_write() {
    let bench = Bench::new(Durability::Periodic);
    let step = |engine: &Engine| while engine.step().unwrap() {};
    bench.clock.advance(100_000);
    step(&bench.engine);
    bench.engine.put("k", "v").unwrap();
    bench.clock.advance(4_999);
    bench.engine.put("late", "v").unwrap();
    assert_eq!(bench.calls(step), NONE);
    bench.clock.advance(1);
    assert_eq!(bench.calls(step), BOTH);
    assert!(bench.survives("k") && bench.survives("late"));
}

/// Goal: too many staged bytes go out before their time.
#[test]
fn periodic_writes_are_bounded() {
    let bench = Bench::new(Durability::Periodic);
    let syncs = bench.disk.calls_of(CallKind::Sync);
    for number in 0..20 {
        bench.engine.put(format!("key {number}"), vec![1; 100 << 10]).unwrap();
    }
    assert!(bench.disk.calls_of(CallKind::Sync) > syncs);
    assert!(bench.engine.stats().staged <= 11, "{}", bench.engine.stats().staged);
    assert!(bench.survives("key 1") && !bench.survives("key 19"));
}

/// Goal: a periodic flush is all or nothing. Method: cut the power at every effect of the flush, nothing unsynced
/// surviving, or everything.
#[test]
fn periodic_flushes_are_atomic() {
    let bench = Bench::new(Durability::Periodic);
    for number in 0..10 {
        bench.engine.put(format!("key {number}"), [1; 500]).unwrap();
    }
    let begin = bench.disk.event_count();
    bench.clock.advance(5_000);
    while bench.engine.step().unwrap() {}
    let log = bench.disk.log();
    let mut seen = BTreeSet::new();
    for point in begin..=log.events.len() {
        for plan in [CrashPlan::Nothing, CrashPlan::Everything] {
            let disk = image(&log, point, &plan).memory_disk();
            let options = setup(Durability::Os).options(Arc::new(disk), &bench.clock);
            let left = options.open(STORE).unwrap();
            let there = (0..10).filter(|n| left.contains_key(format!("key {n}")).unwrap()).count();
            assert!(there == 0 || there == 10, "{there} of 10 at {point}");
            seen.insert(there);
        }
    }
    assert_eq!(seen, BTreeSet::from([0, 10]));
}

/// Goal: tickets that are waited for together cost one write and one sync.
#[test]
fn tickets_share_a_sync() {
    let bench = Bench::new(Durability::Sync);
    let calls = bench.calls(|engine| {
        let submit = |n| engine.submit(format!("key {n}"), "v", &PutOptions::new()).unwrap();
        let tickets: Vec<_> = (0..200).map(submit).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    });
    assert_eq!(calls, BOTH);
    assert_eq!(bench.after_power_cut().iter().unwrap().count(), 201);
}

/// Goal: after `sync` everything acknowledged in any mode survives a power cut; so it does after `close`, and after
/// `close` of one of two handles.
#[test]
fn sync_makes_everything_durable() {
    for way in ["sync", "close", "close one of two", "checkpoint", "drop"] {
        let bench = Bench::new(Durability::Buffered);
        let mut keys = Vec::new();
        for (number, durability) in DURABILITIES.into_iter().enumerate() {
            let options = PutOptions::new().durability(durability);
            bench.engine.put_with(format!("key {number}"), "v", &options).unwrap();
            keys.push(format!("key {number}"));
        }
        let Bench { disk, clock, engine } = bench;
        let mut still_open = (way == "close one of two").then(|| engine.clone());
        match way {
            "sync" => still_open.insert(engine).sync().unwrap(),
            "checkpoint" => still_open.insert(engine).checkpoint().unwrap(),
            "close" | "close one of two" => engine.close().unwrap(),
            _ => drop(engine),
        }
        let log = disk.log();
        let left = image(&log, log.events.len(), &CrashPlan::Nothing);
        let options = setup(Durability::Os).options(Arc::new(left.memory_disk()), &clock);
        let left = options.open(STORE).unwrap();
        for key in &keys {
            assert!(left.contains_key(key).unwrap(), "{way}: {key} is gone");
        }
        drop(still_open);
    }
}

/// Goal: without a sync, a power cut may take what was only buffered or with the system, and takes it whole.
#[test]
fn a_power_cut_takes_what_was_not_synced() {
    for durability in [Durability::Buffered, Durability::Os, Durability::Periodic] {
        let bench = Bench::new(durability);
        bench.engine.put("k", "v").unwrap();
        assert!(!bench.survives("k"), "{durability:?}: the test cuts nothing");
        assert!(bench.survives("first"));
        let durable = bench.engine.stats().durable_sequence;
        assert!(durable < bench.engine.stats().sequence || durability == Durability::Periodic);
    }
}

/// A gate that syncs wait at while it is shut.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU64,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *shut {
            shut = self.changed.wait(shut).unwrap();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Shuts it until the answer is dropped, by a panic too: nobody hangs at the gate of a failed test.
    fn shut(&self) -> Opener<'_> {
        self.set(true);
        Opener(self)
    }

    fn wait_for_a_sync(&self) {
        let started = Instant::now();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "no sync came");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Opens its gate when it goes.
struct Opener<'a>(&'a Gate);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Goal: a synced write is seen by nobody before it is on the device, and by everybody after; readers do not wait
/// for the device. Method: hold the sync up in another thread and read meanwhile, by every path.
#[test]
fn synced_writes_are_seen_after_the_flush() {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let disk = HookedDisk::new(MemoryDisk::new(), move |call| {
        if call == Call::Sync {
            at_gate.pass();
        }
    });
    let options = setup(Durability::Sync).options(Arc::new(disk), &TestClock::new());
    let engine = options.open(STORE).unwrap();
    engine.put("old", "1").unwrap();
    engine.put("doomed", "1").unwrap();
    let shut = gate.shut();
    thread::scope(|scope| {
        let acknowledged = Arc::new(AtomicBool::new(false));
        let acknowledge = Arc::clone(&acknowledged);
        let writer = engine.clone();
        scope.spawn(move || {
            let mut batch = Batch::new();
            batch.put("old", "2").put("new", "2").delete("doomed");
            writer.commit(batch).unwrap();
            acknowledge.store(true, Ordering::SeqCst);
        });
        gate.wait_for_a_sync();
        assert_eq!(value_of(&engine, "old"), Some(b"1".to_vec()));
        assert_eq!(value_of(&engine, "new"), None);
        assert!(!engine.contains_key("new").unwrap());
        assert_eq!(engine.entry("new").unwrap(), None);
        assert_eq!(engine.get_many(&["new", "doomed"]).unwrap()[1].as_deref(), Some(&b"1"[..]));
        assert!(!acknowledged.load(Ordering::SeqCst), "nothing is promised yet");
        drop(shut);
    });
    assert_eq!(value_of(&engine, "old"), Some(b"2".to_vec()));
    assert_eq!(value_of(&engine, "new"), Some(b"2".to_vec()));
    assert_eq!(value_of(&engine, "doomed"), None);
}

/// Goal: while one group is at the device the next one gathers, and shares one flush. Method: hold the first sync
/// up while 20 threads come.
#[test]
fn the_next_group_gathers_meanwhile() {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let disk = HookedDisk::new(MemoryDisk::new(), move |call| {
        if call == Call::Sync {
            at_gate.pass();
        }
    });
    let options = setup(Durability::Sync).options(Arc::new(disk), &TestClock::new());
    let engine = options.open(STORE).unwrap();
    engine.put("warm", "up").unwrap();
    let before = engine.stats();
    let shut = gate.shut();
    thread::scope(|scope| {
        scope.spawn(|| engine.put("first", "v").unwrap());
        gate.wait_for_a_sync();
        for number in 0..20 {
            let engine = &engine;
            scope.spawn(move || engine.put(format!("key {number}"), "v").unwrap());
        }
        // Time for the threads to come; if some do not make it, there is a third group.
        thread::sleep(Duration::from_millis(200));
        drop(shut);
    });
    let after = engine.stats();
    assert_eq!(after.puts - before.puts, 21);
    assert!(after.syncs - before.syncs <= 4, "{} syncs for 21 puts", after.syncs - before.syncs);
}

/// Goal: the background thread flushes, syncs and seals without anybody asking. Method: real time, with short
/// intervals and generous patience.
#[test]
fn the_background_thread_works() {
    for durability in [Durability::Buffered, Durability::Os, Durability::Periodic] {
        let disk = RecordingDisk::new();
        let options = Options::new().durability(durability).segment_bytes(8 << 10);
        let options = options.flush_interval_ms(5).sync_interval_ms(10).periodic_ms(10);
        let mut options = options.disk(disk.clone());
        options.clock = Arc::new(tierce_engine::io::OsClock);
        let engine = options.open(Path::new(STORE)).unwrap();
        for number in 0..40 {
            engine.put(format!("key {number}"), [7; 400]).unwrap();
        }
        let started = Instant::now();
        let is_done = || {
            let stats = engine.stats();
            let durable = stats.durable_sequence == stats.sequence && stats.staged == 0;
            durable && (stats.sealed > 0 || durability == Durability::Periodic)
        };
        while !is_done() {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", engine.stats());
            thread::sleep(Duration::from_millis(2));
        }
        let log = disk.log();
        let left = image(&log, log.events.len(), &CrashPlan::Nothing);
        let left: Arc<dyn Disk> = Arc::new(left.memory_disk());
        let left = setup(durability).options(left, &TestClock::new()).open(STORE).unwrap();
        assert_eq!(left.iter().unwrap().count(), 40, "{durability:?}");
    }
}

/// Goal: after a failed sync nothing is acknowledged, reads go on, and a recovery makes all of it good. (Every
/// failure at every call is `faults`' business.)
#[test]
fn a_failed_sync_stops_the_store() {
    let bench = Bench::new(Durability::Sync);
    bench.engine.put("k", "1").unwrap();
    bench.disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
    assert!(matches!(bench.engine.put("k", "2"), Err(Error::Io { .. })));
    let Health::Stopped { cause } = bench.engine.health() else { panic!("healthy") };
    assert!(cause.contains("sync"), "{cause}");
    for _ in 0..3 {
        let refused = bench.engine.put("k", "3");
        assert!(matches!(refused, Err(Error::Stopped { .. })), "{refused:?}");
        assert!(matches!(bench.engine.sync(), Err(Error::Stopped { .. })));
        assert_eq!(value_of(&bench.engine, "k"), Some(b"1".to_vec()));
    }
    bench.engine.try_recover().unwrap();
    assert_eq!(bench.engine.health(), Health::Good);
    bench.engine.put("k", "4").unwrap();
    assert_eq!(value_of(&bench.after_power_cut(), "k"), Some(b"4".to_vec()));
}
