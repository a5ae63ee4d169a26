//! Key to location: where the newest record of each key stands, in memory only.
//!
//! No keys are kept, only 56 bits of their hashes. The upper 8 choose one of 256 shards, the next 48 are the tag that
//! an entry is found by ([`entry`]); the lowest 8 are not used. Keys that share a tag have an entry each, and the
//! caller, who reads the log, tells them apart. A shard is a sorted table ([`table`]) behind a lock of its own.
//!
//! 1. No verb holds more than one shard's lock, and none calls out of this room while it holds one, except
//!    [`Index::retain`], [`Index::sweep`] and [`Index::remap`], which ask their closures.
//! 2. The writer, in its turn, is unconditional: it says which entry it displaces. The background is conditional
//!    ([`Index::relocate`], [`Index::evict`]) because it may be late.
//! 3. An entry is named by hash and location. Two entries never have one location.
//! 4. A panic under a lock leaves no table half changed, so a poisoned lock is taken as it is.
//! 5. An evicted entry stays where it is until it is displaced or taken out, and nothing gives it an epoch again, but
//!    an `insert` in its place. All verbs return it like any other; what it means, the caller knows.
//!
//! A snapshot ([`Frozen`]) shares the tables. Whoever changes a shard first after that copies its table; only the
//! epochs of lookups are stored into shared tables too.

mod entry;
mod frozen;
#[cfg(test)]
mod model_tests;
mod size;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use entry::{Candidates, Entry, Words};
pub(crate) use frozen::Frozen;
pub(crate) use size::{Size, weight};

use crate::{
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    types::Location,
};
use entry::{epoch_of_word, hash_of_key, key_of_hash, key_of_word, pack_flags, with_epoch};
use table::Table;

/// Count of shards. Shard `n` has the hashes whose upper 8 bits are `n`.
pub(crate) const SHARDS: usize = 256;
const SHARD_SHIFT: u32 = 56;

/// One shard. The alignment keeps the lock of one from sharing a cache line (or the pair that is fetched together)
/// with that of another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<Table>);

impl Shard {
    #[inline]
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a lookup leaves behind in the entries it finds. Never in evicted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// This epoch, which is not [`Entry::EVICTED`].
    Epoch(u16),
    /// One more in the lowest two bits of the epoch, up to 3.
    Count,
    /// Nothing.
    None,
}

/// The index of one open store.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Box<[Shard]>,
}

