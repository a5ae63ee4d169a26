//! One directory: many handles of one process, and no second process.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{
    Durability, Engine, Error, Options, PutOptions,
    io::{Disk as _, MemoryDisk},
};

use super::{assert_keys, closed_store, options};

/// Fails unless both handles are of one open store: what one writes the other reads, without a file in between.
#[track_caller]
fn assert_same(one: &Engine, other: &Engine, key: &str) {
    one.put_with(key, "v", &PutOptions::new().durability(Durability::Buffered)).unwrap();
    assert_eq!(other.get(key).unwrap().as_deref(), Some(&b"v"[..]));
    assert!(other.delete(key).unwrap());
    assert_eq!(one.get(key).unwrap(), None);
}

/// This absolute path, as seen from the working directory.
fn relative(path: &Path) -> PathBuf {
    let here = env::current_dir().unwrap().canonicalize().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    up.join(path.strip_prefix("/").unwrap())
}

/// Goal: one directory opened twice in one process is one store, by whatever path.
#[cfg(unix)]
#[test]
fn the_same_directory_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().canonicalize().unwrap().join("store");
    let first = options().open(&store).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let far = dir.path().join("far");
    std::os::unix::fs::symlink(dir.path(), &far).unwrap();
    let paths =
        [store.clone(), link, far.join("store"), store.join("../store/."), relative(&store)];
    let mut handles = vec![first];
    for (number, path) in paths.iter().enumerate() {
        let engine = options().open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_same(&handles[0], &engine, &format!("by path {number}"));
        handles.push(engine);
    }
    // The first one goes: the others hold the store.
    handles.remove(0).close().unwrap();
    assert_same(&handles[0], &handles[3], "after one was closed");
}

/// Goal: closing one of two handles leaves the other working; the last one closes the store.
#[test]
fn closing_one_of_two_handles() {
    let dir = tempfile::tempdir().unwrap();
    for by_clone in [true, false] {
        let first = options().open(dir.path()).unwrap();
        let second = if by_clone { first.clone() } else { options().open(dir.path()).unwrap() };
        first.put("k", "1").unwrap();
        first.close().unwrap();
        assert_eq!(second.get("k").unwrap().as_deref(), Some(&b"1"[..]));
        let stats = second.stats();
        assert_eq!(stats.durable_sequence, stats.sequence, "closing made it durable");
        second.put("k", "2").unwrap();
        second.close().unwrap();
        let again = options().open(dir.path()).unwrap();
        assert!(again.recovery_report().clean, "the last handle closed the store");
        assert_eq!(again.get("k").unwrap().as_deref(), Some(&b"2"[..]));
    }
}

/// Goal: a handle that is only dropped closes the store as well as it can.
#[test]
fn dropping_the_last_handle_closes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = options().durability(Durability::Buffered).open(dir.path()).unwrap();
    engine.put("k", "v").unwrap();
    drop(engine.clone());
    drop(engine);
    let engine = options().open(dir.path()).unwrap();
    assert!(engine.recovery_report().clean);
    assert_eq!(engine.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Goal: 50 threads that open a missing directory at once get one store.
#[test]
fn fifty_threads_open_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    let barrier = Barrier::new(50);
    thread::scope(|scope| {
        for number in 0..50 {
            let (path, barrier) = (&path, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let engine = options().open(path).unwrap();
                engine.put(format!("key {number}"), "v").unwrap();
                barrier.wait();
                for other in 0..50 {
                    assert!(engine.contains_key(format!("key {other}")).unwrap());
                }
            });
        }
    });
    let engine = options().open(&path).unwrap();
    assert!(engine.recovery_report().clean);
    assert_eq!(engine.iter().unwrap().count(), 50);
}

/// Goal: a handle that was just opened works, even if another thread closes the last other one meanwhile.
/// Method: threads that open, write and close in a circle.
#[test]
fn opening_while_another_closes() {
    let disk = MemoryDisk::new();
    let rounds = 400;
    thread::scope(|scope| {
        for number in 0..4 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..rounds {
                    let engine = options().disk(disk.clone()).open("store").unwrap();
                    let written = engine.put(format!("key {number}"), round.to_string());
                    written.unwrap_or_else(|error| panic!("put in round {round}: {error}"));
                    if number % 2 == 0 {
                        let closed = engine.close();
                        closed.unwrap_or_else(|error| panic!("close in round {round}: {error}"));
                    }
                }
            });
        }
    });
    let engine = options().disk(disk).open("store").unwrap();
    for number in 0..4 {
        let found = engine.get(format!("key {number}")).unwrap();
        assert_eq!(found.as_deref(), Some((rounds - 1).to_string().as_bytes()));
    }
}

/// Another process that has a store open, until it is killed.
struct Holder {
    child: Child,
}

