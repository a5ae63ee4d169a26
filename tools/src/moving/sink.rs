//! Where entries go that come from outside: into a store, in batches, each entry whole or not at all.

use std::collections::HashSet;

use serde_json::{Map, Value};
use tierce::{SpaceImport, SpaceMap};
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
    /// Older entries of such keys, which were removed.
    pub(super) removed: u64,
}

impl Counts {
    /// As a sentence.
    pub(super) fn sentence(self) -> String {
        let Self { stored, kept, expired, removed, .. } = self;
        let kept =
            if kept > 0 { format!("; {kept} were there already and stay") } else { String::new() };
        let expired = if expired > 0 { format!("; {expired} had expired") } else { String::new() };
        let removed = match removed {
            0 => String::new(),
            count => format!("; {count} older entries of expired keys removed"),
        };
        format!("{stored} entries stored{kept}{expired}{removed}")
    }

    /// As members of a document.
    pub(super) fn document(self) -> Map<String, Value> {
        let Self { stored, bytes, kept, expired, removed } = self;
        [
            ("stored", stored),
            ("bytes", bytes),
            ("kept", kept),
            ("expired", expired),
            ("removed", removed),
        ]
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
    /// Keys that the batch puts.
    batch_keys: HashSet<Vec<u8>>,
    keeps_existing: bool,
    /// Gives entries the numbers that their spaces have in this store.
    spaces: SpaceMap,
    durability: Durability,
    /// What is stored.
    done: Counts,
    /// What will be, with the batch.
    pending: Counts,
}

impl Sink {
    /// Opens the store, creates it if there is none, and the spaces of the import that are missing there.
    ///
    /// # Errors
    /// [`Fail::Input`](crate::exit::Fail::Input) if the spaces do not fit into the store: nothing was stored then.
    pub(super) fn open(
        dir: &std::path::Path,
        args: &StoringArgs,
        spaces: SpaceImport,
    ) -> Outcome<Self> {
        let durability = args.durability.into();
        let engine = open(dir, Options::new().durability(durability))?;
        let spaces = match spaces.begin(&engine) {
            Ok(spaces) => spaces,
            Err(error) => {
                // The refusal is the news.
                let _ = engine.close();
                return Err(error.into());
            }
        };
        Ok(Self {
            spaces,
            engine,
            batch: Batch::new(),
            batch_bytes: 0,
            batch_keys: HashSet::new(),
            keeps_existing: args.if_absent,
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
    pub(super) fn take(&mut self, mut item: Item) -> Outcome<bool> {
        interrupt::check()?;
        if !self.spaces.map(&mut item.key, &mut item.scopes)? {
            return Ok(false);
        }
        if item.expires_at_ms.is_some_and(|at| at <= self.engine.now().0) {
            return self.take_expired(item).map(|()| false);
        }
        if self.keeps_existing && self.has(&item.key)? {
            self.pending.kept += 1;
            return Ok(false);
        }
        let (bytes, options) = (item.bytes(), item.put_options());
        self.batch_keys.insert(item.key.clone());
        self.batch.put_with(item.key, item.value, options);
        self.batch_bytes += bytes;
        self.pending.stored += 1;
        self.pending.bytes += bytes;
        if self.batch.len() >= BATCH_ENTRIES || self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    /// An entry that expired on the way. Had it come in time, it would have replaced an older one and expired then; so
    /// where it would have replaced, the older one goes.
    fn take_expired(&mut self, item: Item) -> Outcome<()> {
        self.pending.expired += 1;
        if self.keeps_existing || !self.has(&item.key)? {
            return Ok(());
        }
        self.batch_keys.remove(&item.key);
        self.batch.delete(item.key);
        self.pending.removed += 1;
        if self.batch.len() >= BATCH_ENTRIES { self.flush() } else { Ok(()) }
    }

    fn has(&self, key: &Vec<u8>) -> Outcome<bool> {
        Ok(self.batch_keys.contains(key) || self.engine.contains_key(key)?)
    }

    fn flush(&mut self) -> Outcome<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.durability(self.durability);
        self.engine.commit(batch)?;
        self.batch_bytes = 0;
        self.batch_keys.clear();
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
