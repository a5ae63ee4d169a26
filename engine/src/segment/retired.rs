//! Segments that the manifest no longer names and that some reader may still hold: their files are removed when
//! nobody does.

use std::sync::Arc;

use super::{Home, Segment};
use crate::{
    io::remove_if_there,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Files to remove, each with what is charged for it.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    segments: Mutex<Vec<(Arc<Segment>, u64)>>,
}

impl Retired {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Segment>, u64)>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `segment` has left the catalog: nobody new can find it.
    pub(crate) fn add(&self, segment: Arc<Segment>, charged: u64) {
        self.lock().push((segment, charged));
    }

    /// Bytes that are charged for files that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().iter().map(|(_, charged)| charged).sum()
    }

    /// Removes the files of all that nobody holds any more. Says what was charged for them, and how many bytes they
    /// had. A file that cannot be removed now is tried again.
    pub(crate) fn unlink(&self, home: &Home) -> Unlinked {
        let mut sum = Unlinked::default();
        self.lock().retain(|(segment, charged)| {
            // One left: this one. Nobody can get another, the catalog does not have it.
            let is_held = Arc::strong_count(segment) > 1;
            if is_held || remove_if_there(home.disk.as_ref(), &segment.path).is_err() {
                return true;
            }
            sum.charged += charged;
            sum.bytes += segment.file_bytes();
            sum.files += 1;
            false
        });
        sum
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unlinked {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) charged: u64,
}
