//! Many threads, one store: no lost write, no stale read, no value of another key.
//!
//! Left out: a panic of the thread that leads a group (nothing lets a caller's code run there), and a forked child.
//! `std` cannot fork; forking takes `unsafe`, and a child of a process with threads may call hardly anything.
//! The guard that tells parent from child is the engine's own, and so is its test.

use std::{
    collections::BTreeMap,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use tierce_engine::io::MemoryDisk;
use tierce_engine::{Batch, Durability, Engine, Error, PutOptions, ReadMode, Snapshot, Value};
use tierce_kit::{
    rng::Rng,
    seed::cases,
    store::{Setup, TestStore},
};

use crate::basics::DURABILITIES;

/// Handles, snapshots and values go from thread to thread: checked by the compiler.
#[test]
fn everything_is_send_and_sync() {
    fn is<T: Send + Sync + Clone>() {}
    is::<Engine>();
    is::<Snapshot>();
    is::<Value>();
    fn may_move<T: Send>() {}
    may_move::<tierce_engine::Ticket>();
    may_move::<tierce_engine::Iter>();
}

const WRITERS: u64 = 4;
const KEYS: u64 = 12;

/// A value that names its key and says which write it is from.
fn value(key: &str, version: u64, length: u64) -> Vec<u8> {
    let mut bytes = format!("{key}={version};").into_bytes();
    bytes.resize(bytes.len() + usize::try_from(length).unwrap(), b'.');
    bytes
}

/// The version in a value of this key; fails if it is not the key's own.
#[track_caller]
fn version(key: &str, bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap();
    let (name, rest) = text.split_once('=').unwrap();
    assert_eq!(name, key, "a value of another key");
    let (number, filler) = rest.split_once(';').unwrap();
    assert!(filler.bytes().all(|byte| byte == b'.'));
    number.parse().unwrap()
}

/// What is known of one key: the version that was acknowledged last, and the one that was begun last. Only its
/// writer changes them; a deleted key has version 0.
#[derive(Default)]
struct Known {
    acknowledged: AtomicU64,
    begun: AtomicU64,
    /// Whether the key was ever deleted: then it may be missing.
    deletes: AtomicU64,
}

fn write(engine: &Engine, key: &str, known: &Known, rng: &mut Rng) {
    let version = known.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let bytes = value(key, version, rng.weighted(&[(9, 20), (1, 3_000)]));
    match rng.below(10) {
        0 => {
            known.deletes.fetch_add(1, Ordering::SeqCst);
            engine.delete(key).unwrap();
            engine.put(key, bytes).unwrap();
        }
        1 => {
            let mut batch = Batch::new();
            batch.put(key, "overwritten in the batch").put(key, bytes);
            engine.commit(batch).unwrap();
        }
        2 => {
            let submitted = engine.submit(key, bytes, &PutOptions::new()).unwrap();
            submitted.wait().unwrap();
        }
        3 => {
            let put = || tierce_engine::Change::Put(bytes.clone(), PutOptions::new());
            engine.update(key, |_| put()).unwrap().unwrap();
        }
        4 => {
            let sync = PutOptions::new().durability(Durability::Sync);
            engine.put_with(key, bytes, &sync).unwrap();
        }
        _ => engine.put(key, bytes).unwrap(),
    }
    known.acknowledged.store(version, Ordering::SeqCst);
}

/// Reads a key and checks what may be seen: nothing older than what was acknowledged before, nothing newer than
/// what was begun.
fn read(engine: &Engine, key: &str, known: &Known, rng: &mut Rng) {
    let deletes = known.deletes.load(Ordering::SeqCst);
    let least = known.acknowledged.load(Ordering::SeqCst);
    let found = match rng.below(4) {
        0 => engine.entry(key).unwrap().map(|entry| entry.value),
        1 => engine.get_many(&[key]).unwrap().remove(0),
        2 if rng.one_in(8) => engine.snapshot().unwrap().get(key).unwrap(),
        _ => engine.get(key).unwrap(),
    };
    let most = known.begun.load(Ordering::SeqCst);
    match found {
        Some(bytes) if bytes.starts_with(b"overwritten") => panic!("{key}: half a batch"),
        Some(bytes) => {
            let seen = version(key, &bytes);
            assert!((least..=most).contains(&seen), "{key}: {seen} of {least}..={most}");
        }
        None => {
            let was_deleted = known.deletes.load(Ordering::SeqCst) > deletes;
            let is_in_flight = known.acknowledged.load(Ordering::SeqCst) != most || most > least;
            assert!(least == 0 || was_deleted || is_in_flight, "{key} is missing, was at {least}");
        }
    }
}

/// Goal: readers never see a wrong value or one older than what was acknowledged before they asked; nothing is
/// lost. Method: each writer owns some keys and mixes every kind of write over full segments; readers read by every
/// path; in the end and after a restart every key has its last version.
#[test]
fn writers_and_readers() {
    cases("concurrency::writers_and_readers", 8, |seed| {
        let durability = DURABILITIES[(seed % 4) as usize];
        let read_mode = if seed % 3 == 0 { ReadMode::Positioned } else { ReadMode::Map };
        let hash_bits = if seed % 5 == 0 { 3 } else { u64::BITS };
        let setup = Setup { read_mode, hash_bits, ..Setup::new(durability) };
        let mut store = TestStore::with(MemoryDisk::new(), setup);
        let engine = store.engine();
        let known: BTreeMap<String, Known> = (0..WRITERS * KEYS)
            .map(|number| (format!("{}/{}", number % WRITERS, number), Known::default()))
            .collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (known, done) = (&known, &done);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut rng = Rng::new(seed ^ (writer + 1));
                        let own = format!("{writer}/");
                        let own: Vec<_> =
                            known.iter().filter(|(key, _)| key.starts_with(&own)).collect();
                        for _ in 0..400 {
                            let (key, known) = own[rng.below(own.len() as u64) as usize];
                            write(engine, key, known, &mut rng);
                        }
                    })
                })
                .collect();
            for reader in 0..3 {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed ^ (reader + 100));
                    while !done.load(Ordering::SeqCst) {
                        let at = rng.below(known.len() as u64) as usize;
                        let (key, known) = known.iter().nth(at).unwrap();
                        read(engine, key, known, &mut rng);
                    }
                });
            }
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    engine.step().unwrap();
                    thread::yield_now();
                }
            });
            let finished: Vec<_> =
                writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::SeqCst);
            assert!(finished.iter().all(Result::is_ok), "a writer failed");
        });
        for _ in 0..2 {
            for (key, known) in &known {
                let expected = known.acknowledged.load(Ordering::SeqCst);
                let found = store.engine().get(key).unwrap();
                assert_eq!(found.map_or(0, |bytes| version(key, &bytes)), expected, "{key}");
            }
            store.reopen();
        }
    });
}

