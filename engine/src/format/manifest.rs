//! The manifest: a header, then frames of edits. Folding the edits gives the set of segments of the store.
//!
//! The header (64 bytes):
//!
//! | at | bytes | field      | note                                                |
//! |---:|------:|------------|-----------------------------------------------------|
//! |  0 |     8 | magic      | `TIERCEMF`                                          |
//! |  8 |     2 | major      | a reader refuses a newer one                        |
//! | 10 |     2 | minor      |                                                     |
//! | 12 |     4 | reserved   | zero                                                |
//! | 16 |    16 | store id   |                                                     |
//! | 32 |     8 | hash seed  | of the key hash                                     |
//! | 40 |     8 | created    | store time of the store's creation, milliseconds    |
//! | 48 |     8 | generation | grows each time the manifest is replaced            |
//! | 56 |     4 | reserved   | zero                                                |
//! | 60 |     4 | checksum   | of the header before                                |
//!
//! A frame, padded to 8 bytes, is applied whole or not at all:
//!
//! | at | bytes | field         | note                                             |
//! |---:|------:|---------------|--------------------------------------------------|
//! |  0 |     4 | checksum      | of the rest, seeded with generation and offset   |
//! |  4 |     4 | payload bytes |                                                  |
//! |  8 |     8 | number        | 1, 2, 3 in each generation                       |
//! | 16 |     . | payload       | edits: kind (2), flags (2), bytes (4), content   |

use super::{
    FORMAT_MAJOR, FORMAT_MINOR,
    checksum::{checksum, checksum_from, seed},
    segment_header::{Class, SegmentHeader},
    wire::{Reader, align8, patch, u32_at},
};
use crate::{
    error::{Damage, DecodeError},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// The first bytes of every manifest.
pub const MANIFEST_MAGIC: [u8; 8] = *b"TIERCEMF";
/// Bytes of the header; frames begin here.
pub const MANIFEST_HEADER_BYTES: usize = 64;
/// Bytes of a frame before its payload.
pub const FRAME_BYTES: usize = 16;
/// Bytes of an edit before its content.
pub const EDIT_BYTES: usize = 8;
const EDIT_SKIPPABLE: u16 = 1;

/// Who the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The same in every file of the store.
    pub store_id: [u8; 16],
    /// Seed of the key hash, random per store.
    pub hash_seed: u64,
    /// When the store was created.
    pub created: Timestamp,
    /// Grows each time the manifest is replaced.
    pub generation: u64,
}

impl ManifestHeader {
    /// The header as the first bytes of a file.
    #[must_use]
    pub fn encode(&self) -> [u8; MANIFEST_HEADER_BYTES] {
        let mut out = [0; MANIFEST_HEADER_BYTES];
        patch(&mut out, 0, &MANIFEST_MAGIC);
        patch(&mut out, 8, &FORMAT_MAJOR.to_le_bytes());
        patch(&mut out, 10, &FORMAT_MINOR.to_le_bytes());
        patch(&mut out, 16, &self.store_id);
        patch(&mut out, 32, &self.hash_seed.to_le_bytes());
        patch(&mut out, 40, &self.created.0.to_le_bytes());
        patch(&mut out, 48, &self.generation.to_le_bytes());
        let sum = checksum(out.get(..60).unwrap_or_default());
        patch(&mut out, 60, &sum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    ///
    /// # Errors
    /// Any damage, a different major version included (see [`super::segment_header::newer_major`]).
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fault = |at, damage| DecodeError::new(at, damage);
        let mut reader = Reader::new(bytes);
        if reader.array()? != MANIFEST_MAGIC {
            return Err(fault(0, Damage::Magic));
        }
        let sum = checksum(bytes.get(..60).ok_or_else(|| fault(0, Damage::Truncated))?);
        if u32_at(bytes, 60) != Some(sum) {
            return Err(fault(0, Damage::Checksum));
        }
        if reader.u16()? != FORMAT_MAJOR {
            return Err(fault(8, Damage::Field("major version")));
        }
        reader.u16()?;
        reader.zeros(4, "manifest reserved")?;
        let header = Self {
            store_id: reader.array()?,
            hash_seed: reader.u64()?,
            created: Timestamp(reader.u64()?),
            generation: reader.u64()?,
        };
        reader.zeros(4, "manifest reserved")?;
        Ok(header)
    }
}

/// A segment that exists from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddSegment {
    /// Its id.
    pub id: SegmentId,
    /// Where its records come from.
    pub class: Class,
    /// Its salt, so that records can be verified without reading its header.
    pub salt: u64,
    /// Its horizon.
    pub horizon: SequenceNumber,
    /// First sequence number it may hold, if it is a foreground segment.
    pub first_sequence: SequenceNumber,
}

