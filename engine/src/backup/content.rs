//! The files that a backup takes, and their bytes, checked on the way.

use std::{
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::GoOn;
use crate::{
    format::{
        footer::{FOOTER_TRAILER_BYTES, Trailer},
        manifest::SealSegment,
        segment_header::SegmentHeader,
        wire::u32_at,
    },
    io::{Access, Disk, File, PathKind, read_exact_at},
    segment::RECORDS_AT,
};

/// A file of the store.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Of a sealed segment.
    pub(super) seal: Option<SealSegment>,
}

/// How a file was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Linked,
    Reused,
    /// With the checksum of all its bytes; of a sealed segment, whose trailer has it, nothing.
    Copied(u32),
    Cancelled,
}

/// Counts bytes while files are taken.
pub(super) struct Step<'a> {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) go_on: GoOn<'a>,
}

impl Step<'_> {
    pub(super) fn advance(&mut self, bytes: u64) -> ControlFlow<()> {
        self.done += bytes;
        (self.go_on)(self.done, self.total.max(self.done))
    }
}

/// An earlier backup.
pub(super) struct Base {
    pub(super) dir: PathBuf,
    pub(super) store_id: [u8; 16],
}

impl Base {
    /// The file in it that is this sealed segment, if it has it.
    pub(super) fn find(&self, disk: &dyn Disk, source: &Source<'_>) -> Option<PathBuf> {
        let seal = source.seal.filter(|seal| seal.trailer_checksum != 0)?;
        let path = self.dir.join(&source.name);
        (disk.kind(&path).ok()? == Some(PathKind::File)).then_some(())?;
        let file = disk.open(&path, Access::Read).ok()?;
        let mut start = vec![0; usize::try_from(RECORDS_AT).unwrap_or_default()];
        read_exact_at(file.as_ref(), &mut start, 0).ok()?;
        let header = SegmentHeader::decode(&start).ok()?;
        let is_it = header.store_id == self.store_id
            && header.id == seal.id
            && file.bytes().ok()? == seal.file_bytes
            && trailer_of(file.as_ref(), &seal).ok()?.is_some();
        is_it.then_some(path)
    }
}

/// The trailer of a sealed segment, if it is the one that the seal tells.
fn trailer_of(file: &dyn File, seal: &SealSegment) -> io::Result<Option<Trailer>> {
    let mut bytes = [0; FOOTER_TRAILER_BYTES];
    let Some(at) = seal.file_bytes.checked_sub(FOOTER_TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    read_exact_at(file, &mut bytes, at)?;
    let is_told = u32_at(&bytes, 124) == Some(seal.trailer_checksum);
    Ok(Trailer::decode(&bytes, seal.file_bytes).ok().filter(|_| is_told))
}

/// The bytes of a file, checked on the way.
pub(super) struct Content {
    file: Arc<dyn File>,
    at: u64,
    bytes: u64,
    sum: crc32fast::Hasher,
    /// What the trailer of a sealed segment says of the rest.
    sealed: Option<Parts>,
}

/// The parts of a sealed segment that have a checksum in its trailer: so far, and what they should come to.
struct Parts {
    records_end: u64,
    records: (crc32fast::Hasher, u32),
    entries: (crc32fast::Hasher, u32),
}

impl Parts {
    fn of(trailer: &Trailer) -> Self {
        Self {
            records_end: trailer.records_end,
            records: (crc32fast::Hasher::new(), trailer.records_checksum),
            entries: (crc32fast::Hasher::new(), trailer.entries_checksum),
        }
    }

    /// Takes the bytes at `at` of a file of `file_bytes`. The header before the records has a checksum of its own.
    fn update(&mut self, bytes: &[u8], at: u64, file_bytes: u64) {
        let within = |offset: u64| {
            usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len())
        };
        let entries_end = file_bytes.saturating_sub(FOOTER_TRAILER_BYTES as u64);
        let split = within(self.records_end);
        self.records.0.update(&bytes[within(RECORDS_AT).min(split)..split]);
        self.entries.0.update(&bytes[split..within(entries_end).max(split)]);
    }

    fn are_sound(self) -> bool {
        let is_sound = |(sum, told): (crc32fast::Hasher, u32)| sum.finalize() == told;
        is_sound(self.records) && is_sound(self.entries)
    }
}

impl Content {
    pub(super) fn open(disk: &dyn Disk, source: &Source<'_>) -> io::Result<Self> {
        // A link leads anywhere, and is no file of a store.
        match disk.kind(source.path)? {
            Some(PathKind::File) => {}
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        let file = disk.open(source.path, Access::Read)?;
        if file.bytes()? != source.bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(seal) = source.seal {
            let mut start = vec![0; usize::try_from(RECORDS_AT).unwrap_or_default()];
            read_exact_at(file.as_ref(), &mut start, 0)?;
            let is_it = SegmentHeader::decode(&start).is_ok_and(|header| header.id == seal.id);
            is_it.then_some(()).ok_or(io::ErrorKind::InvalidData)?;
        }
        let mut sealed = None;
        if let Some(seal) = source.seal.filter(|seal| seal.trailer_checksum != 0) {
            let trailer = trailer_of(file.as_ref(), &seal)?.ok_or(io::ErrorKind::InvalidData)?;
            sealed = Some(Parts::of(&trailer));
        }
        Ok(Self { file, at: 0, bytes: source.bytes, sum: crc32fast::Hasher::new(), sealed })
    }

    /// After all was read: whether it is what was sealed.
    pub(super) fn finish(self) -> io::Result<Taken> {
        match self.sealed.is_none_or(Parts::are_sound) {
            true => Ok(Taken::Copied(self.sum.finalize())),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        read_exact_at(self.file.as_ref(), buffer, self.at)?;
        match &mut self.sealed {
            Some(parts) => parts.update(buffer, self.at, self.bytes),
            None => self.sum.update(buffer),
        }
        self.at += length as u64;
        Ok(length)
    }
}
