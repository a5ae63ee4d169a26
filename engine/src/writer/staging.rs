//! Writes of [`Durability::Periodic`](crate::Durability::Periodic) that wait for the next flush: the last one of
//! each key. Readers look here first.

use std::collections::HashMap;

use crate::{
    options::PutOptions,
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

#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) key: Vec<u8>,
    pub(super) change: StagedChange,
    /// Grows with every staged write, so that a flush takes out only what it wrote.
    version: u64,
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
    bytes: u64,
    version: u64,
}

fn bytes_of(key: &[u8], change: &StagedChange) -> u64 {
    let value = match change {
        StagedChange::Put(value, _) => value.len(),
        StagedChange::Delete => 0,
    };
    (key.len() + value) as u64
}

impl Staging {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version;
        inner.bytes += bytes_of(key, &change);
        if let Some((old, _)) = inner.by_key.insert(key.to_vec(), (change, version)) {
            inner.bytes -= bytes_of(key, &old);
        }
        self.count.store(inner.by_key.len(), Ordering::Release);
    }

    /// Bytes of staged keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Everything staged, which stays staged: readers must find it until the log shows it.
    pub(super) fn all(&self) -> Vec<Staged> {
        let inner = self.lock();
        let staged = |(key, (change, version)): (&Vec<u8>, &(StagedChange, u64))| Staged {
            key: key.clone(),
            change: change.clone(),
            version: *version,
        };
        inner.by_key.iter().map(staged).collect()
    }

    /// Takes out what the log shows now, unless it was staged anew meanwhile.
    pub(super) fn remove(&self, written: &[Staged]) {
        let mut inner = self.lock();
        for staged in written {
            let is_same = inner
                .by_key
                .get(&staged.key)
                .is_some_and(|(_, version)| *version == staged.version);
            if is_same && let Some((change, _)) = inner.by_key.remove(&staged.key) {
                inner.bytes -= bytes_of(&staged.key, &change);
            }
        }
        self.count.store(inner.by_key.len(), Ordering::Release);
    }
}
