//! One segment, byte by byte: what of it can be kept, what of it is lost, and why it is to be written anew. Pure.
//!
//! A record is kept if it is sound. What is lost is told by the footer, if that is sound: it is the list of what
//! had been sealed. Without it, the heads that can still be read tell some of it, and the rest is a range of which
//! nobody knows what it held.

use std::{collections::HashMap, fmt, path::Path};

use super::lost::{Fate, LostRange, LostRecord, name_of};
use crate::{
    check::Code,
    error::Damage,
    format::{
        checksum::checksum,
        footer::{FOOTER_TRAILER_BYTES, FooterEntries, FooterEntry, Trailer},
        hash::KeyHasher,
        manifest::{AddSegment, SealSegment},
        record::{Decoded, Head, Kind, decode_head},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
        wire::u32_at,
    },
    segment::{
        RECORDS_AT,
        batches::Batches,
        scan::{Gap, Item, Scanned, scan},
        tail::{Unsealed, judge},
    },
    types::SequenceNumber,
};

/// Why a segment is to be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its header is not what was written.
    Header(Damage),
    /// It stands under another name, or another file stands under its name.
    Misplaced,
    /// It is not as long as it was sealed.
    Length,
    /// Bytes in its records are wrong.
    Records,
    /// Its footer is damaged.
    Footer,
    /// Its footer does not say what its records say.
    OtherFooter,
    /// It has no footer that counts: it was taken in without one.
    NoFooter,
    /// It was not sealed.
    Unsealed,
    /// It was not sealed, and ends in an unfinished write.
    Torn,
    /// It was not sealed, and records that had been synced are gone.
    Missing,
    /// It was taken in, and some of its records stand elsewhere too.
    Repeated,
}

impl Reason {
    /// The finding of a check that it answers.
    pub(super) const fn code(&self) -> Option<Code> {
        Some(match self {
            Self::Header(_) => Code::HeaderDamaged,
            Self::Misplaced => Code::SegmentMisplaced,
            Self::Length => Code::SegmentLength,
            Self::Records => Code::RecordDamaged,
            Self::Footer => Code::FooterDamaged,
            Self::OtherFooter => Code::FooterWrong,
            Self::Torn => Code::WriteUnfinished,
            Self::Missing => Code::RecordsMissing,
            Self::Repeated => Code::SegmentUnnamed,
            Self::NoFooter | Self::Unsealed => return None,
        })
    }

    /// Whether it is damage; the others are what a crash leaves.
    pub(super) const fn is_damage(&self) -> bool {
        !matches!(self, Self::NoFooter | Self::Unsealed | Self::Torn | Self::Repeated)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(damage) => write!(f, "its header is damaged ({damage})"),
            Self::Misplaced => write!(f, "a file stands under another's name"),
            Self::Length => write!(f, "its length is not what was sealed"),
            Self::Records => write!(f, "records are damaged"),
            Self::Footer => write!(f, "its footer is damaged"),
            Self::OtherFooter => write!(f, "its footer does not say what its records say"),
            Self::NoFooter => write!(f, "it has no footer of its own"),
            Self::Unsealed => write!(f, "it was not sealed"),
            Self::Torn => write!(f, "it ends in an unfinished write"),
            Self::Missing => write!(f, "records that had been synced are gone"),
            Self::Repeated => write!(f, "its records stand elsewhere too"),
        }
    }
}

/// A sound record that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) head_bytes: usize,
    pub(super) sequence: SequenceNumber,
    pub(super) kind: Kind,
    /// Hash of its key, if the store's hash seed is known or its footer tells.
    pub(super) hash: Option<u64>,
}

/// What was found in one segment.
#[derive(Debug, Default)]
pub(super) struct Examined {
    pub(super) reasons: Vec<Reason>,
    pub(super) kept: Vec<Kept>,
    pub(super) lost: Vec<LostRecord>,
    pub(super) unknown: Vec<LostRange>,
    /// Greatest sequence number seen.
    pub(super) newest: SequenceNumber,
}

