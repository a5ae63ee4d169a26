//! `max_bytes` covers everything in the directory and holds after every single call to the disk.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::DirEntry,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tierce_engine::{Batch, Engine, Evict, Options};
use tierce_kit::{rng::Rng, seed::cases};

use super::{Limited, evictable, name, value};

/// One long random run against a limit.
struct Run {
    store: Limited,
    limit: u64,
    rng: Rng,
    /// What each key was given last; an entry may be gone, but never be another.
    given: HashMap<u64, (u64, usize)>,
    keys: u64,
    bytes_max: u64,
    versions: u64,
    background: bool,
}

impl Run {
    fn new(limit: u64, seed: u64, change: impl FnOnce(Options) -> Options) -> Self {
        let mut rng = Rng::new(seed);
        let segment = rng.weighted(&[(3, 8 << 10), (1, 64 << 10), (1, 8 << 20)]);
        let evict = rng.weighted(&[(3, Evict::Lru), (1, Evict::S3Fifo), (1, Evict::Fifo)]);
        let set = |options: Options| options.max_bytes(limit).segment_bytes(segment).evict(evict);
        let store = Limited::new(|options| change(set(options)));
        let bytes_max = rng.weighted(&[(1, 40), (2, 1_000), (1, 6_000), (1, limit / 6)]);
        let keys = rng.weighted(&[(1, 50), (2, 2_000), (1, 100_000)]);
        let background = store.options.background;
        let given = HashMap::new();
        Self { store, limit, rng, given, keys, bytes_max, versions: 0, background }
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn put(&mut self) {
        let (key, bytes) = (self.rng.below(self.keys), self.rng.below(self.bytes_max) as usize);
        self.versions += 1;
        let version = self.versions;
        let wanted = value(key, version, bytes);
        let mut options = evictable();
        if self.rng.one_in(4) {
            let ms = self.rng.below(20_000);
            options = options.expires_at(self.engine().now().saturating_add_ms(ms + 1));
        }
        let put = self.engine().put_with(name(key), &wanted, &options);
        put.unwrap_or_else(|error| panic!("{error}: {:?}", self.engine().usage()));
        let read = self.engine().get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&wanted[..]), "just written");
        self.given.insert(key, (version, bytes));
    }

    fn batch(&mut self) {
        let mut batch = Batch::new();
        let mut inside = Vec::new();
        for _ in 0..self.rng.below(8) {
            let key = self.rng.below(self.keys);
            let bytes = self.rng.below(self.bytes_max.min(1_000)) as usize;
            self.versions += 1;
            batch.put_with(name(key), value(key, self.versions, bytes), evictable());
            inside.push((key, (self.versions, bytes)));
        }
        self.engine().commit(batch).unwrap();
        self.given.extend(inside);
    }

    fn step(&mut self) {
        let key = self.rng.below(self.keys);
        match self.rng.below(1_000) {
            0..=799 => self.put(),
            800..=859 => {
                self.engine().delete(name(key)).unwrap();
                self.given.remove(&key);
            }
            860..=899 => {
                let at = self.engine().now().saturating_add_ms(self.rng.below(9_000));
                let at = (!self.rng.one_in(3)).then_some(at);
                self.engine().touch(name(key), at).unwrap();
            }
            900..=939 => self.batch(),
            940..=969 if !self.background => {
                self.store.clock.advance(self.rng.below(1_000));
                let _ = self.engine().step().unwrap();
            }
            970..=974 => self.engine().checkpoint().unwrap(),
            975..=976 => drop(self.engine().sweep(None).unwrap()),
            977 => drop(self.engine().compact().unwrap()),
            979 => self.store.reopen(),
            // A background thread may write while the files are copied: no process dies like that.
            978 if !self.background => self.store.crash(),
            980..=984 => self.engine().sync().unwrap(),
            _ => {}
        }
        if let Some(read) = self.engine().get(name(key)).unwrap() {
            let (version, bytes) = self.given[&key];
            assert_eq!(&read[..], &value(key, version, bytes)[..]);
        }
    }

    /// Steps until so many bytes were written and so many steps done.
    fn run(&mut self, bytes: u64, steps: u64) {
        let mut done = 0;
        while done < steps || self.store.disk.written() < bytes {
            self.step();
            done += 1;
            self.store.disk.assert_peak(self.limit, "after a step");
            let used = self.engine().usage().used;
            let total = self.store.disk.total();
            assert!(self.background || used >= total, "usage says {used}, there are {total}");
            if done > 50 * steps {
                break;
            }
        }
        self.store.close();
        self.store.disk.assert_peak(self.limit, "closed");
    }
}

/// Goal: the files of a small store never have more bytes than its limit, after every call to the disk, over every
/// kind of operation, with checkpoints, closings and openings; every write of it succeeds and can be read.
#[test]
fn never_exceeded_128_kib() {
    cases("limits::instants::never_exceeded_128_kib", 24, |seed| {
        Run::new(128 << 10, seed, |options| options).run(1 << 20, 1_000);
    });
}

/// Goal: the same of a middling store.
#[test]
fn never_exceeded_1_mib() {
    cases("limits::instants::never_exceeded_1_mib", 10, |seed| {
        Run::new(1 << 20, seed, |options| options).run(6 << 20, 2_500);
    });
}

/// Goal: the same of a large store, for which the segments of the options are not too large.
#[test]
fn never_exceeded_64_mib() {
    cases("limits::instants::never_exceeded_64_mib", 1, |seed| {
        let mut run = Run::new(64 << 20, seed, |options| options);
        (run.keys, run.bytes_max) = (50_000, 30_000);
        run.run(160 << 20, 5_000);
    });
}

/// Goal: the same with the background thread at work beside the writer.
#[test]
fn never_exceeded_with_a_thread_beside() {
    cases("limits::instants::never_exceeded_with_a_thread_beside", 3, |seed| {
        Run::new(1 << 20, seed, |options| options.background(true)).run(4 << 20, 2_000);
    });
}

fn listing(dir: &Path) -> Vec<(OsString, u64)> {
    let Ok(listed) = std::fs::read_dir(dir) else { return Vec::new() };
    let file = |entry: DirEntry| Some((entry.file_name(), entry.metadata().ok()?.len()));
    listed.filter_map(|entry| file(entry.ok()?)).collect()
}

/// Bytes in a directory, if it did not change while it was listed.
fn directory_bytes(dir: &Path) -> Option<u64> {
    let listed = listing(dir);
    (listed == listing(dir)).then(|| listed.iter().map(|file| file.1).sum())
}

/// Goal: on the real disk, another thread that adds up the lengths of the files all the time never finds too many.
#[test]
fn never_exceeded_on_the_real_disk() {
    const LIMIT: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (most, looks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (most, looks, stop, path) = (most.clone(), looks.clone(), stop.clone(), path.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(bytes) = directory_bytes(&path) {
                    most.fetch_max(bytes, Ordering::Relaxed);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    for round in 0..2 {
        let engine = Options::new().max_bytes(LIMIT).open(&path).unwrap();
        for key in 0..4_000 {
            let bytes = 100 + (key as usize * 37) % 1_500;
            engine.put_with(name(key), value(key, round, bytes), &evictable()).unwrap();
        }
        engine.checkpoint().unwrap();
        engine.close().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!(most <= LIMIT, "{most} of {LIMIT}");
    assert!(most > LIMIT / 2 && looks.load(Ordering::Relaxed) > 100, "{most}, {looks:?}");
}
