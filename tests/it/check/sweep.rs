//! Random single faults. Each is found and told of under the right name, but for those that cannot be told from what
//! a crash leaves (`docs/format.md`, section 6): which these are is decided by where the fault is, not by what the
//! check says.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    thread,
};

use tierce_engine::{
    Error, SegmentId,
    check::{CheckReport, Severity},
    format::{
        file_name::{self, FileName},
        manifest::Edit,
        segment_header::SEGMENT_HEADER_BYTES,
    },
};
use tierce_kit::{
    rng::Rng,
    seed::{cases, count},
};

use super::{
    Files, check,
    shapes::{self, Shape, frames, is_sealed, name_of, named, path_of, records, thing_at},
};

/// One fault.
#[derive(Clone, Debug)]
enum Fault {
    Flip { path: PathBuf, byte: usize, bit: u8 },
    Zero { path: PathBuf, range: Range<usize> },
    Cut { path: PathBuf, at: usize },
    Swap { one: PathBuf, other: PathBuf },
    Missing { path: PathBuf },
    Duplicate { from: PathBuf, to: PathBuf },
}

/// What a fault did to one file.
struct Changed<'a> {
    path: &'a Path,
    /// From the first byte that is another one, or gone, to behind the last.
    range: Range<usize>,
    is_cut: bool,
}

const SECTOR: usize = 512;
const PAGE: usize = 4096;

impl Fault {
    fn random(files: &Files, rng: &mut Rng) -> Self {
        // On a disk in memory the lock file is empty: nothing in it can be damaged.
        let with_bytes = files.iter().filter(|(_, bytes)| !bytes.is_empty());
        let paths: Vec<&PathBuf> = with_bytes.map(|(path, _)| path).collect();
        let any = |rng: &mut Rng| paths[rng.below(paths.len() as u64) as usize].clone();
        let path = any(rng);
        let length = files[&path].len() as u64;
        match rng.weighted(&[(5, 0), (3, 1), (2, 2), (1, 3), (1, 4), (1, 5)]) {
            0 => {
                let byte = rng.below(length) as usize;
                Self::Flip { path, byte, bit: rng.below(8) as u8 }
            }
            1 => {
                let size = if rng.one_in(2) { SECTOR } else { PAGE };
                let start = rng.below(length) as usize / size * size;
                Self::Zero { path, range: start..(start + size).min(length as usize) }
            }
            2 => Self::Cut { path, at: rng.below(length) as usize },
            3 => Self::Swap { one: path, other: any(rng) },
            4 => Self::Missing { path },
            _ => {
                let is_segment =
                    |path: &&&PathBuf| matches!(name_of(path), Some(FileName::Segment(_)));
                let segments: Vec<_> = paths.iter().filter(is_segment).collect();
                let pick = |rng: &mut Rng| segments[rng.below(segments.len() as u64) as usize];
                let from = pick(rng).to_path_buf();
                let new = SegmentId(1_000 + rng.below(1_000));
                let to = if rng.one_in(2) {
                    pick(rng).to_path_buf()
                } else {
                    path_of(&file_name::segment(new))
                };
                Self::Duplicate { from, to }
            }
        }
    }

    /// The files with this fault.
    fn applied(&self, files: &Files) -> Files {
        let mut files = files.clone();
        match self {
            Self::Flip { path, byte, bit } => files.get_mut(path).unwrap()[*byte] ^= 1 << bit,
            Self::Zero { path, range } => files.get_mut(path).unwrap()[range.clone()].fill(0),
            Self::Cut { path, at } => files.get_mut(path).unwrap().truncate(*at),
            Self::Swap { one, other } => {
                let (first, second) = (files[one].clone(), files[other].clone());
                files.insert(one.clone(), second);
                files.insert(other.clone(), first);
            }
            Self::Missing { path } => drop(files.remove(path)),
            Self::Duplicate { from, to } => drop(files.insert(to.clone(), files[from].clone())),
        }
        files
    }

