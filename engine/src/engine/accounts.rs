//! What each segment holds, and what compaction would make of it: for people who want to see before they act.

use std::sync::Arc;

use super::Shared;
use crate::{
    compactor::policy::{SegmentFacts, plan},
    error::Result,
    segment::{Segment, catalog::Table},
    types::{SegmentId, SequenceNumber, Slot, Timestamp},
};

/// What one segment of an open store holds. See `Engine::segments`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentAccount {
    /// Its id.
    pub id: SegmentId,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of its records that the index points to. What expired since the last look still counts.
    pub live_bytes: u64,
    /// Count of those records.
    pub live_records: u64,
    /// Whether it is sealed; the fields below are 0 or `None` while it is not.
    pub sealed: bool,
    /// 0 written by users, 1 rewritten by recovery, 2 and up by compaction.
    pub class: u8,
    /// Deletes and scope cuts in it.
    pub tombstones: u64,
    /// Greatest sequence number in it.
    pub sequence_max: SequenceNumber,
    /// When the first of its records expires; `None` if none does.
    pub expires_first: Option<Timestamp>,
    /// When all of its records have expired; `None` if some never do.
    pub expires_last: Option<Timestamp>,
}

/// One job that compaction would do. See `Engine::compaction_preview`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedJob {
    /// The segments it would read and remove.
    pub segments: Vec<SegmentId>,
    /// Bytes of their files.
    pub bytes: u64,
    /// Bytes of live records that it would copy.
    pub copied_bytes: u64,
}

impl PlannedJob {
    /// Bytes that come back: those of the files, less what is copied. What new files need for themselves is not in it.
    #[must_use]
    pub const fn won_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.copied_bytes)
    }
}

/// The accounts of all segments of a table, oldest id first.
pub(crate) fn accounts(table: &Table) -> Vec<SegmentAccount> {
    let mut accounts: Vec<_> = table.iter().map(account).collect();
    accounts.sort_unstable_by_key(|account| account.id);
    accounts
}

fn account(segment: &Arc<Segment>) -> SegmentAccount {
    let (live_bytes, live_records) = segment.live();
    let sealed = segment.as_sealed();
    // In a footer all ones stand for never, and a greatest of 0 for a segment without a put.
    let moment = |at: Timestamp| (at.0 != u64::MAX && at.0 != 0).then_some(at);
    SegmentAccount {
        id: segment.id(),
        bytes: segment.file_bytes(),
        live_bytes,
        live_records,
        sealed: sealed.is_some(),
        class: segment.add.class.0,
        tombstones: sealed.map_or(0, |sealed| u64::from(sealed.tombstones)),
        sequence_max: sealed.map_or(SequenceNumber(0), |sealed| sealed.sequence_max),
        expires_first: sealed.and_then(|sealed| moment(sealed.expiry_min)),
        expires_last: sealed.and_then(|sealed| moment(sealed.expiry_max)),
    }
}

impl Shared {
    /// The jobs that `compact` would do, one after the other, each on what the one before would leave.
    pub(super) fn compaction_preview(&self) -> Result<Vec<PlannedJob>> {
        // As a real run does first: what has ended is garbage, once that is known.
        self.mark_ended(&|| false)?;
        let table = self.lookup.catalog.table();
        let (mut facts, goal, streams) = self.compaction_view();
        let mut jobs = Vec::new();
        loop {
            let inputs = plan(&facts, &goal, &streams).inputs;
            if inputs.is_empty() {
                return Ok(jobs);
            }
            let (taken, left): (Vec<_>, Vec<_>) =
                facts.into_iter().partition(|facts| inputs.contains(&facts.slot));
            let copied_bytes = taken
                .iter()
                .filter(|facts| facts.expiry_max > goal.now_ms)
                .map(|facts| facts.live_bytes.min(facts.bytes))
                .sum();
            let id_of = |facts: &SegmentFacts| table.get(facts.slot).map(|segment| segment.id());
            jobs.push(PlannedJob {
                segments: taken.iter().filter_map(id_of).collect(),
                bytes: taken.iter().map(|facts| facts.bytes).sum(),
                copied_bytes,
            });
            facts = left;
            facts.extend(output(&taken, copied_bytes, jobs.len()));
        }
    }
}

/// What a job leaves, as one segment that is all alive: no later job would touch it.
fn output(taken: &[SegmentFacts], copied_bytes: u64, jobs: usize) -> Option<SegmentFacts> {
    let first = taken.first().filter(|_| copied_bytes > 0)?;
    // No slot of the table is so great.
    let slot = Slot(u32::MAX - u32::try_from(jobs).unwrap_or(u32::MAX / 2));
    let live_records = taken.iter().map(|facts| facts.live_records).sum();
    let is_pinned = true;
    Some(SegmentFacts {
        slot,
        bytes: copied_bytes,
        live_bytes: copied_bytes,
        live_records,
        is_pinned,
        expiry_max: u64::MAX,
        ..*first
    })
}
