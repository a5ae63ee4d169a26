//! Input of the compaction policy: statistics of the sealed segments and the goal.

use std::sync::Arc;

use super::{Shared, upkeep::JobState};
use crate::{
    compactor::policy::{Goal, SegmentFacts, Streams},
    format::segment_header::Class,
    segment::{RECORDS_AT, Segment},
    types::{SequenceNumber, Slot, Timestamp},
};

impl Shared {
    /// What the policy is told of the sealed segments.
    pub(super) fn facts(&self, job: &JobState) -> Vec<SegmentFacts> {
        let table = self.lookup.catalog.table();
        // A snapshot of what is there now shares the table itself: one handle is the catalog's, one is ours.
        let is_shared = Arc::strong_count(&table) > 2;
        let oldest = Horizons::of(table.iter());
        let facts = |segment: &Arc<Segment>| {
            let sealed = segment.as_sealed()?;
            if job.passes_over(segment.id()) {
                return None;
            }
            let (mut live_bytes, mut live_records) = segment.live();
            let is_output = segment.add.class >= Class::COMPACTED;
            if is_output && !oldest.are_newer_but(segment, sealed.sequence_max) {
                // Its deaths, touches and cuts were found to be needed: they stay for now, and are no garbage.
                let is_of_deaths = segment.add.class == Class::COMPACTED;
                let deaths = u64::from(sealed.tombstones);
                live_bytes = match is_of_deaths {
                    true => sealed.records_end - RECORDS_AT,
                    false => live_bytes + deaths * DEATH_BYTES,
                };
                live_records += deaths;
            }
            // Without a put nothing in it expires, and a touch may have put that off.
            let has_end = sealed.expiry_max > Timestamp(0)
                && !self.lookup.overrides.has_touch_in(segment.slot);
            Some(SegmentFacts {
                slot: segment.slot,
                bytes: sealed.file_bytes,
                live_bytes,
                live_records,
                expired_bytes: 0,
                dead_at: segment.died_at(),
                sequence_max: sealed.sequence_max.0,
                expiry_max: if has_end { sealed.expiry_max.0 } else { u64::MAX },
                stream: segment.add.class.0.saturating_sub(Class::REWRITTEN.0),
                is_pinned: is_shared || Arc::strong_count(segment) > PINS,
            })
        };
        table.iter().filter_map(facts).collect()
    }

    /// What the policy would be told of the next job.
    pub(super) fn compaction_view(&self) -> (Vec<SegmentFacts>, Goal, Streams) {
        let job = self.upkeep.job();
        (self.facts(&job), self.goal(false), job.streams)
    }

    pub(super) fn goal(&self, force: bool) -> Goal {
        Goal {
            now_sequence: self.writer.next_sequence().0,
            now_ms: self.lookup.clock.confirmed().0,
            garbage_max_percent: self.options.compaction.garbage_percent,
            output_bytes_max: self.space.room_for_outputs(self.home.has_ballast()),
            segment_bytes: self.segment_bytes,
            force,
        }
    }
}

/// A tombstone with a usual key.
const DEATH_BYTES: u64 = 48;
/// Handles of a segment that is only in the catalog's tables: one in each.
const PINS: usize = crate::stats::STRIPES;

/// The two least horizons of a store's segments.
struct Horizons {
    first: (SequenceNumber, Option<Slot>),
    second: SequenceNumber,
}

impl Horizons {
    fn of<'a>(segments: impl Iterator<Item = &'a Arc<Segment>>) -> Self {
        let mut all: Vec<_> =
            segments.map(|segment| (segment.add.horizon, Some(segment.slot))).collect();
        all.sort_unstable();
        let none = (SequenceNumber(u64::MAX), None);
        let at = |index: usize| all.get(index).copied().unwrap_or(none);
        Self { first: at(0), second: at(1).0 }
    }

    /// Whether no other segment can hold anything that is older than `sequence`.
    fn are_newer_but(&self, segment: &Segment, sequence: SequenceNumber) -> bool {
        let least = if self.first.1 == Some(segment.slot) { self.second } else { self.first.0 };
        least > sequence
    }
}