    /// The files it is about.
    fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Flip { path, .. }
            | Self::Zero { path, .. }
            | Self::Cut { path, .. }
            | Self::Missing { path } => vec![path],
            Self::Swap { one, other } => vec![one, other],
            Self::Duplicate { to, .. } => vec![to],
        }
    }

    /// What it did, if it did it within one file.
    fn changed<'a>(&'a self, files: &Files) -> Option<Changed<'a>> {
        match self {
            Self::Flip { path, byte, .. } => {
                Some(Changed { path, range: *byte..byte + 1, is_cut: false })
            }
            Self::Zero { path, range } => {
                let bytes = &files[path][range.clone()];
                let first = range.start + bytes.iter().position(|byte| *byte != 0)?;
                let last = range.start + bytes.iter().rposition(|byte| *byte != 0)?;
                Some(Changed { path, range: first..last + 1, is_cut: false })
            }
            Self::Cut { path, at } => {
                Some(Changed { path, range: *at..files[path].len(), is_cut: true })
            }
            _ => None,
        }
    }
}

/// Why a fault may pass: what it leaves, a crash could have left.
fn exemption(shape: &Shape, fault: &Fault) -> Option<&'static str> {
    if fault.paths().iter().all(|path| name_of(path) == Some(FileName::Lock)) {
        return Some("nothing in the lock file counts");
    }
    // A store that was closed has a manifest of one frame and no unsealed end: no crash leaves anything in it.
    if shape.is_clean {
        return None;
    }
    let changed = fault.changed(&shape.files)?;
    let bytes = &shape.files[changed.path];
    match name_of(changed.path) {
        Some(FileName::Manifest) => of_manifest(shape, bytes, &changed, fault),
        Some(FileName::Segment(_)) if !is_sealed(bytes) => of_tail(shape, &changed),
        _ => None,
    }
}

/// The last frames of a manifest: cut short, it looks like one that was never longer. The segments tell, if the lost
/// edits named one with records, or dropped one whose file is gone.
fn of_manifest(
    shape: &Shape,
    bytes: &[u8],
    changed: &Changed<'_>,
    fault: &Fault,
) -> Option<&'static str> {
    let frames = frames(bytes);
    let (last, _) = frames.last()?;
    let hit = frames.partition_point(|(at, _)| *at <= changed.range.start).checked_sub(1)?;
    if hit == 0 || changed.range.end <= *last && !changed.is_cut {
        return None;
    }
    if let Fault::Flip { byte, bit, .. } = fault {
        // A bit that was set and is lost, with nothing behind it in its sector, may be a write that was cut short.
        let end = (byte + 1).next_multiple_of(SECTOR).min(bytes.len());
        let is_lost = bytes[*byte] & 1 << bit != 0;
        let is_last = bytes[byte + 1..end].iter().all(|byte| *byte == 0);
        return (is_lost && is_last).then_some("the end of the manifest's last frame");
    }
    let edits = |frames: &[(usize, _)]| -> Vec<Edit> {
        let frames = frames.iter().flat_map(
            |(_, frame): &(usize, tierce_engine::format::manifest::Frame)| frame.edits.clone(),
        );
        frames.collect()
    };
    let kept = edits(&frames[..hit]);
    let is_there = |id: &SegmentId| shape.files.contains_key(&path_of(&file_name::segment(*id)));
    let before = named(kept.iter());
    let lacks = before.iter().any(|id| !is_there(id));
    let has_records = |id: &SegmentId| {
        let bytes = &shape.files[&path_of(&file_name::segment(*id))];
        !records(bytes).0.is_empty()
    };
    let after = named(edits(&frames).iter());
    let tells = after.iter().any(|id| !before.contains(id) && is_there(id) && has_records(id));
    (!lacks && !tells).then_some("the last frames of the manifest")
}

