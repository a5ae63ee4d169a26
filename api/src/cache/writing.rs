//! A change of entries while it goes on: what loads have to know of it.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A change goes on. Loads that begin before it ends know of it.
#[must_use = "the change lasts as long as this"]
pub(super) struct Writing<'a>(&'a AtomicUsize);

impl<'a> Writing<'a> {
    pub(super) fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
