//! Taking out entries that have ended, by expiry or by a cut: whole segments unread, and single ones by looking at the
//! records that may have expired.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    Shared, hold,
    upkeep::{CompactionReport, SWEEP_EVERY_MS},
};
use crate::{
    error::{Error, Result},
    evictor::{Cause, Victim},
    format::segment_header::Class,
    index::{Entry as IndexEntry, SHARDS},
    segment::{Segment, read::Depth},
    sync::atomic::Ordering,
    types::{SegmentId, SequenceNumber, Slot, Timestamp, is_live},
};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Entries removed that had expired or were cut off.
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

/// What was looked at already.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// For each sealed segment that was looked through: when the next entry in it expires.
    next_expiry: HashMap<SegmentId, Timestamp>,
    /// The newest cut whose entries were looked for.
    cuts: SequenceNumber,
}

/// Entries of a segment that have ended.
#[derive(Debug)]
struct Ended {
    expired: Vec<Victim>,
    cut: Vec<Victim>,
    /// When the first of the others expires.
    next: Timestamp,
}

impl Default for Ended {
    fn default() -> Self {
        Self { expired: Vec::new(), cut: Vec::new(), next: Timestamp(u64::MAX) }
    }
}

/// Records on a bad block are looked at again after so long.
const BAD_BLOCK_RETRY_MS: u64 = 5 * 60 * 1000;

/// Entries of one segment that may have ended.
type Suspects = Vec<(u64, IndexEntry)>;

impl Shared {
    /// Drops the segments whose every record has expired, unread. Says how many, and how many entries that was.
    pub(super) fn drop_expired(&self) -> Result<(u64, u64)> {
        let now = self.lookup.clock.confirmed();
        if self.expired_segments(now).is_empty() {
            return Ok((0, 0));
        }
        if self.lookup.journal.keeps_keys() {
            // A subscriber asks for every key that expires: what would leave unread is read before.
            self.mark_ended(&|| false)?;
        }
        let _job = self.upkeep.job();
        let dropped = self.expired_segments(now);
        if dropped.is_empty() {
            return Ok((0, 0));
        }
        let (segments, entries) = self.writer.drop_segments(dropped, now)?;
        self.lookup.counters.expired.add(entries);
        Ok((segments, entries))
    }

    /// Segments that hold nothing but expired puts that hide nothing (I6), and no touch that is in force.
    fn expired_segments(&self, now: Timestamp) -> Vec<Arc<Segment>> {
        let table = self.lookup.catalog.table();
        let is_over = |segment: &&Arc<Segment>| {
            segment.as_sealed().is_some_and(|sealed| {
                sealed.expiry_max <= now
                    && sealed.expiry_max > Timestamp(0)
                    && sealed.tombstones == 0
                    && sealed.not_fresh == 0
                    && !self.lookup.overrides.has_touch_in(segment.slot)
                    && !self
                        .lookup
                        .overrides
                        .has_touch_from(first_sequence(segment)..=sealed.sequence_max)
            })
        };
        table.iter().filter(is_over).cloned().collect()
    }

    /// Removes every expired entry, and then their bytes from the disk, until `budget` is used up.
    pub(super) fn sweep(&self, budget: Option<Duration>) -> Result<Swept> {
        self.sweep_within(budget).inspect_err(|error| self.note_failure(error))
    }

    fn sweep_within(&self, budget: Option<Duration>) -> Result<Swept> {
        let clock = self.lookup.clock.machine();
        let end = budget.map(|budget| {
            let ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
            clock.monotonic_ms().saturating_add(ms)
        });
        let is_over = || end.is_some_and(|end| clock.monotonic_ms() >= end);
        let mut swept = Swept::default();
        (swept.segments_dropped, swept.entries) = self.drop_expired()?;
        let found = self.mark_ended(&is_over)?;
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
        if self.lookup.clock.confirmed().0 < self.upkeep.sweep_at.load(Ordering::Relaxed) {
            return Ok(Swept::default());
        }
        self.sweep_expired()
    }

