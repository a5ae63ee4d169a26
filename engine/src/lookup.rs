//! The newest record of a key: the index gives candidates, the log is read, the key is compared (I13), and what was
//! said later about the record (touches, scope cuts) is counted in. Stands between the stores and the workers,
//! because both the reader and the writer's turn must ask the same question in the same way.

use std::{path::PathBuf, sync::Arc};

use crate::{
    error::{Corruption, Damage, Error, Result},
    evictor::Journal,
    format::{
        hash::KeyHasher,
        record::{Head, Kind},
    },
    index::{Candidates, Entry as IndexEntry, Index},
    io::StoreClock,
    overrides::{FrozenOverrides, Overrides},
    recency::Recency,
    segment::{
        Segment, Value,
        catalog::Catalog,
        read::{Depth, RecordBytes},
    },
    stats::{Counters, Stats, Tally},
    sync::atomic::{AtomicU64, Ordering},
    types::{Location, SequenceNumber, Slot, Timestamp, Touch, is_live},
};

/// The newest record of a key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) location: Location,
    pub(crate) segment: Arc<Segment>,
    pub(crate) record: RecordBytes,
    pub(crate) record_bytes: u64,
    pub(crate) head_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) sequence: SequenceNumber,
    /// Of the last change of the entry: the put, or a touch that came later.
    pub(crate) version: SequenceNumber,
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether its entry says that it was touched.
    pub(crate) is_touched: bool,
    /// What its expiry comes from, if that is a touch. Of an evicted entry it may be gone, and does not matter.
    pub(crate) touch: Option<Touch>,
    /// Whether a scope cut may end it.
    is_scoped: bool,
    /// Neither expired nor cut off nor evicted.
    pub(crate) is_live: bool,
    /// Readers take it for absent; only [`Lookup::current`] finds such records.
    pub(crate) is_evicted: bool,
    /// Whether it may be evicted.
    pub(crate) is_evictable: bool,
    /// What its entry said of its last use.
    pub(crate) epoch: u16,
}

impl Found {
    pub(crate) fn into_value(self) -> Value {
        self.record.into_value(self.segment, self.head_bytes, self.value_bytes)
    }
}

/// Who asks for the newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// Evicted entries are not there.
    Reader,
    /// Evicted entries are there, because their records still stand in the log.
    Writer,
}

impl Asker {
    #[inline]
    fn sees(self, entry: &IndexEntry) -> bool {
        self == Self::Writer || !entry.is_evicted()
    }
}

/// What else is known of records.
pub(crate) trait Marks {
    fn touch_of(&self, entry: &IndexEntry) -> Option<Touch>;
    fn is_cut(&self, sequence: SequenceNumber, head: &Head<'_>) -> bool;
}

impl Marks for Overrides {
    fn touch_of(&self, entry: &IndexEntry) -> Option<Touch> {
        Self::touch_of(self, entry)
    }

    #[inline]
    fn is_cut(&self, sequence: SequenceNumber, head: &Head<'_>) -> bool {
        head.extension.is_some_and(|extension| Self::is_cut(self, sequence, extension.scopes()))
    }
}

impl Marks for FrozenOverrides {
    fn touch_of(&self, entry: &IndexEntry) -> Option<Touch> {
        Self::touch_of(self, entry)
    }

    fn is_cut(&self, sequence: SequenceNumber, head: &Head<'_>) -> bool {
        head.extension.is_some_and(|extension| Self::is_cut(self, sequence, extension.scopes()))
    }
}

/// Finds records in one open store.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) index: Arc<Index>,
    pub(crate) overrides: Arc<Overrides>,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) hasher: KeyHasher,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tally: Tally,
    pub(crate) recency: Recency,
    pub(crate) journal: Journal,
    pub(crate) first_expiry: FirstExpiry,
}

/// Lower bound of the expiries that no sweep has acted on: nothing expires before it.
#[derive(Debug, Default)]
pub(crate) struct FirstExpiry(AtomicU64);

impl FirstExpiry {
    /// An entry expires at this moment.
    #[inline]
    pub(crate) fn note(&self, expires_at: Option<Timestamp>) {
        if let Some(expires_at) = expires_at {
            self.0.fetch_min(expires_at.0, Ordering::AcqRel);
        }
    }

