//! One entry of the index, and the sixteen bytes it is packed into.
//!
//! | word | bits   | field      | note                                                           |
//! |-----:|--------|------------|----------------------------------------------------------------|
//! |    0 | 63..16 | tag        | the 48 bits of the hash below the 8 that choose the shard      |
//! |    0 | 15..0  | epoch      | of the last access; 0 = evicted                                |
//! |    1 | 63..44 | slot       | of the segment                                                 |
//! |    1 | 43..16 | offset / 8 | of the record in the segment                                   |
//! |    1 | 15..10 | size class | of the record, see [`Size`]                                    |
//! |    1 | 9..6   | flags      | see the constants of [`Entry`]                                 |
//! |    1 | 5..0   | size step  | how far below the top of its class, see [`Size`]               |
//!
//! 1. In both words the upper 48 bits say *which* and the lower 16 say *how*: a word is compared under one mask.
//! 2. Word 1 of an entry is never 0, because no record starts in the first bytes of a segment. 0 means "no entry".
//! 3. Epoch 0 is final: readers no longer see such an entry, and it leaves the index when it is displaced or when its
//!    record leaves the log. Until then writers find it, because the record it points to still stands there.
//!
//! Checkpoints hold these words as they are (`format::checkpoint`, layout 1): another packing is another layout. A step
//! of 0 is what was there before steps had a meaning, and is still right: the record has at most the bytes of its
//! class.

use super::Size;
use crate::types::{Location, Slot};

/// The two words of a packed entry.
pub(crate) type Words = [u64; 2];

const HOW_BITS: u32 = 16;
/// The upper 48 bits of either word.
const WHICH: u64 = !0 << HOW_BITS;
const SLOT_SHIFT: u32 = 44;
const SLOT_MAX: u32 = (1 << 20) - 1;
const OFFSET_UNIT: u64 = 8;
const EIGHTHS_MASK: u64 = (1 << 28) - 1;
const OFFSET_MAX: u64 = EIGHTHS_MASK * OFFSET_UNIT;
const CLASS_SHIFT: u32 = 10;
const SIX_BITS: u64 = 0x3f;
const FLAGS_SHIFT: u32 = 6;
const FLAGS_MASK: u64 = 0xf;

/// Where the newest record of a key stands, and what is worth knowing about it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the record.
    pub(crate) location: Location,
    /// Of the record's bytes.
    pub(crate) size: Size,
    /// Any of the constants below.
    pub(crate) flags: u8,
    /// Of the last access, [`Self::EVICTED`] or 1 to 65,535. What an epoch is, the caller decides.
    pub(crate) epoch: u16,
}

impl Entry {
    /// The epoch of an entry that was written after everything that a checkpoint knows: the clock of accesses makes
    /// sense of it when the store opens.
    pub(crate) const JUST_USED: u16 = u16::MAX;
    /// The record has an expiry.
    pub(crate) const EXPIRES: u8 = 1;
    /// The entry may be forgotten to make room.
    pub(crate) const EVICTABLE: u8 = 2;
    /// The expiry was moved by a later record.
    pub(crate) const TOUCHED: u8 = 4;
    /// The record belongs to a scope.
    pub(crate) const SCOPED: u8 = 8;
    /// The epoch of an entry that was evicted.
    pub(crate) const EVICTED: u16 = 0;

    /// Whether readers take it for absent.
    #[inline]
    #[must_use]
    pub(crate) const fn is_evicted(&self) -> bool {
        self.epoch == Self::EVICTED
    }

    /// The words of this entry under `key`, see [`key_of_hash`].
    #[inline]
    pub(super) fn pack(&self, key: u64) -> Words {
        let size = u64::from(self.size.class()) << CLASS_SHIFT | u64::from(self.size.step());
        let how = size | pack_flags(self.flags);
        [(key & WHICH) | u64::from(self.epoch), pack_location(self.location) | how]
    }

    /// The entry in these words; the key is dropped.
    #[inline]
    pub(crate) fn unpack([word0, word1]: Words) -> Self {
        Self {
            location: Location {
                slot: Slot((word1 >> SLOT_SHIFT) as u32),
                offset: (word1 >> HOW_BITS & EIGHTHS_MASK) * OFFSET_UNIT,
            },
            size: Size::new((word1 >> CLASS_SHIFT & SIX_BITS) as u8, (word1 & SIX_BITS) as u8),
            flags: (word1 >> FLAGS_SHIFT & FLAGS_MASK) as u8,
            epoch: word0 as u16,
        }
    }
}

/// The key of a hash: its tag where word 0 has it, and zeros below.
#[inline]
pub(super) const fn key_of_hash(hash: u64) -> u64 {
    (hash << 8) & WHICH
}

/// The key in a word 0.
#[inline]
pub(super) const fn key_of_word(word0: u64) -> u64 {
    word0 & WHICH
}

/// The bits of a hash that are known from its key: all but the lowest 8, and the 8 that chose the shard.
#[inline]
pub(super) const fn hash_of_key(key: u64) -> u64 {
    key >> 8
}

/// The epoch in a word 0.
#[inline]
pub(super) const fn epoch_of_word(word0: u64) -> u16 {
    word0 as u16
}

/// `word0` with another epoch.
#[inline]
pub(super) const fn with_epoch(word0: u64, epoch: u16) -> u64 {
    key_of_word(word0) | epoch as u64
}

/// The location in a word 1, still packed: equal to that of [`pack_location`].
#[inline]
pub(super) const fn location_of_word(word1: u64) -> u64 {
    word1 & WHICH
}

/// The bits of a location in word 1.
#[inline]
pub(super) fn pack_location(location: Location) -> u64 {
    let Location { slot, offset } = location;
    assert!(
        slot.0 <= SLOT_MAX
            && offset <= OFFSET_MAX
            && offset.is_multiple_of(OFFSET_UNIT)
            && offset > 0,
        "{location:?} does not fit an entry: slots up to {SLOT_MAX}, offsets up to {OFFSET_MAX} in eights"
    );
    (u64::from(slot.0) << SLOT_SHIFT) | (offset / OFFSET_UNIT) << HOW_BITS
}

/// The bits of flags in word 1.
#[inline]
pub(super) fn pack_flags(flags: u8) -> u64 {
    assert!(u64::from(flags) <= FLAGS_MASK, "flags {flags:#x} have no 4 bits");
    u64::from(flags) << FLAGS_SHIFT
}

/// What the index holds for one hash: mostly nothing or one entry; more if keys share a tag.
///
/// Only the caller, who reads the log, can tell which of them is the entry of its key, if any.
#[derive(Debug, Default)]
pub(crate) enum Candidates {
    /// The key is not in the index.
    #[default]
    None,
    /// The usual case, without allocation.
    One(Entry),
    /// Keys that share a tag.
    Many(Vec<Entry>),
}

impl Candidates {
    /// The candidates as a slice, in no order that means anything.
    #[inline]
    #[must_use]
    pub(crate) fn as_slice(&self) -> &[Entry] {
        match self {
            Self::None => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    /// The candidates one by one.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.as_slice().iter().copied()
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        match self {
            Self::None => *self = Self::One(entry),
            _ => self.push_another(entry),
        }
    }

    #[cold]
    fn push_another(&mut self, entry: Entry) {
        match self {
            Self::None => *self = Self::One(entry),
            Self::One(first) => *self = Self::Many(vec![*first, entry]),
            Self::Many(entries) => entries.push(entry),
        }
    }
}
