//! What was forgotten lately, and why: for whoever wonders where an entry went.

use std::collections::VecDeque;

use crate::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    types::Timestamp,
};

/// Evictions that are kept.
const KEPT: usize = 1024;

/// Why an entry left without being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A limit was reached, and it was next.
    Capacity,
    /// Its time was over.
    Expired,
    /// One of its scopes was cut.
    Cut,
}

/// One entry that left without being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// When, in store time.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// The upper 56 bits of the hash of its key, which is not kept in memory; the lower 8 are 0.
    pub hash: u64,
    /// How long it had not been used, in 1/1024 of the capacity: of 512, half as many entries as there is room for
    /// were stored or used again since its last use. `None` if the policy keeps no such order.
    pub age: Option<u16>,
    /// Bytes of its record, up to half a percent too many.
    pub bytes: u64,
}

/// Evictions since some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// The evictions, oldest first, each with its key if keys were kept when it happened.
    pub evictions: Vec<(Eviction, Option<Vec<u8>>)>,
    /// Where the next call goes on.
    pub next: u64,
    /// How many in between are known no more, because more than 1,024 came after them.
    pub lost: u64,
}

/// The last 1,024 evictions.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    keeps_keys: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<(Eviction, Option<Vec<u8>>)>,
    /// How many there were in all.
    total: u64,
}

impl Journal {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keep_keys(&self) {
        self.keeps_keys.store(true, Ordering::Release);
    }

    /// Whether keys are asked for; they have to be read from the log.
    pub(crate) fn keeps_keys(&self) -> bool {
        self.keeps_keys.load(Ordering::Acquire)
    }

    /// Adds evictions, the oldest first; what is too many leaves at the other end.
    pub(crate) fn record(&self, evictions: impl IntoIterator<Item = (Eviction, Option<Vec<u8>>)>) {
        let mut kept = self.kept();
        for eviction in evictions {
            if kept.last.len() == KEPT {
                kept.last.pop_front();
            }
            kept.last.push_back(eviction);
            kept.total += 1;
        }
    }

    /// What is kept, the oldest first.
    #[must_use]
    pub(crate) fn recent(&self) -> Vec<Eviction> {
        self.kept().last.iter().map(|(eviction, _)| *eviction).collect()
    }

    /// All but the first `seen` evictions.
    #[must_use]
    pub(crate) fn since(&self, seen: u64) -> Evicted {
        let kept = self.kept();
        let first = kept.total - kept.last.len() as u64;
        let skipped = usize::try_from(seen.saturating_sub(first)).unwrap_or(usize::MAX);
        Evicted {
            evictions: kept.last.iter().skip(skipped).cloned().collect(),
            next: kept.total,
            lost: first.saturating_sub(seen),
        }
    }
}
