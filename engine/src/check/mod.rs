//! Walks every invariant of a store's files that can be walked. Changes nothing, takes no lock, follows no link, and
//! takes no more memory than the index would and a little: see [`check_store_with`].
//!
//! | code | severity | what |
//! |------|----------|------|
//! | C001 | problem  | the manifest is damaged |
//! | C002 | note     | the manifest ends in an unfinished frame |
//! | C003 | problem  | the manifest lacks edits that had been made |
//! | C010 | problem  | a segment is missing |
//! | C011 | problem  | a segment has a wrong length |
//! | C012 | problem  | a segment's header is damaged |
//! | C013 | problem  | a segment belongs elsewhere |
//! | C014 | problem  | a name of the store is no regular file |
//! | C015 | problem  | a file cannot be read |
//! | C020 | problem  | a footer is damaged |
//! | C021 | problem  | a record is damaged |
//! | C022 | problem  | a footer does not say what the records say |
//! | C030 | note     | the log ends in an unfinished write |
//! | C031 | problem  | records that had been synced are gone |
//! | C040 | note     | a segment that the manifest does not name |
//! | C041 | note     | an unfinished or superseded file |
//! | C042 | note     | a file that was set aside because of damage |
//! | C043 | note     | a name that looks like one of ours and is not |
//! | C050 | problem  | the checkpoint is missing or damaged |
//! | C051 | problem  | the checkpoint does not say what the records say |
//! | C060 | note     | the store changed too fast to be judged in whole |
//!
//! The same as data: [`Code`].
//!
//! ```text
//! look: manifest -> directory -> sealed segments -> unsealed ones, twice -> groups of hashes, checkpoint
//!   ^                                                                                 |
//!   '---- problems, and the manifest has changed since, or this was the first look ---'
//! ```
//!
//! Beside a writer files appear, end and go while they are looked at. What was sealed never changes, so it is judged
//! once. Everything else that looks wrong is looked at again: the truth is what two looks under one manifest say.

mod codes;
mod compare;
mod crew;
mod footer;
mod groups;
mod listing;
mod manifest;
mod newest;
mod options;
mod report;
mod saved;
mod sealed;
mod unsealed;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use codes::{Code, Severity};
pub use options::{CheckLevel, CheckOptions, CheckProgress};
pub use report::{CheckReport, Finding, Verdict};

use self::{
    groups::Groups,
    listing::Listing,
    manifest::Stamp,
    newest::{Judged, Newest, SaidBy, Source},
    options::{Meter, Watch},
    sealed::Facts,
    unsealed::Tail,
};
use crate::{
    error::Result,
    format::{
        file_name,
        hash::KeyHasher,
        manifest::{AddSegment, SealSegment},
    },
    io::{Disk, PathKind},
    segment::{Home, manifest_file::Loaded},
    sync::{Mutex, PoisonError},
    types::SegmentId,
};

/// Checks the store at `path` in full: every checksum, every length, every record, and whether manifest, footers,
/// records and checkpoint agree. As [`check_store_with`] with the default options.
///
/// ```
/// use std::{path::Path, sync::Arc};
/// use tierce_engine::{Options, check::check_store, io::{Disk, MemoryDisk}};
///
/// let disk = MemoryDisk::new();
/// let engine = Options::new().disk(disk.clone()).open("store")?;
/// engine.put("key", "value")?;
/// let disk: Arc<dyn Disk> = Arc::new(disk);
/// let report = check_store(&disk, Path::new("store"))?;
/// assert!(report.is_healthy() && report.entries == 1);
/// # Ok::<(), tierce_engine::Error>(())
/// ```
///
/// # Errors
/// As [`check_store_with`].
pub fn check_store(disk: &Arc<dyn Disk>, path: &Path) -> Result<CheckReport> {
    check_store_with(disk, path, CheckOptions::new())
}

/// Checks the store at `path` as `options` say. Writes nothing and takes no lock: it works on a read-only medium and
/// beside a running writer, of which it sees some moment. Links are not followed.
///
/// Cost: a full check reads every byte once, unsealed segments twice, footers and, of keys with several versions, heads
/// of records once more; a quick one reads headers, footers and the checkpoint. Memory: per thread the footer of the
/// segment that it reads, and 32 bytes for each of a 256th of all records (2 MiB at least), put side by side;
/// 40 bytes for each record of unsealed segments and of those whose footer is damaged. Nothing is sized by a number in
/// a file that the file does not hold.
///
/// # Errors
/// [`Error::NotAStore`](crate::Error::NotAStore), [`Error::UnknownFormat`](crate::Error::UnknownFormat),
/// [`Error::InvalidOptions`](crate::Error::InvalidOptions), and [`Error::Io`](crate::Error::Io) if the directory or the
/// manifest cannot be read. Damage is no error here but a finding.
pub fn check_store_with(
    disk: &Arc<dyn Disk>,
    path: &Path,
    options: CheckOptions<'_>,
) -> Result<CheckReport> {
    let threads = options.validate()?;
    let CheckOptions { level, tell, .. } = options;
    let home = Home::at(disk, path)?;
    let mut check = Check {
        home,
        level,
        threads,
        meter: Meter::new(tell),
        judged: BTreeMap::new(),
        groups: None,
    };
    let mut report = check.find_out()?;
    report.level = level;
    report.cancelled = check.meter.is_stopped();
    report.limit();
    check.meter.tell();
    Ok(report)
}

