//! Limits: what to do when a write finds no room, and how full the store is.

use std::sync::Arc;

use super::{Shared, hold, upkeep::CompactionReport};
use crate::{
    background,
    error::{Error, Result},
    evictor::{BATCH_PART, Need},
    format::{
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES},
        segment_header::SEGMENT_HEADER_BYTES,
    },
    options::Options,
    segment::Segment,
    space::{BYTES, Purpose, least_bytes},
    sync::atomic::Ordering,
    types::{SegmentId, Slot},
    writer::Housekeeper,
};

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes its files may have: the limit, or what they have and what the file system has left.
    pub total: u64,
    /// Bytes its files have at most at this moment, everything counted.
    pub used: u64,
    /// Bytes of records that can be read.
    pub live: u64,
    /// `total` less `used`.
    pub free: u64,
    /// `used` in hundredths of `total`, rounded up.
    pub percent: u64,
    /// Bytes free on the file system.
    pub disk_free: u64,
    /// Bytes of the file system.
    pub disk_total: u64,
}

/// Of the bytes that segments may have, this share in percent may be live. The rest is what compaction works with:
/// the less it is, the more often a record is copied.
const LIVE_MAX_PERCENT: u64 = 92;
/// Header and trailer of a segment.
const OVERHEAD_BYTES: u64 = (SEGMENT_HEADER_BYTES + FOOTER_TRAILER_BYTES) as u64;

/// A segment that compaction cannot copy in its reserve.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargeSegment {
    id: SegmentId,
    slot: Slot,
    /// Bytes of its file.
    bytes: u64,
    /// Bytes of what is alive in it, in usual segments.
    copy_bytes: u64,
}

impl Shared {
    pub(super) fn usage(&self) -> Usage {
        let space = self.home.disk.space(self.home.dir());
        let (disk_free, disk_total) = space.map_or((0, 0), |s| (s.available, s.total));
        self.writer.charge_others();
        let used = self.space.used();
        let total = self.space.limit().unwrap_or_else(|| used.saturating_add(disk_free));
        let percent = (u128::from(used) * 100).div_ceil(u128::from(total.max(1)));
        Usage {
            total,
            used,
            live: self.lookup.tally.get().bytes,
            free: total.saturating_sub(used),
            percent: u64::try_from(percent).unwrap_or(u64::MAX),
            disk_free,
            disk_total,
        }
    }

    /// Bytes that segments may have before writes find no room.
    fn segments_may_have(&self) -> u64 {
        let (room, over) = self.space.room_or_over(Purpose::Write);
        let table = self.lookup.catalog.table();
        let there = table.iter().map(|segment| segment.file_bytes()).sum::<u64>();
        (there + room).saturating_sub(over)
    }

