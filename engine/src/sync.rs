//! Locks, condition variables, atomics and threads: the only door to them for the whole crate.
//!
//! They are the standard library's. A test that decides which thread runs next swaps them here, in one place, and
//! reaches every lock and every wait of the engine by it. `Arc`, `Weak` and `LazyLock` stay the standard library's
//! everywhere: none of them waits for a thread that a scheduler may hold back.

pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        RwLockWriteGuard, atomic,
    },
    thread,
};
