//! The threads of a check: as many as there is work for, all gone when it returns.

use std::num::NonZero;

use crate::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
    thread,
};

/// How many threads the machine runs at once.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does `count` pieces of work with at most so many threads, the calling one among them; the outcomes in order.
/// Threads that cannot be had are done without.
pub(super) fn each<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let take = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= count {
                return;
            }
            let outcome = work(place);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            if thread::Builder::new().name("tierce-check".into()).spawn_scoped(scope, take).is_err()
            {
                break;
            }
        }
        take();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every piece is done once, whatever the number of threads, and the outcomes are in order.
    #[test]
    fn everything_is_done_once() {
        for threads in [1, 2, 7] {
            assert_eq!(
                each(threads, 100, |place| place * 2),
                (0..200).step_by(2).collect::<Vec<_>>()
            );
        }
        assert!(each(4, 0, |_| ()).is_empty());
    }
}
