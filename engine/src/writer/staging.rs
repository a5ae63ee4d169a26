//! Write buffer of [`Durability::Periodic`](crate::Durability::Periodic): the last write of each key since the last
//! flush. Readers look here first.

use std::collections::HashMap;

use super::request::Op;
use crate::{
    format::{
        footer::FOOTER_ENTRY_BYTES,
        record::{HEADER_BYTES, Kind},
    },
    index::weight,
    options::{Condition, PutOptions},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What a staged write says: a value with its options, or that the key is gone.
#[derive(Clone, Debug)]
pub(crate) enum StagedChange {
    Put(Vec<u8>, PutOptions),
    Delete,
}

/// One staged write.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) key: Vec<u8>,
    pub(super) change: StagedChange,
    /// Grows with every staged write, so that a flush removes only what it wrote.
    version: u64,
}

/// Most that staged writes may add to the log and to the accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) puts: u64,
    /// Of the puts, in the accounts of live bytes.
    pub(super) live_bytes: u64,
    pub(super) records: u64,
    /// In the log, with what their footers need.
    pub(super) log_bytes: u64,
}

impl Weight {
    /// An upper bound of the head of a record, its padding included.
    const HEAD_BYTES: u64 = HEADER_BYTES as u64 + 104;

    /// The weight of a put.
    pub(super) fn of_put(key: &[u8], value: &[u8], options: &PutOptions) -> Self {
        let bytes = Self::HEAD_BYTES + (key.len() + value.len() + options.bytes()) as u64;
        Self {
            puts: 1,
            live_bytes: weight(bytes),
            records: 1,
            log_bytes: bytes + FOOTER_ENTRY_BYTES as u64,
        }
    }

    /// The weight of a delete.
    pub(super) const fn of_delete(key: &[u8]) -> Self {
        let bytes = Self::HEAD_BYTES + key.len() as u64;
        Self { puts: 0, live_bytes: 0, records: 1, log_bytes: bytes + FOOTER_ENTRY_BYTES as u64 }
    }

    fn of(key: &[u8], change: &StagedChange) -> Self {
        match change {
            StagedChange::Put(value, options) => Self::of_put(key, value, options),
            StagedChange::Delete => Self::of_delete(key),
        }
    }

    pub(super) const fn plus(self, more: Self) -> Self {
        Self {
            puts: self.puts + more.puts,
            live_bytes: self.live_bytes + more.live_bytes,
            records: self.records + more.records,
            log_bytes: self.log_bytes + more.log_bytes,
        }
    }

