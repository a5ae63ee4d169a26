//! What has expired leaves the disk; compaction when it may.
//!
//! - `sweeps`: what a sweep removes, and what it leaves on disk
//! - `moved`: expiries moved by touches, and clocks that jump
//! - `control`: when compaction works by itself, and how fast

mod control;
mod moved;
mod sweeps;

use tierce_engine::{Engine, PutOptions, Timestamp};

use crate::limits::{name, value};

/// Stores an entry that expires.
#[track_caller]
fn put(engine: &Engine, key: u64, bytes: usize, at: Timestamp) {
    engine.put_with(name(key), value(key, 0, bytes), &PutOptions::new().expires_at(at)).unwrap();
}

/// Which of these keys can be read.
#[track_caller]
fn there(engine: &Engine, keys: std::ops::Range<u64>) -> Vec<u64> {
    keys.filter(|key| engine.get(name(*key)).unwrap().is_some()).collect()
}