impl From<&SegmentHeader> for AddSegment {
    fn from(header: &SegmentHeader) -> Self {
        Self {
            id: header.id,
            class: header.class,
            salt: header.salt,
            horizon: header.horizon,
            first_sequence: header.first_sequence,
        }
    }
}

/// A segment that never changes from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealSegment {
    /// Its id.
    pub id: SegmentId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Where records end and the footer begins.
    pub records_end: u64,
    /// Greatest sequence number in it.
    pub sequence_max: SequenceNumber,
    /// Earliest expiry in it; all ones if nothing expires.
    pub expiry_min: Timestamp,
    /// Latest expiry in it; all ones if some put never expires.
    pub expiry_max: Timestamp,
    /// Records with a key.
    pub entries: u32,
    /// Deletes and scope cuts.
    pub tombstones: u32,
    /// Puts and deletes that may have older versions elsewhere.
    pub not_fresh: u32,
    /// Checksum of the footer's trailer, which binds the whole file.
    pub trailer_checksum: u32,
}

/// One change of what the store consists of. The kinds stand on disk: never change one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// 1: a segment exists.
    Add(AddSegment),
    /// 2: a segment is sealed.
    Seal(SealSegment),
    /// 3: the outputs (added and sealed in the same frame) stand for the inputs, which are retired.
    Replace {
        /// Segments that are retired.
        inputs: Vec<SegmentId>,
        /// Segments that hold what was live in them.
        outputs: Vec<SegmentId>,
        /// Every liveness test of the job saw the log up to here.
        at: SequenceNumber,
    },
    /// 4: a segment is retired; nothing in it matters.
    Retire(SegmentId),
    /// 5: this checkpoint is valid and holds every record up to a sequence number.
    Checkpoint {
        /// Its number, from its name.
        number: u64,
        /// The index in it covers at least this much.
        sequence: SequenceNumber,
    },
    /// 6: store time was at least this.
    Clock(Timestamp),
    /// 7: nothing below these is free any more.
    Floors {
        /// Least segment id (and checkpoint number) never used.
        segment: SegmentId,
        /// Least sequence number never used.
        sequence: SequenceNumber,
    },
    /// 8: closed properly; counts only as the last edit of the file.
    Clean,
    /// 9: a damaged segment was set aside under its quarantine name.
    Quarantine(SegmentId),
    /// 10 (skippable): a named property of the store.
    Property {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// 11 (skippable): every record of the log up to this one was on the device.
    Synced(SequenceNumber),
    /// A kind not known here that may be ignored.
    Skipped(u16),
}

