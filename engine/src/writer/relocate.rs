//! Relocation of index entries to copied records, for compaction and for recovery.

use crate::{
    index::{Entry as IndexEntry, Size},
    lookup::Lookup,
    segment::transfer::Move,
};

/// Points the entry of a record that was copied to the copy, moves or spends its touch, and keeps the accounts. Does
/// nothing if the entry was displaced meanwhile: the copy is dead then. Under the turn.
pub(super) fn relocate(lookup: &Lookup, moved: &Move) {
    let Lookup { index, overrides, catalog, tally, .. } = lookup;
    let Move { hash, from, to, bytes, folded } = *moved;
    let here = |entry: &IndexEntry| entry.location == from;
    let Some(entry) = index.peek(hash).iter().find(here) else { return };
    let touch = overrides.touch_of(&entry);
    let is_folded = touch.is_some() && touch == folded;
    if let Some(touch) = touch.filter(|_| !is_folded) {
        // Order: the touch is at the new place before the entry is.
        overrides.set_touch(to, touch);
    }
    let size = Size::of(bytes);
    let relocated = index.relocate(hash, from, to, |entry| {
        // An evicted entry is in no account: its record is dead in the copy, too.
        if !entry.is_evicted() {
            // A touch in its head has made the record longer: the accounts go by what it is now.
            let is_evictable = entry.flags & IndexEntry::EVICTABLE != 0;
            tally.sub(entry.size.bytes(), is_evictable);
            tally.add(size.bytes(), is_evictable);
            catalog.count_live(to.slot, size.bytes());
        }
        entry.size = size;
        if is_folded {
            let expires = touch.is_some_and(|touch| touch.expires_at.is_some());
            entry.flags &= !(IndexEntry::TOUCHED | IndexEntry::EXPIRES);
            entry.flags |= if expires { IndexEntry::EXPIRES } else { 0 };
            entry.flags |= IndexEntry::SCOPED;
        }
    });
    assert!(relocated, "no one else changes locations in a turn: {from:?}");
    if touch.is_some() {
        overrides.forget_touch(from);
    }
}
