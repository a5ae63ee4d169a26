//! One entry of the index, and the sixteen bytes it is packed into.
//!
//! | word | bits   | field      | note                                                           |
//! |-----:|--------|------------|----------------------------------------------------------------|
//! |    0 | 63..16 | tag        | the 48 bits of the hash below the 8 that choose the shard      |
//! |    0 | 15..0  | epoch      | of the last access                                             |
//! |    1 | 63..44 | slot       | of the segment                                                 |
//! |    1 | 43..16 | offset / 8 | of the record in the segment                                   |
//! |    1 | 15..10 | size class | of the record, see [`size_class`]                              |
//! |    1 | 9..6   | flags      | see the constants of [`Entry`]                                 |
//! |    1 | 5..0   | spare      | zero                                                           |
//!
//! 1. In both words the upper 48 bits say *which* and the lower 16 say *how*: a word is compared under one mask.
//! 2. Word 1 of an entry is never 0, because no record starts in the first bytes of a segment. 0 means "no entry".
//!
//! Checkpoints hold these words as they are (`format::checkpoint`, layout 1): another packing is another layout.

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
const CLASS_MASK: u64 = 0x3f;
const FLAGS_SHIFT: u32 = 6;
const FLAGS_MASK: u64 = 0xf;

/// The size class of a record that is larger than every class, or of unknown size.
pub(crate) const SIZE_CLASS_UNKNOWN: u8 = 63;
const SIZE_CLASS_FIRST_BYTES: u64 = 32;
const SIZE_CLASSES: [u64; SIZE_CLASS_UNKNOWN as usize] = size_classes();

const fn size_classes() -> [u64; SIZE_CLASS_UNKNOWN as usize] {
    let mut classes = [SIZE_CLASS_FIRST_BYTES; SIZE_CLASS_UNKNOWN as usize];
    let mut class = 1;
    while class < classes.len() {
        classes[class] = classes[class - 1] * 5 / 4;
        class += 1;
    }
    classes
}

/// The smallest class that a record of `record_bytes` fits in. Each class is a quarter larger than the one before.
#[must_use]
pub(crate) fn size_class(record_bytes: u64) -> u8 {
    SIZE_CLASSES.partition_point(|&bytes| bytes < record_bytes) as u8
}

/// The most bytes that a record of this class has; `None` if the class does not say.
#[must_use]
pub(crate) fn size_class_bytes(class: u8) -> Option<u64> {
    SIZE_CLASSES.get(usize::from(class)).copied()
}

/// Where the newest record of a key stands, and what is worth knowing about it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the record.
    pub(crate) location: Location,
    /// Of the record's bytes, see [`size_class`].
    pub(crate) size_class: u8,
    /// Any of the constants below.
    pub(crate) flags: u8,
    /// Of the last access. What an epoch is, the caller decides.
    pub(crate) epoch: u16,
}

impl Entry {
    /// The record has an expiry.
    pub(crate) const EXPIRES: u8 = 1;
    /// The entry may be forgotten to make room.
    pub(crate) const EVICTABLE: u8 = 2;
    /// The expiry was moved by a later record.
    pub(crate) const TOUCHED: u8 = 4;
    /// The record belongs to a scope.
    pub(crate) const SCOPED: u8 = 8;

    /// TEMPORARY
    pub(crate) const fn is_evicted(&self) -> bool {
        false
    }

    /// The words of this entry under `key`, see [`key_of_hash`].
    #[inline]
    pub(super) fn pack(&self, key: u64) -> Words {
        assert!(
            self.size_class <= SIZE_CLASS_UNKNOWN,
            "size class {} has no 6 bits",
            self.size_class
        );
        let how = (u64::from(self.size_class) << CLASS_SHIFT) | pack_flags(self.flags);
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
            size_class: (word1 >> CLASS_SHIFT & CLASS_MASK) as u8,
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

/// `word0` with another epoch.
#[inline]
pub(super) const fn with_epoch(word0: u64, epoch: u16) -> u64 {
    key_of_word(word0) | epoch as u64
}

/// `word1` with another location.
#[inline]
pub(super) fn with_location(word1: u64, location: Location) -> u64 {
    (word1 & !WHICH) | pack_location(location)
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

    /// Whether the key is surely not in the index.
    #[inline]
    #[must_use]
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests ask so far"))]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
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