const HOLD: &str = "TIERCE_TEST_HOLD";
const READY: &str = "TIERCE_TEST_READY";
const READ_ONLY: &str = "TIERCE_TEST_READ_ONLY";

impl Holder {
    fn start(store: &Path, read_only: bool) -> Self {
        let outside = tempfile::tempdir().unwrap();
        let ready = outside.path().join("ready");
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "opening::locks::child_holds_the_lock"])
            .env(HOLD, store)
            .env(READY, &ready)
            .env(READ_ONLY, if read_only { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self { child };
        let started = Instant::now();
        while !ready.exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "the child does not start");
            thread::sleep(Duration::from_millis(5));
        }
        holder
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: the other process of the tests below. Does nothing unless they ask.
#[test]
fn child_holds_the_lock() {
    let Some(store) = env::var_os(HOLD) else { return };
    let read_only = !env::var_os(READ_ONLY).unwrap().is_empty();
    let engine = options().read_only(read_only).open(&store).unwrap();
    if !read_only {
        let sync = PutOptions::new().durability(Durability::Sync);
        engine.put_with("from the child", "v", &sync).unwrap();
    }
    fs::write(env::var_os(READY).unwrap(), "").unwrap();
    // Until the parent kills this process or is gone itself.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Fails unless another process has the directory open; says which.
#[track_caller]
fn assert_locked(options: Options, dir: &Path) -> Option<u32> {
    match options.open(dir).map(drop) {
        Err(Error::Locked { path, pid }) => {
            assert_eq!(path, dir);
            pid
        }
        other => panic!("not locked: {other:?}"),
    }
}

/// Goal: a second process is told which one has the store, and the store is free as soon as that one is dead,
/// with everything that it had synced.
#[test]
fn a_second_process_is_locked_out() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let holder = Holder::start(dir.path(), false);
    for _ in 0..3 {
        assert_eq!(assert_locked(options(), dir.path()), Some(holder.pid()));
        assert_eq!(assert_locked(options().read_only(true), dir.path()), Some(holder.pid()));
    }
    let pid = holder.pid().to_string();
    let error = options().open(dir.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains(&pid), "{error}");
    holder.kill();
    let engine = options().open(dir.path()).unwrap();
    assert_keys(&engine);
    assert_eq!(engine.get("from the child").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Goal: readers of two processes share a store, and a writer waits for all of them.
#[test]
fn readers_share() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let holder = Holder::start(dir.path(), true);
    let engine = options().read_only(true).open(dir.path()).unwrap();
    assert_keys(&engine);
    drop(engine);
    assert_locked(options(), dir.path());
    holder.kill();
    options().open(dir.path()).unwrap().put("k", "v").unwrap();
}

/// Goal: a lock file that a dead process left never blocks, whatever stands in it.
#[test]
fn stale_lock_files() {
    let me = std::process::id().to_string();
    let long = vec![b'7'; 1 << 20];
    for content in [&b""[..], b"999999999\n", b"1\n", me.as_bytes(), b"\xff\0garbage", &long] {
        let dir = tempfile::tempdir().unwrap();
        closed_store(dir.path());
        fs::write(dir.path().join("LOCK"), content).unwrap();
        let engine = options().open(dir.path()).unwrap();
        assert_keys(&engine);
        let written = fs::read_to_string(dir.path().join("LOCK")).unwrap();
        assert_eq!(written.trim(), me);
        drop(engine);
        fs::remove_file(dir.path().join("LOCK")).unwrap();
        assert_keys(&options().open(dir.path()).unwrap());
    }
}

/// Goal: an opening that fails half-way releases the lock: the next one works, in this process and in another.
#[test]
fn a_failed_opening_releases_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let manifest = dir.path().join("MANIFEST");
    let good = fs::read(&manifest).unwrap();
    fs::write(&manifest, b"TIERCEMF").unwrap();
    for _ in 0..3 {
        let refused = options().open(dir.path()).map(drop);
        assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
    }
    fs::write(&manifest, good).unwrap();
    Holder::start(dir.path(), false).kill();
    assert_keys(&options().open(dir.path()).unwrap());
}

/// Goal: the lock of a disk in memory works alike, and disks are told apart.
#[test]
fn disks_are_told_apart() {
    let (one, other) = (MemoryDisk::new(), MemoryDisk::new());
    let first = options().disk(one.clone()).open("store").unwrap();
    let second = options().disk(other).open("store").unwrap();
    let same = options().disk(one.clone()).open("store").unwrap();
    first.put("k", "v").unwrap();
    assert_eq!(second.get("k").unwrap(), None);
    assert_same(&first, &same, "x");
    assert!(one.list(Path::new("store")).unwrap().len() > 1);
}