impl Examined {
    /// Whether everything that had been stored in it can be had.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.unknown.is_empty()
    }
}

/// A sealed segment as found.
#[derive(Clone, Copy, Debug)]
pub(super) struct SealedBytes<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) add: &'a AddSegment,
    pub(super) seal: &'a SealSegment,
    pub(super) store_id: [u8; 16],
    /// Gives the hashes of the footers that were found, if that is known.
    pub(super) hasher: Option<KeyHasher>,
}

/// Examines a sealed segment.
pub(super) fn examine_sealed(found: &SealedBytes<'_>) -> Examined {
    let SealedBytes { bytes, add, seal, .. } = *found;
    let mut reasons = header_reasons(bytes, add, found.store_id);
    if bytes.len() as u64 != seal.file_bytes {
        reasons.push(Reason::Length);
    }
    let footer = footer_of(bytes, add, seal);
    // A footer that proves itself knows better than the manifest where its records end.
    let end = footer.as_ref().map_or(seal.records_end, |(trailer, _)| trailer.records_end);
    let items = scan(bytes, end, add.salt, SequenceNumber(0));
    if seal.trailer_checksum == 0 {
        reasons.push(Reason::NoFooter);
    } else if footer.is_none() {
        reasons.push(Reason::Footer);
    }
    let gaps: Vec<Gap> = items
        .iter()
        .filter_map(|item| match item {
            Item::Gap(gap) => Some(*gap),
            Item::Record(_) => None,
        })
        .collect();
    let records: Vec<&Scanned> = items
        .iter()
        .filter_map(|item| match item {
            Item::Record(record) => Some(record),
            Item::Gap(_) => None,
        })
        .collect();
    if !gaps.is_empty() || records.iter().any(|record| !record.sound) {
        reasons.push(Reason::Records);
    }
    let mut examined = match &footer {
        Some((trailer, entries)) => by_footer(found, &records, trailer, entries),
        None => by_records(found, &records, &gaps),
    };
    reasons.append(&mut examined.reasons);
    examined.reasons = reasons;
    examined.newest = examined.newest.max(seal.sequence_max);
    examined
}

/// What is wrong with a segment's header.
fn header_reasons(bytes: &[u8], add: &AddSegment, store_id: [u8; 16]) -> Vec<Reason> {
    match SegmentHeader::decode(bytes) {
        Ok(header)
            if header.id == add.id && header.salt == add.salt && header.store_id == store_id =>
        {
            Vec::new()
        }
        Ok(_) => vec![Reason::Misplaced],
        Err(fault) => vec![Reason::Header(fault.damage)],
    }
}

/// The footer that was sealed, if it is there and sound. Bytes behind the sealed length do not matter. Of a segment
/// that was taken in without one, the footer that it has tells what was lost, whatever seed its hashes have.
fn footer_of(
    bytes: &[u8],
    add: &AddSegment,
    seal: &SealSegment,
) -> Option<(Trailer, Vec<FooterEntry>)> {
    let end = usize::try_from(seal.file_bytes).ok()?;
    let file = bytes.get(..end)?;
    let (trailer, entries) = sound_footer(file)?;
    let split = file.len() - FOOTER_TRAILER_BYTES;
    let is_its = trailer.id == add.id
        && trailer.salt == add.salt
        && (seal.trailer_checksum == 0
            || u32_at(&file[split..], 124) == Some(seal.trailer_checksum));
    is_its.then_some((trailer, entries))
}

/// A footer at the end of `file`, if it is sound in itself.
pub(super) fn sound_footer(file: &[u8]) -> Option<(Trailer, Vec<FooterEntry>)> {
    let split = file.len().checked_sub(FOOTER_TRAILER_BYTES)?;
    let trailer = Trailer::decode(&file[split..], file.len() as u64).ok()?;
    let start = usize::try_from(trailer.records_end).ok()?;
    let entries = FooterEntries::decode(file.get(start..split)?, &trailer).ok()?;
    Some((trailer, entries.iter().collect()))
}

