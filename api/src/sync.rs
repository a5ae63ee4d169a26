//! Locks, condition variables, atomics and threads: the only door to them for the whole crate.
//!
//! They are the standard library's. With the feature `schedule` they are those of the engine's scheduler, so that one
//! world of a test decides for both crates which thread runs next.

#[cfg(not(feature = "schedule"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, atomic},
    thread,
};

#[cfg(feature = "schedule")]
pub(crate) use tierce_engine::schedule::{
    Condvar, Mutex, MutexGuard, OnceLock, PoisonError, atomic, thread,
};

/// What hashes the keys of maps that are walked, or that share slots: by chance, and under a scheduler the same in each
/// run.
#[cfg(not(feature = "schedule"))]
pub(crate) type Hashing = std::hash::RandomState;
#[cfg(feature = "schedule")]
pub(crate) type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
