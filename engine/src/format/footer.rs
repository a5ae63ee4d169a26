//! What a sealed segment says of itself at its end: every record by hash, so that the index is rebuilt without
//! reading the records, and whether a key can be in here is answered by a search.
//!
//! `header | records | entries | from-addresses | extension | trailer`, all 8-aligned.
//!
//! An entry (24 bytes), sorted by hash, then sequence number:
//!
//! | at | bytes | field         | note                                                  |
//! |---:|------:|---------------|-------------------------------------------------------|
//! |  0 |     8 | hash          | of the key, with the store's hash seed                |
//! |  8 |     6 | sequence      | minus the trailer's least sequence                    |
//! | 14 |     1 | kind          | put, delete, touch or scope cut                       |
//! | 15 |     1 | flags         | as in the record                                      |
//! | 16 |     4 | offset        | of the record, in units of 8 bytes                    |
//! | 20 |     4 | record bytes  | in units of 8 bytes                                   |
//!
//! A from-address (8 bytes, one per entry in the same order, only if the trailer says so): index into the
//! header's parents (4), offset there in units of 8 bytes (4). The extension holds items like a record's.
//!
//! The trailer (the last 128 bytes of the file):
//!
//! | at  | bytes | field            | note                                                    |
//! |----:|------:|------------------|---------------------------------------------------------|
//! |   0 |     8 | magic            | `TIERCEFT`                                              |
//! |   8 |     2 | version          | 1                                                       |
//! |  10 |     2 | flags            | 1 = from-addresses follow the entries                   |
//! |  12 |     4 | entries          | count                                                   |
//! |  16 |     8 | records end      | offset at which the entries begin                       |
//! |  24 |     8 | least sequence   | of the entries; 0 if there are none                     |
//! |  32 |     8 | greatest sequence| of all records, markers included                        |
//! |  40 |     8 | least expiry     | milliseconds; all ones if nothing expires               |
//! |  48 |     8 | greatest expiry  | all ones if some put never expires; 0 if there is no put|
//! |  56 |     8 | horizon          | as in the header                                        |
//! |  64 |     4 | tombstones       | deletes and scope cuts                                  |
//! |  68 |     4 | not fresh        | puts and deletes without the flag FRESH                 |
//! |  72 |     4 | expiring         | puts with an expiry                                     |
//! |  76 |     4 | extension bytes  |                                                         |
//! |  80 |     8 | live bytes       | when it was sealed; a hint                              |
//! |  88 |     4 | entries checksum | of entries, from-addresses and extension                |
//! |  92 |     4 | records checksum | of all bytes from the header to the entries             |
//! |  96 |     8 | segment id       |                                                         |
//! | 104 |     8 | salt             | as in the header                                        |
//! | 112 |    12 | reserved         | zero                                                    |
//! | 124 |     4 | checksum         | of the trailer before                                   |

use super::{
    checksum::checksum,
    record::{Flags, Kind, check_items},
    segment_header::SEGMENT_HEADER_BYTES,
    wire::{Reader, patch, u32_at, u64_at},
};
use crate::{
    error::{Damage, DecodeError},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// The first bytes of every trailer.
pub const FOOTER_MAGIC: [u8; 8] = *b"TIERCEFT";
/// Version of the footer's layout.
pub const FOOTER_VERSION: u16 = 1;
/// Bytes of one entry.
pub const FOOTER_ENTRY_BYTES: usize = 24;
/// Bytes of one from-address.
pub const FROM_ADDRESS_BYTES: usize = 8;
/// Bytes of the trailer.
pub const FOOTER_TRAILER_BYTES: usize = 128;
/// A segment's sequence numbers must lie within this distance of each other.
pub const SEQUENCE_SPAN_MAX: u64 = (1 << 48) - 1;
const FLAG_FROM: u16 = 1;

/// One record, as the footer remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterEntry {
    /// Hash of the key.
    pub hash: u64,
    /// Order of the write.
    pub sequence: SequenceNumber,
    /// What the record says.
    pub kind: Kind,
    /// Flags of the record.
    pub flags: Flags,
    /// Byte offset of the record.
    pub offset: u64,
    /// Bytes of the record.
    pub bytes: u64,
}

/// Where a copied record was before: index into the header's parents, and byte offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromAddress {
    /// Index into [`super::segment_header::SegmentHeader::parents`].
    pub parent: u32,
    /// Byte offset of the record in that segment.
    pub offset: u64,
}

