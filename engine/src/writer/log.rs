//! The foreground log: the active segment, the ones behind it that are not sealed yet, and the numbers that
//! order everything.
//!
//! There is one stream, and sequence numbers in it are dense. So recovery can tell a hole from an end, and what
//! a crash leaves is always a prefix.

use std::{collections::VecDeque, sync::Arc};

use super::request::Op;
use crate::{
    error::{Error, Result},
    format::{
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES},
        hash::KeyHasher,
        manifest::Edit,
        record::{Commit, Draft, Flags, Kind, encode, stamp},
        segment_header::{Class, SegmentHeader},
    },
    io::{StoreClock, remove_if_there},
    overrides::Overrides,
    segment::{
        Home, RECORDS_AT,
        append::OpenSegment,
        ballast_bytes,
        catalog::Catalog,
        manifest_file::{ManifestFile, Unapplied},
        transfer::Leftover,
    },
    space::{Purpose, Space},
    stats::Counters,
    sync::{Mutex, MutexGuard, PoisonError},
    types::{Location, SegmentId, SequenceNumber},
};

/// A failure of a write.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing that was acknowledged is touched; only what was asked just now did not happen.
    Refused(Error),
    /// A segment's file may differ from its image: nothing more may be written to it.
    Stops(Error),
}

/// A point to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    next_sequence: SequenceNumber,
    active: Option<(SegmentId, u64, SequenceNumber)>,
    watermark: SequenceNumber,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) home: Home,
    pub(super) hasher: KeyHasher,
    pub(super) catalog: Arc<Catalog>,
    pub(super) clock: Arc<StoreClock>,
    pub(super) counters: Arc<Counters>,
    pub(super) manifest: Arc<Mutex<ManifestFile>>,
    pub(super) segment_bytes: u64,
    pub(super) active: Option<OpenSegment>,
    pub(super) overrides: Arc<Overrides>,
    /// Complete but not sealed, oldest first.
    pub(super) closing: VecDeque<OpenSegment>,
    pub(super) next_sequence: SequenceNumber,
    /// Every record up to this one is on the device.
    pub(super) durable: SequenceNumber,
    /// When that last became so by a sync, on the monotonic clock.
    pub(super) durable_at: u64,
    /// Something in the files vouches for every record up to this one: the last commit marker, the manifest, a seal.
    pub(super) watermark: SequenceNumber,
    /// Numbers from here to the next one were given to no write that is left, if no segment was begun since.
    pub(super) gap_from: Option<SequenceNumber>,
    /// Segments that were found damaged: set aside when they are rewritten, not removed.
    pub(super) damaged: Vec<SegmentId>,
    /// Least segment id not tried yet.
    pub(super) next_id: u64,
    pub(super) space: Arc<Space>,
    /// Whether the active segment was begun with the reserve.
    pub(super) is_in_reserve: bool,
    /// Files that are in the way: the manifest on disk may name them although its state here does not, or they could
    /// not be removed.
    pub(super) doubtful: Vec<Doubtful>,
}

/// A file that has to go and is still there.
#[derive(Debug)]
pub(super) struct Doubtful {
    pub(super) file: Leftover,
    /// Whether the manifest on disk may name it, because of an edit that failed.
    pub(super) may_be_named: bool,
}

/// Room that a request wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) purpose: Purpose,
}

impl Wanted {
    /// Room for these ops and the markers that may come with them.
    pub(super) fn by(ops: &[Op]) -> Self {
        let bytes: u64 = ops.iter().map(Op::bytes_max).sum();
        let ends = |op: &Op| matches!(op.kind, Kind::Delete | Kind::ScopeCut);
        Self {
            bytes: bytes + 2 * Log::MARKER_BYTES,
            records: ops.len() as u64 + 2,
            purpose: if ops.iter().all(ends) { Purpose::Delete } else { Purpose::Write },
        }
    }
}

