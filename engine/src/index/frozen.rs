//! The index at one moment, for checkpoints and for long looks at everything.
//!
//! 1. Locations, flags and the set of entries never change. Epochs may, until the shard is written to: a reader of the
//!    living index stores them into the table that both share.
//! 2. No locks: nothing that is done here makes a reader or a writer of the index wait.

use super::{
    SHARD_SHIFT,
    entry::{Candidates, Entry, Words, hash_of_key, key_of_word},
    shard_of,
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

    /// Where was it? Leaves no trace.
    #[must_use]
    pub(crate) fn lookup(&self, hash: u64) -> Candidates {
        self.shards[shard_of(hash)].candidates(hash, None)
    }

    /// The entries of a shard in order of hash, each with its hash as far as the index knows it: the lowest 8 bits are
    /// 0, and every verb of the index takes it for the whole hash.
    pub(crate) fn shard_entries(&self, shard: usize) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let upper = (shard as u64) << SHARD_SHIFT;
        self.shards[shard]
            .words()
            .map(move |words| (upper | hash_of_key(key_of_word(words[0])), Entry::unpack(words)))
    }

    /// The packed entries of a shard, sorted by tag.
    pub(crate) fn shard_words(&self, shard: usize) -> impl Iterator<Item = Words> + '_ {
        self.shards[shard].words()
    }

    /// Count of entries.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(Table::len).sum()
    }
}
