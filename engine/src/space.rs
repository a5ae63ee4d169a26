//! How many bytes the store's files take, at most: charged before a file may grow, given back when it is gone.
//! So the limit holds at every moment, whoever writes (I17).
//!
//! Charged are: a fixed sum for the lock file; the manifest at its largest, old and new together; the checkpoint
//! that closing will write, or the one that is there if it is larger; every segment at its capacity until it is
//! sealed, and at its length from then on; files that were set aside; the ballast.

use std::{path::PathBuf, sync::Arc};

use crate::{
    error::{Error, Result},
    io::Disk,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What the room is for. Each may go further than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// A segment for users' writes: stops before the reserve.
    Write,
    /// A segment for deletes only: may use one segment of the reserve, so that a full store can be emptied.
    Delete,
    /// A segment for staged writes, which were admitted when there was room: may use what deletes may, and what is to
    /// stay free on the file system, should the room be gone meanwhile.
    Staged,
    /// Outputs of compaction: may use the reserve.
    Compact,
}

/// What [`Error::Full`] counts when it is the directory that is full.
pub(crate) const BYTES: &str = "bytes";
/// Segments kept back for compaction.
pub(crate) const RESERVE_SEGMENTS: u64 = 3;
/// The lock file, and a little for what directories hold.
const FIXED_BYTES: u64 = 4 << 10;

/// The account of one directory.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limit: AtomicU64,
    /// How far deletes and compaction may go: the limit, or, while more than that is there, a reserve beyond it.
    /// Falls with what is there and never rises by itself.
    ceiling: AtomicU64,
    /// Bytes of the largest segment that was written under a larger limit: to copy it takes more than the reserve.
    large: AtomicU64,
    min_free: u64,
    /// Bytes of a usual segment.
    segment_bytes: u64,
    charges: Mutex<Charges>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Charges {
    segments: u64,
    manifest: u64,
    checkpoint: u64,
    ballast: u64,
}

impl Charges {
    const fn total(self) -> u64 {
        FIXED_BYTES + self.segments + self.manifest + self.checkpoint + self.ballast
    }
}