/// Goal: many threads that wait for the device share its flushes, and each one's write is there when it is told.
/// Method: 32 threads; fewer syncs than writes; each reads its own write back at once.
#[test]
fn group_commit() {
    // The worst knobs end a group at two requests.
    let knobs = tierce_engine::Knobs::new();
    let setup = Setup { segment_bytes: 64 << 10, knobs, ..Setup::new(Durability::Sync) };
    let mut store = TestStore::with(SlowDisk::new(), setup);
    let engine = store.engine();
    let before = engine.stats();
    thread::scope(|scope| {
        for thread in 0..32 {
            scope.spawn(move || {
                for number in 0..40 {
                    let key = format!("{thread}/{number}");
                    engine.put(&key, value(&key, number, 50)).unwrap();
                    let found = engine.get(&key).unwrap().unwrap();
                    assert_eq!(version(&key, &found), number);
                }
            });
        }
    });
    let after = engine.stats();
    let (puts, syncs) = (after.puts - before.puts, after.syncs - before.syncs);
    assert_eq!((puts, after.durable_sequence), (32 * 40, after.sequence));
    assert!(syncs * 4 < puts, "{syncs} syncs for {puts} puts of 32 threads");
    store.reopen();
    assert_eq!(store.engine().iter().unwrap().count(), 32 * 40);
}

/// A disk in memory whose syncs take a while, so that writers come together.
struct SlowDisk;

impl SlowDisk {
    #[expect(clippy::new_ret_no_self, reason = "a hooked disk under a name that says why")]
    fn new() -> crate::basics::hooks::HookedDisk {
        crate::basics::hooks::HookedDisk::new(MemoryDisk::new(), |call| {
            if call == crate::basics::hooks::Call::Sync {
                thread::sleep(std::time::Duration::from_micros(500));
            }
        })
    }
}

