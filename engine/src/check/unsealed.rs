//! The segments that are not sealed: what of them counts, while somebody may be writing to them.
//!
//! They are read twice, newest first and then oldest first. What the first reading shows as durable, by commit markers,
//! was written before the second begins: so the second sees it, whatever is appended meanwhile, and what it does not
//! see is gone. Records above that watermark are still on their way, or torn; neither is damage (I9).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Store,
    codes::Code,
    listing::Listing,
    report::Finding,
    sealed::{header, open},
};
use crate::{
    format::{footer::FooterEntry, manifest::AddSegment},
    io::File,
    segment::{
        FILE_BYTES_MAX, RECORDS_AT,
        scan::Item,
        scanner::{Found, Scanner, Sought, Values},
        tail::{Extent, Judge},
    },
    types::SequenceNumber,
};

/// What is known of the unsealed segments.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) findings: Vec<Finding>,
    pub(super) segments: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Of each segment the records that count, in order of hashes.
    pub(super) entries: Vec<(AddSegment, Vec<FooterEntry>)>,
}

/// An unsealed segment whose file is there.
struct Open {
    add: AddSegment,
    path: PathBuf,
    file: Arc<dyn File>,
}

/// Looks at the unsealed segments, oldest first; `durable` is the greatest sequence number that the manifest knows to
/// have been on the device. `reads`: at their records too.
pub(super) fn check(
    store: &Store<'_>,
    listing: &Listing,
    unsealed: &[AddSegment],
    durable: SequenceNumber,
    reads: bool,
) -> Tail {
    let mut tail = Tail::default();
    let mut opened = Vec::new();
    for add in unsealed {
        let path = store.home.segment(add.id);
        match open(store, &path, listing.segments.get(&add.id).copied()) {
            Ok(file) => opened.push(Open { add: *add, path, file }),
            Err(finding) => tail.findings.extend(finding),
        }
    }
    tail.segments = opened.len() as u64;
    if let Err((path, error)) = tail.look(store, &opened, durable, reads) {
        tail.findings.push(Finding::new(Code::Unreadable, &path, None, error));
    }
    tail
}

type Unreadable = (PathBuf, io::Error);

impl Tail {
    fn look(
        &mut self,
        store: &Store<'_>,
        opened: &[Open],
        durable: SequenceNumber,
        reads: bool,
    ) -> Result<(), Unreadable> {
        let mut lengths = Vec::new();
        for open in opened {
            let said = |error| (open.path.clone(), error);
            let found =
                header(open.file.as_ref(), &open.add, &store.loaded.header.store_id, &open.path);
            self.findings.extend(found.map_err(said)?);
            lengths.push(open.file.bytes().map_err(said)?);
        }
        let too_long = opened.iter().zip(&lengths).filter(|(_, length)| **length > FILE_BYTES_MAX);
        for (open, _) in too_long {
            let message = "longer than any segment is";
            self.findings.push(Finding::new(
                Code::SegmentLength,
                &open.path,
                Some(FILE_BYTES_MAX),
                message,
            ));
        }
        let Some(first) = opened.first().filter(|_| reads) else { return Ok(()) };
        let before = SequenceNumber(first.add.first_sequence.0.saturating_sub(1));
        let mut watermark = durable;
        for open in opened.iter().rev() {
            let newest = newest_marker(store, open, before);
            watermark = watermark.max(newest.map_err(|error| (open.path.clone(), error))?);
        }
        self.judge(store, opened, first.add.first_sequence, watermark)
    }

    fn find(&mut self, code: Code, (file, offset): (&Path, u64), message: &dyn fmt::Display) {
        self.findings.push(Finding::new(code, file, Some(offset), message));
    }

    fn judge(
        &mut self,
        store: &Store<'_>,
        opened: &[Open],
        first: SequenceNumber,
        watermark: SequenceNumber,
    ) -> Result<(), Unreadable> {
        let mut extents = Vec::new();
        for open in opened {
            let bytes = open.file.bytes().map_err(|error| (open.path.clone(), error))?;
            extents.push(Extent { path: open.path.clone(), bytes });
        }
        let before = SequenceNumber(first.0.saturating_sub(1));
        let mut judge = Judge::new(extents, first, watermark);
        let mut is_over = false;
        let (mut entries, mut ends) = (Vec::new(), Vec::new());
        for (place, open) in opened.iter().enumerate() {
            let scanned = scan(store, open, before, |found| {
                let item = match found {
                    Found::Record(met) => Item::Record(met.record),
                    Found::Gap(gap) => Item::Gap(gap),
                };
                is_over = is_over || judge.show(place, &item).is_break();
            });
            let (said, written) = scanned.map_err(|error| (open.path.clone(), error))?;
            self.bytes += written;
            store.meter.add(written);
            entries.push(said);
            ends.push(written);
        }
        if store.meter.is_stopped() {
            // What was not read is not missing.
            return Ok(());
        }
        judge.end();
        for damage in judge.damaged() {
            let at = (damage.file.as_path(), damage.offset);
            self.find(Code::RecordsMissing, at, &damage.damage);
        }
        let mut accepted = judge.accepted().iter().peekable();
        for (place, (open, said)) in opened.iter().zip(entries).enumerate() {
            let mut end = RECORDS_AT;
            let mut counts = Vec::new();
            while let Some(record) = accepted.next_if(|record| record.segment == place) {
                end = record.offset + record.bytes;
                counts.push(record.offset);
            }
            if ends[place] > end {
                let message = format!("{} bytes of an unfinished write", ends[place] - end);
                self.find(Code::WriteUnfinished, (&open.path, end), &message);
            }
            let mut kept: Vec<_> = said
                .into_iter()
                .filter(|entry: &FooterEntry| counts.binary_search(&entry.offset).is_ok())
                .collect();
            kept.sort_unstable_by_key(|entry| (entry.hash, entry.sequence));
            self.records += kept.len() as u64;
            self.entries.push((open.add, kept));
        }
        Ok(())
    }
}

/// The greatest sequence number that a commit marker in this segment says is durable.
fn newest_marker(
    store: &Store<'_>,
    open: &Open,
    before: SequenceNumber,
) -> io::Result<SequenceNumber> {
    let mut scanner =
        Scanner::new(open.file.as_ref(), sought(open, before, Values::Skip)?, store.hasher);
    let mut newest = SequenceNumber::default();
    while let Some(found) = scanner.next()? {
        if let Found::Record(met) = found
            && let Some(marker) = met.record.commit
        {
            newest = newest.max(marker.durable_sequence);
        }
        if store.meter.is_stopped() {
            break;
        }
    }
    Ok(newest)
}

fn sought(open: &Open, after: SequenceNumber, values: Values) -> io::Result<Sought> {
    let end = open.file.bytes()?.min(FILE_BYTES_MAX);
    Ok(Sought { end, salt: open.add.salt, after, values })
}

/// Shows everything in a segment to `show`. The entries of its sound records with a key, and where what was written
/// ends.
fn scan(
    store: &Store<'_>,
    open: &Open,
    before: SequenceNumber,
    mut show: impl FnMut(Found),
) -> io::Result<(Vec<FooterEntry>, u64)> {
    let sought = sought(open, before, Values::Verify)?;
    let mut scanner = Scanner::new(open.file.as_ref(), sought, store.hasher);
    let mut entries = Vec::new();
    while let Some(found) = scanner.next()? {
        match &found {
            Found::Record(met) if met.record.sound && met.is_of_a_key() => {
                entries.extend(met.entry());
            }
            _ => {}
        }
        show(found);
        if store.meter.is_stopped() {
            break;
        }
    }
    Ok((entries, scanner.written()))
}
