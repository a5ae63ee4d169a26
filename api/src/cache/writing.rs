//! A change of entries while it goes on: what loads have to know of it.

use super::flight::Flights;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A write goes on. What is loaded from its beginning to its end is not stored: it might be older than the write. When it
/// has ended nobody joins a load that began before that.
#[must_use = "the write lasts as long as this"]
pub(super) struct Writing<'a> {
    flights: &'a Flights,
    /// Counts it.
    count: &'a AtomicUsize,
    /// Of one key, or of all.
    key: Option<&'a [u8]>,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(
        flights: &'a Flights,
        count: &'a AtomicUsize,
        key: Option<&'a [u8]>,
    ) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self { flights, count, key }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Order: counted off before it looks. A load that begins later sees what was written.
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.flights.part(self.key);
    }
}
