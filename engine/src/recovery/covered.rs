//! What a checkpoint says: slots that segments keep, and the index of the records that it covers.

use std::sync::Arc;

use super::load::Loaded;
use crate::{
    checkpoint,
    index::{Entry as IndexEntry, Index, SHARDS},
    options::OnOpening,
    segment::{Segment, append::OpenSegment, catalog::Catalog},
    types::{SegmentId, Slot},
};

/// Fills the index from a checkpoint, leaving out entries of segments that are gone; and what else the checkpoint says,
/// as far as an entry asks for it: the touch of a record that is gone would be a stranger's touch as soon as its slot is
/// given to another segment. `None` if the checkpoint does not fit.
pub(super) fn fill(
    index: &Index,
    checkpoint: &checkpoint::Loaded,
    segments: &[Arc<Segment>],
    open: &[(OpenSegment, bool)],
    on: &OnOpening,
) -> Option<Loaded> {
    let mut here = BySlot::<bool>::default();
    let all = segments.iter().chain(open.iter().map(|(open, _)| &open.segment));
    all.for_each(|segment| *here.of(segment.slot) = true);
    let mut loaded = Loaded { cuts: checkpoint.cuts.clone(), ..Loaded::default() };
    let (mut lacks_touch, touches) = (false, &mut loaded.touches);
    for (shard, words) in checkpoint.shards() {
        on.tell(shard, SHARDS);
        if !index.load_words(shard, words) {
            return None;
        }
        let mut gone = false;
        index.sweep(shard, &mut |_, entry| {
            let is_here = *here.of(entry.location.slot);
            gone |= !is_here;
            if is_here && entry.flags & IndexEntry::TOUCHED != 0 {
                let touch = checkpoint.touches.get(&entry.location);
                // Of an evicted entry it may be gone.
                lacks_touch |= touch.is_none() && !entry.is_evicted();
                touches.extend(touch.map(|touch| (entry.location, *touch)));
            }
        });
        if gone {
            let _ = index.retain(shard, |entry| *here.of(entry.location.slot));
        }
    }
    (!lacks_touch).then_some(loaded)
}

/// Counts what the index points to in each segment: the one way in which the accounts of a store begin.
pub(super) fn count_live(index: &Index, catalog: &Catalog) {
    let mut live = BySlot::<(u64, u64)>::default();
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |_, entry| {
            if !entry.is_evicted() {
                let (bytes, records) = live.of(entry.location.slot);
                *bytes += entry.size.bytes();
                *records += 1;
            }
        });
    }
    for segment in catalog.table().iter() {
        let (bytes, records) = *live.of(segment.slot);
        segment.set_live(bytes, records);
    }
}

/// One value for each slot. Slots are small numbers: entries have no room for others.
#[derive(Debug, Default)]
struct BySlot<T>(Vec<T>);

impl<T: Clone + Default> BySlot<T> {
    fn of(&mut self, slot: Slot) -> &mut T {
        let at = slot.0 as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, T::default());
        }
        &mut self.0[at]
    }
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