    /// The same for a write that would be refused: it waits whenever an expiry has passed.
    pub(super) fn sweep_expired(&self) -> Result<Swept> {
        let now = self.lookup.clock.confirmed();
        if !self.lookup.first_expiry.is_over(now) && !self.has_new_cut() {
            return Ok(Swept::default());
        }
        let swept = self.mark_ended(&|| false)?;
        self.upkeep.sweep_at.store(now.0 + SWEEP_EVERY_MS, Ordering::Relaxed);
        Ok(swept)
    }

    fn has_new_cut(&self) -> bool {
        self.lookup.overrides.newest_of_all_cuts() > hold(&self.upkeep.seen).cuts
    }

    /// Marks what has ended as gone: expired, or cut off. Reads the heads of records with an expiry in segments where
    /// one may be over, and, when there is a cut that was not looked at yet, of records that belong to a scope.
    pub(super) fn mark_ended(&self, is_over: &dyn Fn() -> bool) -> Result<Swept> {
        let mut seen = hold(&self.upkeep.seen);
        // Order: forgotten before anything is looked at. What is written from now on notes its own expiry.
        let first_expiry = &self.lookup.first_expiry;
        first_expiry.forget();
        let mut first = Timestamp(u64::MAX);
        // Who closes the store waits for no walk over it.
        let is_over = || is_over() || self.closed.load(Ordering::Acquire);
        let swept = self.mark_ended_in(&mut seen, &mut first, &is_over);
        let is_done = swept.as_ref().is_ok_and(|swept| !swept.is_cut_short);
        first_expiry.note(Some(if is_done { first } else { Timestamp(0) }));
        swept
    }

