//! A record: one framed change to one key, padded to a multiple of 8 bytes.
//!
//! | at | bytes | field          | note                                                        |
//! |---:|------:|----------------|-------------------------------------------------------------|
//! |  0 |     4 | head checksum  | of the head after this field, seeded with salt and offset   |
//! |  4 |     1 | kind           | see [`Kind`]; 0 marks unwritten space                       |
//! |  5 |     1 | flags          | see [`Flags`]                                               |
//! |  6 |     2 | key bytes      | 0 is a legal key                                            |
//! |  8 |     4 | value bytes    |                                                             |
//! | 12 |     4 | value checksum | of the value and the padding, not seeded                    |
//! | 16 |     8 | sequence       | never 0                                                     |
//!
//! Then, in this order: the expiry (8 bytes of milliseconds) if `EXPIRES` is set; the extension if `EXTENDED`
//! is set; the key; the value; zero padding. The *head* is everything before the value. It binds the value
//! through the value checksum, so a value cannot be exchanged for another, and a key can be verified without
//! reading its value.
//!
//! The extension: items bytes (2), codec id (1), reserved (1, zero), schema version (4), then items of
//! kind (1), length (1), bytes. A kind with [`ITEM_SKIPPABLE`] set may be ignored by a reader that does not
//! know it; any other unknown kind makes the record unreadable for it.

use super::{
    checksum::{checksum, checksum_from, seed},
    wire::{Reader, align8, patch, u32_at},
};
use crate::{
    error::{Damage, DecodeError},
    types::{SequenceNumber, Timestamp},
};

/// Bytes of the fixed part of the head.
pub const HEADER_BYTES: usize = 24;
/// Bytes of the expiry field.
pub const EXPIRY_BYTES: usize = 8;
/// Bytes of the extension before its items.
pub const EXTENSION_BYTES: usize = 8;
/// Longest key a record can hold.
pub const KEY_BYTES_MAX: u64 = u16::MAX as u64;
/// Longest list of extension items a record can hold.
pub const ITEMS_BYTES_MAX: u64 = u16::MAX as u64;
/// Longest value a record can hold; the configured limit is lower.
pub const VALUE_BYTES_MAX: u64 = 1 << 31;
/// Set in the kind of an extension item that a reader may ignore.
pub const ITEM_SKIPPABLE: u8 = 0x80;
/// A scope this record belongs to: 1 to 255 bytes of its name.
pub const ITEM_SCOPE: u8 = 1;
/// The expiry in this head was set by the touch with this sequence number (8 bytes).
pub const ITEM_TOUCHED: u8 = 2;
/// How the value is compressed: algorithm (1), bytes when unpacked (4).
pub const ITEM_COMPRESSION: u8 = 3;
/// With which key the value is sealed: its id.
pub const ITEM_SEAL: u8 = 4;
/// When the value was stored: 8 bytes of milliseconds.
pub const ITEM_STORED_AT: u8 = ITEM_SKIPPABLE | 1;
/// First of the kinds left to the layer above, up to 0x7f.
pub const ITEM_USER_FIRST: u8 = 0x20;
/// Last of the kinds left to the layer above.
pub const ITEM_USER_LAST: u8 = 0x7f;

/// What a record says about its key. These numbers stand on disk: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has this value from now on.
    Put = 1,
    /// The key is gone from now on (a tombstone).
    Delete = 2,
    /// The put whose sequence number is the 8-byte value has this expiry from now on.
    Touch = 3,
    /// The records of a batch are complete, and what is durable so far; see [`Commit`].
    Commit = 4,
    /// Every record of the scope named by the key with a smaller sequence number is gone.
    ScopeCut = 5,
    /// A note for tools; means nothing for any key.
    Note = 6,
}

impl Kind {
    /// The kind written as `byte`, if it is one known here.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Touch),
            4 => Some(Self::Commit),
            5 => Some(Self::ScopeCut),
            6 => Some(Self::Note),
            _ => None,
        }
    }
}

