//! Which segments exist while the store is open, by slot; and the accounts of live and dead bytes.
//!
//! Readers see the table through one of several copies of its handle, so that two threads that read do not pull
//! one cache line back and forth. A change replaces the table and is rare.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU32, Ordering},
};

use super::Segment;
use crate::{
    stats::{STRIPES, stripe},
    types::Slot,
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
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    stripes: [Stripe; STRIPES],
    /// The least slot never given out.
    next_slot: AtomicU32,
}

impl Catalog {
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

    /// A slot that no segment has. Slots are not used again while others are left: a reader that is late by one
    /// retirement then finds nothing at its slot, rather than another segment.
    pub(crate) fn free_slot(&self) -> Slot {
        let next = self.next_slot.fetch_add(1, Ordering::Relaxed);
        if next < SLOTS_MAX {
            return Slot(next);
        }
        let table = self.table();
        let free = (0..SLOTS_MAX).map(Slot).find(|slot| table.get(*slot).is_none());
        free.expect("a million segments of at least 8 KiB are never open at once")
    }

    /// Adds segments and takes others out, at once.
    pub(crate) fn change(&self, add: Vec<Arc<Segment>>, retire: &[Slot]) {
        let mut table = Table::clone(&self.table());
        for segment in add {
            let index = segment.slot.0 as usize;
            self.next_slot.fetch_max(segment.slot.0 + 1, Ordering::Relaxed);
            if table.slots.len() <= index {
                table.slots.resize(index + 1, None);
            }
            assert!(table.slots[index].is_none(), "slot {index} is taken");
            table.slots[index] = Some(segment);
        }
        for slot in retire {
            table.slots[slot.0 as usize] = None;
        }
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

    /// The index no longer points to a record in `slot`.
    pub(crate) fn count_dead(&self, slot: Slot, bytes: u64) {
        self.with(slot, |segment| segment.count_dead(bytes));
    }
}
