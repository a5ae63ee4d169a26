//! Consistency audit of an open store, for tests: index, catalog, touches and accounts must agree.

use std::collections::BTreeMap;

use super::Engine;
use crate::{
    index::{Entry as IndexEntry, SHARDS},
    segment::RECORDS_AT,
    types::Slot,
};

impl Engine {
    /// Checks that the parts of an open store agree: each index entry points into a segment that there is, each touch
    /// belongs to an entry that says so, and the accounts of segments and of the whole store are the sums of what the
    /// index points to. For the project's own tests; costs a pass over the index, and writers wait meanwhile.
    ///
    /// # Errors
    /// The first two that do not agree.
    pub fn audit(&self) -> Result<(), String> {
        let writer = &self.shared.writer;
        let audited = writer.without_maintenance(|| writer.at_frontier(|_| self.audit_parts()));
        audited.map_err(|error| error.to_string())?
    }

    fn audit_parts(&self) -> Result<(), String> {
        let lookup = &self.shared.lookup;
        let table = lookup.catalog.table();
        let mut faults = Vec::new();
        let mut live: BTreeMap<Slot, (u64, u64)> = BTreeMap::new();
        let (mut entries, mut bytes, mut touched) = (0, 0, 0);
        for shard in 0..SHARDS {
            lookup.index.sweep(shard, &mut |_, entry| {
                let at = entry.location;
                let end = table.get(at.slot).map_or(0, |segment| segment.file_bytes());
                if at.offset < RECORDS_AT || at.offset >= end {
                    faults.push(format!("an entry points to {at:?}, where no record is"));
                }
                let touch = lookup.overrides.touch_of(&entry);
                touched += usize::from(touch.is_some());
                if entry.is_evicted() {
                    return;
                }
                if entry.flags & IndexEntry::TOUCHED != 0 && touch.is_none() {
                    faults.push(format!("the entry of {at:?} has no touch, and says it has one"));
                }
                let of_slot = live.entry(at.slot).or_default();
                *of_slot = (of_slot.0 + entry.size.bytes(), of_slot.1 + 1);
                (entries, bytes) = (entries + 1, bytes + entry.size.bytes());
            });
        }
        let touches = lookup.overrides.freeze().touches().count();
        if touches != touched {
            faults.push(format!("{touches} touches are kept, and {touched} belong to an entry"));
        }
        for segment in table.iter() {
            let of_slot = live.get(&segment.slot).copied().unwrap_or_default();
            if segment.live() != of_slot {
                let (id, counted) = (segment.id(), segment.live());
                faults.push(format!("segment {id} counts {counted:?} live, of {of_slot:?}"));
            }
        }
        let tally = lookup.tally.get();
        if (tally.entries, tally.bytes) != (entries, bytes) {
            let counted = (tally.entries, tally.bytes);
            faults.push(format!("the store counts {counted:?} live, of {:?}", (entries, bytes)));
        }
        faults.into_iter().next().map_or(Ok(()), Err)
    }
}
