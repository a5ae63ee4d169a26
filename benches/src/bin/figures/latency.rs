//! The slowest operations while compaction runs at full speed, against the same while it is paused, phase by phase.

use std::time::Instant;

use tierce_benches::{Random, key, median, shuffled, value};
use tierce_engine::Engine;

use crate::{Bar, Figure, kit::settle, reads::KEYS, scratch};

const ROUNDS: u64 = 9;
/// Overwrites before each phase, so that there is garbage to work on.
const GARBAGE: u64 = 400_000;
const LEAST: u64 = 100_000;
const MOST: u64 = 2_000_000;

type Operation = fn(&Engine, u64);

fn get(engine: &Engine, index: u64) {
    std::hint::black_box(engine.get(key(index)).expect("the get succeeds"));
}

fn put(engine: &Engine, index: u64) {
    engine.put(key(index), value(index)).expect("the put succeeds");
}

/// Nanoseconds that 99 % and 99.9 % of some operations stayed below.
#[derive(Clone, Copy)]
struct Slowest([f64; 2]);

impl Slowest {
    fn of(mut nanos: Vec<u32>) -> Self {
        nanos.sort_unstable();
        let at = |part: f64| f64::from(nanos[((nanos.len() - 1) as f64 * part) as usize]);
        Self([at(0.99), at(0.999)])
    }
}

/// Operations one after the other until `is_over` says so, which is asked every thousand.
fn measure(
    engine: &Engine,
    random: &mut Random,
    operation: Operation,
    is_over: impl Fn(u64) -> bool,
) -> Slowest {
    let mut nanos = Vec::with_capacity(MOST as usize);
    while !is_over(nanos.len() as u64) {
        for _ in 0..1_000 {
            let index = random.below(KEYS);
            let start = Instant::now();
            operation(engine, index);
            nanos.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
    Slowest::of(nanos)
}

/// A paused phase and one with compaction, each on the same garbage.
fn round(engine: &Engine, random: &mut Random, operation: Operation) -> (Slowest, Slowest, u64) {
    engine.pause_compaction();
    for _ in 0..GARBAGE {
        put(engine, random.below(KEYS));
    }
    engine.sync().expect("the store syncs");
    settle(engine);
    let paused = measure(engine, random, operation, |count| count >= 3 * LEAST);
    settle(engine);
    let jobs = engine.stats().compactions;
    engine.resume_compaction();
    let running = measure(engine, random, operation, |count| {
        count >= MOST || (count >= LEAST && engine.stats().compactions > jobs)
    });
    (paused, running, engine.stats().compactions - jobs)
}

/// Gets and puts of one thread; the store's own thread compacts.
pub(crate) fn latency() -> Vec<Figure> {
    let engine = Engine::open(scratch("latency")).expect("the store opens");
    for index in shuffled(KEYS, 1) {
        put(&engine, index);
    }
    let mut random = Random::new(3);
    let mut figures = Vec::new();
    for (name, operation) in [("get", get as Operation), ("put, Os", put)] {
        round(&engine, &mut random, operation);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| round(&engine, &mut random, operation)).collect();
        let jobs: u64 = rounds.iter().map(|round| round.2).sum();
        for (at, percentile) in ["p99", "p99.9"].into_iter().enumerate() {
            let of = |pick: &dyn Fn(&(Slowest, Slowest, u64)) -> f64| {
                median(rounds.iter().map(pick).collect())
            };
            figures.push(Figure {
                name: format!("{name}, {percentile}, compaction running / paused"),
                ours: format!("{:.0} ns, {jobs} jobs", of(&|round| round.1.0[at])),
                other: format!("paused {:.0} ns", of(&|round| round.0.0[at])),
                found: of(&|round| round.1.0[at] / round.0.0[at]),
                bar: Bar::AtMost(2.0),
            });
        }
    }
    figures
}
