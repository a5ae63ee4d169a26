//! The checkpoint, read section by section: sound in itself, and where the entries of each shard stand.

use std::{collections::HashMap, io, path::Path};

use super::{Store, footer::Fault};
use crate::{
    checkpoint::slots_are_sound,
    format::{
        checkpoint::{
            CHECKPOINT_HEADER_BYTES, CheckpointHeader, CheckpointSegment, LAYOUT_SHARDED,
            SECTION_BYTES, SECTION_CUTS, SECTION_END, SECTION_ENTRIES, SECTION_SEGMENTS,
            SECTION_TOUCHES, SectionStart, decode_cuts,
        },
        checksum::checksum_from,
        wire::{align8, u32_at, u64_at},
    },
    index::{Entry as IndexEntry, SHARDS},
    io::{Access, File, Window},
    types::{Location, SegmentId, SequenceNumber},
};

/// A checkpoint that is sound in itself.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The segment of each slot.
    pub(super) segments: HashMap<u32, SegmentId>,
    /// Shard, offset of its entries in the file, and their bytes.
    shards: Vec<(usize, u64, u64)>,
    pub(super) bytes: u64,
}

/// Bytes of an entry.
const ENTRY_BYTES: usize = 16;
/// Bytes of a row of a touch.
const TOUCH_BYTES: u64 = 24;
/// A section that is decoded whole is never longer: rows of a million segments, and names of scopes.
const WHOLE_BYTES_MAX: u64 = 256 << 20;
const WINDOW_BYTES: usize = 256 << 10;

/// Reads checkpoint `number`, which the manifest says covers `sequence`.
pub(super) fn read(
    store: &Store<'_>,
    path: &Path,
    (number, sequence): (u64, SequenceNumber),
) -> io::Result<Result<Saved, Fault>> {
    let file = store.home.disk.open(path, Access::Read)?;
    let bytes = file.bytes()?;
    let mut window = Window::new(file.as_ref(), WINDOW_BYTES, bytes);
    let start = window.bytes(0, CHECKPOINT_HEADER_BYTES)?;
    let header = match CheckpointHeader::decode(start) {
        Ok(header) => header,
        Err(fault) => return Ok(Err((fault.at, fault.damage.to_string()))),
    };
    let manifest = &store.loaded.header;
    let is_ours = header.store_id == manifest.store_id
        && header.number == number
        && header.hash_seed == manifest.hash_seed
        && header.layout == LAYOUT_SHARDED;
    if !is_ours {
        return Ok(Err((0, "it belongs elsewhere".to_owned())));
    }
    if header.sequence != sequence {
        let message = format!("it covers {} and the manifest says {sequence}", header.sequence);
        return Ok(Err((40, message)));
    }
    let mut reading = Reading { saved: Saved { bytes, ..Saved::default() }, entries: 0, window };
    if let Err(fault) = reading.sections(store, bytes)? {
        return Ok(Err(fault));
    }
    if reading.entries != header.entries && !store.meter.is_stopped() {
        let message = format!("it holds {} of {} entries", reading.entries, header.entries);
        return Ok(Err((64, message)));
    }
    Ok(Ok(reading.saved))
}

struct Reading<'a> {
    saved: Saved,
    entries: u64,
    window: Window<'a>,
}

