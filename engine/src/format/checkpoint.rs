//! The index at one moment: a header, then sections. It is a shortcut: any damage means it is not used.
//!
//! The header (96 bytes):
//!
//! | at | bytes | field     | note                                                   |
//! |---:|------:|-----------|--------------------------------------------------------|
//! |  0 |     8 | magic     | `TIERCECP`                                             |
//! |  8 |     2 | major     | a checkpoint of another major version is ignored       |
//! | 10 |     2 | minor     |                                                        |
//! | 12 |     2 | layout    | of the entry sections; an unknown one is ignored       |
//! | 14 |     2 | reserved  | zero                                                   |
//! | 16 |    16 | store id  |                                                        |
//! | 32 |     8 | number    | as in the name                                         |
//! | 40 |     8 | sequence  | every record up to this one is in                      |
//! | 48 |     8 | created   | store time, milliseconds                               |
//! | 56 |     8 | hash seed | as in the manifest                                     |
//! | 64 |     8 | entries   | count over all entry sections                          |
//! | 72 |    20 | reserved  | zero                                                   |
//! | 92 |     4 | checksum  | of the header before                                   |
//!
//! A section, padded to 8 bytes:
//!
//! | at | bytes | field         | note                                               |
//! |---:|------:|---------------|----------------------------------------------------|
//! |  0 |     2 | kind          | see the constants                                  |
//! |  2 |     2 | flags         | 1 = a reader that does not know the kind skips it  |
//! |  4 |     4 | checksum      | of what follows, padding too, seeded with kind and flags |
//! |  8 |     8 | content bytes |                                                    |
//!
//! The last section is [`SECTION_END`]; without it the file is cut short and not used.

use super::{
    FORMAT_MAJOR, FORMAT_MINOR,
    checksum::{checksum, checksum_from},
    wire::{Reader, patch, u32_at},
};
use crate::{
    error::{Damage, DecodeError},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// The first bytes of every checkpoint.
pub const CHECKPOINT_MAGIC: [u8; 8] = *b"TIERCECP";
/// Bytes of the header.
pub const CHECKPOINT_HEADER_BYTES: usize = 96;
/// Bytes of a section before its content.
pub const SECTION_BYTES: usize = 16;
/// Layout of entries: 16 bytes each, as `index::entry` packs them, by shard in order of hash.
pub const LAYOUT_SHARDED: u16 = 1;
/// Section: rows of [`CheckpointSegment`].
pub const SECTION_SEGMENTS: u16 = 1;
/// Section: one shard's entries, after its number (4 bytes) and the count of shards (4).
pub const SECTION_ENTRIES: u16 = 2;
/// Section: scope cuts, each sequence (8), name bytes (1), name.
pub const SECTION_CUTS: u16 = 3;
/// Section: touches, each slot (4), offset in units of 8 (4), expiry (8, all ones for never), sequence (8).
pub const SECTION_TOUCHES: u16 = 4;
/// Section: no more sections; empty.
pub const SECTION_END: u16 = 0xffff;
const SECTION_SKIPPABLE: u16 = 1;

/// Who a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// The store it belongs to.
    pub store_id: [u8; 16],
    /// As in its name.
    pub number: u64,
    /// Every record up to this one is in.
    pub sequence: SequenceNumber,
    /// When it was written.
    pub created: Timestamp,
    /// Seed of the key hash.
    pub hash_seed: u64,
    /// Layout of the entry sections.
    pub layout: u16,
    /// Count over all entry sections.
    pub entries: u64,
}

