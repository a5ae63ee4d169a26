//! May a record that ends a key's life be dropped? Only if no other segment holds an older version (I6).
//!
//! Each segment has a *horizon*: if that is above the sequence number of a death, the segment holds no version that is
//! older than the death. So a death needs to ask only the segments whose horizon is not above it; those answer by their
//! footers. A doubtful answer counts as "yes, there is one".

use std::sync::Arc;

use crate::{format::footer::FooterEntries, segment::Segment, types::SequenceNumber};

/// Is there a version of the key with this hash that is older than `sequence`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) hash: u64,
    pub(super) sequence: SequenceNumber,
    pub(super) has_older: bool,
}

/// The other segments of the store, by horizon.
#[derive(Debug)]
pub(super) struct Others {
    /// Ascending by horizon.
    segments: Vec<Arc<Segment>>,
}

impl Others {
    pub(super) fn new(mut segments: Vec<Arc<Segment>>) -> Self {
        segments.sort_by_key(|segment| segment.add.horizon);
        Self { segments }
    }

    /// Whether no other segment can hold anything older than `sequence`.
    pub(super) fn are_all_newer(&self, sequence: SequenceNumber) -> bool {
        self.segments.first().is_none_or(|first| first.add.horizon > sequence)
    }

    /// Answers all questions. The footers are read one at a time.
    pub(super) fn answer(&self, questions: &mut [Question]) {
        let Some(newest) = questions.iter().map(|question| question.sequence).max() else {
            return;
        };
        for segment in self.segments.iter().take_while(|segment| segment.add.horizon <= newest) {
            let horizon = segment.add.horizon;
            let asks = |question: &Question| !question.has_older && horizon <= question.sequence;
            if !questions.iter().any(asks) {
                continue;
            }
            let told = match segment.as_sealed() {
                Some(sealed) => sealed.with_entries(|entries| {
                    questions
                        .iter_mut()
                        .filter(|question| asks(question))
                        .for_each(|question| question.has_older = holds_older(entries, question));
                }),
                None => None,
            };
            if told.is_none() {
                // Not sealed, or its footer cannot be read: it may hold anything.
                questions
                    .iter_mut()
                    .filter(|question| asks(question))
                    .for_each(|question| question.has_older = true);
            }
        }
    }
}

fn holds_older(entries: &FooterEntries<'_>, question: &Question) -> bool {
    let start = entries.lower_bound(question.hash);
    (start..entries.len())
        .map_while(|at| entries.get(at).filter(|entry| entry.hash == question.hash))
        .any(|entry| entry.sequence < question.sequence)
}