impl Reading<'_> {
    fn sections(&mut self, store: &Store<'_>, bytes: u64) -> io::Result<Result<(), Fault>> {
        let mut at = CHECKPOINT_HEADER_BYTES as u64;
        loop {
            let Some(start) = SectionStart::decode(self.window.bytes(at, SECTION_BYTES)?) else {
                return Ok(Err((at, "it ends before its last section".to_owned())));
            };
            let content_at = at + SECTION_BYTES as u64;
            let padded = align8(start.bytes);
            if padded > bytes.saturating_sub(content_at) {
                return Ok(Err((at + 8, "a section is longer than the file".to_owned())));
            }
            let Some(sum) = self.sum(store, start.seed(), content_at, padded)? else {
                return Ok(Ok(()));
            };
            if sum != start.checksum {
                return Ok(Err((at, "a section does not match its checksum".to_owned())));
            }
            let next = content_at + padded;
            if start.kind == SECTION_END {
                let is_end = start.bytes == 0 && start.flags == 0 && next == bytes;
                let fault = (at, "something follows the last section".to_owned());
                return Ok(if is_end { Ok(()) } else { Err(fault) });
            }
            if let Err(message) = self.section(&start, content_at)? {
                return Ok(Err((content_at, message)));
            }
            at = next;
        }
    }

    /// The checksum of so many bytes; `None` if nobody waits for it any more.
    fn sum(
        &mut self,
        store: &Store<'_>,
        seed: u32,
        from: u64,
        bytes: u64,
    ) -> io::Result<Option<u32>> {
        let (mut at, mut sum) = (from, seed);
        while at < from + bytes {
            if store.meter.is_stopped() {
                return Ok(None);
            }
            let piece = self.window.bytes(at, 1)?;
            let left = usize::try_from(from + bytes - at).unwrap_or(usize::MAX);
            let length = left.min(piece.len());
            if length == 0 {
                return Ok(Some(!sum));
            }
            sum = checksum_from(sum, &piece[..length]);
            at += length as u64;
            store.meter.add(length as u64);
        }
        Ok(Some(sum))
    }

    fn section(&mut self, start: &SectionStart, at: u64) -> io::Result<Result<(), String>> {
        const SKIPPABLE: u16 = 1;
        let told = |fault: crate::error::DecodeError| fault.damage.to_string();
        let is_known = matches!(
            start.kind,
            SECTION_SEGMENTS | SECTION_ENTRIES | SECTION_CUTS | SECTION_TOUCHES
        );
        if is_known && start.flags != 0 || !is_known && start.flags & SKIPPABLE == 0 {
            return Ok(Err("a section of no known kind".to_owned()));
        }
        Ok(match start.kind {
            SECTION_ENTRIES => return self.entries(start, at),
            SECTION_TOUCHES if !start.bytes.is_multiple_of(TOUCH_BYTES) => {
                Err("its touches are not whole rows".to_owned())
            }
            SECTION_SEGMENTS | SECTION_CUTS if start.bytes > WHOLE_BYTES_MAX => {
                Err("a section is longer than it ever is".to_owned())
            }
            SECTION_SEGMENTS => {
                let rows = CheckpointSegment::decode_all(self.content(start, at)?).map_err(told);
                rows.and_then(|rows| {
                    let is_sound = slots_are_sound(&rows);
                    self.saved.segments = rows.into_iter().map(|row| (row.slot, row.id)).collect();
                    is_sound.then_some(()).ok_or_else(|| "its segments share slots".to_owned())
                })
            }
            SECTION_CUTS => decode_cuts(self.content(start, at)?).map(drop).map_err(told),
            _ => Ok(()),
        })
    }

    fn content(&mut self, start: &SectionStart, at: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(start.bytes).unwrap_or(usize::MAX);
        let bytes = self.window.bytes(at, length)?;
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    fn entries(&mut self, start: &SectionStart, at: u64) -> io::Result<Result<(), String>> {
        let bytes = self.window.bytes(at, 8)?;
        let shard = u32_at(bytes, 0).map_or(usize::MAX, |shard| shard as usize);
        let is_whole = start.bytes >= 8 && (start.bytes - 8).is_multiple_of(ENTRY_BYTES as u64);
        if u32_at(bytes, 4) != Some(SHARDS as u32) || shard >= SHARDS || !is_whole {
            return Ok(Err("its entries have another layout".to_owned()));
        }
        self.entries += (start.bytes - 8) / ENTRY_BYTES as u64;
        self.saved.shards.push((shard, at + 8, start.bytes - 8));
        Ok(Ok(()))
    }
}

impl Saved {
    /// Shows where the entries of these shards point to, as slot and offset.
    pub(super) fn locations(
        &self,
        file: &dyn File,
        is_wanted: impl Fn(usize) -> bool,
        mut show: impl FnMut(u32, u64),
    ) -> io::Result<()> {
        let mut window = Window::new(file, WINDOW_BYTES, self.bytes);
        for (_, at, bytes) in self.shards.iter().filter(|(shard, ..)| is_wanted(*shard)) {
            let (mut at, end) = (*at, at + bytes);
            while at < end {
                let left = usize::try_from(end - at).unwrap_or(usize::MAX);
                let rows = window.bytes(at, ENTRY_BYTES)?;
                let whole = rows.len().min(left) / ENTRY_BYTES * ENTRY_BYTES;
                if whole == 0 {
                    break;
                }
                for row in rows[..whole].chunks_exact(ENTRY_BYTES) {
                    if let (Some(first), Some(second)) = (u64_at(row, 0), u64_at(row, 8)) {
                        let Location { slot, offset } =
                            IndexEntry::unpack([first, second]).location;
                        show(slot.0, offset);
                    }
                }
                at += whole as u64;
            }
        }
        Ok(())
    }
}