impl CheckpointHeader {
    /// The header as the first bytes of a file.
    #[must_use]
    pub fn encode(&self) -> [u8; CHECKPOINT_HEADER_BYTES] {
        let mut out = [0; CHECKPOINT_HEADER_BYTES];
        patch(&mut out, 0, &CHECKPOINT_MAGIC);
        patch(&mut out, 8, &FORMAT_MAJOR.to_le_bytes());
        patch(&mut out, 10, &FORMAT_MINOR.to_le_bytes());
        patch(&mut out, 12, &self.layout.to_le_bytes());
        patch(&mut out, 16, &self.store_id);
        patch(&mut out, 32, &self.number.to_le_bytes());
        patch(&mut out, 40, &self.sequence.0.to_le_bytes());
        patch(&mut out, 48, &self.created.0.to_le_bytes());
        patch(&mut out, 56, &self.hash_seed.to_le_bytes());
        patch(&mut out, 64, &self.entries.to_le_bytes());
        let sum = checksum(out.get(..92).unwrap_or_default());
        patch(&mut out, 92, &sum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    ///
    /// # Errors
    /// Any damage, another major version included.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fault = |at, damage| DecodeError::new(at, damage);
        let mut reader = Reader::new(bytes);
        if reader.array()? != CHECKPOINT_MAGIC {
            return Err(fault(0, Damage::Magic));
        }
        let sum = checksum(bytes.get(..92).ok_or_else(|| fault(0, Damage::Truncated))?);
        if u32_at(bytes, 92) != Some(sum) {
            return Err(fault(0, Damage::Checksum));
        }
        if reader.u16()? != FORMAT_MAJOR {
            return Err(fault(8, Damage::Field("major version")));
        }
        reader.u16()?;
        let layout = reader.u16()?;
        reader.zeros(2, "checkpoint reserved")?;
        let header = Self {
            store_id: reader.array()?,
            number: reader.u64()?,
            sequence: SequenceNumber(reader.u64()?),
            created: Timestamp(reader.u64()?),
            hash_seed: reader.u64()?,
            layout,
            entries: reader.u64()?,
        };
        reader.zeros(20, "checkpoint reserved")?;
        Ok(header)
    }
}

/// Appends a section.
pub fn encode_section(kind: u16, content: &[u8], out: &mut Vec<u8>) {
    let padding = content.len().wrapping_neg() & 7;
    let zeros = [0; 8];
    let length = (content.len() as u64).to_le_bytes();
    let sum = checksum_from(checksum_from(section_seed(kind, 0), &length), content);
    let sum = checksum_from(sum, zeros.get(..padding).unwrap_or_default());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(content);
    out.resize(out.len() + padding, 0);
}

/// The seed of a section's checksum.
#[must_use]
pub const fn section_seed(kind: u16, flags: u16) -> u32 {
    kind as u32 | (flags as u32) << 16
}

/// What stands before the content of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionStart {
    /// What it holds.
    pub kind: u16,
    /// 1 = a reader that does not know the kind skips it.
    pub flags: u16,
    /// Checksum of the length, the content and its padding.
    pub checksum: u32,
    /// Bytes of the content, not checked against anything.
    pub bytes: u64,
}

impl SectionStart {
    /// The start of a section at the start of `bytes`; `None` if they end too early.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            kind: reader.u16().ok()?,
            flags: reader.u16().ok()?,
            checksum: reader.u32().ok()?,
            bytes: reader.u64().ok()?,
        })
    }

    /// The checksum of what stands before the content, to go on from.
    #[must_use]
    pub fn seed(&self) -> u32 {
        checksum_from(section_seed(self.kind, self.flags), &self.bytes.to_le_bytes())
    }
}

/// All sections of a checkpoint but the last, as (kind, content), checked. Unknown skippable ones are left out.
///
/// # Errors
/// Any damage, with the offset within `bytes`, which begin after the header.
pub fn decode_sections(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut sections = Vec::new();
    loop {
        let kind = reader.u16()?;
        let flags = reader.u16()?;
        let sum = reader.u32()?;
        let length = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        let at = reader.at() as u64;
        let padded = length
            .checked_add(length.wrapping_neg() & 7)
            .ok_or(DecodeError::new(at, Damage::Length))?;
        let body = reader.take(padded)?;
        let covered = checksum_from(section_seed(kind, flags), &(length as u64).to_le_bytes());
        if checksum_from(covered, body) != sum {
            return Err(DecodeError::new(at, Damage::Checksum));
        }
        let content = body.get(..length).unwrap_or_default();
        match kind {
            SECTION_END if length == 0 && flags == 0 && reader.remaining() == 0 => {
                return Ok(sections);
            }
            SECTION_SEGMENTS | SECTION_ENTRIES | SECTION_CUTS | SECTION_TOUCHES if flags == 0 => {
                sections.push((kind, content));
            }
            SECTION_END => return Err(DecodeError::new(at, Damage::Length)),
            SECTION_SEGMENTS | SECTION_ENTRIES | SECTION_CUTS | SECTION_TOUCHES => {
                return Err(DecodeError::new(at, Damage::Field("checkpoint section")));
            }
            _ if flags & SECTION_SKIPPABLE != 0 => {}
            _ => return Err(DecodeError::new(at, Damage::Field("checkpoint section"))),
        }
    }
}

