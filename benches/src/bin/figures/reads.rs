//! Reads: against a locked hash map, and against LMDB.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use parking_lot::RwLock;
use tierce_benches::{Random, Versus, key, nanos_per, shuffled, value, versus};
use tierce_engine::{Durability, Engine, Options};

use crate::{Bar, Figure, scratch};

pub(crate) const KEYS: u64 = 1_000_000;
const READS: u64 = 1_000_000;
const ROUNDS: usize = 7;

pub(crate) type Map = Arc<RwLock<HashMap<Box<[u8]>, Box<[u8]>>>>;

/// A store with all keys, written in random order.
pub(crate) fn filled(name: &str) -> Engine {
    let engine = Options::new()
        .durability(Durability::Buffered)
        .open(scratch(name))
        .expect("the store opens");
    for index in shuffled(KEYS, 1) {
        engine.put(key(index), value(index)).expect("the put succeeds");
    }
    engine.sync().expect("the store syncs");
    while engine.step().expect("the store steps") {}
    engine
}

fn map() -> Map {
    let pairs = shuffled(KEYS, 1).into_iter().map(|i| (key(i).into(), value(i).into()));
    Arc::new(RwLock::new(pairs.collect()))
}

fn read_engine(engine: &Engine, seed: u64, offset: u64) -> f64 {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(256);
    nanos_per(READS, || {
        for _ in 0..READS {
            let found = engine.get(key(offset + random.below(KEYS))).expect("the get succeeds");
            out.clear();
            if let Some(found) = found {
                out.extend_from_slice(&found);
            }
            black_box(&out);
        }
    })
}

fn read_map(map: &Map, seed: u64, offset: u64) -> f64 {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(256);
    nanos_per(READS, || {
        for _ in 0..READS {
            let map = map.read();
            out.clear();
            if let Some(found) = map.get(&key(offset + random.below(KEYS))[..]) {
                out.extend_from_slice(found);
            }
            black_box(&out);
        }
    })
}

fn figure(name: &'static str, other: &str, versus: Versus, bar: Bar) -> Figure {
    Figure {
        name: name.to_owned(),
        ours: format!("{:.0} ns", versus.ours),
        other: format!("{other} {:.0} ns", versus.other),
        found: versus.ratio,
        bar,
    }
}

/// Present and absent keys, one thread and two.
pub(crate) fn get() -> Vec<Figure> {
    let engine = filled("get");
    let map = map();
    let mut seed = 0;
    let mut next = || {
        seed += READS;
        seed
    };
    let present = {
        let (a, b) = (next(), next());
        versus(ROUNDS, || read_engine(&engine, a, 0), || read_map(&map, b, 0))
    };
    let (c, d) = (next(), next());
    let absent = versus(ROUNDS, || read_engine(&engine, c, KEYS), || read_map(&map, d, KEYS));
    let two = two_threads(&engine, next());
    let mut figures = vec![
        figure("get, present", "hash map", present, Bar::AtMost(1.0)),
        figure("get, absent", "hash map", absent, Bar::AtMost(1.3)),
        figure("get, 2 threads / 1, rate", "1 thread", two, Bar::AtLeast(1.5)),
    ];
    figures.extend(lmdb(&engine, next()));
    figures
}

/// Rate of two threads together over that of one.
fn two_threads(engine: &Engine, seed: u64) -> Versus {
    let pair = || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| read_engine(engine, seed + 7, 0));
            let mine = read_engine(engine, seed, 0);
            let other = other.join().expect("the reader finishes");
            mine.max(other) / 2.0
        })
    };
    let found = versus(ROUNDS, pair, || read_engine(engine, seed, 0));
    Versus { ratio: 1.0 / found.ratio, ..found }
}

#[cfg(feature = "lmdb")]
#[expect(unsafe_code, reason = "LMDB's environment is opened by an unsafe call")]
fn lmdb(engine: &Engine, seed: u64) -> Vec<Figure> {
    use heed::{Database, EnvOpenOptions, types::Bytes};
    let dir = scratch("lmdb");
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    // SAFETY: nobody else opens this directory while the environment lives.
    let env = unsafe { EnvOpenOptions::new().map_size(2 << 30).open(&dir).expect("LMDB opens") };
    let mut writing = env.write_txn().expect("a transaction begins");
    let database: Database<Bytes, Bytes> =
        env.create_database(&mut writing, None).expect("the database is made");
    for index in shuffled(KEYS, 1) {
        database.put(&mut writing, &key(index), &value(index)).expect("the put succeeds");
    }
    writing.commit().expect("the transaction commits");
    let read = || {
        let mut random = Random::new(seed);
        let mut out = Vec::with_capacity(256);
        nanos_per(READS, || {
            for _ in 0..READS {
                let reading = env.read_txn().expect("a transaction begins");
                let found =
                    database.get(&reading, &key(random.below(KEYS))).expect("the get succeeds");
                out.clear();
                out.extend_from_slice(found.unwrap_or_default());
                black_box(&out);
            }
        })
    };
    let found = versus(ROUNDS, || read_engine(engine, seed, 0), read);
    let speed = Versus { ratio: 1.0 / found.ratio, ..found };
    vec![figure("get, present, speed over LMDB", "LMDB", speed, Bar::AtLeast(5.0))]
}

#[cfg(not(feature = "lmdb"))]
fn lmdb(_: &Engine, _: u64) -> Vec<Figure> {
    Vec::new()
}
