//! The way on after a failure, and after a crash: everything that is not sealed is written anew, from memory, into
//! new files. The files that failed, or that were found, are not trusted again.

use std::sync::Arc;

use super::{
    Writer,
    log::{Doubtful, Log, marker_frame},
    relocate::relocate,
    turn::{Doing, Turn},
};
use crate::{
    error::{Error, Result},
    format::{
        file_name,
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES},
        manifest::Edit,
        record::{Commit, Kind},
        segment_header::Class,
    },
    segment::{
        RECORDS_AT, Segment,
        manifest_file::Unapplied,
        manifest_state::row_edit,
        rewrite::{Rewritten, Source, rewrite},
        scan::{Item, Scanned, scan},
        transfer::{Leftover, Move},
    },
    space::{Purpose, Space},
    sync::PoisonError,
    types::{Location, SegmentId, SequenceNumber},
};

/// Charges for a file of so many bytes at most.
type Charge = fn(&Space, u64) -> Result<()>;

impl Writer {
    /// After a failed write or sync: writes everything that is not sealed anew, from memory, into new files. The
    /// files that failed are not trusted again. Does nothing on a healthy store. No job of compaction may run
    /// meanwhile.
    pub(crate) fn try_recover(&self) -> Result<()> {
        self.recover(|space, bytes| space.take(bytes, Purpose::Compact), false)
    }

    /// The same when the store opens. What it found takes the room that it takes: a store that was written to under
    /// its limit had kept back what this needs, and any other must open all the same.
    pub(crate) fn recover_at_open(&self) -> Result<()> {
        self.recover(
            |space, bytes| {
                space.found(bytes);
                Ok(())
            },
            true,
        )
    }

