//! Bytes in: a segment that grows.

use std::{io, sync::Arc};

use super::{
    Home, RECORDS_AT, Segment,
    tail::{Kept, Rest},
};
use crate::{
    error::{Error, Result, is_disk_full},
    format::{
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES},
        manifest::{AddSegment, SealSegment},
        segment_header::SegmentHeader,
    },
    io::{Access, FailStopFile, File},
    stats::Counters,
    types::{SequenceNumber, Slot},
};

/// Room is reserved in steps that grow with the file: small stores stay small, big ones rarely ask.
const RESERVE_MIN: u64 = 32 << 10;
const RESERVE_MAX: u64 = 1 << 20;
/// A write of at most so many bytes may spend the ballast on a full disk: deletes are small, and leave most of it.
const RELIEF_BYTES_MAX: usize = 4 << 10;

/// A segment that is not sealed, with its file. Owned by the writer's turn.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<FailStopFile>,
    /// Whose ballast a small write may spend.
    home: Option<Home>,
    /// Whether a user's write is among what is not in the file yet, which must not spend the ballast.
    pub(crate) owes_put: bool,
    /// Offset behind the last record in the image.
    pub(crate) end: u64,
    /// Offset up to which the file has what the image has.
    pub(crate) written: u64,
    /// Offset up to which a completed sync covers the file.
    pub(crate) durable: u64,
    /// Offset up to which room is reserved; 0 if the file system cannot.
    reserved: u64,
    /// Whether room should be reserved ahead of writing.
    reserves: bool,
    /// Most bytes the file may have, footer included.
    capacity: u64,
    /// Records appended so far: the footer has room for each.
    records: u64,
    /// Bytes that are charged for the file.
    pub(crate) charged: u64,
    /// Greatest sequence number in the image.
    pub(crate) newest: SequenceNumber,
    /// How it was sealed, if its footer is on the device and only the manifest does not say so yet. From then on the
    /// file never changes: the manifest on disk may name it sealed although the edit failed (I1).
    pub(crate) seal: Option<SealSegment>,
    /// What stood behind the records when it was found.
    pub(crate) rest: Rest,
}

impl OpenSegment {
    /// Creates the file with its header and makes both durable. The manifest does not know it yet.
    pub(crate) fn create(
        home: &Home,
        header: &SegmentHeader,
        slot: Slot,
        capacity: u64,
    ) -> Result<Self> {
        home.check_lock()?;
        let add = AddSegment::from(header);
        let segment = Arc::new(Segment::unsealed(home, add, slot));
        let failed = |operation| {
            let path = segment.path.clone();
            move |source| Error::io(operation, path, source)
        };
        let raw = home.disk.open(&segment.path, Access::CreateNew).map_err(failed("create"))?;
        let file = FailStopFile::new(raw);
        let written = file.write(&header.encode(), 0).map_err(failed("write"));
        // Order: the header and the name are durable before the manifest names the segment (I7).
        let durable = written
            .and_then(|()| file.sync().map_err(failed("sync")))
            .and_then(|()| home.disk.sync_dir(home.dir()).map_err(failed("sync the directory of")));
        if let Err(error) = durable {
            // Ours, and nobody knows it yet: what is left of it only takes room.
            let _ = home.disk.remove(&segment.path);
            return Err(error);
        }
        Ok(Self {
            segment,
            file: Arc::new(file),
            home: Some(home.clone()),
            owes_put: false,
            end: RECORDS_AT,
            written: RECORDS_AT,
            durable: RECORDS_AT,
            reserved: RECORDS_AT,
            reserves: true,
            capacity,
            records: 0,
            charged: capacity,
            newest: SequenceNumber::default(),
            seal: None,
            rest: Rest::default(),
        })
    }

    /// A segment that was found unsealed, with what counts of it. It has no room: it is to be rewritten.
    pub(crate) fn found(segment: Arc<Segment>, file: Arc<dyn File>, kept: &Kept) -> Self {
        segment.extend_image(&kept.image);
        let end = RECORDS_AT + kept.image.len() as u64;
        let charged = file.bytes().unwrap_or(end);
        Self {
            segment,
            file: Arc::new(FailStopFile::new(file)),
            home: None,
            owes_put: false,
            end,
            written: end,
            durable: RECORDS_AT,
            reserved: 0,
            reserves: false,
            capacity: 0,
            records: 0,
            charged,
            newest: kept.newest,
            seal: None,
            rest: kept.rest,
        }
    }

    /// Bytes left for `records` more records, with the footer they all need.
    pub(crate) const fn room(&self, records: u64) -> u64 {
        let footer =
            (self.records + records) * FOOTER_ENTRY_BYTES as u64 + FOOTER_TRAILER_BYTES as u64;
        self.capacity.saturating_sub(self.end + footer)
    }

    pub(crate) fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::io(operation, &self.segment.path, source)
    }

    /// Appends a finished record to the image.
    pub(crate) fn append(&mut self, record: &[u8], sequence: SequenceNumber) {
        debug_assert!(sequence > self.newest, "I5: records stand in order of sequence numbers");
        self.segment.extend_image(record);
        self.end += record.len() as u64;
        self.records += 1;
        self.newest = sequence;
    }

    /// Brings the file up to the image. With `ahead`, room is reserved before: a sync follows, and it is cheaper
    /// when there is no new length to record. Without a sync, reserving only makes the write slower.
    pub(crate) fn write_out(&mut self, ahead: bool, counters: &Counters) -> Result<()> {
        if self.written == self.end {
            return Ok(());
        }
        if ahead {
            self.reserve(self.end);
        }
        let image = self.segment.image();
        let start = usize::try_from(self.written - RECORDS_AT).unwrap_or(usize::MAX);
        let bytes = image.get(start..).unwrap_or_default();
        debug_assert_eq!(self.written + bytes.len() as u64, self.end, "image and end agree");
        let written = self.file.write_or(bytes, self.written, |error| {
            !self.owes_put
                && bytes.len() <= RELIEF_BYTES_MAX
                && is_disk_full(error)
                && self.home.as_ref().is_some_and(Home::spend_ballast)
        });
        counters.writes.add_alone(1);
        counters.written_bytes.add_alone(bytes.len() as u64);
        drop(image);
        written.map_err(|source| self.failed("write", source))?;
        self.written = self.end;
        self.owes_put = false;
        Ok(())
    }

    /// Reserves room up to `end` and some more, so that a sync has no new length to record.
    fn reserve(&mut self, end: u64) {
        if !self.reserves || end <= self.reserved {
            return;
        }
        let step = (4 * (self.reserved - RECORDS_AT)).clamp(RESERVE_MIN, RESERVE_MAX);
        let wanted =
            (self.reserved + step).max(end.next_multiple_of(4096)).min(self.capacity.max(end));
        loop {
            match self.file.inner().allocate(wanted) {
                Ok(()) => self.reserved = wanted,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Room ahead is a comfort; room for the records themselves may still be there: the write decides.
                Err(_) => self.reserves = false,
            }
            return;
        }
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&mut self, counters: &Counters) -> Result<()> {
        if self.durable == self.written {
            return Ok(());
        }
        counters.syncs.add(1);
        let file = Arc::clone(&self.file);
        file.sync().map_err(|source| self.failed("sync", source))?;
        self.durable = self.written;
        Ok(())
    }
}