/// Looks before a store that never stands still is given up on.
const LOOKS_MAX: usize = 6;

struct Check<'a> {
    home: Home,
    level: CheckLevel,
    threads: usize,
    meter: Meter<'a>,
    /// Sealed segments that were judged in an earlier look.
    judged: BTreeMap<SegmentId, Arc<Facts>>,
    groups: Option<Groups>,
}

/// What all that looks at one moment of the store shares.
struct Store<'a> {
    home: &'a Home,
    loaded: &'a Loaded,
    hasher: KeyHasher,
    groups: Groups,
    meter: &'a dyn Watch,
}

/// One look: under which manifest, and what was seen.
struct Look {
    stamp: Option<Stamp>,
    report: CheckReport,
}

impl Check<'_> {
    /// Looks until two looks under one manifest agree, or nothing is wrong.
    fn find_out(&mut self) -> Result<CheckReport> {
        let mut before: Option<Look> = None;
        for _ in 0..LOOKS_MAX {
            let (look, earlier) = match (self.look(), before) {
                (Ok(look), earlier) => (look, earlier),
                // What was seen before the disk gave out is worth more than that it did.
                (Err(_), Some(earlier)) => return Ok(earlier.report),
                (Err(error), None) => return Err(error),
            };
            let is_fine = !look.report.findings.iter().any(Finding::is_problem);
            let is_the_same = earlier.is_some_and(|earlier| {
                earlier.stamp == look.stamp && problems(&earlier.report).eq(problems(&look.report))
            });
            if is_fine || is_the_same || self.meter.is_stopped() {
                return Ok(look.report);
            }
            before = Some(look);
        }
        let mut report = before.map(|look| look.report).unwrap_or_default();
        let doubtful = report.findings.iter().filter(|finding| !is_certain(finding)).count();
        report.findings.retain(is_certain);
        let manifest = self.home.path(file_name::MANIFEST);
        let message = format!("{LOOKS_MAX} looks, each disturbed; {doubtful} doubts are left out");
        report.findings.push(Finding::new(Code::StoreChanging, &manifest, None, message));
        Ok(report)
    }

    fn look(&mut self) -> Result<Look> {
        let (stamp, loaded, findings) = match manifest::read(&self.home)? {
            Ok(reading) => reading,
            Err(finding) => {
                let report = CheckReport { findings: vec![finding], ..CheckReport::default() };
                return Ok(Look { stamp: None, report });
            }
        };
        let seals = || loaded.state.segments.values().filter_map(|state| state.seal);
        let records = seals().map(|seal| u64::from(seal.entries)).sum();
        let groups = *self.groups.get_or_insert_with(|| Groups::for_records(records));
        let hasher = KeyHasher::new(loaded.header.hash_seed);
        let store = Store { home: &self.home, loaded: &loaded, hasher, groups, meter: &self.meter };
        let mut report = CheckReport { findings, ..CheckReport::default() };
        let listing = listing::list(&store)?;
        let sealed = sealed_segments(&store, &listing, (self.level, self.threads), &self.judged);
        for facts in &sealed {
            report.segments += u64::from(!facts.is_passing);
            report.records += facts.records;
            report.bytes += facts.bytes;
            report.findings.extend(facts.findings.iter().cloned());
        }
        let open = |state: &crate::segment::manifest_state::SegmentState| {
            state.seal.is_none().then_some(state.add)
        };
        let unsealed: Vec<_> = loaded.state.segments.values().filter_map(open).collect();
        let durable = loaded.state.durable();
        let reads = self.level != CheckLevel::Quick;
        let tail = unsealed::check(&store, &listing, &unsealed, durable, reads);
        report.segments += tail.segments;
        report.records += tail.records;
        report.bytes += tail.bytes;
        report.findings.extend(tail.findings.iter().cloned());
        report.findings.extend(listing.findings.iter().cloned());
        report.findings.extend(lost_edits(&store, &report));
        side_by_side(&store, (self.level, self.threads), &listing, &sealed, &tail, &mut report);
        let keep = sealed.into_iter().filter(|facts| !facts.is_passing);
        self.judged = keep.map(|facts| (facts.add.id, facts)).collect();
        Ok(Look { stamp: Some(stamp), report })
    }
}