/// What the trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The segment.
    pub id: SegmentId,
    /// Its salt.
    pub salt: u64,
    /// Its horizon.
    pub horizon: SequenceNumber,
    /// Offset at which records end and entries begin.
    pub records_end: u64,
    /// Count of entries.
    pub entries: u32,
    /// Whether from-addresses follow the entries.
    pub has_from: bool,
    /// Least sequence number of the entries.
    pub sequence_min: SequenceNumber,
    /// Greatest sequence number of all records.
    pub sequence_max: SequenceNumber,
    /// Earliest expiry; all ones if nothing expires.
    pub expiry_min: Timestamp,
    /// Latest expiry; all ones if some put never expires.
    pub expiry_max: Timestamp,
    /// Count of deletes and scope cuts.
    pub tombstones: u32,
    /// Count of puts and deletes that may have older versions elsewhere.
    pub not_fresh: u32,
    /// Count of puts with an expiry.
    pub expiring: u32,
    /// Live bytes at sealing; a hint.
    pub live_bytes: u64,
    /// Bytes of the extension.
    pub extension_bytes: u32,
    /// Checksum of entries, from-addresses and extension.
    pub entries_checksum: u32,
    /// Checksum of all record bytes.
    pub records_checksum: u32,
}

impl Trailer {
    /// The trailer as the last bytes of a file.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_TRAILER_BYTES] {
        let mut out = [0; FOOTER_TRAILER_BYTES];
        patch(&mut out, 0, &FOOTER_MAGIC);
        patch(&mut out, 8, &FOOTER_VERSION.to_le_bytes());
        let flags = if self.has_from { FLAG_FROM } else { 0 };
        patch(&mut out, 10, &flags.to_le_bytes());
        patch(&mut out, 12, &self.entries.to_le_bytes());
        patch(&mut out, 16, &self.records_end.to_le_bytes());
        patch(&mut out, 24, &self.sequence_min.0.to_le_bytes());
        patch(&mut out, 32, &self.sequence_max.0.to_le_bytes());
        patch(&mut out, 40, &self.expiry_min.0.to_le_bytes());
        patch(&mut out, 48, &self.expiry_max.0.to_le_bytes());
        patch(&mut out, 56, &self.horizon.0.to_le_bytes());
        patch(&mut out, 64, &self.tombstones.to_le_bytes());
        patch(&mut out, 68, &self.not_fresh.to_le_bytes());
        patch(&mut out, 72, &self.expiring.to_le_bytes());
        patch(&mut out, 76, &self.extension_bytes.to_le_bytes());
        patch(&mut out, 80, &self.live_bytes.to_le_bytes());
        patch(&mut out, 88, &self.entries_checksum.to_le_bytes());
        patch(&mut out, 92, &self.records_checksum.to_le_bytes());
        patch(&mut out, 96, &self.id.0.to_le_bytes());
        patch(&mut out, 104, &self.salt.to_le_bytes());
        let sum = checksum(out.get(..124).unwrap_or_default());
        patch(&mut out, 124, &sum.to_le_bytes());
        out
    }

    /// The trailer in the last bytes of a file of `file_bytes`, its lengths checked against the file.
    ///
    /// # Errors
    /// Any damage, with the offset within `bytes`.
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self, DecodeError> {
        let fault = |at, damage| DecodeError::new(at, damage);
        let mut reader = Reader::new(bytes);
        if reader.array()? != FOOTER_MAGIC {
            return Err(fault(0, Damage::Magic));
        }
        let sum = checksum(bytes.get(..124).ok_or_else(|| fault(0, Damage::Truncated))?);
        if u32_at(bytes, 124) != Some(sum) {
            return Err(fault(0, Damage::Checksum));
        }
        if reader.u16()? != FOOTER_VERSION {
            return Err(fault(8, Damage::Field("footer version")));
        }
        let flags = reader.u16()?;
        if flags & !FLAG_FROM != 0 {
            return Err(fault(10, Damage::Field("footer flags")));
        }
        let entries = reader.u32()?;
        let records_end = reader.u64()?;
        let sequence_min = SequenceNumber(reader.u64()?);
        let sequence_max = SequenceNumber(reader.u64()?);
        let expiry_min = Timestamp(reader.u64()?);
        let expiry_max = Timestamp(reader.u64()?);
        let horizon = SequenceNumber(reader.u64()?);
        let tombstones = reader.u32()?;
        let not_fresh = reader.u32()?;
        let expiring = reader.u32()?;
        let extension_bytes = reader.u32()?;
        let live_bytes = reader.u64()?;
        let entries_checksum = reader.u32()?;
        let records_checksum = reader.u32()?;
        let id = SegmentId(reader.u64()?);
        let salt = reader.u64()?;
        reader.zeros(12, "footer reserved")?;
        let trailer = Self {
            id,
            salt,
            horizon,
            records_end,
            entries,
            has_from: flags & FLAG_FROM != 0,
            sequence_min,
            sequence_max,
            expiry_min,
            expiry_max,
            tombstones,
            not_fresh,
            expiring,
            live_bytes,
            extension_bytes,
            entries_checksum,
            records_checksum,
        };
        let fits = records_end >= SEGMENT_HEADER_BYTES as u64
            && records_end.is_multiple_of(8)
            && trailer.file_bytes() == Some(file_bytes);
        if fits { Ok(trailer) } else { Err(fault(12, Damage::Length)) }
    }

    /// Length of the file that this trailer ends.
    #[must_use]
    pub fn file_bytes(&self) -> Option<u64> {
        self.records_end.checked_add(self.body_bytes())?.checked_add(FOOTER_TRAILER_BYTES as u64)
    }

    /// Bytes of entries, from-addresses and extension.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        let each = if self.has_from {
            FOOTER_ENTRY_BYTES + FROM_ADDRESS_BYTES
        } else {
            FOOTER_ENTRY_BYTES
        };
        u64::from(self.entries) * each as u64 + u64::from(self.extension_bytes)
    }
}

