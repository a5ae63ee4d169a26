//! What was forgotten lately, and why: for whoever wonders where an entry went.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::types::Timestamp;

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

/// The last 1,024 evictions.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<VecDeque<Eviction>>);

impl Journal {
    /// Adds evictions, the oldest first; what is too many leaves at the other end.
    pub(crate) fn record(&self, evictions: impl IntoIterator<Item = Eviction>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for eviction in evictions {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(eviction);
        }
    }

    /// What is kept, the oldest first.
    #[must_use]
    pub(crate) fn recent(&self) -> Vec<Eviction> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
