//! Write amplification in the steady state: what segments were written for each byte of record that a user put.
//!
//! Records of one size, about 512 in a segment, a disk in memory, a clock moved by hand, and upkeep after every few
//! puts in the same thread: the counts are the same on every machine.

use std::collections::BinaryHeap;

use tierce_benches::{Lifetimes, Random, Workload, key, shuffled};
use tierce_engine::{Compaction, Durability, Engine, Options, PutOptions};

use crate::{
    Bar, Figure,
    kit::{CountingDisk, HandClock, open, settle},
};

const KEYS: u64 = 128 << 10;
/// Bytes of a record, all in: large, so that headers and footers weigh little.
const RECORD_BYTES: u64 = 4096;
const RECORDS_PER_SEGMENT: u64 = 512;
const SEGMENT_BYTES: u64 = 4096 + RECORDS_PER_SEGMENT * (RECORD_BYTES + 24) + 512;
/// Bytes of a record beside its value: header and key.
const HEAD_BYTES: u64 = 24 + 16;
/// What a footer says of a copied record.
const FOOTER_BYTES: u64 = 32;
/// Puts between two rounds of upkeep.
const STEP_EVERY: u64 = 64;

/// A store under test, and what it came to.
struct Bench {
    engine: Engine,
    disk: CountingDisk,
    clock: HandClock,
    value: Vec<u8>,
    puts: u64,
    /// At the beginning of what is measured: puts, bytes of segments, records copied, bytes as the store counts them.
    start: [u64; 4],
    /// Sums over time: live share of all segments, and the same with what the footers say of live records.
    live: f64,
    live_and_footers: f64,
    samples: u64,
}

impl Bench {
    fn new(garbage_percent: u32, head_bytes: u64) -> Self {
        let disk = CountingDisk::default();
        let clock = HandClock::default();
        let options = Options::new()
            .durability(Durability::Buffered)
            .background(false)
            .segment_bytes(SEGMENT_BYTES)
            .compaction(Compaction { garbage_percent, ..Compaction::default() })
            .disk(disk.clone())
            .clock(clock.clone());
        Self {
            engine: open(options, "store"),
            disk,
            clock,
            value: vec![7; (RECORD_BYTES - head_bytes) as usize],
            puts: 0,
            start: [0; 4],
            live: 0.0,
            live_and_footers: 0.0,
            samples: 0,
        }
    }

    fn put(&mut self, index: u64, options: &PutOptions) -> bool {
        self.value[..8].copy_from_slice(&self.puts.to_le_bytes());
        self.engine.put_with(key(index), &self.value, options).expect("the put succeeds");
        self.puts += 1;
        let is_due = self.puts.is_multiple_of(STEP_EVERY);
        if is_due {
            settle(&self.engine);
        }
        is_due
    }

    /// Takes note of how much of the segments is live.
    fn sample(&mut self, live_records: u64) {
        let all = self.engine.stats().segment_bytes as f64;
        self.live += (live_records * RECORD_BYTES) as f64 / all;
        self.live_and_footers += (live_records * (RECORD_BYTES + FOOTER_BYTES)) as f64 / all;
        self.samples += 1;
    }

    fn counts(&self) -> [u64; 4] {
        let stats = self.engine.stats();
        let counted = stats.written_bytes + stats.compacted_bytes;
        [self.puts, self.disk.segment_bytes(), stats.compacted_records, counted]
    }

    fn begin(&mut self) {
        self.start = self.counts();
        (self.live, self.live_and_footers, self.samples) = (0.0, 0.0, 0);
    }

    fn figure(&self, name: String, bar: f64) -> Figure {
        let now = self.counts();
        let [puts, device, copied, counted] =
            [0, 1, 2, 3].map(|at| (now[at] - self.start[at]) as f64);
        let put_bytes = puts * RECORD_BYTES as f64;
        let mean = |sum: f64| 100.0 * sum / self.samples.max(1) as f64;
        let stats = self.engine.stats();
        Figure {
            name,
            ours: format!(
                "{:.3} with headers and footers, {:.3} as the store counts, {:.3} records alone",
                device / put_bytes,
                counted / put_bytes,
                (puts + copied) / puts
            ),
            other: format!(
                "{:.1} % live ({:.1} % with footers), {} segments, {} jobs",
                mean(self.live),
                mean(self.live_and_footers),
                stats.segments,
                stats.compactions
            ),
            found: device / put_bytes,
            bar: Bar::AtMost(bar),
        }
    }
}

