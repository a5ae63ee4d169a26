//! Which segments exist while the store is open, by slot; and the accounts of live and dead bytes.
//!
//! Readers see the table through one of several copies of its handle, so that two threads that read do not pull
//! one cache line back and forth. A change replaces the table and is rare.

use std::{collections::VecDeque, sync::Arc};

use super::Segment;
use crate::{
    knobs::Knobs,
    stats::{STRIPES, stripe},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    types::{SequenceNumber, Slot},
};

/// Slots that an index entry has room for.
pub(crate) const SLOTS_MAX: u32 = 1 << 20;

/// All segments, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Arc<Segment>>>,
}

impl Table {
    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&Arc<Segment>> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.slots.iter().flatten()
    }
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct Stripe(RwLock<Arc<Table>>);

/// The segments of an open store.
#[derive(Debug)]
pub(crate) struct Catalog {
    stripes: [Stripe; STRIPES],
    slots: Mutex<Slots>,
}

/// Slots that are not in use.
#[derive(Debug)]
struct Slots {
    /// Free slots that wait before one is used again.
    resting: usize,
    /// The least slot never given out.
    next: u32,
    /// Those that were in use, the one that has been free for the longest time first.
    free: VecDeque<Slot>,
}

impl Slots {
    fn take(&mut self) -> Slot {
        if self.free.len() > self.resting || self.next == SLOTS_MAX {
            let oldest = self.free.pop_front();
            return oldest.expect("a million segments of at least 8 KiB are never open at once");
        }
        self.next += 1;
        Slot(self.next - 1)
    }

    /// `slot` is in use, whoever gave it.
    fn note(&mut self, slot: Slot) {
        self.free.extend((self.next..slot.0).map(Slot));
        self.next = self.next.max(slot.0 + 1);
        self.free.retain(|free| *free != slot);
    }
}

impl Catalog {
    /// A catalog without segments.
    pub(crate) fn new(knobs: Knobs) -> Self {
        let slots = Slots { resting: knobs.resting_slots, next: 0, free: VecDeque::new() };
        Self { stripes: Default::default(), slots: Mutex::new(slots) }
    }

    /// Looks at the segment in `slot` under this thread's lock: be brief, and do no I/O.
    #[inline]
    pub(crate) fn with<T>(&self, slot: Slot, look: impl FnOnce(&Arc<Segment>) -> T) -> Option<T> {
        let table = self.stripes[stripe()].0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(slot).map(look)
    }

    /// The segment in `slot`.
    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<Arc<Segment>> {
        self.with(slot, Arc::clone)
    }

    /// The whole table as it is now. Holding it keeps every segment in it readable.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.stripes[0].0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A slot that no segment has.
    pub(crate) fn free_slot(&self) -> Slot {
        self.slots().take()
    }

    /// A slot that was given out and not used is free again.
    pub(crate) fn give_slot_back(&self, slot: Slot) {
        self.slots().free.push_back(slot);
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds segments and takes others out, at once.
    pub(crate) fn change(&self, add: Vec<Arc<Segment>>, retire: &[Slot]) {
        let mut table = Table::clone(&self.table());
        let mut slots = self.slots();
        for segment in add {
            let index = segment.slot.0 as usize;
            slots.note(segment.slot);
            if table.slots.len() <= index {
                table.slots.resize(index + 1, None);
            }
            assert!(table.slots[index].is_none(), "slot {index} is taken");
            table.slots[index] = Some(segment);
        }
        for slot in retire {
            table.slots[slot.0 as usize] = None;
            slots.free.push_back(*slot);
        }
        drop(slots);
        for stripe in &self.stripes {
            // A table of its own for each stripe: the counts of its handle must not be shared either.
            let copy = Arc::new(table.clone());
            *stripe.0.write().unwrap_or_else(PoisonError::into_inner) = copy;
        }
    }

    /// The index points to a record in `slot` from now on.
    pub(crate) fn count_live(&self, slot: Slot, bytes: u64) {
        self.with(slot, |segment| segment.count_live(bytes));
    }

    /// The index no longer points to a record in `slot`, because of the write with this sequence number.
    pub(crate) fn count_dead(&self, slot: Slot, bytes: u64, at: SequenceNumber) {
        self.with(slot, |segment| {
            segment.count_dead(bytes);
            segment.note_death(at);
        });
    }
}
