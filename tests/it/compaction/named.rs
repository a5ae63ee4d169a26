//! The ways in which stores have lost or revived entries by compaction, one by one.

use std::ops::ControlFlow;

use tierce_engine::{
    Durability, Engine, Health, PutOptions, SegmentId, Timestamp, format::file_name::FileName,
    io::MemoryDisk,
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

/// A store whose every write can be given a segment of its own.
struct Store {
    engine: Option<Engine>,
    disk: MemoryDisk,
    clock: TestClock,
}

impl Store {
    fn new() -> Self {
        let mut store = Self { engine: None, disk: MemoryDisk::new(), clock: TestClock::new() };
        store.open();
        store
    }

    fn open(&mut self) {
        let mut setup = Setup::new(Durability::Os);
        setup.automatic = false;
        let options = setup.options(std::sync::Arc::new(self.disk.clone()), &self.clock);
        self.engine = Some(options.open(STORE).unwrap());
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn segments(&self) -> Vec<SegmentId> {
        let files = self.disk.files().into_keys();
        let names = files.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        let mut ids: Vec<_> = names
            .filter_map(|name| match FileName::parse(&name) {
                Some(FileName::Segment(id)) => Some(id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Whatever was written since the last call stands in a sealed segment: this one.
    fn seal(&mut self) -> SegmentId {
        self.engine.take().unwrap().close().unwrap();
        self.open();
        *self.segments().last().unwrap()
    }

    fn compact(&self, ids: &[SegmentId]) {
        let report = self.engine().compact_with(Some(ids), |_| ControlFlow::Continue(())).unwrap();
        assert!(report.unreadable.is_empty(), "{report:?}");
        assert_eq!(report.segments, ids.len() as u64, "{report:?}");
        let is_left = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".tmp");
        assert!(!self.disk.files().keys().any(is_left), "a temporary file is left");
    }

    /// What `key` holds, now and after the store was built again from its footers alone.
    fn value(&mut self, key: &str) -> Option<Vec<u8>> {
        let before = self.engine().get(key).unwrap().map(|value| value.to_vec());
        self.engine().sync().unwrap();
        let mut files = self.disk.files();
        files.retain(|path, _| path.extension().is_none_or(|end| end != "ckpt"));
        self.engine = None;
        self.disk = MemoryDisk::with_files(files);
        self.open();
        let after = self.engine().get(key).unwrap().map(|value| value.to_vec());
        assert_eq!(before, after, "{key} changes when the store is built from its footers");
        after
    }

    fn later(&self, ms: u64) -> Timestamp {
        self.engine().now().saturating_add_ms(ms)
    }

    fn put(&self, key: &str, value: &str, options: &PutOptions) {
        self.engine().put_with(key, value, options).unwrap();
    }
}

fn some(value: &str) -> Option<Vec<u8>> {
    Some(value.as_bytes().to_vec())
}

/// Goal: a tombstone stays while the oldest version is in a segment that was not compacted, though the version that
/// it deleted is gone; it goes with that segment. (Riak's bitcask got this wrong for four years.)
#[test]
fn a_tombstone_outlives_every_older_version() {
    let mut store = Store::new();
    store.put("k", "v1", &PutOptions::new());
    let s1 = store.seal();
    store.put("k", "v2", &PutOptions::new());
    let s2 = store.seal();
    assert!(store.engine().delete("k").unwrap());
    let s3 = store.seal();
    store.compact(&[s2]);
    store.compact(&[s3]);
    assert_eq!(store.value("k"), None);
    let rest = store.segments();
    assert!(rest.contains(&s1) && rest.len() > 1, "the tombstone is gone: {rest:?}");
    store.compact(&rest);
    assert_eq!(store.segments(), [], "nothing counts any more");
    assert_eq!(store.value("k"), None);
}

/// Goal: an expired version hides the immortal one before it, after it was compacted away, too.
#[test]
fn an_expired_version_hides_an_immortal_one() {
    let mut store = Store::new();
    store.put("k", "v1", &PutOptions::new());
    let s1 = store.seal();
    store.put("k", "v2", &PutOptions::new().expires_at(store.later(50)));
    let s2 = store.seal();
    store.clock.advance(100);
    store.compact(&[s2]);
    assert_eq!(store.value("k"), None);
    store.engine().sweep(None).unwrap();
    assert_eq!(store.value("k"), None);
    store.compact(&store.segments());
    assert_eq!(store.value("k"), None);
    assert!(!store.segments().contains(&s1));
}

/// Goal: an evicted version hides the one before it.
#[test]
fn an_evicted_version_hides_an_older_one() {
    let mut store = Store::new();
    store.put("k", "v1", &PutOptions::new());
    store.seal();
    store.put("k", "v2", &PutOptions::new().evictable(true));
    let s2 = store.seal();
    store.engine().set_max_entries(Some(1));
    store.put("state", "v", &PutOptions::new());
    assert_eq!(store.engine().stats().evicted, 1);
    store.compact(&[s2]);
    assert_eq!(store.value("k"), None);
}

/// Goal: a segment whose every record has expired is dropped unread, but not while a touch put the end of one off.
#[test]
fn a_touch_that_extends_keeps_its_segment() {
    let mut store = Store::new();
    let options = PutOptions::new().expires_at(store.later(50));
    store.put("kept", "v", &options);
    store.put("ends", "v", &options);
    let s1 = store.seal();
    assert!(store.engine().touch("kept", None).unwrap());
    store.seal();
    store.clock.advance(100);
    store.engine().step().unwrap();
    assert_eq!(store.value("kept"), some("v"));
    store.compact(&[s1]);
    assert_eq!(store.value("kept"), some("v"));
    assert_eq!(store.value("ends"), None);
    store.compact(&store.segments());
    assert_eq!(store.value("kept"), some("v"));
}

/// Goal: a touch that shortens holds as long as its record stands, wherever each is copied, and after a crash.
#[test]
fn a_touch_that_shortens_is_not_dropped() {
    let mut store = Store::new();
    store.put("k", "v", &PutOptions::new());
    let s1 = store.seal();
    assert!(store.engine().touch("k", Some(store.later(50))).unwrap());
    assert_eq!(store.value("k"), some("v"));
    store.clock.advance(100);
    while store.engine().step().unwrap() {}
    assert_eq!(store.value("k"), None);
    let others: Vec<_> = store.segments().into_iter().filter(|id| *id != s1).collect();
    store.compact(&others);
    assert_eq!(store.value("k"), None);
    store.compact(&store.segments());
    assert_eq!(store.value("k"), None);
}

/// Goal: a touch is folded into the copy of its record, and holds without the touch.
#[test]
fn a_touch_is_folded() {
    let mut store = Store::new();
    store.put("k", "v", &PutOptions::new());
    store.seal();
    assert!(store.engine().touch("k", Some(store.later(1_000))).unwrap());
    store.seal();
    store.compact(&store.segments());
    assert_eq!(store.segments().len(), 1);
    assert_eq!(store.value("k"), some("v"));
    store.clock.advance(2_000);
    assert_eq!(store.value("k"), None);
}

/// Goal: a scope cut stays while an older segment may hold an entry of the scope, and goes when none can.
#[test]
fn a_spent_scope_cut_goes_and_no_other() {
    let mut store = Store::new();
    store.put("k", "v", &PutOptions::new().scope("s"));
    let s1 = store.seal();
    store.engine().cut_scope("s").unwrap();
    let s2 = store.seal();
    store.compact(&[s2]);
    assert_eq!(store.value("k"), None);
    store.compact(&[s1]);
    assert_eq!(store.value("k"), None);
    store.compact(&store.segments());
    assert_eq!(store.segments(), [], "the cut is spent");
    assert_eq!(store.value("k"), None);
    store.put("k", "again", &PutOptions::new().scope("s"));
    assert_eq!(store.value("k"), some("again"));
}

/// Goal: what a snapshot shows stays, and so do the files it reads, until it is dropped; then they go.
#[test]
fn a_snapshot_keeps_its_files() {
    let mut store = Store::new();
    store.put("k", "v1", &PutOptions::new());
    store.put("other", "w", &PutOptions::new());
    let s1 = store.seal();
    let snapshot = store.engine().snapshot().unwrap();
    store.put("k", "v2", &PutOptions::new());
    store.compact(&[s1]);
    assert_eq!(snapshot.get("k").unwrap().as_deref(), Some(&b"v1"[..]));
    assert!(store.segments().contains(&s1), "somebody reads it");
    drop(snapshot);
    while store.engine().step().unwrap() {}
    assert!(!store.segments().contains(&s1), "nobody reads it any more");
    assert_eq!((store.value("k"), store.value("other")), (some("v2"), some("w")));
}

/// Goal: a job that is told to stop leaves everything as it was.
#[test]
fn a_cancelled_job_leaves_no_trace() {
    let mut store = Store::new();
    store.put("k", "v", &PutOptions::new());
    let s1 = store.seal();
    let files = store.disk.files();
    let report = store.engine().compact_with(Some(&[s1]), |_| ControlFlow::Break(())).unwrap();
    assert!(report.cancelled && report.jobs == 0, "{report:?}");
    assert!(store.disk.files() == files, "files differ");
    assert_eq!(store.value("k"), some("v"));
}

/// Goal: pausing twice is pausing once, and what is asked for by name works all the same.
#[test]
fn pausing_is_idempotent() {
    let mut store = Store::new();
    store.put("k", "v", &PutOptions::new());
    let s1 = store.seal();
    store.engine().pause_compaction();
    store.engine().pause_compaction();
    assert!(store.engine().is_compaction_paused());
    store.compact(&[s1]);
    store.engine().resume_compaction();
    assert!(!store.engine().is_compaction_paused());
    assert_eq!(store.value("k"), some("v"));
}

/// Goal: a segment that cannot be read stays, is reported, shows in the health, and stops no other.
#[test]
fn an_unreadable_segment_stays() {
    let mut store = Store::new();
    store.put("damaged", "a value to be found", &PutOptions::new());
    store.put("sound", "v", &PutOptions::new());
    let s1 = store.seal();
    store.put("k", "v1", &PutOptions::new());
    store.seal();
    store.engine.take().unwrap().close().unwrap();
    let mut files = store.disk.files();
    for bytes in files.values_mut() {
        let at = bytes.windows(10).position(|window| window == &b"a value to"[..]);
        at.iter().for_each(|at| bytes[*at] ^= 1);
    }
    store.disk = MemoryDisk::with_files(files);
    store.open();
    let all = store.segments();
    let report = store.engine().compact_with(Some(&all), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.unreadable.len(), 1, "{report:?}");
    assert_eq!((report.jobs, report.segments), (1, all.len() as u64 - 1));
    assert!(store.segments().contains(&s1));
    let health = store.engine().health();
    assert!(matches!(health, Health::CompactionFails { .. }), "{health:?}");
    assert!(store.engine().get("damaged").is_err(), "a wrong value is never returned");
    assert_eq!(store.engine().get("k").unwrap().as_deref(), Some(&b"v1"[..]));
    assert_eq!(store.engine().get("sound").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Goal: readers see every value while the segments are rewritten under them.
/// Method: threads read known keys while everything is compacted again and again, and some keys are written.
#[test]
fn readers_do_not_notice() {
    let mut store = Store::new();
    let value = |key: u8| vec![key; 300];
    for key in 0..60_u8 {
        store.engine().put([key], value(key)).unwrap();
    }
    store.seal();
    let engine = store.engine().clone();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let (engine, done) = (engine.clone(), &done);
            scope.spawn(move || {
                let mut key = thread;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    key = (key + 7) % 60;
                    assert_eq!(engine.get([key]).unwrap().as_deref(), Some(&value(key)[..]));
                }
            });
        }
        for round in 0..40_u8 {
            engine.put([round], value(round)).unwrap();
            while engine.step().unwrap() {}
            let ids = store.segments();
            engine.compact_with(Some(&ids), |_| ControlFlow::Continue(())).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for key in 0..60_u8 {
        assert_eq!(engine.get([key]).unwrap().as_deref(), Some(&value(key)[..]));
    }
}

/// Writes while a job asks whether it is to go on. The callback itself may only read; these stores have no limit, so that
/// no write of another thread waits for the job.
fn on_another_thread(writes: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(writes).join().unwrap());
}

/// Goal: what is written while a job runs wins over what the job copied, and stays so when the store is built anew.
/// Method: the job is asked whether to go on after each segment; then keys that it has copied are overwritten, deleted,
/// touched and cut.
#[test]
fn a_write_during_a_job_wins() {
    let mut store = Store::new();
    for key in ["overwritten", "deleted", "ended", "kept"] {
        store.put(key, "old", &PutOptions::new());
    }
    store.put("cut", "old", &PutOptions::new().scope("s"));
    store.seal();
    store.put("last", "v", &PutOptions::new());
    store.seal();
    let (engine, mut calls) = (store.engine().clone(), 0);
    let end = store.later(50);
    let all = store.segments();
    let report = engine.compact_with(Some(&all), |_| {
        calls += 1;
        if calls == 1 {
            on_another_thread(|| {
                engine.put("overwritten", "new").unwrap();
                assert!(engine.delete("deleted").unwrap());
                assert!(engine.touch("ended", Some(end)).unwrap());
                engine.cut_scope("s").unwrap();
            });
        }
        ControlFlow::Continue(())
    });
    assert_eq!((report.unwrap().jobs, calls > 0), (1, true));
    drop(engine);
    for round in 0..3 {
        assert_eq!(store.value("overwritten"), some("new"), "round {round}");
        assert_eq!((store.value("deleted"), store.value("cut")), (None, None), "round {round}");
        assert_eq!((store.value("kept"), store.value("last")), (some("old"), some("v")));
        let ended = if round == 0 { some("old") } else { None };
        assert_eq!(store.value("ended"), ended, "round {round}");
        store.clock.advance(100);
        store.seal();
        store.compact(&store.segments()[round.min(1)..]);
    }
}

/// Goal: a checkpoint that was written while a job ran does not let the job's dead copies back in.
/// Method: after the job has copied a key it is deleted, and a checkpoint taken; then the store crashes, and opens with
/// the checkpoint and without.
#[test]
fn a_checkpoint_during_a_job_revives_nothing() {
    let mut store = Store::new();
    store.put("deleted", "old", &PutOptions::new());
    store.put("overwritten", "old", &PutOptions::new());
    store.seal();
    store.put("last", "v", &PutOptions::new());
    store.seal();
    let (engine, mut calls) = (store.engine().clone(), 0);
    let all = store.segments();
    let report = engine.compact_with(Some(&all), |_| {
        calls += 1;
        if calls == 1 {
            on_another_thread(|| {
                assert!(engine.delete("deleted").unwrap());
                engine.put("overwritten", "new").unwrap();
                engine.checkpoint().unwrap();
            });
        }
        ControlFlow::Continue(())
    });
    assert_eq!((report.unwrap().jobs, calls > 0), (1, true));
    drop(engine);
    store.engine().sync().unwrap();
    let files = store.disk.files();
    store.engine = None;
    store.disk = MemoryDisk::with_files(files);
    store.open();
    let found = |key: &str| store.engine().get(key).unwrap().map(|value| value.to_vec());
    assert_eq!((found("deleted"), found("overwritten")), (None, some("new")));
    assert_eq!(found("last"), some("v"));
    assert_eq!(store.value("deleted"), None);
    assert_eq!(store.value("overwritten"), some("new"));
}
