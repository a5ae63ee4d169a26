//! The segments that were not sealed when the store went down: what of them counts. Pure.
//!
//! Sequence numbers in the foreground log are dense, so the records of these segments, in order, should count up
//! without a hole. Where they do not, one of two things happened, and the *watermark* tells which: the highest
//! sequence number that a commit marker, the manifest's mark of the last sync, or a sealed segment says was on the device.
//!
//! 1. The first missing number is at or below the watermark: it had been synced. **Media corruption**: what is
//!    missing is reported, and records after the hole, up to the watermark, still count.
//! 2. It is above: **a torn tail** (I9). The log ends there, even if later records can be read: the device wrote them
//!    out of order, and counting them would break the promise that what survives is a prefix.
//!
//! A batch counts only with its commit marker. What does not count is zeroed in the image, so that nobody
//! downstream can find it again.

use std::{ops::ControlFlow, path::PathBuf};

use super::{
    RECORDS_AT,
    batches::Batches,
    scan::{Item, Scanned, scan},
};
use crate::{
    error::{Corruption, Damage},
    format::{checksum::checksum, manifest::AddSegment},
    types::SequenceNumber,
};

/// An unsealed segment as found.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) add: AddSegment,
    pub(crate) path: PathBuf,
    /// The file from its first byte.
    pub(crate) bytes: Vec<u8>,
}

/// An unsealed segment that somebody else scans.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) path: PathBuf,
    /// Length of the file.
    pub(crate) bytes: u64,
}

/// What of one of them counts.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its records, zeros where something does not count; the first byte is the one at [`RECORDS_AT`].
    pub(crate) image: Vec<u8>,
    pub(crate) newest: SequenceNumber,
    /// Where the log was cut in it, and how many bytes that were not zero follow.
    pub(crate) torn: Option<(u64, u64)>,
    pub(crate) is_damaged: bool,
    /// What stands behind that and does not count.
    pub(crate) rest: Rest,
}

/// Bytes behind the end of a log, up to the last that is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    bytes: usize,
    sum: u32,
}

impl Rest {
    /// Of all the bytes that follow.
    pub(crate) fn of(following: &[u8]) -> Self {
        let bytes = following.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Self { bytes, sum: checksum(&following[..bytes]) }
    }
}

/// The verdict on all of them.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) kept: Vec<Kept>,
    pub(crate) damaged: Vec<Corruption>,
    /// Highest sequence number seen anywhere, counted or not.
    pub(crate) seen: SequenceNumber,
    pub(crate) scanned: u64,
}

/// A record that counts so far: which segment, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    sequence: SequenceNumber,
}

/// The verdict in the making: what the scans of all unsealed segments find is shown to it, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    extents: Vec<Extent>,
    watermark: SequenceNumber,
    accepted: Vec<Accepted>,
    batches: Batches,
    /// The number the next record must have.
    expected: SequenceNumber,
    damaged: Vec<(usize, Corruption)>,
    /// Where the first thing behind the last record stood that is no sound one, and whether it is only unwritten space.
    last_fault: Option<((usize, u64), bool)>,
}

/// Judges the unsealed segments, oldest first. `durable` is the highest sequence number that the manifest knows to have
/// been on the device.
pub(crate) fn judge(unsealed: &[Unsealed], durable: SequenceNumber) -> Tail {
    let Some(first) = unsealed.first() else { return Tail::default() };
    let before = SequenceNumber(first.add.first_sequence.0.saturating_sub(1));
    let scans: Vec<_> = unsealed
        .iter()
        .map(|found| scan(&found.bytes, found.bytes.len() as u64, found.add.salt, before))
        .collect();
    let records = || {
        scans.iter().flatten().filter_map(|item| match item {
            Item::Record(record) => Some(record),
            Item::Gap(_) => None,
        })
    };
    let markers = records().filter_map(|record| Some(record.commit?.durable_sequence));
    let watermark = markers.max().unwrap_or_default().max(durable);
    let extent =
        |found: &Unsealed| Extent { path: found.path.clone(), bytes: found.bytes.len() as u64 };
    let extents = unsealed.iter().map(extent).collect();
    let mut judge = Judge::new(extents, first.add.first_sequence, watermark);
    'log: for (segment, items) in scans.iter().enumerate() {
        for item in items {
            if judge.show(segment, item).is_break() {
                break 'log;
            }
        }
    }
    judge.end();
    Tail {
        seen: records().map(|record| record.sequence).max().unwrap_or_default(),
        scanned: records().count() as u64,
        kept: judge.keep(unsealed),
        damaged: judge.damaged.into_iter().map(|(_, corruption)| corruption).collect(),
    }
}