/// Flags of a record, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// An expiry field follows the header.
    pub const EXPIRES: Self = Self(1);
    /// Counts only if the commit marker of its batch follows.
    pub const BATCH: Self = Self(1 << 1);
    /// The index knew no version of the key when this was written.
    pub const FRESH: Self = Self(1 << 2);
    /// The value is compressed as an extension item says.
    pub const COMPRESSED: Self = Self(1 << 3);
    /// May be forgotten to stay under a limit.
    pub const EVICTABLE: Self = Self(1 << 4);
    /// A reader that does not know the kind may ignore the record.
    pub const SKIPPABLE: Self = Self(1 << 5);
    /// An extension follows.
    pub const EXTENDED: Self = Self(1 << 6);
    /// The one bit that is always zero.
    const RESERVED: Self = Self(1 << 7);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The extension of a record: what is known of its value, and items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// How the typed layer encoded the value; 0 = raw bytes.
    pub codec: u8,
    /// Version of the value's schema; 0 = none.
    pub schema: u32,
    /// The encoded items, checked to be well formed.
    pub items: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The items as (kind, bytes).
    pub fn items(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.items);
        std::iter::from_fn(move || {
            let kind = reader.u8().ok()?;
            let length = reader.u8().ok()?;
            Some((kind, reader.take(usize::from(length)).ok()?))
        })
    }

    /// Names of the scopes the record belongs to.
    pub fn scopes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.items().filter(|(kind, _)| *kind == ITEM_SCOPE).map(|(_, name)| name)
    }

    /// Sequence number of the touch that set the expiry in this head, if compaction folded one in.
    #[must_use]
    pub fn touched(&self) -> Option<SequenceNumber> {
        let (_, bytes) = self.items().find(|(kind, _)| *kind == ITEM_TOUCHED)?;
        Some(SequenceNumber(u64::from_le_bytes(bytes.try_into().ok()?)))
    }
}

/// Everything before the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Kind byte as written; unknown kinds are possible on records marked SKIPPABLE.
    pub kind: Option<Kind>,
    /// Flags as written.
    pub flags: Flags,
    /// Order of this write.
    pub sequence: SequenceNumber,
    /// When the record stops to be live.
    pub expires_at: Option<Timestamp>,
    /// The extension, if there is one.
    pub extension: Option<Extension<'a>>,
    /// The key.
    pub key: &'a [u8],
    /// Bytes of the value.
    pub value_bytes: u32,
    /// Checksum over value and padding.
    pub value_checksum: u32,
    /// Checksum over this head.
    pub head_checksum: u32,
    /// Bytes of the head: the value begins here.
    pub head_bytes: usize,
    /// Bytes of the whole record, padding included.
    pub record_bytes: u64,
}

/// How long the record at the start of `bytes` claims to be, before any checksum: bound it first.
/// `None` if `bytes` ends before the answer.
#[must_use]
pub fn claimed_bytes(bytes: &[u8]) -> Option<u64> {
    let (head, value) = claimed_lengths(bytes)?;
    Some(align8(head.checked_add(value)?))
}

/// How long the head of that record claims to be.
#[must_use]
pub fn claimed_head_bytes(bytes: &[u8]) -> Option<u64> {
    Some(claimed_lengths(bytes)?.0)
}

/// Bytes of the head and of the value, as the header claims.
fn claimed_lengths(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader::new(bytes.get(5..)?);
    let flags = Flags(reader.u8().ok()?);
    let key_bytes = reader.u16().ok()?;
    let value_bytes = u32_at(bytes, 8)?;
    let mut at = HEADER_BYTES;
    if flags.has(Flags::EXPIRES) {
        at += EXPIRY_BYTES;
    }
    if flags.has(Flags::EXTENDED) {
        let items = bytes.get(at..at + 2)?;
        at += EXTENSION_BYTES + usize::from(u16::from_le_bytes(items.try_into().ok()?));
    }
    Some((at as u64 + u64::from(key_bytes), u64::from(value_bytes)))
}

/// What stands at a record's place.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A head whose checksum holds. The value is not checked yet: see [`verify_value`].
    Head(Head<'a>),
    /// Unwritten space: a header of zeros.
    Unwritten,
}

/// Decodes the head of the record at the start of `bytes`, which may go on beyond the record.
///
/// # Errors
/// Any damage, with its offset within `bytes`. A record that claims to end after `bytes` is damaged here.
pub fn decode_head(bytes: &[u8], salt: u64, offset: u64) -> Result<Decoded<'_>, DecodeError> {
    decode_head_within(bytes, bytes.len() as u64, salt, offset)
}