impl Log {
    pub(super) fn manifest(&self) -> MutexGuard<'_, ManifestFile> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> SequenceNumber {
        SequenceNumber(self.next_sequence.0 - 1)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            next_sequence: self.next_sequence,
            active: self.active.as_ref().map(|open| (open.segment.id(), open.end, open.newest)),
            watermark: self.watermark,
        }
    }

    /// Forgets everything appended since `mark`. The files keep what they have: they are not used again.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        // Sequence numbers are not taken back: what was written under them may be found again (I5).
        self.watermark = mark.watermark;
        for open in self.closing.iter_mut().chain(&mut self.active) {
            let (end, newest) = match mark.active {
                Some((id, end, newest)) if open.segment.id() == id => (end, newest),
                _ if open.newest >= mark.next_sequence => (RECORDS_AT, SequenceNumber::default()),
                _ => continue,
            };
            open.segment.truncate_image(end);
            open.end = end;
            open.newest = newest;
        }
    }

    /// Whether this fits in the active segment. One that was begun with the reserve takes deletes and staged writes
    /// only, until there is room for writes again.
    pub(super) fn has_room(&self, wanted: Wanted) -> bool {
        let is_allowed = wanted.purpose != Purpose::Write
            || (!self.home.lacks_ballast()
                && (!self.is_in_reserve || self.space.room(Purpose::Write) > 0));
        is_allowed
            && self.active.as_ref().is_some_and(|open| open.room(wanted.records) >= wanted.bytes)
    }

    /// Says what is appended next: only what frees room may spend the ballast.
    pub(super) fn note_purpose(&mut self, purpose: Purpose) {
        if let Some(open) = &mut self.active {
            open.owes_put |= purpose == Purpose::Write;
        }
    }

    /// Bytes of a segment that is begun for this.
    pub(super) fn capacity_for(&self, wanted: Wanted) -> u64 {
        let footer = wanted.records * FOOTER_ENTRY_BYTES as u64 + FOOTER_TRAILER_BYTES as u64;
        self.segment_bytes.max(RECORDS_AT + wanted.bytes + footer)
    }

    /// Room that has to be there before a segment is begun for this: its own, and what recovery would need to write
    /// everything that is not sealed again. The reserve has that for two usual segments.
    pub(super) fn room_for(&self, wanted: Wanted) -> u64 {
        let capacity = self.capacity_for(wanted);
        let again = self.unsealed_bytes().saturating_add(capacity);
        capacity.saturating_add(again.saturating_sub(2 * self.segment_bytes))
    }

    /// Bytes that are charged for what is not sealed.
    pub(super) fn unsealed_bytes(&self) -> u64 {
        self.closing.iter().chain(&self.active).map(|open| open.charged).sum()
    }

    /// Makes room in one segment, rolling to a new one if need be.
    pub(super) fn make_room(&mut self, wanted: Wanted) -> Result<(), Fault> {
        if self.has_room(wanted) {
            return Ok(());
        }
        if wanted.purpose == Purpose::Write && self.home.lacks_ballast() {
            if !self.keep_ballast() {
                let (free, required) = (self.space.disk_free(), self.home.ballast_wanted());
                return Err(Fault::Refused(Error::LowSpace { free, required }));
            }
            if self.has_room(wanted) {
                return Ok(());
            }
        }
        let capacity = self.capacity_for(wanted);
        let limit = self.space.largest();
        if capacity > limit {
            // Refused before anything is evicted for it: it would not fit if the store were empty.
            let bytes = wanted.bytes;
            return Err(Fault::Refused(Error::TooLarge { what: "record", bytes, limit }));
        }
        let beside = self.room_for(wanted) - capacity;
        self.space.take_beside(capacity, beside, wanted.purpose).map_err(Fault::Refused)?;
        let open = match self.begin(capacity) {
            Err(Fault::Refused(error))
                if wanted.purpose != Purpose::Write
                    && error.is_disk_full()
                    && self.home.spend_ballast() =>
            {
                self.space.take_beside(capacity, beside, wanted.purpose).map_err(Fault::Refused)?;
                self.begin(capacity)?
            }
            begun => begun?,
        };
        self.is_in_reserve =
            wanted.purpose != Purpose::Write && self.space.room(Purpose::Write) == 0;
        // Order: the manifest names the new segment durably before a record in it can be acknowledged.
        self.catalog.change(vec![Arc::clone(&open.segment)], &[]);
        if let Some(full) = self.active.replace(open) {
            self.closing.push_back(full);
        }
        if !self.home.lacks_ballast() {
            self.keep_ballast();
        }
        Ok(())
    }

    /// Sees to it that the ballast is there; `false` if there is no room for it.
    pub(super) fn keep_ballast(&self) -> bool {
        if !self.home.keeps_ballast() {
            return true;
        }
        let bytes = ballast_bytes(self.manifest().sum_bytes());
        match self.space.charge_ballast(bytes) {
            // Under a limit that it does not fit there is none, and writes go on.
            0 => {
                self.home.forgo_ballast();
                true
            }
            charged => self.home.keep_ballast(charged),
        }
    }

    /// Begins a segment for which `capacity` is charged. The charge is given back if nothing is left of it.
    fn begin(&mut self, capacity: u64) -> Result<OpenSegment, Fault> {
        if let Some(open) = &mut self.active
            && let Err(error) = open.write_out(false, &self.counters)
        {
            self.space.give(capacity);
            return Err(Fault::Stops(error));
        }
        let created = self.create(capacity);
        if let Err(Fault::Refused(_)) = &created {
            self.space.give(capacity);
        }
        created
    }

    /// Makes sure that no file is in doubt any more.
    pub(super) fn settle_doubt(&mut self) -> Result<()> {
        // Order: the manifest on disk is as the state here before a file goes that it might have named.
        if self.doubtful.iter().any(|doubtful| doubtful.may_be_named) {
            let now = self.clock.confirmed();
            self.manifest().apply(&[Edit::Clock(now)])?;
        }
        self.doubtful.iter_mut().for_each(|doubtful| doubtful.may_be_named = false);
        for at in (0..self.doubtful.len()).rev() {
            self.remove_doubtful(at);
        }
        Ok(())
    }

    /// Removes a file that the manifest surely does not name. One that cannot be removed stays charged for, and is
    /// tried again.
    pub(super) fn abandon(&mut self, file: Leftover) {
        // Order: it is on the list while the disk is asked, so that it stays charged for whatever happens there.
        self.doubtful.push(Doubtful { file, may_be_named: false });
        self.remove_doubtful(self.doubtful.len() - 1);
    }

    fn remove_doubtful(&mut self, at: usize) {
        // Order: its bytes are gone before others may use the room.
        if remove_if_there(self.home.disk.as_ref(), &self.doubtful[at].file.path).is_err() {
            return;
        }
        let Doubtful { file, .. } = self.doubtful.swap_remove(at);
        self.space.give(file.charged);
        if let Some(slot) = file.slot {
            self.catalog.give_slot_back(slot);
        }
    }

    /// A header for a new segment, with an id that was never tried.
    pub(super) fn header(&mut self, class: Class, horizon: SequenceNumber) -> SegmentHeader {
        let manifest = self.manifest();
        let next = self.next_id.max(manifest.state().next_id).max(1);
        let store_id = manifest.header().store_id;
        drop(manifest);
        self.next_id = next + 1;
        let machine = self.clock.machine();
        SegmentHeader {
            class,
            store_id,
            id: SegmentId(next),
            salt: machine.random(),
            horizon,
            first_sequence: self.next_sequence,
            created: self.clock.confirmed(),
            monotonic_ms: machine.monotonic_ms(),
            boot_id: machine.boot_id(),
            parents: Vec::new(),
        }
    }

    fn create(&mut self, capacity: u64) -> Result<OpenSegment, Fault> {
        self.settle_doubt().map_err(Fault::Refused)?;
        // No number of a gap was given to a record that is left: what came before it is followed by this segment.
        let horizon = self.gap_from.unwrap_or(self.next_sequence).min(self.next_sequence);
        let header = self.header(Class::FOREGROUND, horizon);
        let slot = self.catalog.free_slot();
        self.overrides.admit(slot);
        let open = match OpenSegment::create(&self.home, &header, slot, capacity) {
            Ok(open) => open,
            Err(error) => {
                self.catalog.give_slot_back(slot);
                return Err(Fault::Refused(error));
            }
        };
        let floors =
            Edit::Floors { segment: SegmentId(self.next_id), sequence: self.next_sequence };
        let edits = [Edit::Add(open.segment.add), Edit::Clock(self.clock.confirmed()), floors];
        let applied = self.manifest().apply_or_disown(&edits);
        let Err(unapplied) = applied else {
            self.gap_from = None;
            return Ok(open);
        };
        // It has a charge of its own: that of the caller is given back.
        let file =
            Leftover { path: open.segment.path.clone(), slot: Some(slot), charged: capacity };
        self.space.found(capacity);
        match &unapplied {
            Unapplied::Disowned(_) => self.abandon(file),
            // Nothing is begun before that is settled.
            Unapplied::Unsure(_) => self.doubtful.push(Doubtful { file, may_be_named: true }),
        }
        Err(Fault::Refused(unapplied.into()))
    }

    /// Appends a record and gives it the next sequence number. There is room.
    pub(super) fn append(
        &mut self,
        frame: &mut [u8],
        head_bytes: usize,
        flags: Flags,
    ) -> (Location, SequenceNumber, u32) {
        let sequence = self.next_sequence;
        let open = self.active.as_mut().expect("make_room came before");
        debug_assert!(open.room(0) >= frame.len() as u64, "make_room came before");
        let offset = open.end;
        let salt = open.segment.add.salt;
        let sum = stamp(frame, head_bytes, sequence, flags, salt, offset);
        open.append(frame, sequence);
        self.next_sequence = sequence.next();
        (Location { slot: open.segment.slot, offset }, sequence, sum)
    }

    /// Bytes of a commit marker.
    pub(super) const MARKER_BYTES: u64 =
        (crate::format::record::HEADER_BYTES + Commit::BYTES) as u64;

    /// Appends a commit marker: for a batch, or only to say what is durable.
    pub(super) fn append_marker(&mut self, batch_records: u32, batch_checksum: u32) {
        let durable_offset = self.active.as_ref().map_or(0, |open| open.durable);
        let marker = Commit {
            durable_offset,
            durable_sequence: self.durable,
            batch_records,
            batch_checksum,
        };
        let (mut frame, head_bytes) = marker_frame(&marker);
        self.append(&mut frame, head_bytes, Flags::default());
        self.watermark = self.durable;
    }

    /// Whether a sync has happened that nothing in the files tells of.
    pub(super) fn owes_marker(&self) -> bool {
        self.durable > self.watermark
    }

    /// Hands everything appended to the operating system.
    pub(super) fn write_out(&mut self) -> Result<()> {
        match &mut self.active {
            Some(open) => open.write_out(false, &self.counters),
            None => Ok(()),
        }
    }

    /// Brings everything appended to the device.
    pub(super) fn sync(&mut self) -> Result<()> {
        if let Some(open) = &mut self.active {
            open.write_out(true, &self.counters)?;
        }
        // Order: older segments first, so that what is durable is a prefix at every moment.
        for open in self.closing.iter_mut().chain(&mut self.active) {
            open.sync(&self.counters)?;
        }
        self.durable = self.newest();
        self.durable_at = self.clock.machine().monotonic_ms();
        Ok(())
    }

    /// Whether some record is not on the device.
    pub(super) fn owes_sync(&self) -> bool {
        let behind = |open: &OpenSegment| open.durable < open.end;
        self.closing.iter().any(behind) || self.active.as_ref().is_some_and(behind)
    }

    /// Whether some record is in this process only.
    pub(super) fn owes_write(&self) -> bool {
        self.active.as_ref().is_some_and(|open| open.written < open.end)
    }
}

/// A commit marker as a record without a place, and the bytes of its head.
pub(super) fn marker_frame(marker: &Commit) -> (Vec<u8>, usize) {
    let draft = Draft {
        kind: Kind::Commit,
        flags: Flags::default(),
        key: &[],
        value: &marker.encode(),
        expires_at: None,
        extension: None,
    };
    let mut frame = Vec::with_capacity(64);
    let head_bytes = encode(&draft, &mut frame);
    (frame, head_bytes)
}
