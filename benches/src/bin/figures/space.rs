//! What a store takes on disk, against what of it is live.

use std::path::Path;

use tierce_benches::{Random, key, shuffled, value};
use tierce_engine::{Durability, Engine, Options, PutOptions};

use crate::{
    Bar, Figure,
    kit::{CountingDisk, HandClock, open, settle},
    reads::KEYS,
    scratch,
};

fn directory_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("the directory can be read");
    entries.map(|entry| entry.expect("an entry").metadata().expect("its metadata").len()).sum()
}

/// Every key overwritten ten times, with default options: each time all of them in another random order, and one
/// random key after the other.
pub(crate) fn settled() -> Vec<Figure> {
    let mut figures = settled_after("each round in random order", &|at| shuffled(KEYS, at));
    figures.extend(settled_after("random keys", &|at| {
        if at == 0 {
            return shuffled(KEYS, 0);
        }
        let mut random = Random::new(at * KEYS);
        (0..KEYS).map(|_| random.below(KEYS)).collect()
    }));
    figures
}

fn settled_after(how: &str, round: &dyn Fn(u64) -> Vec<u64>) -> Vec<Figure> {
    let dir = scratch("settled");
    let engine = Engine::open(&dir).expect("the store opens");
    for at in 0..=10 {
        for index in round(at) {
            engine.put(key(index), value(index + at)).expect("the put succeeds");
        }
    }
    engine.sync().expect("the store syncs");
    settle(&engine);
    let stats = engine.stats();
    let user_bytes = KEYS * (tierce_benches::KEY_BYTES + tierce_benches::VALUE_BYTES) as u64;
    let open = directory_bytes(&dir);
    engine.close().expect("the store closes");
    let closed = directory_bytes(&dir);
    let figure = |state: &str, bytes: u64, bar| Figure {
        name: format!("overwritten ten times, {how}: directory / live, {state}"),
        ours: format!("{bytes} B, {:.2} x keys and values", bytes as f64 / user_bytes as f64),
        other: format!(
            "live records {} B; {} jobs wrote {:.2} x what was put",
            stats.live_bytes,
            stats.compactions,
            stats.compacted_bytes as f64 / stats.written_bytes as f64
        ),
        found: bytes as f64 / stats.live_bytes as f64,
        bar,
    };
    vec![
        figure("settled", open, Bar::AtMost(1.5)),
        figure("closed, with its checkpoint", closed, Bar::None),
    ]
}

/// How much of a limit is live in the steady state, and what keeping it costs.
pub(crate) fn limits() -> Vec<Figure> {
    let mut figures = Vec::new();
    for mib in [64, 256] {
        for value_bytes in [100, 1024, 8192] {
            figures.extend(limited(mib, value_bytes));
        }
    }
    figures
}

/// Random keys, four times as many as fit, put one after the other.
fn limited(mib: u64, value_bytes: u64) -> Vec<Figure> {
    const STEP_EVERY: u64 = 64;
    let limit = mib << 20;
    let record = (24 + 16 + value_bytes).next_multiple_of(8);
    let keys = 4 * limit / record;
    let disk = CountingDisk::default();
    let options = Options::new()
        .durability(Durability::Buffered)
        .background(false)
        .max_bytes(limit)
        .disk(disk.clone())
        .clock(HandClock::default());
    let engine = open(options, "store");
    let value = vec![7; value_bytes as usize];
    let evictable = PutOptions::new().evictable(true);
    let mut random = Random::new(8);
    let (mut warm, mut live, mut used, mut samples) = (0, 0.0, 0, 0);
    for at in 0..2 * keys {
        if at == keys {
            (warm, live, samples) = (disk.segment_bytes(), 0.0, 0);
        }
        engine.put_with(key(random.below(keys)), &value, &evictable).expect("the put succeeds");
        if at % STEP_EVERY == 0 {
            settle(&engine);
        }
        if at % 1024 == 0 {
            live += engine.stats().live_bytes as f64;
            used = used.max(engine.usage().used);
            samples += 1;
        }
    }
    let amplification = (disk.segment_bytes() - warm) as f64 / (keys * record) as f64;
    let name = format!("limit {mib} MiB, {value_bytes} B values: live / limit");
    vec![Figure {
        name,
        ours: format!("write amplification {amplification:.2}"),
        other: format!("{:.1} % used at most", 100.0 * used as f64 / limit as f64),
        found: live / f64::from(samples) / limit as f64,
        bar: Bar::None,
    }]
}