/// Goal: of many threads that put the same keys if absent, exactly one succeeds for each key, and its value is the
/// one that is there. Method: 16 threads, 1,000 keys, every mode.
#[test]
fn put_if_absent_succeeds_once() {
    for durability in DURABILITIES {
        let setup = Setup { segment_bytes: 64 << 10, ..Setup::new(durability) };
        let mut store = TestStore::with(MemoryDisk::new(), setup);
        let winners = Mutex::new(BTreeMap::new());
        let barrier = Barrier::new(16);
        let engine = store.engine();
        thread::scope(|scope| {
            for thread in 0..16_u64 {
                let (winners, barrier) = (&winners, &barrier);
                scope.spawn(move || {
                    let absent = PutOptions::new().only_if_absent();
                    barrier.wait();
                    for number in 0..1_000_u64 {
                        let (key, value) = (number.to_le_bytes(), thread.to_le_bytes());
                        match engine.put_with(key, value, &absent) {
                            Ok(_) => {
                                let other = winners.lock().unwrap().insert(number, thread);
                                assert_eq!(other, None, "two winners of {number}");
                            }
                            Err(Error::Conflict { found: Some(_) }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        let winners = winners.into_inner().unwrap();
        assert_eq!(winners.len(), 1_000, "{durability:?}");
        store.reopen();
        for (number, thread) in winners {
            let found = store.engine().get(number.to_le_bytes()).unwrap().unwrap();
            assert_eq!(&found[..], thread.to_le_bytes(), "{durability:?}: {number}");
        }
    }
}

/// Goal: deletes of one key by many threads: exactly one is told that something was there.
#[test]
fn a_key_is_deleted_once() {
    let store = TestStore::with(MemoryDisk::new(), Setup::new(Durability::Os));
    let engine = store.engine();
    for number in 0..200 {
        engine.put(format!("key {number}"), "v").unwrap();
    }
    let deleted = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            let deleted = &deleted;
            scope.spawn(move || {
                for number in 0..200 {
                    let was_there = engine.delete(format!("key {number}")).unwrap();
                    deleted.fetch_add(u64::from(was_there), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(deleted.load(Ordering::SeqCst), 200);
    assert_eq!(engine.iter().unwrap().count(), 0);
}

/// Goal: a snapshot is one moment while writers go on: what one writer wrote first is in it if what it wrote later
/// is. Method: a writer counts two keys up, the first always ahead; snapshots by iteration and by get agree.
#[test]
fn snapshots_while_writing() {
    for durability in DURABILITIES {
        let store = TestStore::with(MemoryDisk::new(), Setup::new(durability));
        let engine = store.engine();
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for number in 1..=600 {
                    engine.put("first", value("first", number, 100)).unwrap();
                    engine.put("second", value("second", number, 100)).unwrap();
                    engine.put(format!("other {number}"), [0; 300]).unwrap();
                }
            });
            let mut last = 0;
            while !writer.is_finished() {
                let snapshot = engine.snapshot().unwrap();
                let at =
                    |key| snapshot.get(key).unwrap().map_or(0, |bytes: Value| version(key, &bytes));
                let (first, second) = (at("first"), at("second"));
                assert!(first == second || first == second + 1, "{first} and {second}");
                assert!(first >= last, "time goes back: {first} after {last}");
                let mut others = 0;
                for item in snapshot.iter() {
                    let (key, entry) = item.unwrap();
                    match &key[..] {
                        b"first" => assert_eq!(version("first", &entry.value), first),
                        b"second" => assert_eq!(version("second", &entry.value), second),
                        _ => others += 1,
                    }
                }
                assert!(others == second || others + 1 == second, "{others} and {second}");
                last = first;
                engine.step().unwrap();
            }
        });
    }
}

/// Goal: many threads that open, use and drop handles of one store while others write do not end it early.
#[test]
fn handles_come_and_go() {
    let disk = MemoryDisk::new();
    let mut store = TestStore::with(disk, Setup::new(Durability::Os));
    let engine = store.engine();
    thread::scope(|scope| {
        for thread in 0..6 {
            scope.spawn(move || {
                for number in 0..200 {
                    let handle = engine.clone();
                    handle.put(format!("{thread}/{number}"), "v").unwrap();
                    if number % 2 == 0 { handle.close().unwrap() } else { drop(handle) }
                }
            });
        }
    });
    store.reopen();
    assert_eq!(store.engine().iter().unwrap().count(), 1_200);
}