/// The end of the log: what no marker that is left says was durable.
fn of_tail(shape: &Shape, changed: &Changed<'_>) -> Option<&'static str> {
    if changed.range.start < SEGMENT_HEADER_BYTES {
        return None;
    }
    let mut watermark = 0;
    let mut first_hit = None;
    for (path, bytes) in &shape.files {
        if !matches!(name_of(path), Some(FileName::Segment(_))) {
            continue;
        }
        let sealed = is_sealed(bytes);
        for record in records(bytes).0 {
            let is_hit = path == changed.path
                && record.place.start < changed.range.end
                && record.place.end > changed.range.start;
            if is_hit {
                first_hit = first_hit.or(Some(record.sequence));
            } else if sealed {
                watermark = watermark.max(record.sequence);
            } else {
                watermark = watermark.max(record.durable.unwrap_or_default());
            }
        }
    }
    match first_hit {
        None => Some("space that was never written"),
        Some(sequence) => (sequence > watermark).then_some("the end of the log"),
    }
}

/// Whether the check found it: `Err` says what is missing.
fn judge(shape: &Shape, fault: &Fault, found: Result<CheckReport, Error>) -> Result<(), String> {
    let report = match found {
        Ok(report) => report,
        // A damaged version, or no manifest and nothing else: the error says which file.
        Err(Error::UnknownFormat { file, .. }) if fault.paths().contains(&file.as_path()) => {
            return Ok(());
        }
        Err(error) => return Err(format!("error: {error}")),
    };
    let problems: Vec<_> =
        report.findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    if problems.is_empty() {
        return Err(format!("not found; notes: {:?}", report.findings));
    }
    let named: Vec<_> =
        problems.iter().filter(|p| fault.paths().contains(&p.file.as_path())).collect();
    let Some(changed) = fault.changed(&shape.files) else {
        return if named.is_empty() { Err(format!("wrong file: {problems:?}")) } else { Ok(()) };
    };
    let bytes = &shape.files[changed.path];
    let is_tail = matches!(name_of(changed.path), Some(FileName::Segment(_))) && !is_sealed(bytes);
    let thing = thing_at(changed.path, bytes, changed.range.start);
    if changed.is_cut {
        // Cut between two records, or two frames, the file tells nothing by itself: others do.
        let is_manifest = name_of(changed.path) == Some(FileName::Manifest);
        let is_between = (is_tail || is_manifest) && changed.range.start == thing.start;
        let is_fine = is_between || !named.is_empty();
        return if is_fine { Ok(()) } else { Err(format!("wrong file: {problems:?}")) };
    }
    let is_here = |offset: u64| (thing.start as u64..=changed.range.end as u64).contains(&offset);
    match named.iter().any(|problem| problem.offset.is_some_and(is_here)) {
        true => Ok(()),
        false => Err(format!("wrong place, not in {thing:?}: {problems:?}")),
    }
}

/// What came of many faults.
#[derive(Default)]
struct Tally {
    tried: u64,
    exempt: BTreeMap<(&'static str, &'static str), u64>,
    found_all_the_same: u64,
    missed: Vec<String>,
}

impl Tally {
    fn try_one(&mut self, shape: &Shape, rng: &mut Rng) {
        let (fault, files) = loop {
            let fault = Fault::random(&shape.files, rng);
            let files = fault.applied(&shape.files);
            if files != shape.files {
                break (fault, files);
            }
        };
        let judged = judge(shape, &fault, check(&files));
        self.tried += 1;
        match exemption(shape, &fault) {
            Some(why) => {
                *self.exempt.entry((shape.name, why)).or_default() += 1;
                self.found_all_the_same += u64::from(judged.is_ok());
            }
            None => {
                if let Err(complaint) = judged {
                    self.missed.push(format!("{}, {fault:?}: {complaint}", shape.name));
                }
            }
        }
    }
}

/// Goal: every fault is found and told of under the right name, and a file alone that tells where it is damaged is told
/// so; nothing is changed by looking. Method: stores of all shapes, each with random single faults; a fault may pass
/// only where a crash could have left the same bytes.
#[test]
fn every_fault_is_found() {
    let name = "check::sweep::every_fault_is_found";
    let (shapes, each) = (shapes::all(), count(10_000).div_ceil(8));
    for shape in &shapes {
        super::assert_healthy(&check(&shape.files).unwrap());
    }
    cases(name, 1, |seed| {
        eprintln!("{name}: seed {seed}");
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let work = |(number, shape)| {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_add(number));
                    let mut tally = Tally::default();
                    (0..each).for_each(|_| tally.try_one(shape, &mut rng));
                    tally
                })
            };
            let threads: Vec<_> = (0..).zip(&shapes).map(work).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (mut tried, mut exempt, mut all_the_same, mut missed) = (0, 0, 0, Vec::new());
        for (tally, shape) in tallies.into_iter().zip(&shapes) {
            tried += tally.tried;
            exempt += tally.exempt.values().sum::<u64>();
            all_the_same += tally.found_all_the_same;
            missed.extend(tally.missed);
            for ((name, why), count) in &tally.exempt {
                eprintln!("{name} (clean: {}): {count} may pass: {why}", shape.is_clean);
            }
        }
        eprintln!("{tried} faults, {exempt} may pass, {all_the_same} of these were found");
        let first = missed.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(missed.is_empty(), "{} of {tried} are missed:\n{first}", missed.len());
        assert!(exempt < tried / 4, "too much may pass");
    });
}
