//! Sizes and times of whole stores: small ones, memory per key, and opening.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, abort},
    time::Instant,
};

use tierce_benches::{key, median, shuffled, value};
use tierce_engine::{Durability, Engine, Evict, Options, PutOptions, Timestamp};

use crate::{
    Bar, Figure, memory,
    reads::{KEYS, filled},
    scratch,
};

fn figure(name: &'static str, ours: String, found: f64, bar: Bar) -> Figure {
    Figure { name: name.to_owned(), ours, other: "-".to_owned(), found, bar }
}

fn disk_blocks(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("the directory can be read");
    entries
        .map(|entry| entry.expect("an entry").metadata().expect("its metadata").blocks() * 512)
        .sum()
}

/// Ten small keys.
pub(crate) fn small() -> Vec<Figure> {
    let dir = scratch("small");
    let before = memory::live();
    let engine = Engine::open(&dir).expect("the store opens");
    for index in 0..10 {
        engine.put(key(index), value(index)).expect("the put succeeds");
    }
    let open = memory::live().saturating_sub(before);
    engine.close().expect("the store closes");
    let blocks = disk_blocks(&dir);
    vec![
        figure(
            "10 keys: disk KiB after close",
            format!("{blocks} B"),
            blocks as f64 / 1024.0,
            Bar::AtMost(64.0),
        ),
        figure(
            "10 keys: heap KiB while open",
            format!("{open} B"),
            open as f64 / 1024.0,
            Bar::AtMost(4096.0),
        ),
    ]
}

/// Heap bytes per key, all in, after every key was written.
pub(crate) fn memory_per_key() -> Vec<Figure> {
    let before = memory::live();
    let engine = filled("memory");
    let bytes = memory::live().saturating_sub(before);
    let each = bytes as f64 / KEYS as f64;
    let figures =
        vec![figure("heap bytes per key", format!("{bytes} B in all"), each, Bar::AtMost(40.0))];
    drop(engine);
    figures
}

/// Writes all keys and dies without a word.
pub(crate) fn fill_and_abort(dir: &str) -> ! {
    let engine = Options::new().durability(Durability::Os).open(dir).expect("the store opens");
    for index in shuffled(KEYS, 4) {
        engine.put(key(index), value(index)).expect("the put succeeds");
    }
    abort()
}

/// Opening after a clean close and after a kill.
pub(crate) fn open_times() -> Vec<Figure> {
    const ROUNDS: usize = 5;
    let dir = filled("open").path().to_owned();
    let clean = (0..ROUNDS).map(|_| timed_open(&dir)).collect();
    let killed = (0..ROUNDS).map(|_| {
        let dir = scratch("killed");
        let program = std::env::current_exe().expect("this program has a path");
        let status = Command::new(program).arg("fill-and-abort").arg(&dir).status();
        assert!(!status.expect("the child runs").success(), "the child dies");
        timed_open(&dir)
    });
    let (clean, killed) = (median(clean), median(killed.collect()));
    vec![
        figure("open after close, s", format!("{clean:.3} s"), clean, Bar::AtMost(0.2)),
        figure("open after kill, s", format!("{killed:.3} s"), killed, Bar::AtMost(1.0)),
    ]
}

fn timed_open(dir: &Path) -> f64 {
    let start = Instant::now();
    let engine = Engine::open(dir).expect("the store opens");
    let took = start.elapsed().as_secs_f64();
    assert_eq!(engine.stats().entries, KEYS, "every key is there");
    took
}

/// Heap bytes per key of stores that remember uses and expiries: with a limit that is never reached, and with one
/// that a fifth more keys went over.
pub(crate) fn memory_with_limits() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, evict) in [("Lru", Evict::Lru), ("S3Fifo", Evict::S3Fifo)] {
        for expires in [false, true] {
            for more in [0, KEYS / 5] {
                let suffix = if expires { ", all with an expiry" } else { "" };
                let over = if more > 0 { ", limit passed" } else { "" };
                let name = format!("heap bytes per key, {name}{suffix}{over}");
                figures.push(limited_heap(name, evict, expires, more));
            }
        }
    }
    figures
}

fn limited_heap(name: String, evict: Evict, expires: bool, more: u64) -> Figure {
    let before = memory::live();
    let engine = Options::new()
        .durability(Durability::Buffered)
        .evict(evict)
        .max_entries(KEYS)
        .open(scratch("limited"))
        .expect("the store opens");
    let mut options = PutOptions::new().evictable(true);
    if expires {
        options = options.expires_at(Timestamp(engine.now().0 + 86_400_000));
    }
    for index in shuffled(KEYS + more, 1) {
        engine.put_with(key(index), value(index), &options).expect("the put succeeds");
    }
    // Half of the keys are asked for once more.
    for index in 0..KEYS / 2 {
        engine.get(key(index)).expect("the get succeeds");
    }
    engine.sync().expect("the store syncs");
    while engine.step().expect("the store steps") {}
    let bytes = memory::live().saturating_sub(before);
    let stats = engine.stats();
    let ours =
        format!("{bytes} B in all, {} B index, {} B images", stats.index_bytes, stats.image_bytes);
    let other = format!("{} entries", stats.entries);
    let found = bytes as f64 / stats.entries as f64;
    Figure { name, ours, other, found, bar: Bar::AtMost(40.0) }
}
