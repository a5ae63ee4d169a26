//! What a caller may ask of upkeep: compaction, sweeps, limits, and why an entry is gone.

use std::{ops::ControlFlow, time::Duration};

use super::{CompactionReport, Engine, Swept, Usage};
use crate::{
    error::Result,
    evictor::{Eviction, Need},
    types::SegmentId,
};

impl Engine {
    /// Compacts now, until nothing is worth it: what is dead leaves the disk. Works while compaction is paused, too.
    ///
    /// # Errors
    /// What a job failed with; nothing is lost, and the files it read stay.
    pub fn compact(&self) -> Result<CompactionReport> {
        self.compact_with(None, |_| ControlFlow::Continue(()))
    }

    /// As [`Self::compact`], of the `segments` with these ids only if they are given, in one job whether it is worth it
    /// or not. `go_on` is asked now and then, with the report so far; a job that it breaks off leaves everything as
    /// it was. It must not compact, sweep or recover: that waits for this job.
    ///
    /// # Errors
    /// As [`Self::compact`].
    pub fn compact_with(
        &self,
        segments: Option<&[SegmentId]>,
        mut go_on: impl FnMut(&CompactionReport) -> ControlFlow<()>,
    ) -> Result<CompactionReport> {
        self.check_write()?;
        self.shared.compact(segments, &mut go_on)
    }

    /// From now on no compaction begins by itself, and one that runs by itself ends soon. May be called again. A store
    /// at its limit still makes room when a write finds none.
    pub fn pause_compaction(&self) {
        self.shared.upkeep.pause();
    }

    /// Ends [`Self::pause_compaction`], however often that was called.
    pub fn resume_compaction(&self) {
        self.shared.upkeep.resume();
    }

    /// Whether compaction is paused.
    #[must_use]
    pub fn is_compaction_paused(&self) -> bool {
        self.shared.upkeep.is_paused()
    }

    /// Removes every expired entry, from the index and then from the disk, and says how many. With a `budget` it stops
    /// when that is used up and says so. Reads only segments in which something may have expired.
    ///
    /// # Errors
    /// As [`Self::compact`].
    pub fn sweep(&self, budget: Option<Duration>) -> Result<Swept> {
        self.check_write()?;
        self.shared.sweep(budget)
    }

    /// Evicts the coldest entries until at most `live_bytes` of records are live; says how many went. State
    /// ([`PutOptions::evictable`](crate::PutOptions::evictable) not set) stays.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed).
    pub fn shrink_to(&self, live_bytes: u64) -> Result<u64> {
        self.check_write()?;
        let expired = self.shared.sweep(None)?.entries;
        let live = self.shared.lookup.tally.get().bytes;
        let need = Need { entries: 0, bytes: live.saturating_sub(live_bytes) };
        Ok(expired + self.shared.writer.evict(need))
    }

    /// How full the store is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.shared.usage()
    }

    /// Changes [`Options::max_bytes`](crate::Options::max_bytes) from now on. A smaller limit makes the store shrink:
    /// entries are evicted and segments compacted until it fits, or until nothing is left that may go; then writes are
    /// refused.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`](crate::Error::InvalidOptions) if it is below the least that works;
    /// [`Error::Full`](crate::Error::Full) if it does not fit yet.
    pub fn set_max_bytes(&self, limit: Option<u64>) -> Result<()> {
        self.check_write()?;
        self.shared.set_max_bytes(limit)
    }

    /// Changes [`Options::max_entries`](crate::Options::max_entries); what is too much is evicted before the next write
    /// is acknowledged.
    pub fn set_max_entries(&self, limit: Option<u64>) {
        self.shared.writer.set_live_limits(|limits| limits.entries = limit.unwrap_or(u64::MAX));
    }

    /// Changes [`Options::max_live_bytes`](crate::Options::max_live_bytes); what is too much is evicted before the next
    /// write is acknowledged.
    pub fn set_max_live_bytes(&self, limit: Option<u64>) {
        self.shared.writer.set_live_limits(|limits| limits.bytes = limit.unwrap_or(u64::MAX));
    }

    /// The last entries that were evicted or had expired, oldest first, at most 1,024: why is it gone?
    #[must_use]
    pub fn evictions(&self) -> Vec<Eviction> {
        self.shared.lookup.journal.recent()
    }

    /// The last eviction of `key`, if it is among [`Self::evictions`].
    #[must_use]
    pub fn eviction_of(&self, key: impl AsRef<[u8]>) -> Option<Eviction> {
        /// The index knows all but these bits.
        const UNKNOWN: u64 = 0xff;
        let hash = self.shared.lookup.hasher.hash(key.as_ref()) & !UNKNOWN;
        self.evictions().into_iter().rev().find(|eviction| eviction.hash & !UNKNOWN == hash)
    }
}