/// Overwrites of keys that stay: uniform, skewed, and with a hot part that moves.
pub(crate) fn overwrites() -> Vec<Figure> {
    const WARM: u64 = 4;
    const MEASURED: u64 = 6;
    let zipf = Workload::zipf(KEYS, 0.99);
    let cases = [
        ("uniform, 80 % live", &Workload::Uniform, 20, 2.75),
        ("zipf 0.99, 80 % live", &zipf, 20, 2.1),
        ("hot and cold, 80 % live", &Workload::HotCold { drift: 0 }, 20, 1.8),
        ("drifting, 80 % live", &Workload::HotCold { drift: 2 * KEYS }, 20, 2.2),
        ("zipf 0.99, 90 % live", &zipf, 10, 3.2),
    ];
    let run = |(name, workload, garbage, bar): (&str, &Workload, u32, f64)| {
        let mut bench = Bench::new(garbage, HEAD_BYTES);
        let mut random = Random::new(5);
        let plain = PutOptions::new();
        for index in shuffled(KEYS, 6) {
            bench.put(index, &plain);
        }
        for at in 0..(WARM + MEASURED) * KEYS {
            if at == WARM * KEYS {
                bench.begin();
            }
            let index = workload.key(&mut random, KEYS, at);
            if bench.put(index, &plain) {
                bench.sample(KEYS);
            }
        }
        bench.figure(format!("write amplification, {name}"), bar)
    };
    cases.into_iter().map(run).collect()
}

const MINUTE: u64 = 60_000;
/// Lifetimes as in Twitter's cluster 4: seconds to a day.
const MIX: Lifetimes<'_> = Lifetimes(&[
    (0.30, MINUTE),
    (0.25, 5 * MINUTE),
    (0.20, 60 * MINUTE),
    (0.15, 360 * MINUTE),
    (0.10, 1_440 * MINUTE),
]);

/// Inserts only: each key is written once, lives for one of the mix, and expires.
pub(crate) fn lifetimes() -> Vec<Figure> {
    vec![
        mixed_lifetimes("write amplification, mixed lifetimes, 80 % live", 0),
        mixed_lifetimes("write amplification, mixed lifetimes, a sweep a minute", MINUTE),
    ]
}

fn mixed_lifetimes(name: &str, sweep_every_ms: u64) -> Figure {
    let mut bench = Bench::new(20, HEAD_BYTES + 8);
    let mut random = Random::new(5);
    // So many puts in a mean lifetime that as many entries are live as keys elsewhere.
    let step_ms = MIX.mean() / KEYS as f64;
    let warm = (MIX.0[4].1 as f64 / step_ms) as u64 * 5 / 4;
    let measured = 5 * KEYS;
    let mut ends = BinaryHeap::new();
    let (mut now, mut swept_at) = (0, 0);
    for at in 0..warm + measured {
        if at == warm {
            bench.begin();
        }
        let then = (at as f64 * step_ms) as u64;
        bench.clock.advance(then - now);
        now = then;
        let expires_at = bench.engine.now().0 + MIX.next(&mut random);
        ends.push(std::cmp::Reverse(expires_at));
        let is_due =
            bench.put(at, &PutOptions::new().expires_at(tierce_engine::Timestamp(expires_at)));
        if sweep_every_ms > 0 && now - swept_at >= sweep_every_ms {
            swept_at = now;
            bench.engine.sweep(None).expect("the sweep succeeds");
        }
        if is_due {
            let now = bench.engine.now().0;
            while ends.peek().is_some_and(|end| end.0 <= now) {
                ends.pop();
            }
            bench.sample(ends.len() as u64);
        }
    }
    bench.figure(name.to_owned(), 1.3)
}
