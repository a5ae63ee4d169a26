//! The index at one moment, for checkpoints and for long looks at everything.
//!
//! 1. Locations, flags, the set of entries and which of them are evicted never change. The epochs of the others may,
//!    until the shard is written to: a reader of the living index stores them into the table that both share.
//! 2. No locks: nothing that is done here makes a reader or a writer of the index wait.

use super::{
    Access,
    entry::{Candidates, Entry, Words},
    hash_of_words, shard_of,
    table::Table,
};

/// A snapshot of an index. It keeps the tables it shares in memory, so it should not be kept for long.
#[derive(Debug)]
pub(crate) struct Frozen {
    shards: Box<[Table]>,
}

impl Frozen {
    pub(super) fn new(shards: Box<[Table]>) -> Self {
        Self { shards }
    }

    /// Where was it? Leaves no trace. Entries that were evicted then are not among the candidates.
    #[must_use]
    pub(crate) fn lookup(&self, hash: u64) -> Candidates {
        let mut present = Candidates::None;
        let all = self.shards[shard_of(hash)].candidates(hash, Access::None);
        all.iter().filter(|entry| !entry.is_evicted()).for_each(|entry| present.push(entry));
        present
    }

    /// The entries of a shard in order of hash, those excepted that were evicted then, each with its hash as far as the
    /// index knows it: the lowest 8 bits are 0, and every verb of the index takes it for the whole hash.
    pub(crate) fn shard_entries(&self, shard: usize) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let entry = move |words| (hash_of_words(shard, words), Entry::unpack(words));
        self.shards[shard].words().map(entry).filter(|(_, entry)| !entry.is_evicted())
    }

    /// The packed entries of a shard, sorted by tag, evicted ones too: for whom is in the log must be in the
    /// checkpoint.
    pub(crate) fn shard_words(&self, shard: usize) -> impl Iterator<Item = Words> + '_ {
        self.shards[shard].words()
    }

    /// Count of entries, evicted ones too.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(Table::len).sum()
    }
}
