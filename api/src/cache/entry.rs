//! An entry with what is known of it.

use tierce_engine::{SequenceNumber, Timestamp, View};

use super::{
    record::{self, Standing, fresh_until, standing, stored_at, weight_of},
    uses::Use,
};

/// An entry with what is known of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// Order of the write that stored it.
    pub version: SequenceNumber,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
    /// When it is gone; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// Until when it is fresh; later than that it is served only by a loader that allows stale values.
    pub fresh_until: Option<Timestamp>,
    /// Whether it is fresh no more.
    pub is_stale: bool,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Whether it is never evicted.
    pub pinned: bool,
    /// Bytes of its record in the log, key and header included.
    pub bytes: u64,
    /// What its insert said that it weighs, or 1.
    pub weight: u64,
    /// How often it was found by a get or a loader since it was stored, by this process and as far as it remembers: see
    /// [`Cache::track_uses`](super::Cache::track_uses). `None`: never, or it is not known.
    pub hits: Option<u64>,
    /// When it was found last, in milliseconds of store time; known as [`Self::hits`] are.
    pub accessed_at: Option<Timestamp>,
}

/// The whole entry of a record. Its scopes are the space and, behind the space's prefix, its tags.
pub(super) fn describe<V>(
    value: V,
    view: &View<'_>,
    found: Option<Use>,
    now: Timestamp,
) -> Entry<V> {
    let mut tags: Vec<_> = view.scopes().filter_map(record::tag_of).collect();
    tags.sort();
    Entry {
        value,
        version: view.stored,
        stored_at: stored_at(view),
        expires_at: view.expires_at,
        fresh_until: fresh_until(view),
        is_stale: standing(view, || now) != Standing::Fresh,
        tags,
        pinned: !view.evictable,
        bytes: view.record_bytes,
        weight: weight_of(view),
        hits: found.map(|found| found.hits),
        accessed_at: found.map(|found| found.accessed_at),
    }
}
