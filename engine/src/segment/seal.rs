//! From complete to immutable: footer, sync, map.

use std::sync::Arc;

use super::{
    Body, Home, RECORDS_AT, Sealed, Segment,
    batches::Batches,
    scan::{Item, scan},
};
use crate::{
    error::{Damage, DecodeError, Error, Result},
    format::{
        checksum::checksum,
        footer::{
            FOOTER_TRAILER_BYTES, FooterDraft, FooterEntries, FooterEntry, Trailer, encode_footer,
        },
        hash::KeyHasher,
        manifest::SealSegment,
        record::{Decoded, Flags, Head, Kind, decode_head},
        wire::u32_at,
    },
    io::{Access, FailStopFile, File, read_exact_at},
    sync::OnceLock,
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// Writes the footer behind the records, cuts the file to its exact length, makes all of it durable. The
/// records themselves are in the file already. Does not touch the image.
pub(crate) fn write_footer(
    segment: &Segment,
    file: &FailStopFile,
    hasher: KeyHasher,
) -> Result<SealSegment> {
    let image = segment.image();
    let (footer, trailer) = footer_of(segment, &image, hasher)?;
    drop(image);
    let failed = |operation| {
        let path = segment.path.clone();
        move |source| Error::io(operation, path, source)
    };
    let file_bytes = trailer.records_end + footer.len() as u64;
    file.write(&footer, trailer.records_end).map_err(failed("write"))?;
    file.set_bytes(file_bytes).map_err(failed("cut"))?;
    file.sync().map_err(failed("sync"))?;
    Ok(seal_edit(&trailer, file_bytes))
}

/// The manifest's word for a segment with this trailer.
pub(crate) fn seal_edit(trailer: &Trailer, file_bytes: u64) -> SealSegment {
    SealSegment {
        id: trailer.id,
        file_bytes,
        records_end: trailer.records_end,
        sequence_max: trailer.sequence_max,
        expiry_min: trailer.expiry_min,
        expiry_max: trailer.expiry_max,
        entries: trailer.entries,
        tombstones: trailer.tombstones,
        not_fresh: trailer.not_fresh,
        trailer_checksum: u32_at(&trailer.encode(), 124).unwrap_or_default(),
    }
}

/// The footer of the records in `image`.
pub(super) fn footer_of(
    segment: &Segment,
    image: &[u8],
    hasher: KeyHasher,
) -> Result<(Vec<u8>, Trailer)> {
    let mut collect = Collect::new(image.len());
    let mut at = 0;
    while let Some(rest) = image.get(at..).filter(|rest| !rest.is_empty()) {
        let offset = RECORDS_AT + at as u64;
        let head = segment.head(rest, offset)?;
        collect.add(&head, offset, hasher);
        at += usize::try_from(head.record_bytes).unwrap_or(usize::MAX);
    }
    let (live_bytes, _) = segment.live();
    let trailer = Trailer {
        id: segment.add.id,
        salt: segment.add.salt,
        horizon: segment.add.horizon,
        records_end: RECORDS_AT + image.len() as u64,
        live_bytes,
        records_checksum: checksum(image),
        ..collect.trailer()
    };
    Ok(encode_footer(FooterDraft { trailer, entries: collect.entries, from: Vec::new() }))
}

/// What a footer says of the records seen so far.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) entries: Vec<FooterEntry>,
    newest: SequenceNumber,
    expiry_min: Timestamp,
    expiry_max: Timestamp,
    expiring: u32,
}

