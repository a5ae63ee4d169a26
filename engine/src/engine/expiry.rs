//! Taking expired entries out: whole segments unread, and single ones by looking at the records that may have expired.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Shared, hold,
    upkeep::{CompactionReport, SWEEP_EVERY_MS},
};
use crate::{
    error::{Error, Result},
    evictor::{Cause, Victim},
    index::{Entry as IndexEntry, SHARDS},
    segment::{Segment, read::Depth},
    types::{Location, SegmentId, Slot, Timestamp, is_live},
};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Expired entries removed.
    pub entries: u64,
    /// Bytes of their records, where they had to be looked at; 0 for those of whole segments.
    pub bytes: u64,
    /// Segments dropped without reading them.
    pub segments_dropped: u64,
    /// Compaction jobs that took what had expired off the disk.
    pub jobs: u64,
    /// Whether there may be more, because the budget was used up.
    pub is_cut_short: bool,
}

/// For each segment that was looked through: when the next entry in it expires.
pub(super) type NextExpiry = HashMap<SegmentId, Timestamp>;

/// Entries of one segment that may have expired.
type Suspects = Vec<(u64, IndexEntry)>;

impl Shared {
    /// Removes every expired entry, and then their bytes from the disk, until `budget` is used up.
    pub(super) fn sweep(&self, budget: Option<Duration>) -> Result<Swept> {
        let clock = self.lookup.clock.machine();
        let end = budget.map(|budget| {
            let ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
            clock.monotonic_ms().saturating_add(ms)
        });
        let is_over = || end.is_some_and(|end| clock.monotonic_ms() >= end);
        let mut swept = Swept::default();
        (swept.segments_dropped, swept.entries) = self.drop_expired()?;
        let found = self.mark_expired(&is_over)?;
        swept.entries += found.entries;
        swept.bytes += found.bytes;
        swept.is_cut_short = found.is_cut_short;
        if swept.entries > 0 {
            self.writer.seal_dead_active()?;
        }
        while !swept.is_cut_short {
            let mut report = CompactionReport::default();
            if !self.compact_once(None, false, None, &mut report)? {
                break;
            }
            swept.jobs += 1;
            if report.bytes_reclaimed == 0 {
                // It would go on for ever.
                break;
            }
            swept.is_cut_short = is_over();
        }
        self.writer.unlink_retired();
        self.shrink_checkpoint()?;
        Ok(swept)
    }

    /// As much of a sweep as a write that finds no room waits for: only what costs little for what it brings.
    pub(super) fn sweep_due(&self) -> Result<Swept> {
        let now = self.lookup.clock.now().0;
        if now < self.upkeep.sweep_at.load(Ordering::Relaxed) {
            return Ok(Swept::default());
        }
        let swept = self.mark_expired(&|| false)?;
        self.upkeep.sweep_at.store(now + SWEEP_EVERY_MS, Ordering::Relaxed);
        Ok(swept)
    }

    /// Marks what has expired as gone. Reads the heads of records with an expiry, in segments where one may be over.
    pub(super) fn mark_expired(&self, is_over: &dyn Fn() -> bool) -> Result<Swept> {
        let now = self.lookup.clock.now();
        let mut next = hold(&self.upkeep.next_expiry);
        let table = self.lookup.catalog.table();
        next.retain(|id, _| table.iter().any(|segment| segment.id() == *id));
        // A touch may have brought an expiry forward.
        let touched = self.lookup.overrides.slots_expired(now);
        let may_hold = |segment: &&Arc<Segment>| match segment.as_sealed() {
            _ if touched.contains(&segment.slot) => true,
            Some(sealed) => {
                let known = next.get(&segment.id()).copied();
                known.unwrap_or(sealed.expiry_min) <= now
            }
            None => true,
        };
        let due: HashMap<Slot, Arc<Segment>> =
            table.iter().filter(may_hold).map(|s| (s.slot, Arc::clone(s))).collect();
        drop(table);
        let mut swept = Swept::default();
        for (slot, suspects) in self.suspects(&due) {
            let Some(segment) = due.get(&slot) else { continue };
            let (victims, earliest) = self.expired_of(segment, suspects, now)?;
            let (entries, bytes) = self.writer.mark_all(&victims, Cause::Expired);
            swept.entries += entries;
            swept.bytes += bytes;
            if segment.as_sealed().is_some() {
                next.insert(segment.id(), earliest);
            }
            if is_over() {
                swept.is_cut_short = true;
                break;
            }
        }
        Ok(swept)
    }

    /// Entries with an expiry in these segments, and all whose expiry was moved by a touch.
    fn suspects(&self, due: &HashMap<Slot, Arc<Segment>>) -> HashMap<Slot, Suspects> {
        let mut suspects: HashMap<Slot, Suspects> = HashMap::new();
        if due.is_empty() {
            return suspects;
        }
        for shard in 0..SHARDS {
            self.lookup.index.sweep(shard, &mut |hash, entry| {
                let expires = entry.flags & (IndexEntry::EXPIRES | IndexEntry::TOUCHED) != 0;
                if expires && !entry.is_evicted() && due.contains_key(&entry.location.slot) {
                    suspects.entry(entry.location.slot).or_default().push((hash, entry));
                }
            });
        }
        suspects
    }

    /// Which of these entries have expired, and when the first of the others does.
    fn expired_of(
        &self,
        segment: &Arc<Segment>,
        mut suspects: Suspects,
        now: Timestamp,
    ) -> Result<(Vec<Victim>, Timestamp)> {
        suspects.sort_unstable_by_key(|(_, entry)| entry.location.offset);
        let mut earliest = Timestamp(u64::MAX);
        let mut victims = Vec::new();
        for (hash, entry) in suspects {
            let expires_at = match self.expiry_of(segment, entry.location) {
                Ok(expires_at) => expires_at,
                // Whoever asks for it is told that it is damaged; what it says of its expiry is not believed.
                Err(Error::Corruption(_)) => continue,
                Err(error) => return Err(error),
            };
            if is_live(expires_at, now) {
                earliest = expires_at.map_or(earliest, |expiry| earliest.min(expiry));
            } else {
                victims.push(Victim {
                    hash,
                    location: entry.location,
                    epoch: entry.epoch,
                    bytes: entry.size.bytes(),
                });
            }
        }
        Ok((victims, earliest))
    }

    fn expiry_of(&self, segment: &Arc<Segment>, at: Location) -> Result<Option<Timestamp>> {
        if let Some(touch) = self.lookup.overrides.touch(at) {
            return Ok(touch.expires_at);
        }
        let Some(record) = segment.record(at.offset, 256, Depth::Head)? else { return Ok(None) };
        Ok(segment.head(record.of(segment), at.offset)?.expires_at)
    }

    /// Writes a checkpoint if the one on disk is of a much larger store.
    fn shrink_checkpoint(&self) -> Result<()> {
        let Some((number, _)) = hold(&self.manifest).state().checkpoint else { return Ok(()) };
        let path = self.home.path(&crate::format::file_name::checkpoint(number));
        let bytes = self
            .home
            .disk
            .open(&path, crate::io::Access::Read)
            .and_then(|file| file.bytes())
            .unwrap_or_default();
        if bytes > 2 * self.lookup.checkpoint_bytes() + (64 << 10) {
            self.write_checkpoint()?;
        }
        Ok(())
    }
}
