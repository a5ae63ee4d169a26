//! The first 4 KiB of a segment: who it is, so that a directory without a manifest still explains itself.
//!
//! | at   | bytes | field         | note                                                          |
//! |-----:|------:|---------------|---------------------------------------------------------------|
//! |    0 |     8 | magic         | `TIERCESG`                                                    |
//! |    8 |     2 | major         | a reader refuses a newer one                                  |
//! |   10 |     2 | minor         |                                                               |
//! |   12 |     1 | class         | 0 foreground, 1 rewritten by recovery, 2 and up compaction    |
//! |   13 |     3 | reserved      | zero                                                          |
//! |   16 |    16 | store id      | the same in every file of a store                             |
//! |   32 |     8 | segment id    | the same as in the file's name                                |
//! |   40 |     8 | salt          | seeds every record head's checksum                            |
//! |   48 |     8 | horizon       | no record of a key that is older than this can appear by copy |
//! |   56 |     8 | first sequence| of a foreground segment: the first it may hold                |
//! |   64 |     8 | created       | store time, milliseconds                                      |
//! |   72 |     8 | monotonic     | milliseconds of the machine's monotonic clock                 |
//! |   80 |    16 | boot id       | of the machine, zero if unknown                               |
//! |   96 |     4 | parents count | up to 256                                                     |
//! |  100 |     4 | reserved      | zero                                                          |
//! |  104 |  2048 | parents       | ids of the segments this one was made from                    |
//! | 2152 |  1940 | reserved      | zero                                                          |
//! | 4092 |     4 | checksum      | of all bytes before                                           |

use super::{
    FORMAT_MAJOR, FORMAT_MINOR,
    checksum::checksum,
    wire::{Reader, patch, u32_at},
};
use crate::{
    error::{Damage, DecodeError},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// Bytes of the header; records begin here.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// The first bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"TIERCESG";
/// Most parents a header can name.
pub const PARENTS_MAX: usize = 256;
const PARENTS_AT: usize = 104;
const CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// Where the records of a segment came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u8);

impl Class {
    /// Written by users' writes, in order of sequence numbers.
    pub const FOREGROUND: Self = Self(0);
    /// Rewritten from an unsealed segment after a crash or a failed write; still in order.
    pub const REWRITTEN: Self = Self(1);
    /// First of the output streams of compaction.
    pub const COMPACTED: Self = Self(2);
}

/// Who a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where its records came from.
    pub class: Class,
    /// The store it belongs to.
    pub store_id: [u8; 16],
    /// Its own id.
    pub id: SegmentId,
    /// Seeds every record head's checksum.
    pub salt: u64,
    /// If this is greater than a tombstone's sequence number, this segment holds no older version of its key.
    pub horizon: SequenceNumber,
    /// First sequence number a foreground segment may hold.
    pub first_sequence: SequenceNumber,
    /// Store time at creation.
    pub created: Timestamp,
    /// Monotonic clock at creation, milliseconds.
    pub monotonic_ms: u64,
    /// The machine's boot, zero if unknown.
    pub boot_id: [u8; 16],
    /// Segments this one was made from, at most [`PARENTS_MAX`].
    pub parents: Vec<SegmentId>,
}

impl SegmentHeader {
    /// The header as the first 4 KiB of a file. Parents beyond [`PARENTS_MAX`] are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SEGMENT_HEADER_BYTES];
        let parents = self.parents.get(..PARENTS_MAX).unwrap_or(&self.parents);
        patch(&mut out, 0, &SEGMENT_MAGIC);
        patch(&mut out, 8, &FORMAT_MAJOR.to_le_bytes());
        patch(&mut out, 10, &FORMAT_MINOR.to_le_bytes());
        patch(&mut out, 12, &[self.class.0]);
        patch(&mut out, 16, &self.store_id);
        patch(&mut out, 32, &self.id.0.to_le_bytes());
        patch(&mut out, 40, &self.salt.to_le_bytes());
        patch(&mut out, 48, &self.horizon.0.to_le_bytes());
        patch(&mut out, 56, &self.first_sequence.0.to_le_bytes());
        patch(&mut out, 64, &self.created.0.to_le_bytes());
        patch(&mut out, 72, &self.monotonic_ms.to_le_bytes());
        patch(&mut out, 80, &self.boot_id);
        let count = u32::try_from(parents.len()).unwrap_or_default();
        patch(&mut out, 96, &count.to_le_bytes());
        for (index, parent) in parents.iter().enumerate() {
            patch(&mut out, PARENTS_AT + index * 8, &parent.0.to_le_bytes());
        }
        let sum = checksum(out.get(..CHECKSUM_AT).unwrap_or_default());
        patch(&mut out, CHECKSUM_AT, &sum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    ///
    /// # Errors
    /// Any damage. A newer major version is `Err` with [`newer_major`] saying which.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fault = |at, damage| DecodeError::new(at, damage);
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES).ok_or_else(|| fault(0, Damage::Truncated))?;
        let mut reader = Reader::new(bytes);
        if reader.array()? != SEGMENT_MAGIC {
            return Err(fault(0, Damage::Magic));
        }
        let sum = checksum(bytes.get(..CHECKSUM_AT).unwrap_or_default());
        if u32_at(bytes, CHECKSUM_AT) != Some(sum) {
            return Err(fault(0, Damage::Checksum));
        }
        if reader.u16()? != FORMAT_MAJOR {
            return Err(fault(8, Damage::Field("major version")));
        }
        reader.u16()?;
        let class = Class(reader.u8()?);
        reader.zeros(3, "segment header reserved")?;
        let header = Self {
            class,
            store_id: reader.array()?,
            id: SegmentId(reader.u64()?),
            salt: reader.u64()?,
            horizon: SequenceNumber(reader.u64()?),
            first_sequence: SequenceNumber(reader.u64()?),
            created: Timestamp(reader.u64()?),
            monotonic_ms: reader.u64()?,
            boot_id: reader.array()?,
            parents: Vec::new(),
        };
        let count = reader.u32()? as usize;
        reader.zeros(4, "segment header reserved")?;
        if count > PARENTS_MAX {
            return Err(fault(96, Damage::Length));
        }
        let mut parents = Vec::with_capacity(count);
        for _ in 0..count {
            parents.push(SegmentId(reader.u64()?));
        }
        reader.zeros(CHECKSUM_AT - reader.at(), "segment header reserved")?;
        Ok(Self { parents, ..header })
    }
}

/// The major version of a header with the right magic number, if it is newer than known here.
#[must_use]
pub fn newer_major(bytes: &[u8], magic: [u8; 8]) -> Option<u16> {
    let mut reader = Reader::new(bytes);
    if reader.array().ok()? != magic {
        return None;
    }
    let major = reader.u16().ok()?;
    (major > FORMAT_MAJOR).then_some(major)
}