/// What a footer is made of.
#[derive(Clone, Debug)]
pub struct FooterDraft {
    /// Trailer fields that the entries do not tell: id, salt, horizon, records end, greatest sequence, expiries,
    /// expiring, live bytes, records checksum. The others are filled in by [`encode_footer`].
    pub trailer: Trailer,
    /// One entry per record, in any order.
    pub entries: Vec<FooterEntry>,
    /// Empty, or one per entry, in the same order.
    pub from: Vec<FromAddress>,
}

/// The whole footer: entries sorted, trailer completed.
#[must_use]
pub fn encode_footer(draft: FooterDraft) -> (Vec<u8>, Trailer) {
    let FooterDraft { mut trailer, entries, from } = draft;
    debug_assert!(from.is_empty() || from.len() == entries.len(), "one from-address per entry");
    // Short keys are sorted, not the entries: half the bytes to move.
    let key = |(at, entry): (usize, &FooterEntry)| (entry.hash, entry.sequence, at);
    let mut order: Vec<_> = entries.iter().enumerate().map(key).collect();
    order.sort_unstable();
    let sorted = || order.iter().filter_map(|(_, _, at)| entries.get(*at));
    trailer.sequence_min = entries.iter().map(|entry| entry.sequence).min().unwrap_or_default();
    trailer.entries = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    trailer.has_from = !from.is_empty();
    trailer.extension_bytes = 0;
    let is_death = |entry: &&FooterEntry| matches!(entry.kind, Kind::Delete | Kind::ScopeCut);
    let is_overwrite = |entry: &&FooterEntry| {
        matches!(entry.kind, Kind::Put | Kind::Delete) && !entry.flags.has(Flags::FRESH)
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    trailer.tombstones = count(entries.iter().filter(is_death).count());
    trailer.not_fresh = count(entries.iter().filter(is_overwrite).count());
    let mut out = Vec::with_capacity(
        entries.len() * (FOOTER_ENTRY_BYTES + FROM_ADDRESS_BYTES) + FOOTER_TRAILER_BYTES,
    );
    for entry in sorted() {
        encode_entry(entry, trailer.sequence_min, &mut out);
    }
    for address in order.iter().filter_map(|(_, _, at)| from.get(*at)) {
        out.extend_from_slice(&address.parent.to_le_bytes());
        out.extend_from_slice(&units(address.offset).to_le_bytes());
    }
    trailer.entries_checksum = checksum(&out);
    out.extend_from_slice(&trailer.encode());
    (out, trailer)
}

/// Bytes as a count of 8-byte units. Segments are far smaller than the 32 GiB at which this would end.
fn units(bytes: u64) -> u32 {
    debug_assert!(bytes.is_multiple_of(8), "offset {bytes} is not aligned");
    u32::try_from(bytes / 8).expect("segments are limited to 2 GiB")
}

fn encode_entry(entry: &FooterEntry, base: SequenceNumber, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.hash.to_le_bytes());
    let delta = entry.sequence.0 - base.0;
    debug_assert!(delta <= SEQUENCE_SPAN_MAX, "sequence numbers of one segment are {delta} apart");
    let tail = u64::from(entry.kind as u8) << 48 | u64::from(entry.flags.0) << 56;
    out.extend_from_slice(&(delta & SEQUENCE_SPAN_MAX | tail).to_le_bytes());
    out.extend_from_slice(&units(entry.offset).to_le_bytes());
    out.extend_from_slice(&units(entry.bytes).to_le_bytes());
}

