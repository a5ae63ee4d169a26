//! Which load waits for which other one, so that loads that wait for each other in a circle are found: those of caches
//! and the fetches of coordinators.
//!
//! A load is run by a thread, or by a task that is polled by one thread after the other. So what runs is known by a
//! stack of each thread, which has on it what it runs at this moment and nothing of what is suspended.

use std::{
    cell::RefCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
    task::Waker,
};

use crate::{
    error::{Error, Result},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// One load of one key, or one fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LoadId(u64);

/// Of each load those it waits for. One may wait for several at once, and for one of them twice.
static WAITS: LazyLock<Mutex<HashMap<LoadId, Vec<LoadId>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// What this thread runs, the innermost last.
    static RUNS: RefCell<Vec<LoadId>> = const { RefCell::new(Vec::new()) };
}

fn hold() -> MutexGuard<'static, HashMap<LoadId, Vec<LoadId>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoadId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// This thread runs the load until the guard is dropped: for as long as a loader is called, or polled once.
    pub(crate) fn run(self) -> Running {
        RUNS.with_borrow_mut(|runs| runs.push(self));
        Running
    }
}

/// See [`LoadId::run`]. Not to be held while a task is suspended.
pub(crate) struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNS.with_borrow_mut(|runs| {
            runs.pop();
        });
    }
}

/// Wakes all of them. Some wakers run what they wake at once; if that panics, the others are woken all the same, and
/// who woke them goes on. Order: with no lock held.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// The load that runs on this thread waits for another one; on record until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    from: LoadId,
    to: LoadId,
}

impl Waiting {
    /// `None` if this thread runs no load: nobody can wait for what waits then.
    ///
    /// # Errors
    /// [`Error::LoaderRecursion`] if `to` waits for the load that this thread runs, or is it.
    pub(crate) fn begin(to: LoadId) -> Result<Option<Self>> {
        let Some(from) = RUNS.with_borrow(|runs| runs.last().copied()) else { return Ok(None) };
        let mut waits = hold();
        if reaches(&waits, to, from) {
            return Err(Error::LoaderRecursion);
        }
        waits.entry(from).or_default().push(to);
        Ok(Some(Self { from, to }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = hold();
        if let Some(others) = waits.get_mut(&self.from) {
            if let Some(at) = others.iter().position(|other| *other == self.to) {
                others.swap_remove(at);
            }
            if others.is_empty() {
                waits.remove(&self.from);
            }
        }
    }
}

/// Whether `start` is `goal`, or waits for it. There are no circles: the wait that would make one is refused.
fn reaches(waits: &HashMap<LoadId, Vec<LoadId>>, start: LoadId, goal: LoadId) -> bool {
    let (mut seen, mut next) = (vec![start], 0);
    while let Some(load) = seen.get(next).copied() {
        if load == goal {
            return true;
        }
        next += 1;
        for other in waits.get(&load).into_iter().flatten() {
            if !seen.contains(other) {
                seen.push(*other);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{LoadId, Waiting, hold};
    use crate::Error;

    /// Goal: a circle of any length is refused, and only while it would be one.
    #[test]
    fn circles_are_refused() {
        let [a, b, c] = [LoadId::new(), LoadId::new(), LoadId::new()];
        assert!(Waiting::begin(a).unwrap().is_none(), "nothing runs here");
        let wait = |from: LoadId, to| {
            let _running = from.run();
            Waiting::begin(to)
        };
        assert!(matches!(wait(a, a), Err(Error::LoaderRecursion)));
        let ab = wait(a, b).unwrap();
        let ab_again = wait(a, b).unwrap();
        let bc = wait(b, c).unwrap();
        assert!(matches!(wait(c, a), Err(Error::LoaderRecursion)));
        drop(ab);
        assert!(matches!(wait(c, a), Err(Error::LoaderRecursion)), "a still waits for b");
        drop(ab_again);
        drop(wait(c, a).unwrap());
        drop(bc);
        assert!(!hold().contains_key(&a) && !hold().contains_key(&b), "nothing is left behind");
    }
}