impl Collect {
    /// Nothing so far, with room for what `bytes` of records usually say.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            entries: Vec::with_capacity(bytes / 128),
            newest: SequenceNumber::default(),
            expiry_min: Timestamp(u64::MAX),
            expiry_max: Timestamp(0),
            expiring: 0,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.entries.len()
    }

    /// A trailer of what the records tell; the rest of it is empty.
    pub(super) const fn trailer(&self) -> Trailer {
        Trailer {
            id: SegmentId(0),
            salt: 0,
            horizon: SequenceNumber(0),
            records_end: 0,
            entries: 0,
            has_from: false,
            sequence_min: SequenceNumber(0),
            sequence_max: self.newest,
            expiry_min: self.expiry_min,
            expiry_max: self.expiry_max,
            tombstones: 0,
            not_fresh: 0,
            expiring: self.expiring,
            live_bytes: 0,
            extension_bytes: 0,
            entries_checksum: 0,
            records_checksum: 0,
        }
    }

    fn add(&mut self, head: &Head<'_>, offset: u64, hasher: KeyHasher) {
        self.add_as(head, head.flags, head.record_bytes, offset, hasher);
    }

    /// Adds a record whose flags, or whose length, are not those it had when its head was decoded.
    pub(super) fn add_as(
        &mut self,
        head: &Head<'_>,
        flags: Flags,
        bytes: u64,
        offset: u64,
        hasher: KeyHasher,
    ) {
        self.newest = self.newest.max(head.sequence);
        let Some(kind @ (Kind::Put | Kind::Delete | Kind::Touch | Kind::ScopeCut)) = head.kind
        else {
            return;
        };
        if matches!(kind, Kind::Put | Kind::Touch) {
            let last = head.expires_at.unwrap_or(Timestamp(u64::MAX));
            self.expiry_max = self.expiry_max.max(last);
            if let Some(expiry) = head.expires_at {
                self.expiry_min = self.expiry_min.min(expiry);
                self.expiring += 1;
            }
        }
        let flags = if kind == Kind::ScopeCut { flags.without(Flags::FRESH) } else { flags };
        self.entries.push(FooterEntry {
            hash: hasher.hash(head.key),
            sequence: head.sequence,
            kind,
            flags,
            offset,
            bytes,
        });
    }
}

/// What a scan finds in a segment whose footer does not tell it.
#[derive(Debug)]
pub(crate) struct ByScan {
    /// Entries of the records that count, in order of offset.
    pub(crate) entries: Vec<FooterEntry>,
    /// Where there is something that is no sound record.
    pub(crate) damaged: Vec<u64>,
    /// Where the last sound record ends, markers counted.
    pub(crate) records_end: u64,
}

