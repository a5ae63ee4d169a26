//! The store at one moment. Shares the index and the segments with the store until either side changes.

use std::{fmt, ops::ControlFlow, sync::Arc};

use super::{Entry, View, describe};
use crate::{
    error::{Error, Result},
    format::hash::KeyHasher,
    index::{Entry as IndexEntry, Frozen, SHARDS},
    lookup::{Examined, Found, examine},
    overrides::FrozenOverrides,
    segment::{Value, catalog::Table, read::Depth},
    types::{Location, Timestamp},
};

/// What stands where the index points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A record that can be read.
    Live,
    /// One that expired, was cut off or evicted, and is not displaced yet.
    Ended,
    /// None whose head is sound.
    Unreadable,
}

/// A place that the index points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) at: Location,
    /// Of the record, as its head says; if that cannot be read, as many as the index knows it has at most.
    pub(crate) bytes: u64,
    pub(crate) standing: Standing,
}

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
    /// [`Error::Corruption`], [`Error::Io`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.find(key.as_ref())?.map(Found::into_value))
    }

    /// The entry `key` had at that moment, with everything known of it.
    ///
    /// ```
    /// use tierce_engine::{Options, PutOptions, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put_with("k", "v", &PutOptions::new().scope("s"))?;
    /// let snapshot = engine.snapshot()?;
    /// engine.delete("k")?;
    /// assert_eq!(snapshot.entry("k")?.map(|entry| entry.scopes), Some(vec![b"s".to_vec()]));
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::Io`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.find(key.as_ref())?.map(describe).transpose()
    }

    fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        for entry in self.0.index.lookup(self.0.hasher.hash(key)).iter() {
            if let Some(Examined::Is(found)) = self.0.examine(entry, Some(key), Depth::Whole)? {
                return Ok(found.is_live.then_some(found));
            }
        }
        Ok(None)
    }

    /// Store time at that moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now
    }

    /// Shows every entry of that moment whose key begins with `prefix` to `each`, once, in no meaningful order, until
    /// it breaks. Costs a look at the head of every entry of the store. Values are read and checked only of those that
    /// are shown, and only if `values` is true: else they are empty.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("a", "1")?;
    /// engine.put("b", "2")?;
    /// let mut keys = 0;
    /// engine.snapshot()?.scan(b"", false, &mut |_key, _entry| {
    ///     keys += 1;
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(keys, 2);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of the first entry that cannot be read: [`Error::Corruption`],
    /// [`Error::Io`].
    pub fn scan(
        &self,
        prefix: &[u8],
        values: bool,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        for shard in 0..SHARDS {
            for entry in self.entries_of(shard) {
                let Some(Examined::Is(mut found)) = self.0.examine(entry, None, Depth::Head)?
                else {
                    continue;
                };
                let key = found.key()?;
                if !found.is_live || !key.starts_with(prefix) {
                    continue;
                }
                if values {
                    let whole = self.0.examine(entry, Some(&key), Depth::Whole)?;
                    let Some(Examined::Is(whole)) = whole else { continue };
                    found = whole;
                }
                let view =
                    |view: View<'_>| each(&key, if values { view } else { view.without_value() });
                if found.show(view)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// As [`Self::scan`] of everything without values, but entries whose record cannot be read are left out: how many those
    /// are is returned. For looks at stores that are damaged.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("a", "1")?;
    /// let mut bytes = 0;
    /// let unreadable = engine.snapshot()?.scan_readable(&mut |_key, entry| {
    ///     bytes += entry.record_bytes;
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(unreadable == 0 && bytes > 0);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scan_readable(
        &self,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<u64> {
        let mut unreadable = 0;
        for shard in 0..SHARDS {
            for entry in self.entries_of(shard) {
                match self.show_head(entry, each) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(unreadable),
                    Err(Error::Corruption(_)) => unreadable += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(unreadable)
    }

    fn show_head(
        &self,
        entry: IndexEntry,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        match self.0.examine(entry, None, Depth::Head)? {
            Some(Examined::Is(found)) if found.is_live => {
                let key = found.key()?;
                found.show(|view: View<'_>| each(&key, view.without_value()))
            }
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    /// Shows every place that an entry of one shard points to, in order of place, those of evicted entries too. Reads
    /// heads, no values.
    pub(crate) fn extents(&self, shard: usize, each: &mut dyn FnMut(Extent)) -> Result<()> {
        let mut entries: Vec<_> = self.0.index.shard_words(shard).map(IndexEntry::unpack).collect();
        entries.sort_unstable_by_key(|entry| entry.location);
        for entry in entries {
            let (bytes, standing) = match self.0.examine(entry, None, Depth::Head) {
                Ok(Some(Examined::Is(found))) if found.is_live => {
                    (found.record_bytes, Standing::Live)
                }
                Ok(Some(Examined::Is(found))) => (found.record_bytes, Standing::Ended),
                Ok(_) => continue,
                Err(Error::Corruption(_)) => (entry.size.bytes(), Standing::Unreadable),
                Err(error) => return Err(error),
            };
            each(Extent { at: entry.location, bytes, standing });
        }
        Ok(())
    }

    /// The segments of that moment.
    pub(crate) fn table(&self) -> &Table {
        &self.0.table
    }

    /// The entries of one shard in order of place: neighbours in the log are read together.
    fn entries_of(&self, shard: usize) -> Vec<IndexEntry> {
        let mut entries: Vec<_> =
            self.0.index.shard_entries(shard).map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.location);
        entries
    }

    /// All entries of that moment, each once, in no meaningful order. An entry whose bytes are damaged is an
    /// `Err` in its place; the others follow.
    #[must_use]
    pub fn iter(&self) -> Iter {
        Iter { snapshot: self.clone(), shard: 0, entries: Vec::new() }
    }
}

impl Inner {
    fn examine(
        &self,
        entry: IndexEntry,
        key: Option<&[u8]>,
        depth: Depth,
    ) -> Result<Option<Examined>> {
        let Some(segment) = self.table.get(entry.location.slot) else { return Ok(None) };
        examine(Arc::clone(segment), entry, key, depth, &self.overrides, || self.now).map(Some)
    }

    fn read(&self, entry: IndexEntry) -> Result<Option<(Vec<u8>, Entry)>> {
        let Some(Examined::Is(found)) = self.examine(entry, None, Depth::Whole)? else {
            return Ok(None);
        };
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
            self.entries = self.snapshot.entries_of(self.shard);
            self.entries.reverse();
            self.shard += 1;
        }
    }
}
