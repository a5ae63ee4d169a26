//! The words every room shares: ids, sequence numbers, locations, instants. No behaviour beyond arithmetic.

use std::fmt;

/// Names one segment file for the whole life of a store. Ids only grow and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Order of writes in one store: grows with every record and is never reused, across restarts too.
///
/// Two records of one key are ordered by it and by nothing else; no clock has a say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// The number of the write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A moment of store time in milliseconds since the Unix epoch.
///
/// ```
/// use tierce_engine::Timestamp;
/// assert_eq!(Timestamp(1_000).saturating_add_ms(u64::MAX), Timestamp(u64::MAX));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `ms` milliseconds later; the far future instead of an overflow.
    #[must_use]
    pub const fn saturating_add_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// An entry is live iff store time is before its expiry. Every path that asks, asks here.
#[must_use]
pub fn is_live(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|expiry| now < expiry)
}

/// Short name of a segment while the store is open: the row of the catalog that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

/// Where a record stands: a segment by its slot, and the byte offset of the record in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    pub(crate) slot: Slot,
    pub(crate) offset: u64,
}

/// The expiry in force for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    /// `None` = never.
    pub(crate) expires_at: Option<Timestamp>,
    /// The newest touch that stands in the log, or the put itself if there is none.
    pub(crate) sequence: SequenceNumber,
    /// The expiry that the log has: a sliding one may be ahead of it for a while.
    pub(crate) logged: Option<Timestamp>,
}

impl Touch {
    /// What a record in the log says.
    pub(crate) const fn logged(expires_at: Option<Timestamp>, sequence: SequenceNumber) -> Self {
        Self { expires_at, sequence, logged: expires_at }
    }
}

/// The mean of the sequence numbers at which records of a segment died, after one more death at `now`; 0 = none did.
/// One number in the place of the last few, and less noisy: each death weighs 1/64.
#[must_use]
pub(crate) const fn mean_death(mean: u64, now: u64) -> u64 {
    const SHIFT: u32 = 6;
    if mean == 0 { now } else { mean + (now.saturating_sub(mean) >> SHIFT) }
}
