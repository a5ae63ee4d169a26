//! All records out, in order, from bytes that may end anywhere or be damaged. Only reports; forgives nothing.

use super::RECORDS_AT;
use crate::{
    format::{
        record::{Commit, Decoded, Flags, Head, Kind, decode_head, verify_value},
        wire::u64_at,
    },
    types::SequenceNumber,
};

/// A record whose head is sound.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) head_bytes: usize,
    pub(crate) kind: Option<Kind>,
    pub(crate) flags: Flags,
    pub(crate) sequence: SequenceNumber,
    pub(crate) head_checksum: u32,
    /// Whether the value matches its checksum too.
    pub(crate) sound: bool,
    /// The marker, if it is a sound commit marker.
    pub(crate) commit: Option<Commit>,
}

impl Scanned {
    /// A sound record that is no commit marker.
    pub(crate) fn of(head: &Head<'_>, offset: u64) -> Self {
        Self {
            offset,
            bytes: head.record_bytes,
            head_bytes: head.head_bytes,
            kind: head.kind,
            flags: head.flags,
            sequence: head.sequence,
            head_checksum: head.head_checksum,
            sound: true,
            commit: None,
        }
    }
}

/// A range of bytes between records that hold no sound record head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Whether every byte in it is zero, as in space that was reserved and never written.
    pub(crate) is_unwritten: bool,
}

/// What a scan finds, in order of offset.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Record(Scanned),
    Gap(Gap),
}

/// Scans `bytes`, the file from its first byte, up to `end`. Where no record stands, goes on at the next place
/// where a sound head with a plausible sequence number does: those after `after`, and not absurdly far.
pub(crate) fn scan(bytes: &[u8], end: u64, salt: u64, after: SequenceNumber) -> Vec<Item> {
    let end = usize::try_from(end).unwrap_or(usize::MAX).min(bytes.len());
    let bytes = &bytes[..end];
    let mut items = Vec::new();
    let mut at = usize::try_from(RECORDS_AT).unwrap_or(usize::MAX);
    let mut newest = after;
    while at < end {
        if let Some(record) = record_at(bytes, at, salt) {
            newest = newest.max(record.sequence);
            at += usize::try_from(record.bytes).unwrap_or(usize::MAX);
            items.push(Item::Record(record));
            continue;
        }
        let next = resync(bytes, at + 8, salt, after, newest).unwrap_or(end);
        let is_unwritten = bytes[at..next].iter().all(|&byte| byte == 0);
        items.push(Item::Gap(Gap { offset: at as u64, bytes: (next - at) as u64, is_unwritten }));
        at = next;
    }
    items
}

fn record_at(bytes: &[u8], at: usize, salt: u64) -> Option<Scanned> {
    let rest = bytes.get(at..)?;
    match decode_head(rest, salt, at as u64) {
        Ok(Decoded::Head(head)) => Some(scanned(rest, &head, at as u64)),
        Ok(Decoded::Unwritten) | Err(_) => None,
    }
}

fn scanned(rest: &[u8], head: &Head<'_>, offset: u64) -> Scanned {
    let value = verify_value(rest, head);
    let commit = match (head.kind, &value) {
        (Some(Kind::Commit), Ok(value)) => Commit::decode(value).ok(),
        _ => None,
    };
    let sound = value.is_ok() && (head.kind != Some(Kind::Commit) || commit.is_some());
    Scanned { sound, commit, ..Scanned::of(head, offset) }
}

/// Sequence numbers further ahead than this are noise, not records that were written later.
const SEQUENCE_AHEAD_MAX: u64 = 1 << 32;

/// Whether a record behind damage may have this number, when `newest` was the last one before it.
pub(super) const fn is_plausible(
    sequence: u64,
    after: SequenceNumber,
    newest: SequenceNumber,
) -> bool {
    sequence > after.0 && (newest.0 == 0 || sequence < newest.0.saturating_add(SEQUENCE_AHEAD_MAX))
}

/// The next offset at or after `from` where a sound head stands. The cheap test on the sequence number comes
/// before the checksum, so that noise costs little.
fn resync(
    bytes: &[u8],
    from: usize,
    salt: u64,
    after: SequenceNumber,
    newest: SequenceNumber,
) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let word = u64_at(bytes, at);
        if word == Some(0) {
            at += 8;
            continue;
        }
        let sequence = u64_at(bytes, at + 16)?;
        if is_plausible(sequence, after, newest) && record_at(bytes, at, salt).is_some() {
            return Some(at);
        }
        at += 8;
    }
    None
}