/// One segment, as the checkpoint remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSegment {
    /// The slot that stands for it in the entries.
    pub slot: u32,
    /// Its id.
    pub id: SegmentId,
    /// Bytes of its records that the index points to.
    pub live_bytes: u64,
    /// Count of its records that the index points to.
    pub live_records: u64,
}

impl CheckpointSegment {
    /// Bytes of one row.
    pub const BYTES: usize = 32;

    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for field in [self.id.0, self.live_bytes, self.live_records] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// All rows of a section.
    ///
    /// # Errors
    /// If the content is not whole rows.
    pub fn decode_all(content: &[u8]) -> Result<Vec<Self>, DecodeError> {
        let mut reader = Reader::new(content);
        let mut rows = Vec::with_capacity(content.len() / Self::BYTES);
        while reader.remaining() > 0 {
            let slot = reader.u32()?;
            reader.zeros(4, "checkpoint segment reserved")?;
            rows.push(Self {
                slot,
                id: SegmentId(reader.u64()?),
                live_bytes: reader.u64()?,
                live_records: reader.u64()?,
            });
        }
        Ok(rows)
    }
}

/// A scope cut, as the checkpoint remembers it.
pub fn encode_cut(sequence: SequenceNumber, name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&sequence.0.to_le_bytes());
    out.push(u8::try_from(name.len()).expect("scope names are checked at the door"));
    out.extend_from_slice(name);
}

/// All scope cuts of a section.
///
/// # Errors
/// If the content is not whole cuts.
pub fn decode_cuts(content: &[u8]) -> Result<Vec<(SequenceNumber, &[u8])>, DecodeError> {
    let mut reader = Reader::new(content);
    let mut cuts = Vec::new();
    while reader.remaining() > 0 {
        let sequence = SequenceNumber(reader.u64()?);
        let length = usize::from(reader.u8()?);
        cuts.push((sequence, reader.take(length)?));
    }
    Ok(cuts)
}

/// A touch that is in force, as the checkpoint remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTouch {
    /// Slot of the put it belongs to.
    pub slot: u32,
    /// Byte offset of that put.
    pub offset: u64,
    /// The expiry in force; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// The touch's own sequence number.
    pub sequence: SequenceNumber,
}

impl CheckpointTouch {
    /// Appends the row.
    ///
    /// # Panics
    /// If the offset is beyond 32 GiB, which no segment reaches.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let units = u32::try_from(self.offset / 8).expect("segments are limited to 2 GiB");
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&units.to_le_bytes());
        let expiry = self.expires_at.map_or(u64::MAX, |expiry| expiry.0);
        out.extend_from_slice(&expiry.to_le_bytes());
        out.extend_from_slice(&self.sequence.0.to_le_bytes());
    }

    /// All touches of a section.
    ///
    /// # Errors
    /// If the content is not whole rows.
    pub fn decode_all(content: &[u8]) -> Result<Vec<Self>, DecodeError> {
        let mut reader = Reader::new(content);
        let mut rows = Vec::new();
        while reader.remaining() > 0 {
            rows.push(Self {
                slot: reader.u32()?,
                offset: u64::from(reader.u32()?) * 8,
                expires_at: match reader.u64()? {
                    u64::MAX => None,
                    ms => Some(Timestamp(ms)),
                },
                sequence: SequenceNumber(reader.u64()?),
            });
        }
        Ok(rows)
    }
}