/// What a footer would say of a file's bytes if it could be read. `is_committed`: the segment was sealed, so that every
/// sound record of it counts; otherwise batches without their markers do not.
pub(crate) fn entries_by_scan(
    bytes: &[u8],
    end: u64,
    salt: u64,
    hasher: KeyHasher,
    is_committed: bool,
) -> ByScan {
    let mut collect = Collect::new(0);
    let (mut damaged, mut records_end) = (Vec::new(), RECORDS_AT);
    let mut batches = Batches::default();
    for item in scan(bytes, end, salt, SequenceNumber(0)) {
        let record = match item {
            Item::Record(record) => record,
            Item::Gap(gap) => {
                if !gap.is_unwritten {
                    damaged.push(gap.offset);
                }
                continue;
            }
        };
        let at = usize::try_from(record.offset).unwrap_or(usize::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        if !record.sound {
            damaged.push(record.offset);
            continue;
        }
        records_end = record.offset + record.bytes;
        if let Some(kept) = batches.show(&record, collect.entries.len()).filter(|_| !is_committed) {
            collect.entries.truncate(kept);
        }
        if let Ok(Decoded::Head(head)) = decode_head(rest, salt, record.offset) {
            collect.add(&head, record.offset, hasher);
        }
    }
    if let Some(kept) = batches.end().filter(|_| !is_committed) {
        collect.entries.truncate(kept);
    }
    ByScan { entries: collect.entries, damaged, records_end }
}

/// Opens a sealed segment's file for reading and checks its length, without reading any of it.
pub(crate) fn open_sealed(home: &Home, seal: &SealSegment, maps: bool) -> Result<Sealed> {
    let path = home.segment(seal.id);
    let file =
        home.disk.open(&path, Access::Read).map_err(|source| missing_or_io(source, &path))?;
    let found = file.bytes().map_err(|source| Error::io("look at", &path, source))?;
    if found != seal.file_bytes {
        let at = found.min(seal.file_bytes);
        return Err(DecodeError::new(at, Damage::Truncated).in_file(&path, 0));
    }
    Ok(sealed_through(file, seal, maps))
}

/// A missing file is damage of the store; any other failure to open it is the system's.
fn missing_or_io(source: std::io::Error, path: &std::path::Path) -> Error {
    if source.kind() == std::io::ErrorKind::NotFound {
        DecodeError::new(0, Damage::MissingFile).in_file(path, 0)
    } else {
        Error::io("open", path, source)
    }
}

/// A sealed segment that is read through its open `file`, which has the right length. Cannot fail: where the system
/// gives no map (there is a limit to their number), the file is read by position.
pub(crate) fn sealed_through(file: Arc<dyn File>, seal: &SealSegment, maps: bool) -> Sealed {
    let map = maps.then(|| file.map(seal.file_bytes).ok()).flatten();
    Sealed {
        body: map.map_or(Body::File(file), Body::Map),
        records_end: seal.records_end,
        file_bytes: seal.file_bytes,
        sequence_max: seal.sequence_max,
        expiry_min: seal.expiry_min,
        expiry_max: seal.expiry_max,
        tombstones: seal.tombstones,
        not_fresh: seal.not_fresh,
        trailer_checksum: seal.trailer_checksum,
        footer_is_sound: OnceLock::new(),
    }
}

impl Sealed {
    /// Looks at the footer's entries; `None` if they cannot be read or are damaged. Entries of a mapped segment are
    /// checked as a whole once, and from then on only those pages are touched that are looked at.
    ///
    /// A segment that was taken in without its footer may still have one, with hashes of a seed that is gone: it says
    /// nothing.
    pub(crate) fn with_entries<T>(&self, look: impl FnOnce(&FooterEntries<'_>) -> T) -> Option<T> {
        if self.trailer_checksum == 0 {
            return None;
        }
        let map = match &self.body {
            Body::Map(map) => map,
            Body::File(file) => {
                let (trailer, body) = self.footer_in(file.as_ref()).ok()?.ok()?;
                return Some(look(&FooterEntries::decode_again(&body, &trailer).ok()?));
            }
        };
        let start = usize::try_from(self.records_end).ok()?;
        let bytes = map.get(start..)?;
        let split = bytes.len().checked_sub(FOOTER_TRAILER_BYTES)?;
        let trailer = Trailer::decode(&bytes[split..], self.file_bytes).ok()?;
        let body = &bytes[..split];
        let is_sound =
            *self.footer_is_sound.get_or_init(|| FooterEntries::decode(body, &trailer).is_ok());
        if !is_sound || trailer.records_end != self.records_end {
            return None;
        }
        Some(look(&FooterEntries::decode_again(body, &trailer).ok()?))
    }

    /// The trailer and a copy of the footer's body, read from the file and checked: a block that cannot be read is an error,
    /// where a map kills the process.
    pub(crate) fn footer_in(
        &self,
        file: &dyn File,
    ) -> std::io::Result<std::result::Result<(Trailer, Vec<u8>), DecodeError>> {
        let start = self.records_end;
        let length = usize::try_from(self.file_bytes.saturating_sub(start)).unwrap_or_default();
        let mut bytes = vec![0; length];
        read_exact_at(file, &mut bytes, start)?;
        Ok(decode_footer(bytes, start, self.file_bytes))
    }
}

/// Decodes a footer that begins at `start` of a file of `file_bytes`.
fn decode_footer(
    mut bytes: Vec<u8>,
    start: u64,
    file_bytes: u64,
) -> std::result::Result<(Trailer, Vec<u8>), DecodeError> {
    let fault = |damage| DecodeError::new(start, damage);
    let split =
        bytes.len().checked_sub(FOOTER_TRAILER_BYTES).ok_or_else(|| fault(Damage::Truncated))?;
    let trailer = Trailer::decode(&bytes[split..], file_bytes)
        .map_err(|e| DecodeError::new(start + split as u64 + e.at, e.damage))?;
    if trailer.records_end != start {
        return Err(fault(Damage::Length));
    }
    bytes.truncate(split);
    FooterEntries::decode(&bytes, &trailer)
        .map_err(|e| DecodeError::new(start + e.at, e.damage))?;
    Ok((trailer, bytes))
}
