//! A segment that compaction writes: aside, record by record, sealed and renamed when it is complete.
//!
//! Until the manifest names it, it is an orphan that recovery deletes. Nothing is kept in memory but a buffer of
//! one write and what the footer will say.

use std::{path::PathBuf, sync::Arc};

use super::{
    Home, RECORDS_AT, Segment,
    seal::{Collect, seal_edit, sealed_through},
    transfer::Leftover,
};
use crate::{
    error::{Error, Result},
    format::{
        checksum::checksum_from,
        file_name,
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES, FooterDraft, Trailer, encode_footer},
        hash::KeyHasher,
        manifest::{AddSegment, SealSegment},
        record::{Flags, Head, stamp},
        segment_header::SegmentHeader,
    },
    io::{Access, FailStopFile, remove_if_there},
    types::{Location, SequenceNumber, Slot},
};

/// Records are written out in pieces of this many bytes.
const WRITE_BYTES: usize = 1 << 20;

/// A record to copy: its bytes, whose head has been decoded.
#[derive(Debug)]
pub(crate) struct CopiedRecord<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) head_bytes: usize,
    pub(crate) sequence: SequenceNumber,
    pub(crate) flags: Flags,
}

/// An output that is still open.
#[derive(Debug)]
pub(crate) struct Output {
    home: Home,
    header: SegmentHeader,
    slot: Slot,
    /// Where the file is: under a name of its own only at the very end.
    tmp: PathBuf,
    file: FailStopFile,
    buffer: Vec<u8>,
    /// Offset in the file at which the buffer begins.
    written: u64,
    sum: u32,
    collect: Collect,
    /// Most bytes the file may have, footer included.
    capacity: u64,
    live_bytes: u64,
    is_finished: bool,
}

/// An output that is complete on disk and not yet in the manifest.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) segment: Arc<Segment>,
    pub(crate) seal: SealSegment,
}

impl Output {
    /// Creates the file, aside.
    pub(crate) fn create(
        home: &Home,
        header: SegmentHeader,
        slot: Slot,
        capacity: u64,
    ) -> Result<Self> {
        let tmp = home.path(&file_name::segment_tmp(header.id));
        let failed = |operation| {
            let tmp = tmp.clone();
            move |source| Error::io(operation, tmp, source)
        };
        remove_if_there(home.disk.as_ref(), &tmp).map_err(failed("remove"))?;
        home.check_lock()?;
        let raw = home.disk.open(&tmp, Access::CreateNew).map_err(failed("create"))?;
        let buffer = header.encode();
        Ok(Self {
            home: home.clone(),
            slot,
            tmp,
            file: FailStopFile::new(raw),
            buffer,
            written: 0,
            sum: 0,
            collect: Collect::new(0),
            capacity,
            live_bytes: 0,
            is_finished: false,
            header,
        })
    }

    /// Where the next record goes.
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a record of this length, and the footer with its entry, still fit. An empty output takes any record.
    pub(crate) fn has_room(&self, record_bytes: u64) -> bool {
        let entries = self.collect.count() + 1;
        let footer = entries * FOOTER_ENTRY_BYTES + FOOTER_TRAILER_BYTES;
        self.collect.count() == 0 || self.end() + record_bytes + footer as u64 <= self.capacity
    }

    /// Most bytes of file that a record of this length needs when it is alone.
    pub(crate) fn bytes_alone(record_bytes: u64) -> u64 {
        RECORDS_AT + record_bytes + (FOOTER_ENTRY_BYTES + FOOTER_TRAILER_BYTES) as u64
    }

    /// Appends a record that is verified; says where it stands now.
    pub(crate) fn append(
        &mut self,
        record: CopiedRecord<'_>,
        head: &Head<'_>,
        is_live: bool,
        hasher: KeyHasher,
    ) -> Result<Location> {
        let offset = self.end();
        // What is copied was committed: its batch needs no marker any more.
        let flags = record.flags.without(Flags::BATCH);
        stamp(record.bytes, record.head_bytes, record.sequence, flags, self.header.salt, offset);
        self.sum = checksum_from(self.sum, record.bytes);
        self.collect.add_as(head, flags, record.bytes.len() as u64, offset, hasher);
        self.buffer.extend_from_slice(record.bytes);
        if is_live {
            self.live_bytes += record.bytes.len() as u64;
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(Location { slot: self.slot, offset })
    }

    fn write_out(&mut self) -> Result<()> {
        self.file
            .write(&self.buffer, self.written)
            .map_err(|source| Error::io("write", &self.tmp, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the footer, makes all of it durable, and gives the file its name.
    pub(crate) fn finish(&mut self, maps: bool) -> Result<Finished> {
        let records_end = self.end();
        let collect = std::mem::replace(&mut self.collect, Collect::new(0));
        let trailer = Trailer {
            id: self.header.id,
            salt: self.header.salt,
            horizon: self.header.horizon,
            records_end,
            live_bytes: self.live_bytes,
            records_checksum: self.sum,
            ..collect.trailer()
        };
        let draft = FooterDraft { trailer, entries: collect.entries, from: Vec::new() };
        let (footer, trailer) = encode_footer(draft);
        self.buffer.extend_from_slice(&footer);
        self.write_out()?;
        let tmp = self.tmp.clone();
        let failed = |operation| {
            let tmp = tmp.clone();
            move |source| Error::io(operation, tmp, source)
        };
        // Order: the bytes are durable before the name shows them, the name before the manifest says it (I7).
        self.file.sync().map_err(failed("sync"))?;
        let path = self.home.segment(self.header.id);
        self.home.disk.rename(&tmp, &path).map_err(failed("rename"))?;
        // From here on the file is found under its name if something fails.
        self.tmp = path;
        self.home.disk.sync_dir(self.home.dir()).map_err(failed("sync the directory of"))?;
        let seal = seal_edit(&trailer, records_end + footer.len() as u64);
        let add = AddSegment::from(&self.header);
        // No file is opened that might not be had: what was written is read through the file that is open.
        let sealed = sealed_through(Arc::clone(self.file.inner()), &seal, maps);
        let segment = Arc::new(Segment::sealed(&self.home, add, self.slot, sealed));
        self.is_finished = true;
        Ok(Finished { segment, seal })
    }

    /// Bytes that were charged for it.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where its file is, with all that was taken for it. The file stays; whoever has this sees to it.
    pub(crate) fn into_leftover(mut self) -> Leftover {
        self.is_finished = true;
        let path = std::mem::take(&mut self.tmp);
        Leftover { path, slot: Some(self.slot), charged: self.capacity }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nobody knows it: what is left of it only takes room.
            let _ = self.home.disk.remove(&self.tmp);
        }
    }
}