    /// Makes room for a segment of `wanted` bytes: what waits for its last reader, what has expired, what is garbage,
    /// and then what is coldest. `false` if there is no way.
    pub(super) fn find_room(&self, wanted: u64) -> Result<bool> {
        /// Jobs that one writer waits for at most (I12).
        const ROUNDS_MAX: usize = 64;
        /// Milliseconds that it waits for readers in all.
        const WAITS_MAX: usize = 16;
        const HELD_MAX_PART: u64 = 4;
        let mut did_anything = false;
        let mut waits = 0;
        for _ in 0..ROUNDS_MAX {
            self.writer.unlink_retired();
            self.writer.charge_others();
            if self.space.room(Purpose::Write) >= wanted {
                return Ok(true);
            }
            if self.drop_expired()?.0 > 0 {
                did_anything = true;
                continue;
            }
            // Order: what is too much goes first, the coldest of the whole store, so that it is not copied.
            self.evict_for_room(wanted)?;
            if self.split_large()? {
                did_anything = true;
                continue;
            }
            let mut report = CompactionReport::default();
            // Of room for a large segment only what is missing has to come back, and manifest and checkpoint become
            // smaller with the segments that go.
            let missing = wanted.saturating_sub(self.space.room(Purpose::Write));
            if self.has_garbage(wanted.min((missing / 2).max(self.segment_bytes))) {
                match self.compact_once(None, true, None, &mut report) {
                    // Its outputs did not fit: less has to be live.
                    Ok(_) | Err(Error::Full { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            did_anything |= report.bytes_reclaimed > 0;
            // A store that closes has no use for more room.
            if report.cancelled {
                break;
            }
            // What the job itself still held is no reader's.
            self.writer.unlink_retired();
            let held = self.writer.retired_bytes();
            if held >= wanted && waits < WAITS_MAX {
                // Most readers are done in a moment.
                waits += 1;
                background::rest(1);
                continue;
            }
            if held > self.space.limit().unwrap_or(u64::MAX) / HELD_MAX_PART {
                // A long snapshot holds much of the store: to evict the rest of it would bring nothing back either.
                break;
            }
            if report.bytes_reclaimed == 0 && self.writer.seal_dead_active()? {
                did_anything = true;
                continue;
            }
            // What is garbage stands too scattered for a job to gain by it: more has to go.
            if report.bytes_reclaimed == 0 && self.evict_more(wanted)? == 0 {
                break;
            }
            did_anything = true;
        }
        self.writer.unlink_retired();
        Ok(self.space.room(Purpose::Write) >= wanted || did_anything)
    }

    /// Notes how large the segments are that were written under a larger limit, and says which they are: id, bytes of the
    /// file, and of what a copy would have, least first.
    pub(super) fn large_segments(&self) -> Vec<LargeSegment> {
        let table = self.lookup.catalog.table();
        // One that is large for a single record is as small as it can be.
        let is_large = |segment: &&Arc<Segment>| {
            let (bytes, records) = segment.live();
            segment.as_sealed().is_some_and(|sealed| sealed.file_bytes > self.space.reserve())
                && bytes / records.max(1) <= self.segment_bytes
        };
        let large = table.iter().filter(is_large).map(|segment| {
            let (bytes, records) = segment.live();
            let bytes = bytes + records * FOOTER_ENTRY_BYTES as u64;
            let segments = bytes / (self.segment_bytes - OVERHEAD_BYTES) + 2;
            let copy_bytes = bytes + segments * OVERHEAD_BYTES;
            LargeSegment {
                id: segment.id(),
                slot: segment.slot,
                copy_bytes,
                bytes: segment.file_bytes(),
            }
        });
        let mut large: Vec<_> = large.collect();
        large.sort_unstable_by_key(|large| (large.copy_bytes, large.id));
        self.space.set_large(large.iter().map(|large| large.bytes).max().unwrap_or_default());
        large
    }

    /// Copies a segment that was written under a larger limit into usual ones: once the room is used up, compaction could
    /// take it only when nearly all of it was evicted. If there is no room for a copy, the oldest entries of one such
    /// segment go, and no others. `false` if there is nothing to do, or no way.
    fn split_large(&self) -> Result<bool> {
        if self.space.limit().is_none() {
            return Ok(false);
        }
        let large = self.large_segments();
        let Some(least) = large.first() else { return Ok(false) };
        // Smaller segments are more headers: each copy may bring the store further above its limit.
        self.space.set_ceiling(u64::MAX);
        let room = self.space.room_for_outputs(self.home.has_ballast());
        if least.copy_bytes > room
            && self.writer.evict_oldest_in(least.slot, least.copy_bytes - room) == 0
        {
            return Ok(false);
        }
        let mut report = CompactionReport::default();
        match self.compact_once(Some(&[least.id]), true, None, &mut report) {
            Ok(_) | Err(Error::Full { .. }) => Ok(report.jobs > 0),
            Err(error) if error.is_disk_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// On a disk that was full, takes what is dead in the active segment to where compaction can have it.
    pub(super) fn free_when_full(&self) -> Result<()> {
        if !self.home.lacks_ballast() {
            return Ok(());
        }
        if self.writer.keep_ballast() {
            return Ok(());
        }
        match self.writer.seal_dead_active() {
            // Without room for its footer it is sealed in place. Any other failure is not ours to recover from.
            Err(error) if error.is_disk_full() => self.try_recover(),
            sealed => sealed.map(drop),
        }
    }

    /// Evicts until the limits on what is live hold; says how many went. What has expired goes first.
    pub(super) fn keep_live_limits(&self) -> Result<u64> {
        if self.writer.excess() == Need::default() {
            return Ok(0);
        }
        let swept = self.sweep_expired()?.entries;
        Ok(swept + self.writer.evict(self.writer.excess()))
    }

    /// Whether compaction could bring back so many bytes at all.
    fn has_garbage(&self, wanted: u64) -> bool {
        let table = self.lookup.catalog.table();
        let sealed =
            table.iter().filter_map(|segment| Some((segment.as_sealed()?, segment.live())));
        let garbage: u64 = sealed
            .map(|(sealed, (bytes, records))| {
                let overhead = if records > 0 { OVERHEAD_BYTES } else { 0 };
                let live = overhead + bytes + records * FOOTER_ENTRY_BYTES as u64;
                sealed.file_bytes.saturating_sub(live)
            })
            .sum();
        garbage > wanted
    }

    /// What segments of nothing but live records would have.
    fn live_with_overhead(&self) -> u64 {
        let tallied = self.lookup.tally.get();
        let records = tallied.bytes + tallied.entries * FOOTER_ENTRY_BYTES as u64;
        records + records / (self.segment_bytes - OVERHEAD_BYTES) * OVERHEAD_BYTES
    }

    /// Evicts another batch, of expired entries if there are any; says how many.
    fn evict_more(&self, wanted: u64) -> Result<u64> {
        let live = self.lookup.tally.get();
        if live.evictable_entries == 0 {
            return Ok(0);
        }
        let swept = self.sweep_due()?;
        if swept.entries > 0 {
            return Ok(swept.entries);
        }
        let bytes = (live.bytes / BATCH_PART).max(wanted);
        Ok(self.writer.evict(Need { entries: 0, bytes }))
    }

    /// Evicts the coldest entries if too much is live for compaction to find garbage; says how many.
    fn evict_for_room(&self, wanted: u64) -> Result<u64> {
        if self.lookup.tally.get().evictable_entries == 0 {
            // Nothing may go but what has expired.
            return Ok(self.sweep_expired()?.entries);
        }
        let live = self.live_with_overhead();
        let most = self.segments_may_have().saturating_sub(wanted) * LIVE_MAX_PERCENT / 100;
        if live <= most {
            return Ok(0);
        }
        // An entry that has expired goes before any that is live.
        let excess = live - most;
        let swept = self.sweep_due()?;
        if swept.bytes >= excess {
            return Ok(swept.entries);
        }
        // What goes is counted without the overhead that goes with it. A batch more, of what is to be left.
        let bytes = u128::from(excess - swept.bytes + most / BATCH_PART);
        let bare = bytes * u128::from(self.lookup.tally.get().bytes) / u128::from(live.max(1));
        let need = Need { entries: 0, bytes: u64::try_from(bare).unwrap_or(u64::MAX) };
        Ok(swept.entries + self.writer.evict(need))
    }
}

impl Shared {
    pub(super) fn set_max_bytes(&self, limit: Option<u64>) -> Result<()> {
        if let Some(limit) = limit {
            Options { max_bytes: Some(limit), ..self.options.clone() }.validate()?;
            let least = least_bytes(self.segment_bytes);
            if limit < least {
                let complaint = format!(
                    "max_bytes is {limit}; with the segments that there are, at least {least} are needed"
                );
                return Err(Error::InvalidOptions { complaints: vec![complaint] });
            }
        }
        self.space.set_limit(limit);
        let Some(limit) = limit else { return Ok(()) };
        let mut used = u64::MAX;
        while self.space.used() < used {
            used = self.space.used();
            self.find_room(self.segment_bytes)?;
        }
        self.writer.charge_others();
        let used = self.space.used();
        if used > limit { Err(Error::Full { what: BYTES, used, limit }) } else { Ok(()) }
    }
}

impl Housekeeper for Shared {
    fn make_room(&self, wanted: u64) -> Result<bool> {
        let found = self.find_room(wanted);
        if let Err(error) = &found {
            // Whoever writes is told that there is no room; why, the health says.
            self.note_failure(error);
        }
        found
    }

    fn end_first(&self) {
        // What cannot be read now is left to upkeep, which says so.
        let _ = self.sweep_due();
    }

    fn end_expired(&self) -> bool {
        self.sweep_expired().is_ok_and(|swept| swept.entries > 0)
    }

    fn pace(&self, bytes: u64) {
        if hold(&self.background).is_none() {
            return;
        }
        let owed = &self.upkeep.owed_ns;
        let delay = delay_ns(bytes, self.space.room(Purpose::Write), self.space_wanted());
        if delay > 0 && owed.fetch_add(delay, Ordering::Relaxed) + delay >= REST_NS {
            background::rest(owed.swap(0, Ordering::Relaxed) / 1_000_000);
        }
    }
}

/// Rests are collected until they are worth a sleep.
const REST_NS: u64 = 2_000_000;

/// How long who wrote so many bytes rests: nothing while there is the room that compaction tries to keep in hand, and
/// the more the less of it is left, so that writers slow down before they have to wait.
fn delay_ns(bytes: u64, room: u64, wanted: u64) -> u64 {
    /// With no room left: about the time that compaction takes to bring back as many bytes, at nine copied for each.
    const NS_PER_BYTE: u64 = 40;
    let missing = wanted.saturating_sub(room);
    let full = u128::from(bytes) * u128::from(NS_PER_BYTE) * u128::from(missing);
    u64::try_from(full / u128::from(wanted.max(1))).unwrap_or(REST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no rest with room in hand, more the less there is, and never a jump.
    #[test]
    fn rests_grow_smoothly() {
        let delays: Vec<_> = (0..=10).map(|room| delay_ns(1_000, room * 100, 1_000)).collect();
        assert_eq!((delays[10], delays[0]), (0, 40_000));
        assert!(delays.windows(2).all(|pair| pair[0] - pair[1] == 4_000), "{delays:?}");
        assert_eq!(delay_ns(1_000, u64::MAX, 1_000), 0);
        assert_eq!(delay_ns(u64::MAX, 0, 1), REST_NS);
    }
}