    pub(super) const fn less(self, part: Self) -> Self {
        Self {
            puts: self.puts.saturating_sub(part.puts),
            live_bytes: self.live_bytes.saturating_sub(part.live_bytes),
            records: self.records.saturating_sub(part.records),
            log_bytes: self.log_bytes.saturating_sub(part.log_bytes),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Staging {
    /// Count of staged keys, for readers that need not look.
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<Vec<u8>, (StagedChange, u64)>,
    weight: Weight,
    version: u64,
}

impl Inner {
    fn put(&mut self, key: &[u8], change: StagedChange) {
        self.version += 1;
        self.weight = self.weight.plus(Weight::of(key, &change));
        if let Some((old, _)) = self.by_key.insert(key.to_vec(), (change, self.version)) {
            self.weight = self.weight.less(Weight::of(key, &old));
        }
    }

    fn take(&mut self, key: &[u8]) -> Option<StagedChange> {
        let (change, _) = self.by_key.remove(key)?;
        self.weight = self.weight.less(Weight::of(key, &change));
        Some(change)
    }

    fn is_same(&self, staged: &Staged) -> bool {
        self.by_key.get(&staged.key).is_some_and(|(_, version)| *version == staged.version)
    }
}

impl Staging {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let changed = change(&mut inner);
        self.count.store(inner.by_key.len(), Ordering::Release);
        changed
    }

    /// Count of staged keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// What is staged for `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<StagedChange> {
        if self.len() == 0 {
            return None;
        }
        self.lock().by_key.get(key).map(|(change, _)| change.clone())
    }

    /// Stages a change.
    pub(super) fn put(&self, key: &[u8], change: StagedChange) {
        self.change(|inner| inner.put(key, change));
    }

    /// Which write of `key` is staged, if one is.
    pub(super) fn version(&self, key: &[u8]) -> Option<u64> {
        self.lock().by_key.get(key).map(|(_, version)| *version)
    }

    /// Stages a change if what is staged for `key` is still this version; says whether it did.
    pub(super) fn put_over(&self, key: &[u8], seen: Option<u64>, change: StagedChange) -> bool {
        self.change(|inner| {
            let is_same = inner.by_key.get(key).map(|(_, version)| *version) == seen;
            if is_same {
                inner.put(key, change);
            }
            is_same
        })
    }

    /// Upper bound of what the staged writes need, and of that the part of `key`.
    pub(super) fn weight(&self, key: &[u8]) -> (Weight, Weight) {
        let inner = self.lock();
        let part = inner.by_key.get(key).map(|(change, _)| Weight::of(key, change));
        (inner.weight, part.unwrap_or_default())
    }

    /// The keys of staged puts, in order.
    pub(super) fn put_keys(&self) -> Vec<Vec<u8>> {
        let inner = self.lock();
        let is_put = |(_, (change, _)): &(&Vec<u8>, &(StagedChange, u64))| {
            matches!(change, StagedChange::Put(..))
        };
        let mut keys: Vec<_> =
            inner.by_key.iter().filter(is_put).map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// The staged writes of one moment, in the order in which they were staged. They stay: readers must find them until
    /// the log shows them.
    pub(super) fn order(&self) -> Vec<Staged> {
        let inner = self.lock();
        let staged = |(key, (change, version)): (&Vec<u8>, &(StagedChange, u64))| Staged {
            key: key.clone(),
            change: change.clone(),
            version: *version,
        };
        let mut order: Vec<_> = inner.by_key.iter().map(staged).collect();
        order.sort_unstable_by_key(|staged| staged.version);
        order
    }

    /// Removes what the log shows now, unless it was staged again meanwhile.
    pub(super) fn remove(&self, written: &[Staged]) {
        self.change(|inner| {
            for staged in written {
                if inner.is_same(staged) {
                    let _ = inner.take(&staged.key);
                }
            }
        });
    }

    /// Whether these ops must not be carried out while older writes of their keys are still staged. A put or delete
    /// without a condition may: it supersedes what is staged.
    pub(super) fn holds_up(&self, ops: &[Op]) -> bool {
        let inner = self.lock();
        ops.iter().any(|op| {
            op.kind != Kind::ScopeCut && !supersedes(op) && inner.by_key.contains_key(op.key())
        })
    }

    /// The version of the last write that was staged.
    pub(super) fn newest(&self) -> u64 {
        self.lock().version
    }

    /// Removes the staged writes, up to the version `seen`, that these ops, which the log shows now, came after. Says
    /// whether one of them was a put. Staged entries of a scope that was cut become deletes.
    pub(super) fn supersede(&self, ops: &[Op], seen: u64) -> bool {
        self.change(|inner| {
            let mut had_put = false;
            for op in ops {
                if op.kind == Kind::ScopeCut {
                    inner.cut(op.key(), seen);
                } else if supersedes(op) && inner.is_older(op.key(), seen) {
                    had_put |= matches!(inner.take(op.key()), Some(StagedChange::Put(..)));
                }
            }
            had_put
        })
    }
}

/// Whether this op takes the place of an older write of its key, whatever that was.
fn supersedes(op: &Op) -> bool {
    op.condition == Condition::Always && matches!(op.kind, Kind::Put | Kind::Delete)
}

impl Inner {
    /// Whether a write of `key` is staged that is not newer than the version `seen`.
    fn is_older(&self, key: &[u8], seen: u64) -> bool {
        self.by_key.get(key).is_some_and(|(_, version)| *version <= seen)
    }

    fn cut(&mut self, scope: &[u8], seen: u64) {
        let is_in = |change: &StagedChange| match change {
            StagedChange::Put(_, options) => options.scopes.iter().any(|name| name == scope),
            StagedChange::Delete => false,
        };
        let is_cut = |version: u64, change| version <= seen && is_in(change);
        let cut = self.by_key.iter().filter(|(_, (change, version))| is_cut(*version, change));
        let cut: Vec<_> = cut.map(|(key, _)| key.clone()).collect();
        for key in cut {
            self.put(&key, StagedChange::Delete);
        }
    }
}