fn by_footer(
    found: &SealedBytes<'_>,
    records: &[&Scanned],
    trailer: &Trailer,
    entries: &[FooterEntry],
) -> Examined {
    let SealedBytes { bytes, add, path, .. } = *found;
    let by_offset: HashMap<u64, &Scanned> = records.iter().map(|r| (r.offset, *r)).collect();
    let differs = |entry: &&FooterEntry| {
        let head = found.hasher.zip(head_at(bytes, add.salt, entry.offset));
        head.is_some_and(|(hasher, head)| hasher.hash(head.key) != entry.hash)
    };
    // Hashes of another seed compare with no others.
    let is_foreign = entries.iter().any(|entry| differs(&entry));
    let mut told = HashMap::new();
    let mut examined = Examined::default();
    for entry in entries {
        let there = by_offset.get(&entry.offset).filter(|record| is_of(record, entry));
        told.insert(entry.offset, entry.hash);
        match there {
            Some(record) if record.sound => {}
            Some(record) => {
                examined.lost.extend(lost_head(path, bytes, add.salt, record, found.hasher));
            }
            None => {
                let hash = (!is_foreign).then_some(entry.hash);
                examined.lost.push(lost(path, entry, hash));
                let range = LostRange {
                    file: path.to_owned(),
                    offset: entry.offset,
                    bytes: entry.bytes,
                    records: Some(1),
                    sequences: Some((entry.sequence, entry.sequence.next())),
                };
                examined.unknown.extend(is_foreign.then_some(range));
            }
        }
    }
    for record in records.iter().filter(|record| record.sound && is_of_a_key(record)) {
        let hash = told.get(&record.offset).copied();
        if hash.is_none() {
            examined.reasons.push(Reason::OtherFooter);
        }
        examined.kept.extend(kept(found, record, hash.filter(|_| !is_foreign)));
    }
    let start = usize::try_from(RECORDS_AT).unwrap_or_default();
    let end = usize::try_from(trailer.records_end).unwrap_or(usize::MAX);
    let sum = bytes.get(start..end).map(checksum);
    if examined.lost.is_empty() && (sum != Some(trailer.records_checksum) || is_foreign) {
        examined.reasons.push(Reason::OtherFooter);
    }
    examined.reasons.dedup();
    examined
}

/// Without a footer every sound record of a sealed segment counts: what was sealed had been committed, batches too. Of
/// one that was taken in without a seal of its own, a batch counts only with its marker.
fn by_records(found: &SealedBytes<'_>, records: &[&Scanned], gaps: &[Gap]) -> Examined {
    let SealedBytes { bytes, add, seal, path, .. } = *found;
    let mut examined = Examined::default();
    let is_adopted = seal.trailer_checksum == 0;
    let mut batches = Batches::default();
    for record in records {
        let kept_so_far = examined.kept.len();
        let broken = record.sound.then(|| batches.show(record, kept_so_far)).flatten();
        if let Some(from) = broken.filter(|_| is_adopted) {
            drop_batch(found, &mut examined, from, record.commit.is_some());
        }
        match (is_of_a_key(record), record.sound) {
            (true, true) => examined.kept.extend(kept(found, record, None)),
            (true, false) => {
                examined.lost.extend(lost_head(path, bytes, add.salt, record, found.hasher));
            }
            (false, _) => {}
        }
    }
    if let Some(from) = batches.end().filter(|_| is_adopted) {
        drop_batch(found, &mut examined, from, false);
    }
    let told = (!is_adopted).then_some(u64::from(seal.entries));
    let found_here = (examined.kept.len() + examined.lost.len()) as u64;
    let missing = told.map(|told| told.saturating_sub(found_here));
    if missing == Some(0) {
        return examined;
    }
    let mut ranges: Vec<(u64, u64)> = gaps
        .iter()
        .filter(|gap| !(is_adopted && gap.is_unwritten))
        .map(|gap| (gap.offset, gap.bytes))
        .collect();
    let there = (bytes.len() as u64).max(RECORDS_AT);
    let missing_bytes = seal.records_end.saturating_sub(there);
    if missing_bytes > 0 {
        ranges.push((there, missing_bytes));
    }
    let alone = ranges.len() == 1;
    examined.unknown.extend(ranges.into_iter().map(|(offset, bytes)| LostRange {
        file: path.to_owned(),
        offset,
        bytes,
        records: missing.filter(|_| alone),
        sequences: None,
    }));
    examined
}

