//! One record out, verified.

use std::sync::Arc;

use super::{Body, RECORDS_AT, Sealed, Segment, value::Value};
use crate::{
    error::{Damage, DecodeError, Error, Result},
    format::record::{
        Decoded, HEADER_BYTES, Head, claimed_bytes, claimed_head_bytes, decode_head_within,
        verify_value,
    },
    io::read_up_to_at,
};

/// How much of a record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The head: the key, but not a byte of the value.
    Head,
    /// All of it.
    Whole,
}

impl Depth {
    /// Bytes of this much of a record, as it claims itself.
    fn claimed(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Self::Head => claimed_head_bytes(bytes),
            Self::Whole => claimed_bytes(bytes),
        }
    }
}

/// The bytes of one record, wherever they stand.
#[derive(Debug)]
pub(crate) enum RecordBytes {
    /// In the segment's map; up to the end of its records.
    Mapped {
        start: usize,
        end: usize,
    },
    Owned(Vec<u8>),
}

impl RecordBytes {
    /// The bytes; `segment` is the one they were read from.
    #[inline]
    pub(crate) fn of<'a>(&'a self, segment: &'a Segment) -> &'a [u8] {
        match self {
            Self::Mapped { start, end } => &segment.mapped()[*start..*end],
            Self::Owned(bytes) => bytes,
        }
    }

    /// The value of the record, whose head has been decoded from these bytes.
    #[inline]
    pub(crate) fn into_value(
        self,
        segment: Arc<Segment>,
        head_bytes: usize,
        value_bytes: usize,
    ) -> Value {
        match self {
            Self::Mapped { start, .. } => Value::mapped(segment, start + head_bytes, value_bytes),
            Self::Owned(mut bytes) => {
                bytes.truncate(head_bytes + value_bytes);
                bytes.drain(..head_bytes);
                Value::owned(bytes)
            }
        }
    }
}

impl Segment {
    /// The bytes of the record at `offset`: as much as was asked for, or more, unless the file is damaged. `None`
    /// if there is no record of this segment at `offset`.
    #[inline]
    pub(crate) fn record(
        &self,
        offset: u64,
        hint: u64,
        depth: Depth,
    ) -> Result<Option<RecordBytes>> {
        loop {
            if let Some(sealed) = self.as_sealed() {
                if offset >= sealed.records_end {
                    return Ok(None);
                }
                return match &sealed.body {
                    Body::Map(_) => {
                        let start = usize::try_from(offset).unwrap_or(usize::MAX);
                        let end = usize::try_from(sealed.records_end).unwrap_or(usize::MAX);
                        Ok(Some(RecordBytes::Mapped { start, end }))
                    }
                    Body::File(_) => self.record_from_file(sealed, offset, hint, depth).map(Some),
                };
            }
            if let Some(record) = self.record_from_image(offset, depth) {
                return Ok(Some(record));
            }
            // The image is given up only after the segment is sealed: then the file has the record.
            if self.as_sealed().is_none() {
                return Ok(None);
            }
        }
    }

    fn record_from_image(&self, offset: u64, depth: Depth) -> Option<RecordBytes> {
        let image = self.image();
        let rest = image.get(usize::try_from(offset.checked_sub(RECORDS_AT)?).ok()?..)?;
        let length = usize::try_from(depth.claimed(rest)?).ok()?.min(rest.len());
        Some(RecordBytes::Owned(rest[..length].to_vec()))
    }

    /// Pulls the start of the record at `offset` towards the processor, if it is mapped.
    #[inline]
    pub(crate) fn first_byte(&self, offset: u64) -> u8 {
        match self.as_sealed() {
            Some(Sealed { body: Body::Map(map), .. }) => {
                usize::try_from(offset).ok().and_then(|at| map.get(at)).copied().unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// A positioned read of `hint` bytes, which nearly always hold the record, and of more if they do not.
    fn record_from_file(
        &self,
        sealed: &Sealed,
        offset: u64,
        hint: u64,
        depth: Depth,
    ) -> Result<RecordBytes> {
        let Body::File(file) = &sealed.body else { unreachable!("asked for files only") };
        let room = sealed.records_end - offset;
        let failed = |source| Error::io("read", &self.path, source);
        let read = |length: u64| {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            let count = read_up_to_at(file.as_ref(), &mut bytes, offset).map_err(failed)?;
            bytes.truncate(count);
            Ok::<_, Error>(bytes)
        };
        // Heads are short: a whole record is asked for in one read, a head in one short one.
        let hint = if depth == Depth::Head { hint.min(512) } else { hint };
        let first = hint.max(4 * HEADER_BYTES as u64).min(room);
        let mut bytes = read(first)?;
        // The claimed length is not verified yet; it is bounded by the file before it sizes anything.
        let mut claimed = depth.claimed(&bytes);
        if claimed.is_none() && first < room {
            bytes = read(room.min(256 << 10))?;
            claimed = depth.claimed(&bytes);
        }
        match claimed {
            Some(length) if length > bytes.len() as u64 && length <= room => {
                Ok(RecordBytes::Owned(read(length)?))
            }
            _ => Ok(RecordBytes::Owned(bytes)),
        }
    }

    /// The head of a record whose bytes are `bytes`.
    #[inline]
    pub(crate) fn head<'a>(&self, bytes: &'a [u8], offset: u64) -> Result<Head<'a>> {
        let end = self.as_sealed().map_or(u64::MAX, |sealed| sealed.records_end);
        match decode_head_within(bytes, end.saturating_sub(offset), self.add.salt, offset) {
            Ok(Decoded::Head(head)) => Ok(head),
            Ok(Decoded::Unwritten) => {
                Err(DecodeError::new(0, Damage::Truncated).in_file(&self.path, offset))
            }
            Err(fault) => Err(fault.in_file(&self.path, offset)),
        }
    }

    /// Checks the value of a record against its checksum.
    #[inline]
    pub(crate) fn check_value(&self, bytes: &[u8], head: &Head<'_>, offset: u64) -> Result<()> {
        match verify_value(bytes, head) {
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.in_file(&self.path, offset)),
        }
    }
}