    /// A sweep begins: it notes what it leaves.
    pub(crate) fn forget(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    /// Whether an entry may have expired.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Acquire) <= now.0
    }
}

impl Lookup {
    /// Bytes of a checkpoint of what is here now, and a little more.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        const HEAD_BYTES: u64 = 8 << 10;
        const SEGMENT_BYTES: u64 = 32;
        let segments = self.catalog.table().iter().count() as u64;
        let words = self.index.len() as u64 * 16;
        HEAD_BYTES + segments * SEGMENT_BYTES + words + self.overrides.checkpoint_bytes()
    }

    /// Counters, and sizes of what is known here.
    pub(crate) fn sizes(&self) -> Stats {
        let table = self.catalog.table();
        Stats {
            entries: self.tally.get().entries,
            live_bytes: self.tally.get().bytes,
            segment_bytes: table.iter().map(|segment| segment.file_bytes()).sum(),
            segments: table.iter().count() as u64,
            index_bytes: (self.index.bytes() + self.recency.bytes()) as u64,
            image_bytes: table.iter().map(|segment| segment.image_bytes()).sum(),
            ..self.counters.snapshot()
        }
    }

    /// The newest record of `key`, live or not, evicted or not, as the writer needs it.
    pub(crate) fn current(&self, key: &[u8], hash: u64) -> Result<Option<Found>> {
        self.newest(key, hash, self.index.peek(hash), Depth::Head, Asker::Writer)
    }

    /// The newest record of `key` among `candidates`, if it is live.
    #[inline]
    pub(crate) fn live(
        &self,
        key: &[u8],
        hash: u64,
        candidates: Candidates,
        depth: Depth,
    ) -> Result<Option<Found>> {
        let found = self.newest(key, hash, candidates, depth, Asker::Reader)?;
        Ok(found.filter(|found| found.is_live))
    }

    /// Tries the candidates. If what one of them points to has changed since the index was asked, asks again: each time
    /// round, the entry was moved, marked, displaced or taken out in between.
    #[inline]
    fn newest(
        &self,
        key: &[u8],
        hash: u64,
        mut candidates: Candidates,
        depth: Depth,
        asker: Asker,
    ) -> Result<Option<Found>> {
        loop {
            let (mut moved, mut damaged) = (false, None);
            for entry in candidates.iter().filter(|entry| asker.sees(entry)) {
                match self.try_candidate(key, entry, depth) {
                    // Dead, as the entry had it when the index was asked: a touch may have come between.
                    Ok(Examined::Is(found)) if !found.is_live && !self.has(hash, entry) => {
                        moved = true
                    }
                    // Live, as far as cuts are known: one that is spent is forgotten once the index has let go of what
                    // it ended.
                    Ok(Examined::Is(found)) if found.is_scoped && !self.points_to(hash, entry) => {
                        moved = true
                    }
                    Ok(Examined::Is(found)) => return Ok(Some(found)),
                    // Its own key once; another may stand there if the slot was given to another segment since.
                    Ok(Examined::OtherKey) => moved |= !self.has(hash, entry),
                    // Damage, or no record at all, counts only where the index still points: entries are moved
                    // before their old segment or touch goes, or are evicted before.
                    Err(Error::Corruption(corruption)) => {
                        let points_there =
                            |e: IndexEntry| e.location == entry.location && asker.sees(&e);
                        if self.index.peek(hash).iter().any(points_there) {
                            damaged = Some(corruption);
                        } else {
                            moved = true;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            match damaged {
                _ if moved => {}
                // No sound record has this key: the damaged one may have had it.
                Some(corruption) => return Err(Error::Corruption(corruption)),
                None => return Ok(None),
            }
            self.counters.retries.add(1);
            candidates = self.index.peek(hash);
        }
    }

    /// A slot for a new segment: nothing is known of records in it.
    pub(crate) fn free_slot(&self) -> Slot {
        let slot = self.catalog.free_slot();
        self.overrides.admit(slot);
        slot
    }

    /// Takes segments out of the catalog. No state that is kept by their slots outlives them: the index has no entry of
    /// them any more, and their touches go here. The slots may be given to others at once.
    pub(crate) fn retire(&self, slots: &[Slot]) {
        for slot in slots {
            let _ = self.overrides.forget_slot(*slot);
        }
        self.catalog.change(Vec::new(), slots);
    }

    /// The key of the record at this place, if it can be read.
    pub(crate) fn key_at(&self, at: Location) -> Option<Vec<u8>> {
        let segment = self.catalog.get(at.slot)?;
        let record = segment.record(at.offset, 256, Depth::Head).ok()??;
        Some(segment.head(record.of(&segment), at.offset).ok()?.key.to_vec())
    }

    /// Whether the index still has an entry of this record.
    fn points_to(&self, hash: u64, entry: IndexEntry) -> bool {
        self.index.peek(hash).iter().any(|e: IndexEntry| e.location == entry.location)
    }

    /// Whether the index still has exactly this entry.
    fn has(&self, hash: u64, entry: IndexEntry) -> bool {
        let is_same = |e: IndexEntry| {
            e.location == entry.location
                && e.flags == entry.flags
                && e.is_evicted() == entry.is_evicted()
        };
        self.index.peek(hash).iter().any(is_same)
    }

    #[inline]
    fn try_candidate(&self, key: &[u8], entry: IndexEntry, depth: Depth) -> Result<Examined> {
        let at = entry.location;
        let Some(segment) = self.catalog.get(at.slot) else {
            return Err(no_record(PathBuf::new(), at.offset));
        };
        examine(segment, entry, Some(key), depth, &*self.overrides, || self.clock.now())
    }
}

fn no_record(file: PathBuf, offset: u64) -> Error {
    Error::Corruption(Corruption { file, offset, damage: Damage::Truncated })
}

/// What stands where an index entry points.
pub(crate) enum Examined {
    Is(Found),
    OtherKey,
}

/// Reads the record that `entry` points to and compares its key with `key`, if one is given.
#[inline]
pub(crate) fn examine(
    segment: Arc<Segment>,
    entry: IndexEntry,
    key: Option<&[u8]>,
    depth: Depth,
    marks: &impl Marks,
    now: impl FnOnce() -> Timestamp,
) -> Result<Examined> {
    let at = entry.location;
    let hint = entry.size.read_bytes().unwrap_or(64 << 10);
    let Some(record) = segment.record(at.offset, hint, depth)? else {
        return Err(no_record(segment.path.clone(), at.offset));
    };
    let bytes = record.of(&segment);
    let head = segment.head(bytes, at.offset)?;
    if key.is_some_and(|key| head.key != key) {
        return Ok(Examined::OtherKey);
    }
    debug_assert_eq!(head.kind, Some(Kind::Put), "I4: the index points to puts only");
    if depth == Depth::Whole {
        segment.check_value(bytes, &head, at.offset)?;
    }
    let is_touched = entry.flags & IndexEntry::TOUCHED != 0;
    let touch = if is_touched && !entry.is_evicted() {
        // No touch where there should be one: the record was displaced since the index was asked.
        let missing = || no_record(segment.path.clone(), at.offset);
        Some(marks.touch_of(&entry).ok_or_else(missing)?)
    } else {
        None
    };
    let expires_at = touch.map_or(head.expires_at, |touch| touch.expires_at);
    let folded = head.extension.and_then(|extension| extension.touched());
    let version = touch.map(|touch| touch.sequence).or(folded).unwrap_or(head.sequence);
    let in_time = expires_at.is_none() || is_live(expires_at, now());
    let found = Found {
        location: at,
        record_bytes: head.record_bytes,
        head_bytes: head.head_bytes,
        value_bytes: head.value_bytes as usize,
        sequence: head.sequence,
        version,
        expires_at,
        is_touched,
        touch,
        is_scoped: head.extension.is_some(),
        is_live: in_time && !entry.is_evicted() && !marks.is_cut(head.sequence, &head),
        is_evicted: entry.is_evicted(),
        is_evictable: entry.flags & IndexEntry::EVICTABLE != 0,
        epoch: entry.epoch,
        record,
        segment,
    };
    Ok(Examined::Is(found))
}
