//! What a checkpoint is still good for when compaction has gone on since it was written.

use std::sync::Arc;

use crate::{
    checkpoint,
    format::segment_header::Class,
    index::{Entry as IndexEntry, Index},
    segment::Segment,
    types::SequenceNumber,
};

/// Whether compaction wrote a segment after the checkpoint. That holds records that are older than the checkpoint, and
/// which of them the checkpoint had, it does not tell: then only what it says of last uses counts.
pub(super) fn is_outdated(checkpoint: &checkpoint::Loaded, segments: &[Arc<Segment>]) -> bool {
    segments.iter().any(|segment| {
        segment.add.class >= Class::COMPACTED && checkpoint.slot_of(segment.id()).is_none()
    })
}

/// What a checkpoint says of the last use of entries.
pub(super) struct Uses {
    index: Index,
    sequence: SequenceNumber,
}

impl Uses {
    pub(super) fn of(checkpoint: &checkpoint::Loaded) -> Self {
        let index = Index::new();
        let is_sorted = checkpoint.shards().all(|(shard, words)| index.load_words(shard, words));
        if !is_sorted {
            index.clear();
        }
        Self { index, sequence: checkpoint.sequence }
    }

    /// What it says of a record. What was written after it counts as just used. What it says was evicted is there
    /// again, used least of all: a crash in between may have brought it back already, and then it must not go a second
    /// time.
    pub(super) fn of_record(&self, hash: u64, sequence: SequenceNumber) -> Option<u16> {
        if sequence > self.sequence {
            return Some(IndexEntry::JUST_USED);
        }
        /// The first that is not the mark of evicted entries.
        const OLDEST: u16 = 1;
        self.index.peek(hash).iter().map(|entry| entry.epoch.max(OLDEST)).max()
    }
}
