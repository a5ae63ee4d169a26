//! Whom to forget when a limit is reached. Chooses only: who holds the writer's turn marks the chosen as evicted
//! (`Index::evict`), which refuses those that were used or moved since.
//!
//! A choice costs two passes over the index (S3-FIFO: three): measured with a million entries, about 10 ns for each
//! entry there is (S3-FIFO: 20). Callers ask for a batch of about 1/64 of the capacity at a time, so that an insertion
//! pays for 64 entries, not for all.

mod coldest;
mod histogram;
mod journal;
mod s3_fifo;
#[cfg(test)]
mod tests;

pub(crate) use journal::Journal;
pub use journal::{Cause, Evicted, Eviction};

use crate::{
    index::{Entry, Index},
    options::Evict,
    recency::Recency,
    types::Location,
};

/// Evictions come in batches of this part of what there is room for, so that the index is swept seldom.
pub(crate) const BATCH_PART: u64 = 64;

/// How much must go: as many entries, and as many bytes of weight, as this. Either may be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Count of entries.
    pub(crate) entries: u64,
    /// Their weights, see `index::weight`.
    pub(crate) bytes: u64,
}

impl Need {
    const fn is_met(self) -> bool {
        self.entries == 0 && self.bytes == 0
    }

    /// What is left after these went.
    pub(crate) const fn less(self, entries: u64, bytes: u64) -> Self {
        Self {
            entries: self.entries.saturating_sub(entries),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

/// An entry that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    /// As far as the index knows it.
    pub(crate) hash: u64,
    /// Of the record.
    pub(crate) location: Location,
    /// It had when it was chosen: with another one it was used since, and stays.
    pub(crate) epoch: u16,
    /// Its weight.
    pub(crate) bytes: u64,
}

impl Victim {
    pub(crate) fn new(hash: u64, entry: Entry) -> Self {
        let Entry { location, size, epoch, .. } = entry;
        Self { hash, location, epoch, bytes: size.bytes() }
    }
}

/// The entries that may go first, as many as `need` says, or all that may go if those are fewer; fewer too if some are
/// used while they are chosen. Never those at `spared` (sorted): what room is made for takes their place.
#[must_use]
pub(crate) fn choose(
    index: &Index,
    recency: &Recency,
    need: Need,
    spared: &[Location],
) -> Vec<Victim> {
    if need.is_met() || recency.policy() == Evict::None {
        return Vec::new();
    }
    if recency.needs_renumbering() {
        recency.renumber(index);
    }
    match recency.policy() {
        Evict::Lru | Evict::Fifo => coldest::choose(index, recency, need, spared),
        Evict::S3Fifo => s3_fifo::choose(index, recency, need, spared),
        Evict::None => Vec::new(),
    }
}

#[inline]
fn is_spared(at: Location, spared: &[Location]) -> bool {
    match spared {
        [only] => *only == at,
        _ => spared.binary_search(&at).is_ok(),
    }
}

#[inline]
fn may_go(entry: &Entry, spared: &[Location]) -> bool {
    entry.flags & Entry::EVICTABLE != 0
        && !entry.is_evicted()
        && (spared.is_empty() || !is_spared(entry.location, spared))
}