/// As [`decode_head`], of bytes that may end with the head: the record must fit in `room`.
///
/// # Errors
/// As [`decode_head`].
pub fn decode_head_within(
    bytes: &[u8],
    room: u64,
    salt: u64,
    offset: u64,
) -> Result<Decoded<'_>, DecodeError> {
    let fault = |at: u64, damage| DecodeError::new(at, damage);
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| fault(0, Damage::Truncated))?;
    if header.iter().all(|&byte| byte == 0) {
        return Ok(Decoded::Unwritten);
    }
    let (head_bytes, value_bytes) =
        claimed_lengths(bytes).ok_or_else(|| fault(6, Damage::Length))?;
    let record_bytes = align8(head_bytes + value_bytes);
    if record_bytes > room {
        return Err(fault(6, Damage::Length));
    }
    let head_bytes = usize::try_from(head_bytes).map_err(|_| fault(6, Damage::Length))?;
    let head = bytes.get(..head_bytes).ok_or_else(|| fault(6, Damage::Length))?;
    let mut reader = Reader::new(head);
    let head_checksum = reader.u32()?;
    let covered = head.get(4..).unwrap_or_default();
    if checksum_from(seed(salt, offset), covered) != head_checksum {
        return Err(fault(0, Damage::Checksum));
    }
    let kind = Kind::from_byte(reader.u8()?);
    let flags = Flags(reader.u8()?);
    if flags.has(Flags::RESERVED) {
        return Err(fault(5, Damage::Field("flags")));
    }
    if kind.is_none() && !flags.has(Flags::SKIPPABLE) {
        return Err(fault(4, Damage::Field("kind")));
    }
    let key_bytes = usize::from(reader.u16()?);
    let value_bytes = reader.u32()?;
    let value_checksum = reader.u32()?;
    let sequence = SequenceNumber(reader.u64()?);
    if sequence.0 == 0 {
        return Err(fault(16, Damage::Field("sequence")));
    }
    let expires_at = if flags.has(Flags::EXPIRES) { Some(Timestamp(reader.u64()?)) } else { None };
    let extension =
        if flags.has(Flags::EXTENDED) { Some(decode_extension(&mut reader)?) } else { None };
    let key = reader.take(key_bytes)?;
    Ok(Decoded::Head(Head {
        kind,
        flags,
        sequence,
        expires_at,
        extension,
        key,
        value_bytes,
        value_checksum,
        head_checksum,
        head_bytes,
        record_bytes,
    }))
}

fn decode_extension<'a>(reader: &mut Reader<'a>) -> Result<Extension<'a>, DecodeError> {
    let items_bytes = usize::from(reader.u16()?);
    let codec = reader.u8()?;
    reader.zeros(1, "extension reserved")?;
    let schema = reader.u32()?;
    let at = reader.at() as u64;
    let items = reader.take(items_bytes)?;
    check_items(items).map_err(|fault| DecodeError::new(at + fault.at, fault.damage))?;
    Ok(Extension { codec, schema, items })
}

/// Whether `items` are whole items of known or skippable kinds.
///
/// # Errors
/// The first item that is neither.
pub fn check_items(items: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(items);
    while reader.remaining() > 0 {
        let at = reader.at() as u64;
        let kind = reader.u8()?;
        let length = usize::from(reader.u8()?);
        reader.take(length)?;
        let known = match kind {
            ITEM_SCOPE => length > 0,
            ITEM_TOUCHED => length == 8,
            ITEM_COMPRESSION => length == 5,
            ITEM_SEAL => true,
            ITEM_USER_FIRST..=ITEM_USER_LAST => true,
            _ => kind & ITEM_SKIPPABLE != 0,
        };
        if !known {
            return Err(DecodeError::new(at, Damage::Field("extension item")));
        }
    }
    Ok(())
}

/// Appends one item to a list of items.
///
/// # Panics
/// If `bytes` is longer than 255: the door refuses that before.
pub fn push_item(items: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).expect("item lengths are checked at the door");
    items.push(kind);
    items.push(length);
    items.extend_from_slice(bytes);
}

/// The value of a record whose head is `head`, checked. `record` begins where the head began.
///
/// # Errors
/// [`Damage::Checksum`] at the value's offset.
pub fn verify_value<'a>(record: &'a [u8], head: &Head<'_>) -> Result<&'a [u8], DecodeError> {
    let fault = |damage| DecodeError::new(head.head_bytes as u64, damage);
    let end = usize::try_from(head.record_bytes).map_err(|_| fault(Damage::Length))?;
    let body = record.get(head.head_bytes..end).ok_or_else(|| fault(Damage::Truncated))?;
    if checksum(body) != head.value_checksum {
        return Err(fault(Damage::Checksum));
    }
    let value_bytes = usize::try_from(head.value_bytes).map_err(|_| fault(Damage::Length))?;
    body.get(..value_bytes).ok_or_else(|| fault(Damage::Length))
}

/// What a new record says; the turn adds sequence, offset and a few flags by [`stamp`].
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What it says about the key.
    pub kind: Kind,
    /// Flags but EXPIRES and EXTENDED, which follow from the fields below.
    pub flags: Flags,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// When the record stops to be live.
    pub expires_at: Option<Timestamp>,
    /// The extension, if there is one.
    pub extension: Option<Extension<'a>>,
}