    /// `is_found`: the segments are those of another session, of which no sync failed in this one.
    fn recover(&self, charge: Charge, is_found: bool) -> Result<()> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = self.turn();
        let Some(cause) = &turn.stopped else { return Ok(()) };
        if turn.is_torn {
            return Err(Error::Stopped { cause: cause.clone() });
        }
        if let Err(error) = self.rewrite_open(&mut turn, charge) {
            // There is no room for copies. After a failed sync nothing else will do.
            let is_trusted = (is_found || turn.is_disk_full) && turn.log.damaged.is_empty();
            if !error.is_disk_full() || !is_trusted || self.seal_open_in_place(&mut turn).is_err() {
                return Err(error);
            }
        }
        turn.stopped = None;
        turn.is_disk_full = false;
        turn.log.durable = turn.log.newest();
        turn.log.durable_at = self.lookup.clock.machine().monotonic_ms();
        turn.log.watermark = turn.log.durable;
        self.note(&turn);
        Ok(())
    }

    fn rewrite_open(&self, turn: &mut Turn, charge: Charge) -> Result<()> {
        let log = &mut turn.log;
        log.settle_doubt()?;
        let open = log.closing.iter().chain(&log.active);
        let (open, newest): (Vec<_>, Vec<_>) =
            open.map(|open| (Arc::clone(&open.segment), open.newest)).unzip();
        let mut copies = Vec::new();
        // Where the row of numbers goes on in which nothing is missing, behind what was copied so far.
        let mut row = None;
        for (old, newest) in open.iter().zip(newest) {
            let horizon = old.add.horizon.min(row.unwrap_or(old.add.horizon));
            let part = Part { old, newest, horizon };
            if let Err(error) = copy_one(log, &part, (self.maps, charge), &mut copies) {
                // The manifest knows none of them: what is left of them only takes room.
                copies.into_iter().for_each(|copy| log.abandon(copy.into_leftover()));
                return Err(error);
            }
            let is_copied = copies.last().is_some_and(|copy| copy.old.id() == old.id());
            row = Some(if is_copied { newest.next() } else { horizon });
        }
        let mut edits = replacement(log, &open, &copies);
        edits.extend(row.map(|row| row_edit(row, log.next_sequence)));
        let applied = log.manifest().apply_or_disown(&edits);
        if let Err(unapplied) = applied {
            for copy in copies {
                let file = copy.into_leftover();
                match &unapplied {
                    Unapplied::Disowned(_) => log.abandon(file),
                    // The manifest on disk may name either side: the copies stay until that is settled.
                    Unapplied::Unsure(_) => {
                        log.doubtful.push(Doubtful { file, may_be_named: true });
                    }
                }
            }
            return Err(unapplied.into());
        }
        turn.doing = Doing::Changing;
        let log = &mut turn.log;
        for Copy { old, records, image, written } in copies {
            let Rewritten { segment, sealed, offsets, .. } = written;
            segment.finish(sealed);
            log.catalog.change(vec![Arc::clone(&segment)], &[]);
            self.relocate_all(&old, &records, &image, (&segment, &offsets));
        }
        log.gap_from = row.or(log.gap_from);
        // Order: no entry points to the old segments any more when they leave the catalog.
        let slots: Vec<_> = open.iter().map(|old| old.slot).collect();
        self.lookup.retire(&slots);
        let charged: Vec<_> =
            log.closing.drain(..).chain(log.active.take()).map(|open| open.charged).collect();
        for (old, charged) in open.iter().zip(charged) {
            if log.damaged.contains(&old.id()) {
                // It is set aside, not removed, and so it is still charged for.
                let aside = log.home.path(&file_name::quarantine(old.id()));
                let _ = log.home.disk.rename(&old.path, &aside);
            } else {
                log.abandon(Leftover { path: old.path.clone(), slot: None, charged });
            }
        }
        turn.doing = Doing::Nothing;
        Ok(())
    }

    /// Points the index at the copies.
    fn relocate_all(
        &self,
        old: &Segment,
        records: &[Scanned],
        image: &[u8],
        (new, offsets): (&Segment, &[u64]),
    ) {
        for (record, offset) in records.iter().zip(offsets) {
            if record.kind != Some(Kind::Put) {
                continue;
            }
            let from = Location { slot: old.slot, offset: record.offset };
            let to = Location { slot: new.slot, offset: *offset };
            let bytes = source_of(record, image).bytes;
            let Ok(head) = old.head(bytes, record.offset) else { continue };
            let hash = self.lookup.hasher.hash(head.key);
            relocate(&self.lookup, &Move { hash, from, to, bytes: record.bytes, folded: None });
        }
    }
}

/// An unsealed segment and its copy.
struct Copy {
    old: Arc<Segment>,
    records: Vec<Scanned>,
    image: Vec<u8>,
    written: Rewritten,
}

impl Copy {
    fn into_leftover(self) -> Leftover {
        let Rewritten { segment, seal, .. } = self.written;
        let slot = Some(segment.slot);
        Leftover { path: segment.path.clone(), slot, charged: seal.file_bytes }
    }
}

/// A segment that is to be rewritten.
struct Part<'a> {
    old: &'a Arc<Segment>,
    /// The greatest sequence number that counts in it, markers included.
    newest: SequenceNumber,
    /// That of the copy.
    horizon: SequenceNumber,
}