impl Judge {
    /// A verdict on these segments, oldest first; `first` is the first sequence number that may stand in them, and
    /// `watermark` the greatest one that is known to have been durable.
    pub(crate) fn new(
        extents: Vec<Extent>,
        first: SequenceNumber,
        watermark: SequenceNumber,
    ) -> Self {
        Self { extents, watermark, expected: first, ..Self::default() }
    }

    /// Takes in what a scan found next. `Break`: the log ends before this, whatever follows.
    pub(crate) fn show(&mut self, segment: usize, item: &Item) -> ControlFlow<()> {
        let record = match item {
            Item::Record(record) if record.sound => record,
            Item::Record(Scanned { offset, .. }) => return self.doubt((segment, *offset), false),
            Item::Gap(gap) => return self.doubt((segment, gap.offset), gap.is_unwritten),
        };
        if record.sequence < self.expected {
            // A number that was counted already: not written by us in this order.
            return self.doubt((segment, record.offset), false);
        }
        if record.sequence > self.expected {
            if record.sequence > self.watermark.next() {
                return ControlFlow::Break(());
            }
            self.report(segment, record.offset, record.sequence);
        }
        self.accept(segment, record);
        ControlFlow::Continue(())
    }

    /// No sound record stands here. What is missing next is told of at the first such place, but for space that was
    /// never written, which is the ordinary end of a segment.
    fn doubt(&mut self, place: (usize, u64), is_unwritten: bool) -> ControlFlow<()> {
        if self.last_fault.is_none_or(|(_, is_weak)| is_weak) {
            self.last_fault = Some((place, is_unwritten));
        }
        ControlFlow::Continue(())
    }

    /// Everything was shown.
    pub(crate) fn end(&mut self) {
        if self.expected <= self.watermark {
            let last = self.extents.len().saturating_sub(1);
            let end = self.extents.get(last).map_or(0, |extent| extent.bytes);
            self.report(last, end, self.watermark.next());
        }
        self.drop_batch();
    }

    /// The records that count, in order.
    pub(crate) fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// The damage that was found.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = &Corruption> {
        self.damaged.iter().map(|(_, corruption)| corruption)
    }

    /// Records from the expected one to before `to` were durable and are gone.
    fn report(&mut self, segment: usize, offset: u64, to: SequenceNumber) {
        self.drop_batch();
        let (segment, offset) =
            self.last_fault.take().map_or((segment, offset), |(place, _)| place);
        let damage = Damage::MissingRecords { from: self.expected, to };
        let file = self.extents.get(segment).map(|found| found.path.clone()).unwrap_or_default();
        self.damaged.push((segment, Corruption { file, offset, damage }));
        self.expected = to;
    }

    fn accept(&mut self, segment: usize, record: &Scanned) {
        self.last_fault = None;
        self.expected = record.sequence.next();
        if let Some(kept) = self.batches.show(record, self.accepted.len()) {
            self.accepted.truncate(kept);
        }
        let (offset, bytes) = (record.offset, record.bytes);
        self.accepted.push(Accepted { segment, offset, bytes, sequence: record.sequence });
    }

    /// A batch without its marker does not count.
    fn drop_batch(&mut self) {
        if let Some(kept) = self.batches.end() {
            self.accepted.truncate(kept);
        }
    }

    fn keep(&self, unsealed: &[Unsealed]) -> Vec<Kept> {
        let kept = unsealed.iter().enumerate().map(|(segment, found)| {
            let mine = || self.accepted.iter().filter(|accepted| accepted.segment == segment);
            let end = mine().map(|a| a.offset + a.bytes).max().unwrap_or(RECORDS_AT);
            let length = usize::try_from(end - RECORDS_AT).unwrap_or_default();
            let mut image = vec![0; length];
            for accepted in mine() {
                let from = usize::try_from(accepted.offset).unwrap_or(usize::MAX);
                let count = usize::try_from(accepted.bytes).unwrap_or_default();
                let to = from - usize::try_from(RECORDS_AT).unwrap_or_default();
                image[to..to + count].copy_from_slice(&found.bytes[from..from + count]);
            }
            let cut = usize::try_from(end).unwrap_or(usize::MAX).min(found.bytes.len());
            let rest = Rest::of(&found.bytes[cut..]);
            Kept {
                image,
                newest: mine().map(|a| a.sequence).max().unwrap_or_default(),
                torn: (rest.bytes > 0).then_some((end, rest.bytes as u64)),
                rest,
                is_damaged: self.damaged.iter().any(|(damaged, _)| *damaged == segment),
            }
        });
        kept.collect()
    }
}