/// Appends the record to `out`, without sequence number and head checksum, and says how long its head is.
///
/// # Panics
/// If key, items or value are over the hard limits: the door refuses that before.
pub fn encode(draft: &Draft<'_>, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let mut flags = draft.flags.without(Flags::EXPIRES).without(Flags::EXTENDED);
    let mut head_bytes = HEADER_BYTES + draft.key.len();
    if draft.expires_at.is_some() {
        flags = flags.with(Flags::EXPIRES);
        head_bytes += EXPIRY_BYTES;
    }
    if let Some(extension) = &draft.extension {
        flags = flags.with(Flags::EXTENDED);
        head_bytes += EXTENSION_BYTES + extension.items.len();
    }
    let unpadded = head_bytes + draft.value.len();
    let padding = unpadded.wrapping_neg() & 7;
    out.reserve(unpadded + padding);
    let key_bytes = u16::try_from(draft.key.len()).expect("key lengths are checked at the door");
    let value_bytes =
        u32::try_from(draft.value.len()).expect("value lengths are checked at the door");
    let mut header = [0; HEADER_BYTES];
    patch(&mut header, 4, &[draft.kind as u8, flags.0]);
    patch(&mut header, 6, &key_bytes.to_le_bytes());
    patch(&mut header, 8, &value_bytes.to_le_bytes());
    out.extend_from_slice(&header);
    if let Some(expiry) = draft.expires_at {
        out.extend_from_slice(&expiry.0.to_le_bytes());
    }
    if let Some(extension) = &draft.extension {
        let items_bytes =
            u16::try_from(extension.items.len()).expect("item lengths are checked at the door");
        out.extend_from_slice(&items_bytes.to_le_bytes());
        out.extend_from_slice(&[extension.codec, 0]);
        out.extend_from_slice(&extension.schema.to_le_bytes());
        out.extend_from_slice(extension.items);
    }
    out.extend_from_slice(draft.key);
    out.extend_from_slice(draft.value);
    out.resize(out.len() + padding, 0);
    let body = out.get(start + head_bytes..).unwrap_or_default();
    let value_checksum = checksum(body);
    patch(out, start + 12, &value_checksum.to_le_bytes());
    head_bytes
}

/// Finishes a record for its place in a segment: sequence number, extra flags, head checksum.
/// Works on a fresh record and on one that is copied to another place. Returns the head checksum.
pub fn stamp(
    record: &mut [u8],
    head_bytes: usize,
    sequence: SequenceNumber,
    flags: Flags,
    salt: u64,
    offset: u64,
) -> u32 {
    debug_assert!(sequence.0 != 0, "sequence numbers start at 1");
    patch(record, 5, &[flags.0]);
    patch(record, 16, &sequence.0.to_le_bytes());
    let covered = record.get(4..head_bytes).unwrap_or_default();
    let head_checksum = checksum_from(seed(salt, offset), covered);
    patch(record, 0, &head_checksum.to_le_bytes());
    head_checksum
}

/// The flags byte of an encoded record.
#[must_use]
pub fn flags_of(record: &[u8]) -> Flags {
    Flags(record.get(5).copied().unwrap_or_default())
}

/// The value of a commit marker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Bytes of this segment that a completed device sync covered when the marker was written.
    pub durable_offset: u64,
    /// Highest sequence number, in any segment, that a completed device sync covered by then.
    pub durable_sequence: SequenceNumber,
    /// Records of the batch that this marker ends; 0 if it ends none.
    pub batch_records: u32,
    /// Checksum over the head checksums of those records, in order.
    pub batch_checksum: u32,
}

impl Commit {
    /// Bytes of the value.
    pub const BYTES: usize = 24;

    /// The marker as a value.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut value = [0; Self::BYTES];
        patch(&mut value, 0, &self.durable_offset.to_le_bytes());
        patch(&mut value, 8, &self.durable_sequence.0.to_le_bytes());
        patch(&mut value, 16, &self.batch_records.to_le_bytes());
        patch(&mut value, 20, &self.batch_checksum.to_le_bytes());
        value
    }

    /// The marker that `value` holds.
    ///
    /// # Errors
    /// If `value` is not 24 bytes long.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let marker = Self {
            durable_offset: reader.u64()?,
            durable_sequence: SequenceNumber(reader.u64()?),
            batch_records: reader.u32()?,
            batch_checksum: reader.u32()?,
        };
        if reader.remaining() > 0 {
            return Err(reader.fault(Damage::Length));
        }
        Ok(marker)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