impl Space {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        limit: Option<u64>,
        min_free: u64,
        segment_bytes: u64,
    ) -> Self {
        Self {
            disk,
            dir,
            limit: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            ceiling: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            large: AtomicU64::new(0),
            min_free,
            segment_bytes,
            charges: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Charges> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limit; `None` if there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != u64::MAX).then_some(limit)
    }

    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.set_ceiling(u64::MAX);
    }

    /// The store holds more than its limit allows, since it was opened with it or since it was set: to become smaller
    /// it needs room.
    pub(crate) fn set_ceiling(&self, most: u64) {
        let limit = self.limit.load(Ordering::Relaxed);
        let used = self.used();
        let needed = self.reserve() + self.large.load(Ordering::Relaxed);
        let needed = if used > limit { used.saturating_add(needed) } else { limit };
        self.ceiling.store(needed.min(most).max(limit), Ordering::Relaxed);
    }

    /// How large the largest segment is that does not fit the reserve; 0 if there is none.
    pub(crate) fn set_large(&self, bytes: u64) {
        self.large.store(bytes, Ordering::Relaxed);
    }

    /// Bytes kept back for compaction.
    pub(crate) const fn reserve(&self) -> u64 {
        RESERVE_SEGMENTS * self.segment_bytes
    }

    /// Everything charged so far.
    pub(crate) fn used(&self) -> u64 {
        self.lock().total()
    }

    /// Bytes left below the limit for `purpose`.
    pub(crate) fn room(&self, purpose: Purpose) -> u64 {
        self.room_or_over(purpose).0
    }

    /// Bytes left below the limit for `purpose`, and bytes by which it is exceeded; one of the two is 0.
    pub(crate) fn room_or_over(&self, purpose: Purpose) -> (u64, u64) {
        let (limit, used) = (self.limit_for(purpose), self.used() + self.kept_back(purpose));
        (limit.saturating_sub(used), used.saturating_sub(limit))
    }

    /// Whether any limit is set: on the directory, or on what stays free on the file system.
    pub(crate) fn is_bounded(&self) -> bool {
        self.limit().is_some() || self.min_free > 0
    }

    /// Whether users' writes may take so many bytes.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.room(Purpose::Write) >= bytes
            && (self.min_free == 0 || self.disk_free() >= self.required_free(bytes))
    }

    /// Bytes that the outputs of a job may have: below the limit with its reserve, and of what is free on the file system
    /// beyond what is to stay free; less without the ballast, which keeps room for the manifest. If less than what is to
    /// stay free is free already: one segment, for what it brings back.
    pub(crate) fn room_for_outputs(&self, has_ballast: bool) -> u64 {
        let others = if has_ballast { 4 << 10 } else { 16 << 10 };
        let free = self.disk_free();
        let spare = match free.checked_sub(self.min_free) {
            Some(spare) if spare > 0 => spare,
            _ => self.segment_bytes.min(free / 4),
        };
        self.room(Purpose::Compact).min(spare.saturating_sub(others))
    }

    /// Bytes that have to be free before users' writes take so many: a segment is left for compaction, which keeps to
    /// what is to stay free as well.
    const fn required_free(&self, bytes: u64) -> u64 {
        self.min_free.saturating_add(bytes).saturating_add(self.segment_bytes)
    }

    /// Bytes free on the file system, as far as it says so.
    pub(crate) fn disk_free(&self) -> u64 {
        self.disk.space(&self.dir).map_or(u64::MAX, |space| space.available)
    }

    fn limit_for(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Write => self.limit.load(Ordering::Relaxed),
            Purpose::Delete | Purpose::Staged | Purpose::Compact => {
                self.ceiling.load(Ordering::Relaxed)
            }
        }
    }

    const fn kept_back(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Write => self.reserve(),
            // Manifest and checkpoint may have grown since the last segment for writes was begun.
            Purpose::Delete | Purpose::Staged => self.reserve() - self.segment_bytes * 3 / 2,
            Purpose::Compact => 0,
        }
    }

    /// The largest segment there is ever room for: twice, because recovery writes one that is not sealed again.
    pub(crate) fn largest(&self) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        let others = FIXED_BYTES + self.lock().manifest + self.reserve() + 2 * self.segment_bytes;
        if limit == u64::MAX { limit } else { limit.saturating_sub(others) / 2 }
    }

    /// Charges for segment files of `bytes` at most.
    ///
    /// # Errors
    /// [`Error::Full`] at the limit; [`Error::LowSpace`] if the file system would have too little left.
    pub(crate) fn take(&self, bytes: u64, purpose: Purpose) -> Result<()> {
        self.take_beside(bytes, 0, purpose)
    }

    /// As [`Self::take`], if as many bytes as `free` are left as well.
    pub(crate) fn take_beside(&self, bytes: u64, free: u64, purpose: Purpose) -> Result<()> {
        if self.min_free > 0 && purpose == Purpose::Write {
            let free = self.disk_free();
            let required = self.required_free(bytes);
            if free < required {
                return Err(Error::LowSpace { free, required });
            }
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let mut charges = self.lock();
        let used = charges.total();
        let most = self.limit_for(purpose);
        let left = free.saturating_add(self.kept_back(purpose));
        if used.saturating_add(bytes).saturating_add(left) > most {
            return Err(Error::Full { what: BYTES, used, limit });
        }
        charges.segments += bytes;
        Ok(())
    }

    /// Charges for files that are there already, limit or not.
    pub(crate) fn found(&self, bytes: u64) {
        self.lock().segments += bytes;
    }

    /// Charges for the ballast file that is there already.
    pub(crate) fn found_ballast(&self, bytes: u64) {
        self.lock().ballast = bytes;
    }

    /// Gives back what was charged for segment files.
    pub(crate) fn give(&self, bytes: u64) {
        let mut charges = self.lock();
        debug_assert!(charges.segments >= bytes, "more is given back than was charged");
        charges.segments = charges.segments.saturating_sub(bytes);
        drop(charges);
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        if ceiling > self.limit.load(Ordering::Relaxed) {
            self.set_ceiling(ceiling);
        }
    }

    /// Charges for the ballast file, once, and says how much: what was charged before, if more does not fit below the
    /// limit, which may be nothing.
    pub(crate) fn charge_ballast(&self, bytes: u64) -> u64 {
        let mut charges = self.lock();
        let used = charges.total() - charges.ballast;
        if used.saturating_add(bytes) <= self.limit.load(Ordering::Relaxed) {
            charges.ballast = charges.ballast.max(bytes);
        }
        charges.ballast
    }

    /// What manifest and checkpoint need at most from now on.
    pub(crate) fn set_others(&self, manifest: u64, checkpoint: u64) {
        let mut charges = self.lock();
        (charges.manifest, charges.checkpoint) = (manifest, checkpoint);
    }
}

/// The usual segment of a store with this limit. Small segments waste room on headers, large ones on the reserve:
/// the geometric mean of the limit and a quarter of a header is where both together are least.
pub(crate) fn segment_bytes_for(limit: Option<u64>, wanted: u64, least: u64) -> u64 {
    const BLOCK: u64 = 4096;
    match limit {
        Some(limit) => {
            let best = (limit.saturating_mul(BLOCK / 4)).isqrt();
            (best / BLOCK * BLOCK).clamp(least, wanted.max(least))
        }
        None => wanted,
    }
}

/// The least limit under which a store with such segments works: the reserve, one segment to write, one to seal, and
/// the files beside them.
pub(crate) const fn least_bytes(segment_bytes: u64) -> u64 {
    const OTHERS: u64 = 48 << 10;
    FIXED_BYTES + OTHERS + (RESERVE_SEGMENTS + 3) * segment_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MemoryDisk;

    /// Goal: a ballast that grows beyond the limit keeps what is charged for it; one that never fitted is charged nothing.
    #[test]
    fn a_ballast_fits_or_stays() {
        let space = |limit| {
            Space::new(Arc::new(MemoryDisk::new()), PathBuf::new(), Some(limit), 0, 64 << 10)
        };
        let roomy = space(8 << 20);
        assert_eq!(roomy.charge_ballast(20 << 10), 20 << 10);
        roomy.found(8 << 20);
        assert_eq!(roomy.charge_ballast(24 << 10), 20 << 10);
        let full = space(1 << 20);
        full.found(1 << 20);
        assert_eq!(full.charge_ballast(20 << 10), 0);
    }
}