/// The sealed segments, by as many threads as there are; those that were judged before as they were judged.
fn sealed_segments(
    store: &Store<'_>,
    listing: &Listing,
    (level, threads): (CheckLevel, usize),
    judged: &BTreeMap<SegmentId, Arc<Facts>>,
) -> Vec<Arc<Facts>> {
    /// Below this many bytes one thread is done before another has begun.
    const ALONE_BYTES: u64 = 4 << 20;
    let seal =
        |state: &crate::segment::manifest_state::SegmentState| Some((state.add, state.seal?));
    let segments: Vec<(AddSegment, SealSegment)> =
        store.loaded.state.segments.values().filter_map(seal).collect();
    let bytes_of = |id: &SegmentId| listing.segments.get(id).map_or(0, |listed| listed.bytes);
    let is_known = |add: &AddSegment, seal: &SealSegment| {
        judged.get(&add.id).filter(|facts| facts.seal == *seal && facts.add == *add)
    };
    let fresh = segments.iter().filter(|(add, seal)| is_known(add, seal).is_none());
    let bytes: u64 = fresh.map(|(add, seal)| bytes_of(&add.id).min(seal.file_bytes)).sum();
    store.meter.expect(bytes);
    let threads = if bytes < ALONE_BYTES { 1 } else { threads };
    crew::each(threads, segments.len(), |place| {
        let (add, seal) = segments[place];
        if let Some(known) = is_known(&add, &seal) {
            return Arc::clone(known);
        }
        if store.meter.is_stopped() {
            return Arc::new(Facts::unseen(add, seal));
        }
        let listed = listing.segments.get(&add.id).copied();
        Arc::new(sealed::check(store, listed, (add, seal), level.reads(place)))
    })
}

/// Puts the records of all segments side by side, and the checkpoint beside them.
fn side_by_side(
    store: &Store<'_>,
    (level, threads): (CheckLevel, usize),
    listing: &Listing,
    sealed: &[Arc<Facts>],
    tail: &Tail,
    report: &mut CheckReport,
) {
    let is_sound = !report.findings.iter().any(Finding::is_problem);
    let state = &store.loaded.state;
    let name = state.checkpoint.map(|(number, _)| file_name::checkpoint(number));
    let path = store.home.path(name.as_deref().unwrap_or_default());
    let saved = state.checkpoint.and_then(|checkpoint| {
        let listed = listing.checkpoints.get(&checkpoint.0);
        let said = match listed {
            Some(listed) if listed.kind != PathKind::File => return None,
            Some(_) => saved::read(store, &path, checkpoint),
            None => Ok(Err((0, "missing".to_owned()))),
        };
        let (offset, message) = match said {
            Ok(Ok(saved)) => return Some(saved),
            Ok(Err((offset, message))) => (Some(offset).filter(|_| listed.is_some()), message),
            Err(error) => (None, error.to_string()),
        };
        report.findings.push(Finding::new(Code::CheckpointDamaged, &path, offset, message));
        None
    });
    report.bytes += saved.as_ref().map_or(0, |saved| saved.bytes);
    if level != CheckLevel::Full || store.meter.is_stopped() {
        return;
    }
    let used_bits = sealed.iter().fold(0, |bits, facts| bits | facts.used_bits);
    let is_exact = state.clean && store.loaded.torn.is_none();
    let checkpoint = saved.as_ref().filter(|_| is_sound);
    let checkpoint = checkpoint.map(|saved| Judged { saved, path: path.clone(), is_exact });
    let sources = sources(sealed, tail);
    let newest = Newest::new(store, sources, compare::hash_mask(used_bits), checkpoint);
    let records = report.records;
    let found = Mutex::new(report);
    let threads = if records < 1 << 16 { 1 } else { threads };
    let entries = crew::each(threads, store.groups.count(), |group| {
        let outcome = newest.judge(group);
        let mut report = found.lock().unwrap_or_else(PoisonError::into_inner);
        report.findings.extend(outcome.findings);
        outcome.entries
    });
    let report = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.entries = if store.meter.is_stopped() { 0 } else { entries.iter().sum() };
}

/// A segment is missing, and the manifest ends in the middle of something: what was to be said there may have retired
/// the segment.
fn lost_edits(store: &Store<'_>, report: &CheckReport) -> Option<Finding> {
    let (offset, _) = store.loaded.torn?;
    report.findings.iter().find(|finding| finding.code == Code::SegmentMissing)?;
    let path = store.home.path(file_name::MANIFEST);
    let message = "what it said from here on may have retired segments that are missing";
    Some(Finding::new(Code::EditsMissing, &path, Some(offset), message))
}

fn sources<'a>(sealed: &'a [Arc<Facts>], tail: &'a Tail) -> Vec<Source<'a>> {
    let of_sealed = |facts: &'a Arc<Facts>| Source {
        add: facts.add,
        said: SaidBy::of(&facts.said, facts.seal.records_end),
    };
    let of_tail = |(add, entries): &'a (AddSegment, Vec<_>)| Source {
        add: *add,
        said: SaidBy::Records(entries),
    };
    sealed.iter().map(of_sealed).chain(tail.entries.iter().map(of_tail)).collect()
}

fn problems(report: &CheckReport) -> impl Iterator<Item = &Finding> {
    report.findings.iter().filter(|finding| finding.is_problem())
}

/// Whether a finding is true whatever happened to the manifest meanwhile: what it is about never changes.
fn is_certain(finding: &Finding) -> bool {
    !matches!(
        finding.code,
        Code::EditsMissing
            | Code::SegmentMissing
            | Code::RecordsMissing
            | Code::CheckpointDamaged
            | Code::CheckpointWrong
    )
}
