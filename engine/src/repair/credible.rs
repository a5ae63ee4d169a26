//! Numbers of a manifest that nobody gave, although its checksums are right: they are damage like any other. Ids and
//! sequence numbers beyond what counting leads to are dropped, and of seals that make no sense the footer is believed.

use std::collections::BTreeMap;

use super::known::{Peek, seal_without_footer};
use crate::{
    format::manifest::SealSegment,
    segment::{RECORDS_AT, manifest_state::ManifestState, seal::seal_edit},
    types::{SegmentId, SequenceNumber},
};

/// Ids and sequence numbers count up from 1: a number like this was not given by us.
pub(super) const NUMBER_MAX: u64 = 1 << 56;

/// Leaves out of `state` what nobody gave; says whether there was any.
pub(super) fn keep_credible(state: &mut ManifestState, peeks: &BTreeMap<SegmentId, Peek>) -> bool {
    let found = state.clone();
    state.segments.retain(|id, _| id.0 < NUMBER_MAX);
    state.quarantined.retain(|id| id.0 < NUMBER_MAX);
    state.checkpoint = state.checkpoint.filter(|(number, _)| *number < NUMBER_MAX);
    for (id, segment) in &mut state.segments {
        segment.seal = segment.seal.map(|seal| credible_seal(*id, seal, peeks.get(id)));
    }
    if state.synced.0 >= NUMBER_MAX {
        state.synced = SequenceNumber::default();
    }
    if state.next_id >= NUMBER_MAX {
        let ids = state.segments.keys().chain(&state.quarantined).map(|id| id.0);
        let given = ids.chain(state.checkpoint.map(|(number, _)| number)).max();
        state.next_id = given.unwrap_or(0) + 1;
    }
    if state.next_sequence.0 >= NUMBER_MAX {
        let newest = state.segments.values().filter_map(|segment| Some(segment.seal?.sequence_max));
        state.next_sequence = newest.max().unwrap_or_default().next();
    }
    *state != found
}

/// A seal that says what its segment's footer says, if that proves itself to be the one that was sealed; without it, one
/// that makes no sense says what the records say.
fn credible_seal(id: SegmentId, seal: SealSegment, peek: Option<&Peek>) -> SealSegment {
    let Some(peek) = peek else { return seal };
    let footer = peek.trailer.filter(|trailer| trailer.id == id);
    let told = footer.map(|trailer| seal_edit(&trailer, peek.bytes));
    let is_its = |told: &SealSegment| told.trailer_checksum == seal.trailer_checksum;
    match told.filter(is_its) {
        Some(told) => told,
        None if is_senseless(&seal) => seal_without_footer(id, peek),
        None => seal,
    }
}

fn is_senseless(seal: &SealSegment) -> bool {
    let ends = RECORDS_AT..=seal.file_bytes.max(RECORDS_AT);
    !ends.contains(&seal.records_end) || seal.sequence_max.0 >= NUMBER_MAX
}

/// The greatest of these that can have been given.
pub(super) fn greatest_credible(seen: impl Iterator<Item = SequenceNumber>) -> SequenceNumber {
    seen.filter(|number| number.0 <= NUMBER_MAX).max().unwrap_or_default()
}
