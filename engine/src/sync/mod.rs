//! Locks, condition variables, atomics and threads: the only door to them for the whole crate.
//!
//! They are the standard library's. With the feature `schedule` they are those of `scheduled`, which lets a test
//! decide which thread runs next. `Arc`, `Weak` and `LazyLock` stay the standard library's everywhere: none of them
//! waits for a thread that a scheduler may hold back.

#[cfg(feature = "schedule")]
pub mod scheduled;

#[cfg(not(feature = "schedule"))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        RwLockWriteGuard, atomic,
    },
    thread,
};

#[cfg(feature = "schedule")]
pub(crate) use scheduled::{
    Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic, thread,
};

pub(crate) use std::thread::panicking;

/// A small number of the current thread: the first thread that asks has 0, the next one 1. Under a scheduler it is
/// the task's number, the same in every run.
#[inline]
pub(crate) fn thread_number() -> usize {
    #[cfg(feature = "schedule")]
    if let Some(task) = scheduled::current_task() {
        return task;
    }
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    std::thread_local! {
        static MINE: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        mine.get()
    })
}
