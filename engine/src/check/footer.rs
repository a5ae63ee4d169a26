//! The footer of a sealed segment, read piece by piece: nothing is believed, or kept, before what stands before it was
//! found sound.

use std::io;

use super::groups::Groups;
use crate::{
    error::DecodeError,
    format::{
        checksum::checksum_from,
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES, FooterEntry, Trailer, decode_entry},
        manifest::{AddSegment, SealSegment},
        record::{HEADER_BYTES, Kind, check_items},
        wire::u32_at,
    },
    io::{File, Window},
    segment::RECORDS_AT,
    types::SequenceNumber,
};

/// A footer that is sound in itself.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) trailer: Trailer,
    /// Its entries as they stand in the file, if they were asked for.
    entries: Vec<u8>,
    /// The number of the first entry of each group of hashes, and the count of all.
    pub(super) starts: Vec<u32>,
    /// All bits that any of its hashes has.
    pub(super) used_bits: u64,
}

/// Where it is wrong, and how.
pub(super) type Fault = (u64, String);

impl Footer {
    /// The entry at `index`; `None` behind the last one, and if entries were not asked for.
    pub(super) fn entry(&self, index: usize) -> Option<FooterEntry> {
        let at = index.checked_mul(FOOTER_ENTRY_BYTES)?;
        decode_entry(self.entries.get(at..)?, self.trailer.sequence_min)
    }

    /// How many entries it holds in memory.
    pub(super) fn kept(&self) -> usize {
        self.entries.len() / FOOTER_ENTRY_BYTES
    }
}

/// Reads the footer of a segment that the manifest describes like this. `keep`: its entries stay in memory.
pub(super) fn read(
    file: &dyn File,
    (add, seal): (&AddSegment, &SealSegment),
    keep: bool,
    groups: Groups,
) -> io::Result<Result<Footer, Fault>> {
    const WINDOW_BYTES: usize = 256 << 10;
    let mut window = Window::new(file, WINDOW_BYTES, seal.file_bytes);
    let split = seal.file_bytes.saturating_sub(FOOTER_TRAILER_BYTES as u64);
    let trailer = match trailer(window.bytes(split, FOOTER_TRAILER_BYTES)?, (add, seal)) {
        Ok(trailer) => trailer,
        Err(fault) => return Ok(Err((split + fault.0, fault.1))),
    };
    // Cheap, and before anything is sized by it: no record is shorter than its header.
    if u64::from(trailer.entries) > (trailer.records_end - RECORDS_AT) / HEADER_BYTES as u64 {
        return Ok(Err((split + 12, "more entries than there can be records".to_owned())));
    }
    let reading = Reading {
        footer: Footer { trailer, entries: Vec::new(), starts: Vec::new(), used_bits: 0 },
        last: None,
        sum: 0,
        keep,
        groups,
    };
    reading.body(&mut window, split)
}

fn trailer(
    bytes: &[u8],
    (add, seal): (&AddSegment, &SealSegment),
) -> Result<Trailer, (u64, String)> {
    let told = |DecodeError { at, damage }| (at, damage.to_string());
    let trailer = Trailer::decode(bytes, seal.file_bytes).map_err(told)?;
    let said = |at, message: &str| Err((at, message.to_owned()));
    if u32_at(bytes, 124) != Some(seal.trailer_checksum) {
        return said(124, "it is not the footer that was sealed");
    }
    if trailer.records_end != seal.records_end {
        return said(16, "the records end elsewhere by the manifest");
    }
    if (trailer.id, trailer.salt, trailer.horizon) != (add.id, add.salt, add.horizon) {
        return said(96, "it is the footer of another segment");
    }
    Ok(trailer)
}

struct Reading {
    footer: Footer,
    last: Option<(u64, SequenceNumber)>,
    sum: u32,
    keep: bool,
    groups: Groups,
}

impl Reading {
    fn body(mut self, window: &mut Window<'_>, split: u64) -> io::Result<Result<Footer, Fault>> {
        let trailer = self.footer.trailer;
        let (mut at, mut index) = (trailer.records_end, 0);
        while index < trailer.entries {
            let bytes = window.bytes(at, FOOTER_ENTRY_BYTES)?;
            let left = (trailer.entries - index) as usize * FOOTER_ENTRY_BYTES;
            let whole = bytes.len().min(left) / FOOTER_ENTRY_BYTES * FOOTER_ENTRY_BYTES;
            if whole == 0 {
                return Ok(Err((at, "the file ends too early".to_owned())));
            }
            let rows = &bytes[..whole];
            self.sum = checksum_from(self.sum, rows);
            if self.keep {
                self.footer.entries.extend_from_slice(rows);
            }
            for row in rows.chunks_exact(FOOTER_ENTRY_BYTES) {
                if let Err(message) = self.take(index, decode_entry(row, trailer.sequence_min)) {
                    // Of two that are not in order, the first may be the wrong one.
                    let from = at.saturating_sub(FOOTER_ENTRY_BYTES as u64);
                    return Ok(Err((from.max(trailer.records_end), message)));
                }
                (at, index) = (at + FOOTER_ENTRY_BYTES as u64, index + 1);
            }
        }
        self.groups.finish(&mut self.footer.starts, trailer.entries);
        while at < split {
            let piece = window.bytes(at, 1)?;
            let length = usize::try_from(split - at).unwrap_or(usize::MAX).min(piece.len());
            if length == 0 {
                return Ok(Err((at, "the file ends too early".to_owned())));
            }
            self.sum = checksum_from(self.sum, &piece[..length]);
            at += length as u64;
        }
        if self.sum != trailer.entries_checksum {
            let message = "its entries do not match their checksum".to_owned();
            return Ok(Err((trailer.records_end, message)));
        }
        Ok(extension(window, &trailer, split)?.map(|()| self.footer))
    }

    /// The next entry: known, within the records, and in order.
    fn take(&mut self, index: u32, entry: Option<FooterEntry>) -> Result<(), String> {
        let entry = entry.ok_or("an entry is of no known kind")?;
        let is_of_a_key =
            matches!(entry.kind, Kind::Put | Kind::Delete | Kind::Touch | Kind::ScopeCut);
        let end = entry.offset.saturating_add(entry.bytes);
        let fits =
            entry.offset >= RECORDS_AT && entry.bytes > 0 && end <= self.footer.trailer.records_end;
        if !is_of_a_key || !fits {
            return Err("an entry points to no record".to_owned());
        }
        let place = (entry.hash, entry.sequence);
        if self.last.is_some_and(|last| last >= place) {
            return Err("its entries are not in order".to_owned());
        }
        self.last = Some(place);
        self.footer.used_bits |= entry.hash;
        self.groups.note(&mut self.footer.starts, entry.hash, index);
        Ok(())
    }
}

/// The items behind the entries. This version writes none.
fn extension(
    window: &mut Window<'_>,
    trailer: &Trailer,
    split: u64,
) -> io::Result<Result<(), Fault>> {
    /// A longer one is covered by the checksum, and its items are left to who knows them.
    const BYTES_MAX: u64 = 1 << 20;
    let length = u64::from(trailer.extension_bytes);
    if length == 0 || length > BYTES_MAX {
        return Ok(Ok(()));
    }
    let at = split.saturating_sub(length);
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = window.bytes(at, wanted)?;
    let items = bytes.get(..wanted).unwrap_or(bytes);
    Ok(check_items(items).map_err(|fault| (at + fault.at, fault.damage.to_string())))
}
