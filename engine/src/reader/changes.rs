//! What was written since some moment, read from the log itself.

use std::sync::Arc;

use super::Reader;
use crate::{
    error::Result,
    format::{record::Kind, segment_header::Class},
    segment::{RECORDS_AT, Segment, read::Depth},
    types::{SequenceNumber, Timestamp},
};

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wrote {
    /// It stored a value.
    Put,
    /// It deleted a key.
    Delete,
    /// It gave a key another expiry.
    Touch,
    /// It ended all older entries of the scope that stands in the place of the key.
    ScopeCut,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// Its order.
    pub sequence: SequenceNumber,
    /// What it did.
    pub wrote: Wrote,
    /// The key, or the scope.
    pub key: Vec<u8>,
    /// The expiry it set.
    pub expires_at: Option<Timestamp>,
}

/// Writes in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The writes.
    pub changes: Vec<Changed>,
    /// Where the next call goes on.
    pub next: SequenceNumber,
    /// Whether every write since the one asked for is here, or follows. If not, compaction has already taken out some
    /// that later ones made needless, and some that deleted; or the number asked for is not of this store: an older state
    /// of it was restored. A copy of the store has to be made again.
    pub is_complete: bool,
}

impl Reader {
    /// Up to `limit` of the writes after `since`; `newest` is the newest that is fully in, and from `gap_from` up to it
    /// no number was given to a write that is left.
    pub(crate) fn changes(
        &self,
        since: SequenceNumber,
        (newest, gap_from): (SequenceNumber, Option<SequenceNumber>),
        limit: usize,
    ) -> Result<Changes> {
        let table = self.lookup.catalog.table();
        let mut found = Found { since, until: newest, limit: limit.max(1), changes: Vec::new() };
        let is_new = |segment: &&Arc<Segment>| {
            segment.as_sealed().is_none_or(|sealed| sealed.sequence_max > since)
        };
        for segment in table.iter().filter(is_new) {
            found.walk(segment)?;
        }
        found.cut();
        let is_cut = found.until < newest;
        let next = if is_cut { found.until } else { newest };
        let rows = rows(table.iter(), newest, gap_from);
        let is_complete = since.next() >= complete_from(&rows, newest)
            && since <= newest
            && !rows.iter().any(|row| row.has_lost(since));
        Ok(Changes { changes: found.changes, next, is_complete })
    }
}

/// Writes between `since` and `until`, both the first exclusive, at most about `limit`.
struct Found {
    since: SequenceNumber,
    until: SequenceNumber,
    limit: usize,
    changes: Vec<Changed>,
}

impl Found {
    fn walk(&mut self, segment: &Segment) -> Result<()> {
        /// A head is rarely longer.
        const HINT: u64 = 256;
        let mut at = RECORDS_AT;
        while let Some(record) = segment.record(at, HINT, Depth::Head)? {
            let head = segment.head(record.of(segment), at)?;
            at += head.record_bytes;
            let wrote = match head.kind {
                Some(Kind::Put) => Wrote::Put,
                Some(Kind::Delete) => Wrote::Delete,
                Some(Kind::Touch) => Wrote::Touch,
                Some(Kind::ScopeCut) => Wrote::ScopeCut,
                _ => continue,
            };
            if head.sequence <= self.since || head.sequence > self.until {
                continue;
            }
            let (sequence, expires_at) = (head.sequence, head.expires_at);
            self.changes.push(Changed { sequence, wrote, key: head.key.to_vec(), expires_at });
            if self.changes.len() >= self.limit.saturating_mul(2) {
                self.cut();
            }
        }
        Ok(())
    }

    /// Keeps the first of them. One that was copied by compaction may have been met twice.
    fn cut(&mut self) {
        self.changes.sort_unstable_by_key(|change| change.sequence);
        self.changes.dedup_by_key(|change| change.sequence);
        if self.changes.len() > self.limit {
            self.changes.truncate(self.limit);
            self.until = self.changes.last().map_or(self.until, |last| last.sequence);
        }
    }
}

/// Numbers that follow each other, in which no write is missing: those of a segment, and of the gap before it.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Where the gap begins: from here on no number was given to a write that is left.
    from: SequenceNumber,
    /// The first number that a write can have.
    first: SequenceNumber,
    last: SequenceNumber,
}

impl Row {
    /// Whether a crash took the write with this number back: a reader that saw it saw what no longer exists.
    fn has_lost(&self, sequence: SequenceNumber) -> bool {
        self.from <= sequence && sequence.next() < self.first
    }
}

/// The segments that users wrote, as rows. Compaction takes whole segments out of them.
fn rows<'a>(
    segments: impl Iterator<Item = &'a Arc<Segment>>,
    newest: SequenceNumber,
    gap_from: Option<SequenceNumber>,
) -> Vec<Row> {
    let row = |segment: &Arc<Segment>| {
        let (first, horizon) = (segment.add.first_sequence, segment.add.horizon);
        let last = segment.as_sealed().map_or(newest, |sealed| sealed.sequence_max);
        Row { from: horizon.min(first), first, last }
    };
    let written = segments.filter(|segment| segment.add.class < Class::COMPACTED).map(row);
    // What a repair rewrote says that it begins above its own records: nothing is known of it.
    let mut rows: Vec<_> = written.filter(|row| row.first <= row.last.next()).collect();
    rows.extend(gap_from.map(|from| Row { from, first: newest.next(), last: newest }));
    rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.from, row.last)));
    rows
}

/// The first sequence number from which on every write is still in the log.
fn complete_from(rows: &[Row], newest: SequenceNumber) -> SequenceNumber {
    let mut from = newest.next();
    for row in rows {
        if row.last.next() < from {
            break;
        }
        from = from.min(row.from);
    }
    from
}