/// The records kept from `from` on are of a batch that is not whole. With its marker it was whole once (`was_whole`):
/// then they are lost. Without it they never counted.
fn drop_batch(found: &SealedBytes<'_>, examined: &mut Examined, from: usize, was_whole: bool) {
    let dropped: Vec<_> = examined.kept.drain(from.min(examined.kept.len())..).collect();
    let lost = |kept: Kept| LostRecord {
        file: found.path.to_owned(),
        offset: kept.offset,
        bytes: kept.bytes,
        kind: name_of(kept.kind),
        sequence: kept.sequence,
        hash: kept.hash,
        key: head_at(found.bytes, found.add.salt, kept.offset).map(|head| head.key.to_vec()),
        fate: Fate::Gone,
    };
    examined.lost.extend(dropped.into_iter().filter(|_| was_whole).map(lost));
}

fn is_of(record: &Scanned, entry: &FooterEntry) -> bool {
    record.sequence == entry.sequence && record.kind == Some(entry.kind)
}

fn is_of_a_key(record: &Scanned) -> bool {
    !matches!(record.kind, None | Some(Kind::Commit | Kind::Note))
}

/// The head that stands at `offset`, if one does.
pub(super) fn head_at(bytes: &[u8], salt: u64, offset: u64) -> Option<Head<'_>> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    match decode_head(rest, salt, offset) {
        Ok(Decoded::Head(head)) => Some(head),
        Ok(Decoded::Unwritten) | Err(_) => None,
    }
}

fn kept(found: &SealedBytes<'_>, record: &Scanned, told: Option<u64>) -> Option<Kept> {
    let head = || head_at(found.bytes, found.add.salt, record.offset);
    let hash = match (told, found.hasher) {
        (Some(hash), _) => Some(hash),
        (None, Some(hasher)) => head().map(|head| hasher.hash(head.key)),
        (None, None) => None,
    };
    kept_as(record, hash)
}

fn kept_as(record: &Scanned, hash: Option<u64>) -> Option<Kept> {
    Some(Kept {
        offset: record.offset,
        bytes: record.bytes,
        head_bytes: record.head_bytes,
        sequence: record.sequence,
        kind: record.kind?,
        hash,
    })
}

fn lost(file: &Path, entry: &FooterEntry, hash: Option<u64>) -> LostRecord {
    LostRecord {
        file: file.to_owned(),
        offset: entry.offset,
        bytes: entry.bytes,
        kind: name_of(entry.kind),
        sequence: entry.sequence,
        hash,
        key: None,
        fate: Fate::Gone,
    }
}

/// A record whose head is sound and whose value is not.
fn lost_head(
    file: &Path,
    bytes: &[u8],
    salt: u64,
    record: &Scanned,
    hasher: Option<KeyHasher>,
) -> Option<LostRecord> {
    let head = head_at(bytes, salt, record.offset)?;
    Some(LostRecord {
        file: file.to_owned(),
        offset: record.offset,
        bytes: record.bytes,
        kind: name_of(record.kind?),
        sequence: record.sequence,
        hash: hasher.map(|hasher| hasher.hash(head.key)),
        key: Some(head.key.to_vec()),
        fate: Fate::Gone,
    })
}

