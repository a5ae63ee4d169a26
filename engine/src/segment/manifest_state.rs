//! What the manifest says in sum: its edits folded into one value. Pure.

use std::collections::BTreeMap;

use super::RECORDS_AT;
use crate::{
    format::{
        manifest::{AddSegment, Edit, SealSegment},
        wire::u64_at,
    },
    io::FILE_BYTES_MAX,
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// One segment of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub(crate) add: AddSegment,
    pub(crate) seal: Option<SealSegment>,
}

/// Numbers count up from 1, so none is ever like this; what is below it may be counted on from.
const NUMBERS_MAX: u64 = 1 << 62;

/// Property: where a row of numbers ended, and the number that came next then.
pub(crate) const ROW: &[u8] = b"row";

/// Puts on record where the row of numbers ends, when `next` is the next one.
pub(crate) fn row_edit(end: SequenceNumber, next: SequenceNumber) -> Edit {
    let value = [end.0.to_le_bytes(), next.0.to_le_bytes()].concat();
    Edit::Property { name: ROW.to_vec(), value }
}

/// What the store consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestState {
    pub(crate) segments: BTreeMap<SegmentId, SegmentState>,
    /// The valid checkpoint: number, and the sequence number it covers.
    pub(crate) checkpoint: Option<(u64, SequenceNumber)>,
    /// Store time was at least this.
    pub(crate) high_water: Timestamp,
    /// Least segment id and checkpoint number never used.
    pub(crate) next_id: u64,
    /// Least sequence number never used, as far as the manifest knows.
    pub(crate) next_sequence: SequenceNumber,
    /// Every record of the log up to this one was on the device.
    pub(crate) synced: SequenceNumber,
    /// Closed properly.
    pub(crate) clean: bool,
    pub(crate) quarantined: Vec<SegmentId>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl ManifestState {
    /// Applies one edit. `Err` says why it makes no sense.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<(), &'static str> {
        self.clean = false;
        match edit {
            Edit::Add(add) => {
                self.next_id = self.next_id.max(add.id.0.saturating_add(1));
                let state = SegmentState { add: *add, seal: None };
                if self.segments.insert(add.id, state).is_some() {
                    return Err("segment added twice");
                }
            }
            Edit::Seal(seal) => {
                let is_possible = RECORDS_AT <= seal.records_end
                    && seal.records_end <= seal.file_bytes.max(RECORDS_AT)
                    && seal.file_bytes <= FILE_BYTES_MAX
                    && seal.sequence_max.0 < NUMBERS_MAX;
                is_possible.then_some(()).ok_or("seal of an impossible segment")?;
                let state = self.segments.get_mut(&seal.id).ok_or("seal of an unknown segment")?;
                state.seal = Some(*seal);
                let next = seal.sequence_max.0.saturating_add(1);
                self.next_sequence = self.next_sequence.max(SequenceNumber(next));
            }
            Edit::Replace { inputs, outputs, .. } => {
                for id in inputs {
                    self.segments.remove(id).ok_or("replacement of an unknown segment")?;
                }
                let known = outputs.iter().all(|id| self.segments.contains_key(id));
                known.then_some(()).ok_or("replacement by an unknown segment")?;
            }
            Edit::Retire(id) => {
                self.segments.remove(id).ok_or("retirement of an unknown segment")?;
            }
            Edit::Checkpoint { number, sequence } => {
                self.next_id = self.next_id.max(number.saturating_add(1));
                // Number 0 is never given: it says that there is none any more.
                self.checkpoint = (*number > 0).then_some((*number, *sequence));
            }
            Edit::Clock(time) => self.high_water = self.high_water.max(*time),
            Edit::Floors { segment, sequence } => {
                let is_possible = segment.0 < NUMBERS_MAX && sequence.0 < NUMBERS_MAX;
                is_possible.then_some(()).ok_or("floors above every number")?;
                self.next_id = self.next_id.max(segment.0);
                self.next_sequence = self.next_sequence.max(*sequence);
            }
            Edit::Clean => self.clean = true,
            Edit::Quarantine(id) => {
                self.next_id = self.next_id.max(id.0.saturating_add(1));
                if !self.quarantined.contains(id) {
                    self.quarantined.push(*id);
                }
            }
            Edit::Property { name, value } => {
                self.properties.insert(name.clone(), value.clone());
            }
            Edit::Synced(sequence) => {
                (sequence.0 < NUMBERS_MAX).then_some(()).ok_or("a mark above every number")?;
                self.synced = self.synced.max(*sequence);
                self.next_sequence = self.next_sequence.max(sequence.next());
            }
            Edit::Skipped(_) => {}
        }
        Ok(())
    }

    /// The greatest sequence number that was on the device, with all before it, as far as the manifest tells.
    pub(crate) fn durable(&self) -> SequenceNumber {
        let seals = self.segments.values().filter_map(|segment| segment.seal);
        seals.map(|seal| seal.sequence_max).max().unwrap_or_default().max(self.synced)
    }

    /// Where the row of numbers ends that were given to writes that are left, if none was given since that was put on
    /// record: a gap follows, which a crash left.
    pub(crate) fn row_end(&self) -> Option<SequenceNumber> {
        let value = self.properties.get(ROW)?;
        let end = u64_at(value, 0)?;
        (u64_at(value, 8)? == self.next_sequence.0 && end <= self.next_sequence.0)
            .then_some(SequenceNumber(end))
    }

    /// Edits that lead from nothing to this state: the content of a new manifest.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let mut edits = vec![
            Edit::Floors { segment: SegmentId(self.next_id), sequence: self.next_sequence },
            Edit::Clock(self.high_water),
        ];
        for state in self.segments.values() {
            edits.push(Edit::Add(state.add));
            edits.extend(state.seal.map(Edit::Seal));
        }
        edits.extend(self.quarantined.iter().copied().map(Edit::Quarantine));
        edits.extend(
            self.checkpoint.map(|(number, sequence)| Edit::Checkpoint { number, sequence }),
        );
        edits.extend((self.synced.0 > 0).then_some(Edit::Synced(self.synced)));
        for (name, value) in &self.properties {
            edits.push(Edit::Property { name: name.clone(), value: value.clone() });
        }
        if self.clean {
            edits.push(Edit::Clean);
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_header::Class;

    /// Goal: the edits of a state lead back to that state, clean mark included.
    #[test]
    fn a_state_survives_being_written_anew() {
        let add = |id| AddSegment {
            id: SegmentId(id),
            class: Class::FOREGROUND,
            salt: id * 7,
            horizon: SequenceNumber(id),
            first_sequence: SequenceNumber(id),
        };
        let mut state = ManifestState::default();
        for edit in [
            Edit::Add(add(1)),
            Edit::Add(add(2)),
            Edit::Retire(SegmentId(1)),
            Edit::Checkpoint { number: 3, sequence: SequenceNumber(9) },
            Edit::Property { name: b"a".to_vec(), value: b"b".to_vec() },
            Edit::Quarantine(SegmentId(8)),
            Edit::Clock(Timestamp(5)),
            Edit::Synced(SequenceNumber(7)),
            Edit::Clean,
        ] {
            state.apply(&edit).expect("sensible");
        }
        let mut again = ManifestState::default();
        for edit in state.edits() {
            again.apply(&edit).expect("sensible");
        }
        assert_eq!(again, state);
        assert_eq!((state.next_id, state.clean), (9, true));
    }

    /// Goal: edits about segments that are not there are refused.
    #[test]
    fn edits_must_fit() {
        let mut state = ManifestState::default();
        assert!(state.apply(&Edit::Retire(SegmentId(1))).is_err());
    }
}