impl Index {
    /// An index of nothing.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[shard_of(hash)]
    }

    /// Where is it? Marks every candidate as used; they come with the epochs they had before.
    #[inline]
    #[must_use]
    pub(crate) fn lookup(&self, hash: u64, access: Access) -> Candidates {
        debug_assert_ne!(access, Access::Epoch(Entry::EVICTED), "a lookup evicts nothing");
        self.shard(hash).read().candidates(hash, access)
    }

    /// Where is it? Leaves no trace.
    #[inline]
    #[must_use]
    pub(crate) fn peek(&self, hash: u64) -> Candidates {
        self.shard(hash).read().candidates(hash, Access::None)
    }

    /// Puts `entry` in the place of the one at `displaces`, or beside all others if there is none such. Whether it
    /// displaced one, whose record is dead now.
    #[must_use]
    pub(crate) fn insert(&self, hash: u64, entry: Entry, displaces: Option<Location>) -> bool {
        let words = entry.pack(key_of_hash(hash));
        let mut table = self.shard(hash).write();
        match displaces.and_then(|at| table.find(hash, at)) {
            Some(at) => {
                table.set(at, words);
                true
            }
            None => {
                table.add(words);
                false
            }
        }
    }

    /// Takes out the entry at that location, because a tombstone was just written. Whether there was one.
    #[must_use]
    pub(crate) fn remove(&self, hash: u64, at: Location) -> bool {
        let mut table = self.shard(hash).write();
        let found = table.find(hash, at);
        if let Some(at) = found {
            table.remove(at);
        }
        found.is_some()
    }

    /// Points the entry at `from` to a copy of its record at `to`, if it is still there, and changes more of the entry in
    /// the same moment. Whether it was there: otherwise it was displaced or taken out before, and the copy is dead.
    #[must_use]
    pub(crate) fn relocate(
        &self,
        hash: u64,
        from: Location,
        to: Location,
        change: impl FnOnce(&mut Entry),
    ) -> bool {
        let mut table = self.shard(hash).write();
        let Some(at) = table.find(hash, from) else {
            return false;
        };
        let words = table.get(at);
        let mut entry = Entry::unpack(words);
        entry.location = to;
        change(&mut entry);
        table.set(at, entry.pack(key_of_word(words[0])));
        true
    }

    /// Makes the entry at that location absent for readers, if it still has that epoch: nobody used it since it was
    /// chosen. Whether it did so; the record it points to is dead then, but still in the log.
    #[must_use]
    pub(crate) fn evict(&self, hash: u64, at: Location, epoch: u16) -> bool {
        let mut table = self.shard(hash).write();
        let Some(at) = table.find(hash, at) else {
            return false;
        };
        let [word0, word1] = table.get(at);
        let is_same = epoch_of_word(word0) == epoch && epoch != Entry::EVICTED;
        if is_same {
            table.set(at, [with_epoch(word0, Entry::EVICTED), word1]);
        }
        is_same
    }

    /// Makes the entry at that location absent for readers, whatever its epoch: it has ended, and a use does not change
    /// that. The entry as it was, if there is one that was not evicted before.
    #[must_use]
    pub(crate) fn end(&self, hash: u64, at: Location) -> Option<Entry> {
        let mut table = self.shard(hash).write();
        let at = table.find(hash, at)?;
        let words = table.get(at);
        let entry = Entry::unpack(words);
        if entry.is_evicted() {
            return None;
        }
        table.set(at, [with_epoch(words[0], Entry::EVICTED), words[1]]);
        Some(entry)
    }

    /// Makes the entries of a shard that `ends` says absent for readers; it is not asked about those that are so
    /// already. It is asked under the shard's lock: it must be quick and must not use the index.
    pub(crate) fn end_some(&self, shard: usize, mut ends: impl FnMut(Entry) -> bool) {
        let asked = |entry: Entry| match !entry.is_evicted() && ends(entry) {
            true => Entry::EVICTED,
            false => entry.epoch,
        };
        self.shards[shard].write().remap(asked);
    }

    /// Sets flags of the entry at that location. Whether there was one.
    #[must_use]
    pub(crate) fn mark(&self, hash: u64, at: Location, flags: u8) -> bool {
        let mut table = self.shard(hash).write();
        let Some(at) = table.find(hash, at) else {
            return false;
        };
        let [word0, word1] = table.get(at);
        let marked = word1 | pack_flags(flags);
        // No write, no copy of a shared table.
        if marked != word1 {
            table.set(at, [word0, marked]);
        }
        true
    }

    /// Count of entries, evicted ones too. Asks every shard.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Bytes of all tables on the heap; those that only a snapshot still holds are not in it.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes()).sum()
    }

    /// Takes out everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            *shard.write() = Table::default();
        }
    }

    /// Replaces the content of a shard by these entries and their hashes, whose upper 8 bits do not matter.
    ///
    /// # Panics
    /// If the lower 56 bits of the hashes fall somewhere.
    pub(crate) fn load_shard(&self, shard: usize, entries: Vec<(u64, Entry)>) {
        let words = entries.iter().map(|(hash, entry)| entry.pack(key_of_hash(*hash)));
        let Some(table) = Table::from_sorted(words) else {
            panic!("the {} entries for shard {shard} are not sorted", entries.len());
        };
        *self.shards[shard].write() = table;
    }

    /// Replaces the content of a shard by packed entries. `false`, and nothing is replaced, if they are not sorted or
    /// one is empty: such words do not come from [`Frozen::shard_words`].
    #[must_use]
    pub(crate) fn load_words(&self, shard: usize, words: impl Iterator<Item = Words>) -> bool {
        let words: Vec<Words> = words.collect();
        let Some(table) = Table::from_sorted(words.iter().copied()) else {
            return false;
        };
        *self.shards[shard].write() = table;
        true
    }

    /// Takes out of a shard what `keep` refuses; how many. `keep` is asked once for each entry, under the shard's lock:
    /// it must be quick and must not use the index.
    pub(crate) fn retain(&self, shard: usize, keep: impl FnMut(Entry) -> bool) -> usize {
        self.shards[shard].write().retain(keep)
    }

    /// Shows every entry of a shard to `see`, evicted ones too, with its hash as far as the index knows it: see
    /// [`Frozen::shard_entries`]. Readers go on meanwhile, writers of the shard wait. `see` must not use the index.
    #[inline]
    pub(crate) fn sweep(&self, shard: usize, see: &mut impl FnMut(u64, Entry)) {
        let table = self.shards[shard].read();
        table.words().for_each(|words| see(hash_of_words(shard, words), Entry::unpack(words)));
    }

    /// Gives every entry of a shard that is not evicted the epoch that `epoch_of` says. `epoch_of` is asked once for
    /// each, under the shard's lock: it must be quick and must not use the index.
    ///
    /// # Panics
    /// If it says [`Entry::EVICTED`].
    pub(crate) fn remap(&self, shard: usize, mut epoch_of: impl FnMut(Entry) -> u16) {
        self.shards[shard].write().remap(|entry| {
            let epoch = epoch_of(entry);
            assert_ne!(epoch, Entry::EVICTED, "a change of epochs evicts nothing");
            epoch
        });
    }

    /// Gives every entry of a shard this epoch, those too that look evicted: for words that were saved before epochs
    /// had a meaning.
    pub(crate) fn reset_epochs(&self, shard: usize, epoch: u16) {
        self.shards[shard].write().reset_epochs(epoch);
    }

    /// The index as it is now. Shards are taken one after the other: the caller sees to it that nobody writes
    /// meanwhile.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Frozen {
        Frozen::new(self.shards.iter().map(|shard| shard.read().clone()).collect())
    }
}

#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize
}

/// The hash in packed entries of a shard, its lowest 8 bits 0.
#[inline]
const fn hash_of_words(shard: usize, [word0, _]: Words) -> u64 {
    (shard as u64) << SHARD_SHIFT | hash_of_key(key_of_word(word0))
}