/// The entry at the start of `bytes`, in a footer whose least sequence number is `base`. `None` if its kind is unknown
/// or a number is out of all bounds.
#[must_use]
pub fn decode_entry(bytes: &[u8], base: SequenceNumber) -> Option<FooterEntry> {
    let middle = u64_at(bytes, 8)?;
    let [.., kind, flags] = middle.to_le_bytes();
    Some(FooterEntry {
        hash: u64_at(bytes, 0)?,
        sequence: SequenceNumber(base.0.checked_add(middle & SEQUENCE_SPAN_MAX)?),
        kind: Kind::from_byte(kind)?,
        flags: Flags(flags),
        offset: u64::from(u32_at(bytes, 16)?) * 8,
        bytes: u64::from(u32_at(bytes, 20)?) * 8,
    })
}

/// A checked view of the entries of a footer.
#[derive(Clone, Copy, Debug)]
pub struct FooterEntries<'a> {
    bytes: &'a [u8],
    from: &'a [u8],
    sequence_min: SequenceNumber,
}

impl<'a> FooterEntries<'a> {
    /// The entries that `trailer` speaks of; `body` is what stands between records end and trailer.
    ///
    /// # Errors
    /// Any damage, with the offset within `body`.
    pub fn decode(body: &'a [u8], trailer: &Trailer) -> Result<Self, DecodeError> {
        if checksum(body) != trailer.entries_checksum {
            return Err(DecodeError::new(0, Damage::Checksum));
        }
        let view = Self::decode_again(body, trailer)?;
        let limit = trailer.records_end;
        for index in 0..view.len() {
            let fits = view.get(index).is_some_and(|entry| {
                entry.offset >= SEGMENT_HEADER_BYTES as u64
                    && entry.bytes > 0
                    && entry.offset.saturating_add(entry.bytes) <= limit
            });
            if !fits {
                let at = (index * FOOTER_ENTRY_BYTES) as u64;
                return Err(DecodeError::new(at, Damage::Field("footer entry")));
            }
        }
        let extension = body.get(body.len() - trailer.extension_bytes as usize..);
        check_items(extension.unwrap_or_default())?;
        Ok(view)
    }

    /// The same view of bytes that [`Self::decode`] has checked before.
    ///
    /// # Errors
    /// If the lengths do not fit.
    pub fn decode_again(body: &'a [u8], trailer: &Trailer) -> Result<Self, DecodeError> {
        if body.len() as u64 != trailer.body_bytes() {
            return Err(DecodeError::new(0, Damage::Length));
        }
        let split = trailer.entries as usize * FOOTER_ENTRY_BYTES;
        let (bytes, rest) =
            body.split_at_checked(split).ok_or(DecodeError::new(0, Damage::Length))?;
        let from_bytes =
            if trailer.has_from { trailer.entries as usize * FROM_ADDRESS_BYTES } else { 0 };
        let from = rest.get(..from_bytes).ok_or(DecodeError::new(0, Damage::Length))?;
        Ok(Self { bytes, from, sequence_min: trailer.sequence_min })
    }

    /// Count of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() / FOOTER_ENTRY_BYTES
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The entry at `index` in order of hash and sequence number.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<FooterEntry> {
        let at = index.checked_mul(FOOTER_ENTRY_BYTES)?;
        decode_entry(self.bytes.get(at..)?, self.sequence_min)
    }

    /// Where the record of the entry at `index` was before it was copied here.
    #[must_use]
    #[allow(clippy::wrong_self_convention, reason = "a from-address is a noun of the format")]
    pub fn from_address(&self, index: usize) -> Option<FromAddress> {
        let at = index.checked_mul(FROM_ADDRESS_BYTES)?;
        Some(FromAddress {
            parent: u32_at(self.from, at)?,
            offset: u64::from(u32_at(self.from, at + 4)?) * 8,
        })
    }

    /// Index of the first entry whose hash is at least `hash`.
    #[must_use]
    pub fn lower_bound(&self, hash: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match u64_at(self.bytes, middle * FOOTER_ENTRY_BYTES) {
                Some(found) if found < hash => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = FooterEntry> + use<'a> {
        let view = *self;
        (0..view.len()).filter_map(move |index| view.get(index))
    }
}
