//! What a checkpoint says: slots that segments keep, and the index of the records that it covers.

use std::sync::Arc;

use crate::{
    checkpoint,
    index::{Index, SHARDS},
    options::OnOpening,
    segment::{Segment, append::OpenSegment},
    types::{SegmentId, Slot},
};

/// Fills the index from a checkpoint, leaving out entries of segments that are gone. `false` if it does not fit.
pub(super) fn fill(
    index: &Index,
    checkpoint: &checkpoint::Loaded,
    segments: &[Arc<Segment>],
    open: &[(OpenSegment, bool)],
    on: &OnOpening,
) -> bool {
    let all = || segments.iter().chain(open.iter().map(|(open, _)| &open.segment));
    let is_here = |slot: Slot| all().any(|segment| segment.slot == slot);
    let mut gone = false;
    for row in &checkpoint.segments {
        match all().find(|segment| segment.id() == row.id) {
            Some(segment) => segment.set_live(row.live_bytes, row.live_records),
            None => gone |= !is_here(Slot(row.slot)),
        }
    }
    for (shard, words) in checkpoint.shards() {
        on.tell(shard, SHARDS);
        if !index.load_words(shard, words) {
            return false;
        }
        if gone {
            let _ = index.retain(shard, |entry| is_here(entry.location.slot));
        }
    }
    true
}

/// Gives each segment the slot that the checkpoint knows it by, or one that nobody has.
pub(super) struct SlotGiver<'a> {
    pub(super) checkpoint: Option<&'a checkpoint::Loaded>,
    pub(super) next: u32,
}

impl SlotGiver<'_> {
    pub(super) fn give(&mut self, id: SegmentId) -> Slot {
        if let Some(slot) = self.checkpoint.and_then(|checkpoint| checkpoint.slot_of(id)) {
            return slot;
        }
        self.next += 1;
        Slot(self.next - 1)
    }
}
