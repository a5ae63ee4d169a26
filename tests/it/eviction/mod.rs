//! Who goes first, what is remembered of it, and what never goes.
//!
//! - `exact`: small stores against an exact model of the policy
//! - `restart`: times of use survive a restart, a crash, and another policy
//! - `rules`: state stays, expired goes first, and the journal tells
//! - `threads`: readers and writers while entries go

mod exact;
mod restart;
mod rules;
mod threads;

use tierce_engine::Engine;

use crate::limits::{Limited, evictable, name};

/// Stores a small evictable entry.
#[track_caller]
fn put(engine: &Engine, key: u64) {
    engine.put_with(name(key), key.to_le_bytes(), &evictable()).unwrap();
}

/// Reads an entry, which counts as a use; says whether it was there.
#[track_caller]
fn get(engine: &Engine, key: u64) -> bool {
    engine.get(name(key)).unwrap().is_some()
}

/// Which of these keys are there, without counting as a use.
#[track_caller]
fn there(engine: &Engine, keys: impl IntoIterator<Item = u64>) -> Vec<u64> {
    keys.into_iter().filter(|key| engine.contains_key(name(*key)).unwrap()).collect()
}

/// A store of so many entries at most.
fn store_of(entries: u64, evict: tierce_engine::Evict) -> Limited {
    Limited::new(|options| options.max_entries(entries).evict(evict))
}
