//! Where entries go that come from outside: into a store, in batches, each entry whole or not at all.

use std::collections::HashSet;

use serde_json::{Map, Value};
use tierce_engine::{Batch, Durability, Engine, Options};

use super::item::Item;
use crate::{args::StoringArgs, exit::Outcome, interrupt, store::open};

/// A batch is stored when it has so many entries,
const BATCH_ENTRIES: usize = 1_024;
/// or so many bytes.
const BATCH_BYTES: u64 = 1 << 20;

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Stored.
    pub(super) stored: u64,
    /// Bytes of keys, values and what belongs to them.
    pub(super) bytes: u64,
    /// Not stored, for the key was there.
    pub(super) kept: u64,
    /// Not stored, for they had expired.
    pub(super) expired: u64,
}

impl Counts {
    /// As a sentence.
    pub(super) fn sentence(self) -> String {
        let Self { stored, kept, expired, .. } = self;
        let kept =
            if kept > 0 { format!("; {kept} were there already and stay") } else { String::new() };
        let expired = if expired > 0 { format!("; {expired} had expired") } else { String::new() };
        format!("{stored} entries stored{kept}{expired}")
    }

    /// As members of a document.
    pub(super) fn document(self) -> Map<String, Value> {
        let Self { stored, bytes, kept, expired } = self;
        [("stored", stored), ("bytes", bytes), ("kept", kept), ("expired", expired)]
            .map(|(name, count)| (name.to_owned(), count.into()))
            .into_iter()
            .collect()
    }
}

/// A store that takes entries.
pub(super) struct Sink {
    engine: Engine,
    batch: Batch,
    batch_bytes: u64,
    /// Keys of the batch, where it matters whether one is there already.
    batch_keys: Option<HashSet<Vec<u8>>>,
    durability: Durability,
    /// What is stored.
    done: Counts,
    /// What will be, with the batch.
    pending: Counts,
}

impl Sink {
    /// Opens the store, creates it if there is none.
    pub(super) fn open(dir: &std::path::Path, args: &StoringArgs) -> Outcome<Self> {
        let durability = args.durability.into();
        let engine = open(dir, Options::new().durability(durability))?;
        Ok(Self {
            engine,
            batch: Batch::new(),
            batch_bytes: 0,
            batch_keys: args.if_absent.then(HashSet::new),
            durability,
            done: Counts::default(),
            pending: Counts::default(),
        })
    }

    /// Store time.
    pub(super) fn now_ms(&self) -> u64 {
        self.engine.now().0
    }

    /// Takes one entry; says whether it will be stored.
    ///
    /// # Errors
    /// The store's, of a whole batch; [`Fail::Interrupted`](crate::exit::Fail::Interrupted).
    pub(super) fn take(&mut self, item: Item) -> Outcome<bool> {
        interrupt::check()?;
        if item.expires_at_ms.is_some_and(|at| at <= self.engine.now().0) {
            self.pending.expired += 1;
            return Ok(false);
        }
        if let Some(keys) = &mut self.batch_keys {
            if keys.contains(&item.key) || self.engine.contains_key(&item.key)? {
                self.pending.kept += 1;
                return Ok(false);
            }
            keys.insert(item.key.clone());
        }
        let (bytes, options) = (item.bytes(), item.put_options());
        self.batch.put_with(item.key, item.value, options);
        self.batch_bytes += bytes;
        self.pending.stored += 1;
        self.pending.bytes += bytes;
        if self.batch.len() >= BATCH_ENTRIES || self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Outcome<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.durability(self.durability);
        self.engine.commit(batch)?;
        self.batch_bytes = 0;
        self.batch_keys.iter_mut().for_each(HashSet::clear);
        self.done = self.pending;
        Ok(())
    }

    /// Stores what is left if `fed` went well, and closes the store in any case. What was stored is told beside the
    /// failure, for it stays.
    pub(super) fn close(mut self, fed: Outcome<()>) -> (Counts, Outcome<()>) {
        let ended = fed.and_then(|()| self.flush());
        let closed = self.engine.close();
        (self.done, ended.and_then(|()| Ok(closed?)))
    }
}