impl Edit {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; EDIT_BYTES]);
        let mut flags = 0;
        let kind: u16 = match self {
            Self::Add(add) => {
                put_u64(out, add.id.0);
                put_u64(out, u64::from(add.class.0));
                put_u64(out, add.salt);
                put_u64(out, add.horizon.0);
                put_u64(out, add.first_sequence.0);
                1
            }
            Self::Seal(seal) => {
                encode_seal(seal, out);
                2
            }
            Self::Replace { inputs, outputs, at } => {
                put_u64(out, at.0);
                put_u64(out, inputs.len() as u64);
                inputs.iter().chain(outputs).for_each(|id| put_u64(out, id.0));
                3
            }
            Self::Retire(id) => {
                put_u64(out, id.0);
                4
            }
            Self::Checkpoint { number, sequence } => {
                put_u64(out, *number);
                put_u64(out, sequence.0);
                5
            }
            Self::Clock(time) => {
                put_u64(out, time.0);
                6
            }
            Self::Floors { segment, sequence } => {
                put_u64(out, segment.0);
                put_u64(out, sequence.0);
                7
            }
            Self::Clean => 8,
            Self::Quarantine(id) => {
                put_u64(out, id.0);
                9
            }
            Self::Property { name, value } => {
                flags = EDIT_SKIPPABLE;
                put_u64(out, name.len() as u64);
                out.extend_from_slice(name);
                out.extend_from_slice(value);
                10
            }
            Self::Synced(sequence) => {
                flags = EDIT_SKIPPABLE;
                put_u64(out, sequence.0);
                11
            }
            Self::Skipped(kind) => {
                flags = EDIT_SKIPPABLE;
                *kind
            }
        };
        let content = u32::try_from(out.len() - start - EDIT_BYTES).unwrap_or(u32::MAX);
        patch(out, start, &kind.to_le_bytes());
        patch(out, start + 2, &flags.to_le_bytes());
        patch(out, start + 4, &content.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u16()?;
        let flags = reader.u16()?;
        let bytes = reader.u32()? as usize;
        let base = reader.at() as u64;
        let mut content = Reader::new(reader.take(bytes)?);
        let edit = decode_content(kind, flags, &mut content, bytes)
            .map_err(|fault| DecodeError::new(base + fault.at, fault.damage))?;
        if content.remaining() > 0 {
            return Err(DecodeError::new(base, Damage::Length));
        }
        Ok(edit)
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn encode_seal(seal: &SealSegment, out: &mut Vec<u8>) {
    for value in [
        seal.id.0,
        seal.file_bytes,
        seal.records_end,
        seal.sequence_max.0,
        seal.expiry_min.0,
        seal.expiry_max.0,
    ] {
        put_u64(out, value);
    }
    for value in [seal.entries, seal.tombstones, seal.not_fresh, seal.trailer_checksum] {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn decode_property(reader: &mut Reader<'_>) -> Result<Edit, DecodeError> {
    let name_bytes = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    let name = reader.take(name_bytes)?.to_vec();
    let value = reader.take(reader.remaining())?.to_vec();
    Ok(Edit::Property { name, value })
}

fn decode_content(
    kind: u16,
    flags: u16,
    reader: &mut Reader<'_>,
    bytes: usize,
) -> Result<Edit, DecodeError> {
    let may_be_skipped = flags == EDIT_SKIPPABLE;
    if flags != 0 && !may_be_skipped || (1..=9).contains(&kind) && may_be_skipped {
        return Err(reader.fault(Damage::Field("manifest edit flags")));
    }
    Ok(match kind {
        1 => Edit::Add(AddSegment {
            id: SegmentId(reader.u64()?),
            class: {
                let class = Class(reader.u8()?);
                reader.zeros(7, "segment class")?;
                class
            },
            salt: reader.u64()?,
            horizon: SequenceNumber(reader.u64()?),
            first_sequence: SequenceNumber(reader.u64()?),
        }),
        2 => Edit::Seal(SealSegment {
            id: SegmentId(reader.u64()?),
            file_bytes: reader.u64()?,
            records_end: reader.u64()?,
            sequence_max: SequenceNumber(reader.u64()?),
            expiry_min: Timestamp(reader.u64()?),
            expiry_max: Timestamp(reader.u64()?),
            entries: reader.u32()?,
            tombstones: reader.u32()?,
            not_fresh: reader.u32()?,
            trailer_checksum: reader.u32()?,
        }),
        3 => {
            let at = SequenceNumber(reader.u64()?);
            let inputs = reader.u64()?;
            let ids = (reader.remaining() / 8) as u64;
            if inputs > ids {
                return Err(reader.fault(Damage::Length));
            }
            let mut both = (Vec::new(), Vec::new());
            for index in 0..ids {
                let side = if index < inputs { &mut both.0 } else { &mut both.1 };
                side.push(SegmentId(reader.u64()?));
            }
            Edit::Replace { inputs: both.0, outputs: both.1, at }
        }
        4 => Edit::Retire(SegmentId(reader.u64()?)),
        5 => Edit::Checkpoint { number: reader.u64()?, sequence: SequenceNumber(reader.u64()?) },
        6 => Edit::Clock(Timestamp(reader.u64()?)),
        7 => Edit::Floors {
            segment: SegmentId(reader.u64()?),
            sequence: SequenceNumber(reader.u64()?),
        },
        8 => Edit::Clean,
        9 => Edit::Quarantine(SegmentId(reader.u64()?)),
        10 => decode_property(reader)?,
        11 => Edit::Synced(SequenceNumber(reader.u64()?)),
        _ if may_be_skipped => {
            reader.take(bytes)?;
            Edit::Skipped(kind)
        }
        _ => return Err(reader.fault(Damage::Field("manifest edit"))),
    })
}

/// The seed of a frame's checksum. The generation is spread over all bits, so that no place in one generation has
/// the seed of a place nearby in the next.
#[must_use]
pub const fn frame_seed(generation: u64, offset: u64) -> u32 {
    seed(generation.wrapping_mul(0x9e37_79b9_7f4a_7c15), offset)
}

/// Appends a frame of `edits` that will stand at `offset` of the file.
pub fn encode_frame(edits: &[Edit], generation: u64, number: u64, offset: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    edits.iter().for_each(|edit| edit.encode(out));
    let payload = out.len() - start - FRAME_BYTES;
    let length = u32::try_from(payload).expect("a frame of edits is far smaller than 4 GiB");
    patch(out, start + 4, &length.to_le_bytes());
    patch(out, start + 8, &number.to_le_bytes());
    out.resize(out.len() + (payload.wrapping_neg() & 7), 0);
    let covered = out.get(start + 4..).unwrap_or_default();
    let sum = checksum_from(frame_seed(generation, offset), covered);
    patch(out, start, &sum.to_le_bytes());
}

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// 1, 2, 3 in each generation.
    pub number: u64,
    /// Its edits, in order.
    pub edits: Vec<Edit>,
    /// Bytes of the frame, padding included.
    pub bytes: u64,
}

/// The frame at the start of `bytes`, which stands at `offset` of the file.
///
/// # Errors
/// Any damage, with the offset within `bytes`.
pub fn decode_frame(bytes: &[u8], generation: u64, offset: u64) -> Result<Frame, DecodeError> {
    let fault = |at, damage| DecodeError::new(at, damage);
    let mut reader = Reader::new(bytes);
    let sum = reader.u32()?;
    let payload = u64::from(reader.u32()?);
    let number = reader.u64()?;
    let total = align8(FRAME_BYTES as u64 + payload);
    let end = usize::try_from(total).map_err(|_| fault(4, Damage::Length))?;
    let covered = bytes.get(4..end).ok_or_else(|| fault(4, Damage::Length))?;
    if checksum_from(frame_seed(generation, offset), covered) != sum {
        return Err(fault(0, Damage::Checksum));
    }
    let payload = usize::try_from(payload).map_err(|_| fault(4, Damage::Length))?;
    let mut content = Reader::new(reader.take(payload)?);
    let mut edits = Vec::new();
    while content.remaining() > 0 {
        let edit = Edit::decode(&mut content)
            .map_err(|e| DecodeError::new(FRAME_BYTES as u64 + e.at, e.damage))?;
        edits.push(edit);
    }
    Ok(Frame { number, edits, bytes: total })
}