/// Writes what counts of a segment into a new one, if anything does.
fn copy_one(
    log: &mut Log,
    &Part { old, newest, horizon }: &Part<'_>,
    (maps, charge): (bool, Charge),
    copies: &mut Vec<Copy>,
) -> Result<()> {
    let image = old.image().clone();
    let records = records_of(&image, old.add.salt);
    if records.is_empty() {
        return Ok(());
    }
    let bytes_max = file_bytes(&records);
    charge(&log.space, bytes_max)?;
    let mut header = log.header(Class::REWRITTEN, horizon);
    header.parents = vec![old.id()];
    if !log.damaged.contains(&old.id()) {
        // It takes the place of the old one in the row of segments that follow each other.
        header.first_sequence = old.add.first_sequence;
    }
    let slot = log.catalog.free_slot();
    log.overrides.admit(slot);
    // Batches need no markers any more, but the row of numbers goes on behind the last one.
    let none = Commit {
        durable_offset: 0,
        durable_sequence: SequenceNumber::default(),
        batch_records: 0,
        batch_checksum: 0,
    };
    let (marker, head_bytes) = marker_frame(&none);
    let is_last = records.iter().all(|record| record.sequence < newest);
    let last = is_last.then_some(Source { bytes: &marker, head_bytes, sequence: newest });
    let sources = records.iter().map(|record| source_of(record, &image)).chain(last);
    match rewrite(&log.home, &header, slot, (log.hasher, maps), sources) {
        Ok(written) => {
            debug_assert!(written.seal.file_bytes <= bytes_max, "more than was charged");
            log.space.give(bytes_max.saturating_sub(written.seal.file_bytes));
            copies.push(Copy { old: Arc::clone(old), records, image, written });
            Ok(())
        }
        Err((error, path)) => {
            log.abandon(Leftover { path, slot: Some(slot), charged: bytes_max });
            Err(error)
        }
    }
}

/// Bytes of a segment of these records, and a marker.
fn file_bytes(records: &[Scanned]) -> u64 {
    let footer = records.len() * FOOTER_ENTRY_BYTES + FOOTER_TRAILER_BYTES;
    let bytes = records.iter().map(|record| record.bytes).sum::<u64>();
    RECORDS_AT + bytes + Log::MARKER_BYTES + footer as u64
}

/// The edits that put the copies in place of the originals, and retire those of which nothing counts.
fn replacement(log: &Log, open: &[Arc<Segment>], copies: &[Copy]) -> Vec<Edit> {
    // Floors: what was rolled back, or is not copied, has numbers that nothing else tells of.
    let floors = Edit::Floors { segment: SegmentId(log.next_id), sequence: log.next_sequence };
    let mut edits = vec![Edit::Clock(log.clock.confirmed()), floors];
    edits.extend(log.damaged.iter().copied().map(Edit::Quarantine));
    for Copy { old, written, .. } in copies {
        edits.push(Edit::Add(written.segment.add));
        edits.push(Edit::Seal(written.seal));
        let (inputs, outputs) = (vec![old.id()], vec![written.segment.id()]);
        edits.push(Edit::Replace { inputs, outputs, at: log.newest() });
    }
    let is_copied = |id| copies.iter().any(|copy| copy.old.id() == id);
    let gone = open.iter().map(|old| old.id()).filter(|id| !is_copied(*id));
    edits.extend(gone.map(Edit::Retire));
    edits
}

fn source_of<'a>(record: &Scanned, image: &'a [u8]) -> Source<'a> {
    let start = usize::try_from(record.offset - RECORDS_AT).unwrap_or(usize::MAX);
    let end = start + usize::try_from(record.bytes).unwrap_or_default();
    Source { bytes: &image[start..end], head_bytes: record.head_bytes, sequence: record.sequence }
}

/// The records of an image that say something about a key. Tombstones are among them (I6): an older version may
/// stand in any older segment.
fn records_of(image: &[u8], salt: u64) -> Vec<Scanned> {
    // The scanner reads files: it expects the header before the records.
    let mut file = vec![0; usize::try_from(RECORDS_AT).unwrap_or_default()];
    file.extend_from_slice(image);
    let items = scan(&file, file.len() as u64, salt, SequenceNumber(0));
    let records = items.into_iter().filter_map(|item| match item {
        Item::Record(record) => Some(record),
        Item::Gap(_) => None,
    });
    let is_of_a_key =
        |record: &Scanned| !matches!(record.kind, None | Some(Kind::Commit | Kind::Note));
    records.filter(|record| record.sound && is_of_a_key(record)).collect()
}