    /// As [`Self::mark_ended`]; `first` becomes the first expiry of what is left.
    fn mark_ended_in(
        &self,
        seen: &mut Seen,
        first: &mut Timestamp,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Swept> {
        let now = self.lookup.clock.confirmed();
        let of_touches = self.lookup.overrides.first_expiry_after(now);
        *first = of_touches.unwrap_or(*first);
        // Order: asked before the segments are. What it ended stands in one that is there then, or was moved since.
        let newest_cut = self.lookup.overrides.newest_of_all_cuts();
        let has_cut = newest_cut > seen.cuts;
        let table = self.lookup.catalog.table();
        seen.next_expiry.retain(|id, _| table.iter().any(|segment| segment.id() == *id));
        // A touch may have brought an expiry forward.
        let touched = self.lookup.overrides.slots_expired(now);
        let may_hold = |segment: &&Arc<Segment>| match segment.as_sealed() {
            _ if has_cut || touched.contains(&segment.slot) => true,
            Some(sealed) => {
                let known = seen.next_expiry.get(&segment.id()).copied();
                known.unwrap_or(sealed.expiry_min) <= now
            }
            None => true,
        };
        let due: BTreeMap<Slot, Arc<Segment>> =
            table.iter().filter(may_hold).map(|s| (s.slot, Arc::clone(s))).collect();
        // Order: asked before the index is walked. A segment that is sealed meanwhile may have got entries since.
        let was_sealed: BTreeSet<Slot> =
            due.values().filter(|s| s.as_sealed().is_some()).map(|s| s.slot).collect();
        for segment in table.iter().filter(|segment| !due.contains_key(&segment.slot)) {
            let known = seen.next_expiry.get(&segment.id()).copied();
            let least = known.or_else(|| Some(segment.as_sealed()?.expiry_min));
            *first = (*first).min(least.unwrap_or(Timestamp(0)));
        }
        drop(table);
        let mut swept = Swept::default();
        for (slot, suspects) in self.suspects(&due, has_cut) {
            let Some(segment) = due.get(&slot) else { continue };
            let ended = self.ended_of(segment, suspects, now)?;
            for (victims, cause) in [(ended.expired, Cause::Expired), (ended.cut, Cause::Cut)] {
                let (entries, bytes) = self.writer.end(segment, &victims, cause);
                swept.entries += entries;
                swept.bytes += bytes;
            }
            *first = (*first).min(ended.next);
            if was_sealed.contains(&slot) {
                seen.next_expiry.insert(segment.id(), ended.next);
            }
            if is_over() {
                swept.is_cut_short = true;
                break;
            }
        }
        // What compaction has moved meanwhile was not looked at where it stands now.
        let was_looked_at = |segment: &Arc<Segment>| {
            due.get(&segment.slot).is_some_and(|known| Arc::ptr_eq(known, segment))
                || first_sequence(segment) > newest_cut
        };
        if !swept.is_cut_short
            && (!has_cut || self.lookup.catalog.table().iter().all(was_looked_at))
        {
            seen.cuts = newest_cut;
        }
        Ok(swept)
    }

    /// Entries with an expiry in these segments, and, if they are asked for, those that belong to a scope.
    fn suspects(
        &self,
        due: &BTreeMap<Slot, Arc<Segment>>,
        scoped: bool,
    ) -> BTreeMap<Slot, Suspects> {
        // In order of slots: a sweep reads segments one after the other, and the same way in every run.
        let mut suspects: BTreeMap<Slot, Suspects> = BTreeMap::new();
        if due.is_empty() {
            return suspects;
        }
        let asked =
            IndexEntry::EXPIRES | IndexEntry::TOUCHED | if scoped { IndexEntry::SCOPED } else { 0 };
        for shard in 0..SHARDS {
            self.lookup.index.sweep(shard, &mut |hash, entry| {
                let is_asked = entry.flags & asked != 0 && !entry.is_evicted();
                if is_asked && due.contains_key(&entry.location.slot) {
                    suspects.entry(entry.location.slot).or_default().push((hash, entry));
                }
            });
        }
        suspects
    }

    /// Which of these entries have ended, and when the first of the others expires.
    fn ended_of(
        &self,
        segment: &Arc<Segment>,
        mut suspects: Suspects,
        now: Timestamp,
    ) -> Result<Ended> {
        suspects.sort_unstable_by_key(|(_, entry)| entry.location.offset);
        let mut ended = Ended::default();
        for (hash, entry) in suspects {
            if self.closed.load(Ordering::Acquire) {
                ended.next = Timestamp(0);
                break;
            }
            let victim = Victim::new(hash, entry);
            match self.end_of(segment, &entry) {
                Ok((_, true)) => ended.cut.push(victim),
                Ok((expires_at, false)) if is_live(expires_at, now) => {
                    ended.next = expires_at.map_or(ended.next, |expiry| ended.next.min(expiry));
                }
                Ok(_) => ended.expired.push(victim),
                // Whoever asks for it is told that it is damaged; what it says of its end is not believed.
                Err(Error::Corruption(_)) => {}
                // The same, but a later read may succeed.
                Err(error) if error.is_bad_block() => {
                    ended.next = ended.next.min(now.saturating_add_ms(BAD_BLOCK_RETRY_MS));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    /// When the record expires, touches counted, and whether it was cut off.
    fn end_of(
        &self,
        segment: &Arc<Segment>,
        entry: &IndexEntry,
    ) -> Result<(Option<Timestamp>, bool)> {
        let (overrides, at) = (&self.lookup.overrides, entry.location);
        let touch = overrides.touch_of(entry);
        let Some(record) = segment.record(at.offset, 256, Depth::Head)? else {
            return Ok((None, false));
        };
        let head = segment.head(record.of(segment), at.offset)?;
        let is_cut = head
            .extension
            .is_some_and(|extension| overrides.is_cut(head.sequence, extension.scopes()));
        Ok((touch.map_or(head.expires_at, |touch| touch.expires_at), is_cut))
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

/// The least sequence number that a record of a segment can have.
fn first_sequence(segment: &Segment) -> SequenceNumber {
    // What was copied, by recovery or by compaction, is older than the segment it stands in.
    if segment.add.class == Class::FOREGROUND {
        return segment.add.first_sequence;
    }
    SequenceNumber::default()
}
