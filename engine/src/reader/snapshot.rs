//! The store at one moment. Shares the index and the segments with the store until either side changes.

use std::{fmt, sync::Arc};

use super::{Entry, describe};
use crate::{
    error::Result,
    format::hash::KeyHasher,
    index::{Entry as IndexEntry, Frozen, SHARDS},
    lookup::{Examined, examine},
    overrides::FrozenOverrides,
    segment::{Value, catalog::Table, read::Depth},
    types::Timestamp,
};

/// The store as it was at one moment; cheap to clone, and no writer ever waits for it.
///
/// It keeps every segment of that moment readable, and so their disk space in use, until it is dropped. A shard of
/// the index (1/256) is copied when it first changes while a snapshot shares it.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} entries)", self.0.index.len())
    }
}

struct Inner {
    index: Frozen,
    table: Arc<Table>,
    overrides: FrozenOverrides,
    hasher: KeyHasher,
    now: Timestamp,
}

impl Snapshot {
    pub(super) fn new(
        index: Frozen,
        table: Arc<Table>,
        overrides: FrozenOverrides,
        hasher: KeyHasher,
        now: Timestamp,
    ) -> Self {
        Self(Arc::new(Inner { index, table, overrides, hasher, now }))
    }

    /// The value `key` had at that moment.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption), [`Error::Io`](crate::Error::Io).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        for entry in self.0.index.lookup(self.0.hasher.hash(key)).iter() {
            if let Some(Examined::Is(found)) = self.0.examine(entry, Some(key))? {
                return Ok(found.is_live.then(|| found.into_value()));
            }
        }
        Ok(None)
    }

    /// All entries of that moment, each once, in no meaningful order. An entry whose bytes are damaged is an
    /// `Err` in its place; the others follow.
    #[must_use]
    pub fn iter(&self) -> Iter {
        Iter { snapshot: self.clone(), shard: 0, entries: Vec::new() }
    }
}

impl Inner {
    fn examine(&self, entry: IndexEntry, key: Option<&[u8]>) -> Result<Option<Examined>> {
        let Some(segment) = self.table.get(entry.location.slot) else { return Ok(None) };
        examine(Arc::clone(segment), entry, key, Depth::Whole, &self.overrides, || self.now)
            .map(Some)
    }

    fn read(&self, entry: IndexEntry) -> Result<Option<(Vec<u8>, Entry)>> {
        let Some(Examined::Is(found)) = self.examine(entry, None)? else { return Ok(None) };
        if !found.is_live {
            return Ok(None);
        }
        let head = found.segment.head(found.record.of(&found.segment), found.location.offset)?;
        let key = head.key.to_vec();
        Ok(Some((key, describe(found)?)))
    }
}

/// Iterates over a [`Snapshot`].
#[derive(Debug)]
pub struct Iter {
    snapshot: Snapshot,
    /// The next shard to take.
    shard: usize,
    /// What is left of the shard before it.
    entries: Vec<IndexEntry>,
}

impl Iterator for Iter {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(entry) = self.entries.pop() {
                if let Some(item) = self.snapshot.0.read(entry).transpose() {
                    return Some(item);
                }
            }
            if self.shard == SHARDS {
                return None;
            }
            let shard = self.snapshot.0.index.shard_entries(self.shard);
            self.entries = shard.map(|(_, entry)| entry).collect();
            // In order of place within the shard: neighbours in the log are read together.
            self.entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.location));
            self.shard += 1;
        }
    }
}