/// Examines the unsealed end of the log, oldest segment first. `durable` is the greatest sequence number that the
/// manifest knows to have been on the device.
///
/// Of a batch that was durable and of which a record is damaged, the others are kept: each loss is named by itself,
/// and what had been replaced by the batch does not come back.
pub(super) fn examine_tail(
    unsealed: &[Unsealed],
    durable: SequenceNumber,
    store_id: [u8; 16],
    hasher: Option<KeyHasher>,
) -> Vec<Examined> {
    let tail = judge(unsealed, durable);
    let scans: Vec<Vec<Scanned>> = unsealed.iter().map(records_of).collect();
    let markers = scans.iter().flatten().filter_map(|record| Some(record.commit?.durable_sequence));
    let watermark = markers.max().unwrap_or_default().max(durable);
    let mut all = Vec::new();
    for ((found, kept), records) in unsealed.iter().zip(tail.kept).zip(&scans) {
        let mut examined = Examined { newest: tail.seen, ..Examined::default() };
        examined.reasons = header_reasons(&found.bytes, &found.add, store_id);
        examined.reasons.push(if kept.torn.is_some() { Reason::Torn } else { Reason::Unsealed });
        let is_zero = |byte: &u8| *byte == 0;
        let counts = |record: &&Scanned| {
            let at = usize::try_from(record.offset - RECORDS_AT).unwrap_or(usize::MAX);
            let bytes = usize::try_from(record.bytes).unwrap_or(usize::MAX);
            let is_in_image = kept
                .image
                .get(at..at.saturating_add(bytes))
                .is_some_and(|image| !image.iter().all(is_zero));
            record.sound && is_of_a_key(record) && (is_in_image || record.sequence <= watermark)
        };
        for record in records.iter().filter(counts) {
            let head = head_at(&found.bytes, found.add.salt, record.offset);
            let hash = head.zip(hasher).map(|(head, hasher)| hasher.hash(head.key));
            examined.kept.extend(kept_as(record, hash));
        }
        if has_no_header(&found.bytes) {
            // The header is on the device before the manifest names the segment: what stood behind it is gone with it.
            let file = found.path.clone();
            let range = LostRange { file, offset: 0, bytes: 0, records: None, sequences: None };
            examined.unknown.push(range);
        }
        for corruption in tail.damaged.iter().filter(|corruption| corruption.file == found.path) {
            let Damage::MissingRecords { from, to } = corruption.damage else { continue };
            examined.reasons.push(Reason::Missing);
            missing(found, (from, to), corruption.offset, hasher, &mut examined);
        }
        all.push(examined);
    }
    all
}

/// Whether a file was emptied, cut inside its header, or overwritten with zeros there.
fn has_no_header(bytes: &[u8]) -> bool {
    let header = bytes.get(..SEGMENT_HEADER_BYTES);
    header.is_none_or(|header| header.iter().all(|&byte| byte == 0))
}

/// The records of an unsealed segment whose heads are sound.
fn records_of(found: &Unsealed) -> Vec<Scanned> {
    let before = SequenceNumber(found.add.first_sequence.0.saturating_sub(1));
    let items = scan(&found.bytes, found.bytes.len() as u64, found.add.salt, before);
    let records = items.into_iter().filter_map(|item| match item {
        Item::Record(record) => Some(record),
        Item::Gap(_) => None,
    });
    records.collect()
}

/// Sequence numbers that are missing from the log: those whose head is still sound have a name.
fn missing(
    found: &Unsealed,
    (from, to): (SequenceNumber, SequenceNumber),
    offset: u64,
    hasher: Option<KeyHasher>,
    examined: &mut Examined,
) {
    let Unsealed { bytes, add, path } = found;
    let before = SequenceNumber(add.first_sequence.0.saturating_sub(1));
    let mut named = 0;
    let mut unnamed_bytes = 0;
    for item in scan(bytes, bytes.len() as u64, add.salt, before) {
        match item {
            Item::Record(record) if !record.sound && (from..to).contains(&record.sequence) => {
                named += 1;
                if is_of_a_key(&record) {
                    examined.lost.extend(lost_head(path, bytes, add.salt, &record, hasher));
                }
            }
            Item::Gap(gap) if gap.offset >= offset && unnamed_bytes == 0 => {
                unnamed_bytes = gap.bytes;
            }
            _ => {}
        }
    }
    let count = to.0.saturating_sub(from.0);
    if named < count {
        examined.unknown.push(LostRange {
            file: path.clone(),
            offset,
            bytes: unnamed_bytes,
            records: Some(count - named),
            sequences: Some((from, to)),
        });
    }
}
