//! What a caller may ask of upkeep: compaction, sweeps, limits, and why an entry is gone.

use std::{ops::ControlFlow, time::Duration};

use super::{
    CompactionReport, Engine, PlannedJob, SegmentAccount, Swept, Usage, accounts::accounts,
};
use crate::{
    error::Result,
    evictor::{Evicted, Eviction, Need},
    io::ClockDoubt,
    reader::Changes,
    types::{SegmentId, SequenceNumber},
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
    /// it was. It may read this store. Whatever else it asks of it is refused with
    /// [`Error::InCallback`](crate::Error::InCallback), and must not be waited for on another thread: it could wait for
    /// this job.
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

    /// What [`Self::compact`] would do with the settings of this opening: the jobs, the segments each would remove, and
    /// the bytes that come back. Changes no byte on disk, so it works on a store that is open to be read, too. Costs what
    /// finding the expired entries costs.
    ///
    /// ```
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).segment_bytes(8 << 10).open("store")?;
    /// for n in 0..200 {
    ///     engine.put("the same key", [n; 500])?;
    /// }
    /// let jobs = engine.compaction_preview()?;
    /// assert!(jobs.iter().map(|job| job.won_bytes()).sum::<u64>() > 50_000);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) and [`Error::Io`](crate::Error::Io) of a record that had to be
    /// looked at.
    pub fn compaction_preview(&self) -> Result<Vec<PlannedJob>> {
        self.check()?;
        self.shared.compaction_preview()
    }

    /// What each segment holds, oldest id first: how much of it is still alive, and when it expires. Reads no file.
    ///
    /// ```
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("a", "1")?;
    /// engine.put("a", "2")?;
    /// let [segment] = &engine.segments()[..] else { panic!("one segment") };
    /// assert!(segment.live_records == 1 && segment.live_bytes < segment.bytes);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentAccount> {
        accounts(&self.shared.lookup.catalog.table())
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
        self.shared.writer.set_live_limits(|limits| limits.set_entries(limit));
    }

    /// Says how many entries a layer above keeps for itself, as a catalog: [`Options::max_entries`](crate::Options::max_entries)
    /// does not count them. In memory only, and 0 when the store opens.
    pub fn set_internal_entries(&self, entries: u64) {
        self.shared.writer.set_live_limits(|limits| limits.set_internal(entries));
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

    /// From now on the key of what is evicted or expires is kept, too, for [`Self::evicted_since`]: each costs a look
    /// at the record.
    pub fn keep_evicted_keys(&self) {
        self.shared.lookup.journal.keep_keys();
    }

    /// Notices now that the entry of `key` has expired, if it has and no sweep came by: it is then among
    /// [`Self::evictions`]. Says whether it was noticed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn expire_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        self.shared.writer.expire_key(key.as_ref())
    }

    /// All evictions but the first `seen`, as far as they are kept. Entries that expired and left with their whole
    /// segment, unread, are not among them, unless keys are kept; [`Stats`](crate::Stats) counts those.
    ///
    /// ```
    /// use tierce_engine::{Options, PutOptions, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).max_entries(1).open("store")?;
    /// engine.keep_evicted_keys();
    /// engine.put_with("a", "1", &PutOptions::new().evictable(true))?;
    /// engine.put_with("b", "2", &PutOptions::new().evictable(true))?;
    /// let evicted = engine.evicted_since(0);
    /// assert_eq!(evicted.evictions[0].1.as_deref(), Some(&b"a"[..]));
    /// assert_eq!(engine.evicted_since(evicted.next).evictions, []);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    #[must_use]
    pub fn evicted_since(&self, seen: u64) -> Evicted {
        self.shared.lookup.journal.since(seen)
    }

    /// The first `limit` writes after the one with the number `since`, in their order, read from the log: for copies,
    /// indexes and caches that follow the store. Begin with 0 and go on with [`Changes::next`], also after a restart; a
    /// crash may take back writes that were not safe yet, and their numbers are then given to others. Evictions and
    /// expiries are no writes.
    ///
    /// Costs a look at every record of the segments that hold something newer than `since`.
    ///
    /// ```
    /// use tierce_engine::{Options, SequenceNumber, Wrote, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("a", "1")?;
    /// let seen = engine.changes_since(SequenceNumber(0), 100)?;
    /// assert_eq!((seen.changes[0].wrote, &seen.changes[0].key[..]), (Wrote::Put, &b"a"[..]));
    /// engine.delete("a")?;
    /// let later = engine.changes_since(seen.next, 100)?;
    /// assert!(later.is_complete && later.changes.len() == 1);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) and [`Error::Io`](crate::Error::Io) of the first record that
    /// cannot be read.
    pub fn changes_since(&self, since: SequenceNumber, limit: usize) -> Result<Changes> {
        self.check()?;
        self.shared.writer.drain_staged()?;
        let (newest, gap_from) = self.shared.writer.end_of_row();
        self.shared.reader.changes(since, (newest, gap_from), limit)
    }

    /// Whether store time rests on a wall clock far ahead of the time on record that nothing has confirmed yet: what it
    /// would expire is not served, and nothing is removed for it, until it has stood for five minutes or
    /// [`Self::trust_clock`] is called.
    #[must_use]
    pub fn clock_doubt(&self) -> Option<ClockDoubt> {
        self.shared.lookup.clock.doubt()
    }

    /// Says that the machine's clock is right: what has expired by it may be removed at once.
    ///
    /// ```
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.trust_clock();
    /// assert_eq!(engine.clock_doubt(), None);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    pub fn trust_clock(&self) {
        self.shared.lookup.clock.trust();
    }
}
