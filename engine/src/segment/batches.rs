//! The batch rule: a record with the flag `BATCH` counts only if the commit marker of its batch follows in the same
//! segment and matches (I14). Pure; for segments that may end in a crash. What was sealed had been committed, so that
//! every sound record of a sealed segment counts.

use super::scan::Scanned;
use crate::format::{
    checksum::checksum_from,
    record::{Flags, Kind},
};

/// The rule, fed with the sound records of one segment in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batches {
    /// What the caller had counted when the open batch began.
    start: Option<usize>,
    records: u32,
    sum: u32,
}

impl Batches {
    /// Takes in the next sound record, before the caller counts it; `counted` items were counted so far. `Some(n)`: a
    /// batch was not whole, and of those items only the first `n` count.
    pub(crate) fn show(&mut self, record: &Scanned, counted: usize) -> Option<usize> {
        if let Some(marker) = record.commit.filter(|marker| marker.batch_records > 0) {
            let Self { start, records, sum } = std::mem::take(self);
            let matches = (marker.batch_records, marker.batch_checksum) == (records, sum);
            // A sound marker that does not match had a whole batch once: what is missing is a hole in the segment.
            return (!matches).then(|| start.unwrap_or(counted));
        }
        if record.flags.has(Flags::BATCH) {
            self.start.get_or_insert(counted);
            self.records = self.records.saturating_add(1);
            self.sum = checksum_from(self.sum, &record.head_checksum.to_le_bytes());
            return None;
        }
        // A marker that ends no batch may stand anywhere.
        if record.kind == Some(Kind::Commit) { None } else { self.end() }
    }

    /// No record follows, or not the next one. As [`Self::show`].
    pub(crate) fn end(&mut self) -> Option<usize> {
        std::mem::take(self).start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::record::Commit, types::SequenceNumber};

    fn record(sequence: u64, is_batched: bool, ends: Option<(u32, u32)>) -> Scanned {
        let flag = if is_batched { Flags::BATCH } else { Flags::default() };
        Scanned {
            offset: sequence * 64,
            bytes: 64,
            head_bytes: 24,
            kind: Some(if ends.is_some() { Kind::Commit } else { Kind::Put }),
            flags: flag,
            sequence: SequenceNumber(sequence),
            head_checksum: u32::try_from(sequence).expect("small"),
            sound: true,
            commit: ends.map(|(batch_records, batch_checksum)| Commit {
                durable_offset: 0,
                durable_sequence: SequenceNumber(0),
                batch_records,
                batch_checksum,
            }),
        }
    }

    /// Sequence numbers of the records that count.
    fn counted(records: &[Scanned]) -> Vec<u64> {
        let (mut batches, mut counted) = (Batches::default(), Vec::new());
        for record in records {
            if let Some(kept) = batches.show(record, counted.len()) {
                counted.truncate(kept);
            }
            if record.kind != Some(Kind::Commit) {
                counted.push(record.sequence.0);
            }
        }
        if let Some(kept) = batches.end() {
            counted.truncate(kept);
        }
        counted
    }

    /// Goal: a batch counts with a marker that matches, and in no other case; what stands around it counts.
    #[test]
    fn a_batch_counts_with_its_marker() {
        let sum = |sequences: &[u32]| {
            sequences.iter().fold(0, |sum, sequence| checksum_from(sum, &sequence.to_le_bytes()))
        };
        let (one, four) = (record(1, false, None), record(5, false, None));
        let batch = [record(2, true, None), record(3, true, None)];
        let marker = |ends| record(4, false, Some(ends));
        let whole = marker((2, sum(&[2, 3])));
        let with = |marker: &Scanned, batch: &[Scanned]| {
            let mut all = vec![one.clone()];
            all.extend_from_slice(batch);
            all.extend([marker.clone(), four.clone()]);
            counted(&all)
        };
        assert_eq!(with(&whole, &batch), [1, 2, 3, 5]);
        assert_eq!(with(&whole, &batch[..1]), [1, 5], "a record is missing");
        assert_eq!(with(&whole, &[]), [1, 5], "all of them are");
        assert_eq!(with(&marker((2, 7)), &batch), [1, 5], "another batch's marker");
        assert_eq!(with(&marker((0, 0)), &batch), [1, 5], "a marker that ends no batch");
        let mut all = vec![one.clone()];
        all.extend_from_slice(&batch);
        assert_eq!(counted(&all), [1], "no marker at all");
    }
}
