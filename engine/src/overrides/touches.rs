//! Touches by the record they belong to: a persistent table, so that a snapshot costs no copy of it.
//!
//! Each slot has the touches of its segment, and those are kept in blocks by offset. A change copies the path to one
//! block at most: the list of slots, the list of blocks of one slot, and one block. With a million touched records in
//! segments of the usual size that is a few microseconds, once for each block that changes after a snapshot. What
//! belongs to a slot goes with its slot.

use std::{collections::BTreeMap, sync::Arc};

use crate::types::{Location, Slot, Touch};

/// One block has the touches of the records that begin in 32 KiB of a segment: at most a thousand.
const BLOCK_SHIFT: u32 = 15;

/// Sorted by offset.
type Block = Vec<(u64, Touch)>;

/// The touches of one segment's records.
type OfSlot = BTreeMap<u32, Arc<Block>>;

/// All touches at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct TouchTable {
    slots: Vec<Option<Arc<OfSlot>>>,
    count: usize,
}

const fn block_of(offset: u64) -> u32 {
    (offset >> BLOCK_SHIFT) as u32
}

impl TouchTable {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    fn of_slot(&self, slot: Slot) -> Option<&Arc<OfSlot>> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    /// The touch of the record at `at`.
    pub(super) fn get(&self, at: Location) -> Option<Touch> {
        let block = self.of_slot(at.slot)?.get(&block_of(at.offset))?;
        let found = block.binary_search_by_key(&at.offset, |(offset, _)| *offset).ok()?;
        Some(block[found].1)
    }

    /// Whether any record of this slot has one.
    pub(super) fn has_slot(&self, slot: Slot) -> bool {
        self.of_slot(slot).is_some()
    }

    pub(super) fn insert(&mut self, at: Location, touch: Touch) {
        let index = at.slot.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        let blocks = Arc::make_mut(self.slots[index].get_or_insert_default());
        let block = Arc::make_mut(blocks.entry(block_of(at.offset)).or_default());
        match block.binary_search_by_key(&at.offset, |(offset, _)| *offset) {
            Ok(found) => block[found].1 = touch,
            Err(place) => {
                block.insert(place, (at.offset, touch));
                self.count += 1;
            }
        }
    }

    /// Takes the touch of one record out. Copies nothing if there is none.
    pub(super) fn remove(&mut self, at: Location) -> Option<Touch> {
        let touch = self.get(at)?;
        let blocks = self.slots.get_mut(at.slot.0 as usize)?;
        let of_slot = Arc::make_mut(blocks.as_mut()?);
        let block = Arc::make_mut(of_slot.get_mut(&block_of(at.offset))?);
        block.retain(|(offset, _)| *offset != at.offset);
        self.count -= 1;
        if block.is_empty() {
            of_slot.remove(&block_of(at.offset));
        }
        if of_slot.is_empty() {
            *blocks = None;
        }
        Some(touch)
    }

    /// Forgets everything of a slot; whether there was anything.
    pub(super) fn forget_slot(&mut self, slot: Slot) -> bool {
        let taken = self.slots.get_mut(slot.0 as usize).and_then(Option::take);
        let Some(blocks) = taken else { return false };
        self.count -= blocks.values().map(|block| block.len()).sum::<usize>();
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Location, Touch)> + '_ {
        self.slots.iter().enumerate().flat_map(|(slot, blocks)| {
            let slot = Slot(u32::try_from(slot).unwrap_or(u32::MAX));
            let touches = blocks.iter().flat_map(|blocks| blocks.values()).flat_map(|b| b.iter());
            touches.map(move |(offset, touch)| (Location { slot, offset: *offset }, *touch))
        })
    }
}

impl FromIterator<(Location, Touch)> for TouchTable {
    fn from_iter<T: IntoIterator<Item = (Location, Touch)>>(touches: T) -> Self {
        let mut table = Self::default();
        touches.into_iter().for_each(|(at, touch)| table.insert(at, touch));
        table
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::types::{SequenceNumber, Timestamp};

    fn at(slot: u32, offset: u64) -> Location {
        Location { slot: Slot(slot), offset }
    }

    /// Goal: the table is a map, and one that is held does not change with the other.
    /// Method: random changes beside a `HashMap`, and a held copy of both now and then.
    #[test]
    fn it_is_a_map() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (random >> 33) % below
        };
        let (mut table, mut model) = (TouchTable::default(), HashMap::new());
        let mut held = (table.clone(), model.clone());
        for round in 0..20_000_u64 {
            let place = at(next(4) as u32, 4_096 + next(40) * 8_192);
            match next(20) {
                0..12 => {
                    let touch = Touch::logged(Some(Timestamp(round)), SequenceNumber(round));
                    table.insert(place, touch);
                    model.insert(place, touch);
                }
                12..19 => assert_eq!(table.remove(place), model.remove(&place)),
                _ if round % 10 == 0 => {
                    let had = model.keys().any(|of| of.slot == place.slot);
                    assert_eq!(table.forget_slot(place.slot), had);
                    model.retain(|of, _| of.slot != place.slot);
                }
                _ => {
                    assert_eq!(held.0.iter().collect::<HashMap<_, _>>(), held.1);
                    held = (table.clone(), model.clone());
                }
            }
            assert_eq!(table.get(place), model.get(&place).copied());
            assert_eq!(table.len(), model.len());
            let has_slot = model.keys().any(|of| of.slot == place.slot);
            assert_eq!(table.has_slot(place.slot), has_slot);
        }
        assert_eq!(table.iter().collect::<HashMap<_, _>>(), model);
    }

    /// Goal: a change beside a snapshot of a million touches copies one block, not the table.
    /// Method: count the blocks that the two do not share afterwards.
    #[test]
    fn a_snapshot_costs_no_copy() {
        let touch = Touch::logged(None, SequenceNumber(1));
        let places = (0..10).flat_map(|slot| (0..100_000).map(move |n| at(slot, 4_096 + n * 80)));
        let mut table: TouchTable = places.map(|place| (place, touch)).collect();
        let held = table.clone();
        table.insert(at(3, 4_096 + 80 * 50_000), Touch::logged(None, SequenceNumber(2)));
        let blocks = |table: &TouchTable| -> Vec<Arc<Block>> {
            table.slots.iter().flatten().flat_map(|blocks| blocks.values().cloned()).collect()
        };
        let (before, after) = (blocks(&held), blocks(&table));
        let copied = before.iter().zip(&after).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!((copied, before.len()), (1, after.len()));
    }
}
