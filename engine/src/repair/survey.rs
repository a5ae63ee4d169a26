//! Every segment of a store read once and examined; then, if something is lost, once more for what is left of the
//! keys that lost something. One segment is in memory at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    examine::{Examined, Kept, Reason, SealedBytes, examine_sealed, examine_tail, head_at},
    known::Known,
    lost::{Fate, LostRange, LostRecord, name_of},
    witness::Witness,
};
use crate::{
    error::{Error, Result},
    format::record::{Flags, Head, Kind},
    io::read_file,
    recovery::SEQUENCE_GAP,
    segment::{Home, tail::Unsealed},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// What was found of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentFacts {
    pub(super) reasons: Vec<Reason>,
    pub(super) is_missing: bool,
    pub(super) kept: u64,
    pub(super) lost: u64,
    /// Whether everything that had been stored in it can be had.
    pub(super) is_whole: bool,
    /// The file it stands in.
    pub(super) source: Option<SegmentId>,
}

/// A delete, a scope cut or a touch that has to be written so that nothing comes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ending {
    /// That of the record whose place it takes.
    pub(super) sequence: SequenceNumber,
    pub(super) kind: Kind,
    pub(super) key: Vec<u8>,
    /// Of a touch: the put that it is for, and the expiry.
    pub(super) touch: Option<(SequenceNumber, Option<Timestamp>)>,
}

/// What was found of all of them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) segments: BTreeMap<SegmentId, SegmentFacts>,
    pub(super) lost: Vec<LostRecord>,
    pub(super) unknown: Vec<LostRange>,
    pub(super) endings: Vec<Ending>,
    /// Greatest sequence number seen anywhere.
    pub(super) newest: SequenceNumber,
    pub(super) records: u64,
}

/// One segment's bytes with what was found in them.
pub(super) struct Visited<'a> {
    pub(super) id: SegmentId,
    pub(super) salt: u64,
    pub(super) bytes: &'a [u8],
    pub(super) examined: Examined,
}

impl Visited<'_> {
    pub(super) fn head(&self, kept: &Kept) -> Option<Head<'_>> {
        head_at(self.bytes, self.salt, kept.offset)
    }
}

/// The bytes of the file in which segment `id` stands; `None` if it is missing.
fn bytes_of(known: &Known, id: SegmentId) -> Result<Option<Vec<u8>>> {
    let Some(source) = known.sources.get(&id) else { return Ok(None) };
    let path = known.home.segment(*source);
    read_file(known.home.disk.as_ref(), &path)
        .map(Some)
        .map_err(|source| Error::io("read", path, source))
}

/// Examines every segment and shows it to `visit`, one after the other. `only` leaves others out, but for unsealed
/// ones, which are judged together.
pub(super) fn visit(
    known: &Known,
    only: Option<&BTreeSet<SegmentId>>,
    visit: &mut dyn FnMut(Visited<'_>) -> Result<()>,
) -> Result<()> {
    let mut unsealed = Vec::new();
    let is_asked = |id: &SegmentId| only.is_none_or(|only| only.contains(id));
    for (id, state) in &known.state.segments {
        let Some(seal) = state.seal else {
            if let Some(bytes) = bytes_of(known, *id)? {
                let path = source_path(&known.home, known, *id);
                unsealed.push(Unsealed { add: state.add, path, bytes });
            }
            continue;
        };
        if !is_asked(id) {
            continue;
        }
        let Some(bytes) = bytes_of(known, *id)? else { continue };
        let path = source_path(&known.home, known, *id);
        let mut examined = examine_sealed(&SealedBytes {
            path: &path,
            bytes: &bytes,
            add: &state.add,
            seal: &seal,
            store_id: known.header.store_id,
            hasher: known.hasher,
        });
        if known.sources.get(id) != Some(id) {
            examined.reasons.push(Reason::Misplaced);
        }
        leave_out_repeated(known, *id, &mut examined);
        visit(Visited { id: *id, salt: state.add.salt, bytes: &bytes, examined })?;
    }
    unsealed.sort_by_key(|found| found.add.first_sequence);
    let durable = known.state.durable();
    let examined = examine_tail(&unsealed, durable, known.header.store_id, known.hasher);
    for (found, mut examined) in unsealed.iter().zip(examined) {
        leave_out_repeated(known, found.add.id, &mut examined);
        if is_asked(&found.add.id) {
            let (id, salt) = (found.add.id, found.add.salt);
            visit(Visited { id, salt, bytes: &found.bytes, examined })?;
        }
    }
    Ok(())
}

fn leave_out_repeated(known: &Known, id: SegmentId, examined: &mut Examined) {
    if let Some(repeated) = known.repeated.get(&id) {
        examined.kept.retain(|kept| !repeated.contains(&kept.sequence));
        examined.reasons.push(Reason::Repeated);
    }
}

fn source_path(home: &Home, known: &Known, id: SegmentId) -> std::path::PathBuf {
    home.segment(known.sources.get(&id).copied().unwrap_or(id))
}

/// Reads and examines everything.
pub(super) fn survey(known: &Known) -> Result<Survey> {
    let mut survey = Survey::default();
    visit(known, None, &mut |visited| {
        let Visited { id, examined, .. } = visited;
        survey.newest = survey.newest.max(examined.newest);
        survey.records += examined.kept.len() as u64;
        let facts = SegmentFacts {
            kept: examined.kept.len() as u64,
            lost: examined.lost.len() as u64,
            is_whole: examined.is_whole(),
            reasons: examined.reasons,
            is_missing: false,
            source: known.sources.get(&id).copied(),
        };
        survey.segments.insert(id, facts);
        survey.lost.extend(examined.lost);
        survey.unknown.extend(examined.unknown);
        Ok(())
    })?;
    for (id, state) in &known.state.segments {
        if known.sources.contains_key(id) {
            continue;
        }
        survey.segments.insert(*id, SegmentFacts { is_missing: true, ..SegmentFacts::default() });
        let file = known.home.segment(*id);
        survey.unknown.push(match state.seal {
            Some(seal) => LostRange {
                file,
                offset: 0,
                bytes: seal.file_bytes,
                records: (seal.trailer_checksum != 0).then_some(u64::from(seal.entries)),
                sequences: None,
            },
            None => LostRange { file, offset: 0, bytes: 0, records: None, sequences: None },
        });
    }
    name_unreadable(known, &mut survey);
    trace(known, &mut survey)?;
    Ok(survey)
}

/// Names what the device cannot read of segments that are not sealed: where no footer tells, nothing else may be missing
/// there.
fn name_unreadable(known: &Known, survey: &mut Survey) {
    let unsealed = known.state.segments.iter().filter(|(_, state)| state.seal.is_none());
    let files: BTreeSet<_> = unsealed.map(|(id, _)| source_path(&known.home, known, *id)).collect();
    for (file, offset, bytes) in known.disk.unreadable() {
        let is_in = |other: &std::path::Path, at: u64, length: u64| {
            other == file && at < offset + bytes && offset < at.saturating_add(length)
        };
        let is_named = survey.lost.iter().any(|lost| is_in(&lost.file, lost.offset, lost.bytes))
            || survey.unknown.iter().any(|range| is_in(&range.file, range.offset, range.bytes));
        if files.contains(&file) && !is_named {
            let range = LostRange { file, offset, bytes, records: None, sequences: None };
            survey.unknown.push(range);
        }
    }
}

/// What is left of the keys that lost something.
#[derive(Default)]
struct Traces {
    /// By hash: the newest version of each key.
    versions: HashMap<u64, HashMap<Vec<u8>, (SequenceNumber, Kind)>>,
    /// Names of scopes by their hash.
    scopes: HashMap<u64, Vec<u8>>,
    /// Lost records of which a copy is left.
    copies: HashSet<SequenceNumber>,
}

/// Finds the keys of what was lost, and what has to be written so that nothing older shows.
fn trace(known: &Known, survey: &mut Survey) -> Result<()> {
    let may_tell = survey.lost.iter().any(|lost| lost.is(Kind::Touch));
    let is_unsure = !survey.unknown.is_empty() || known.lacks_edits;
    let witness = match is_unsure || may_tell {
        true => Witness::load(known, is_unsure),
        false => None,
    };
    if survey.lost.is_empty() && witness.is_none() {
        return Ok(());
    }
    let hashes = survey.lost.iter().filter(|lost| !lost.is(Kind::ScopeCut)).filter_map(|l| l.hash);
    let hashes: HashSet<_> = hashes.collect();
    let cuts = survey.lost.iter().any(|lost| lost.is(Kind::ScopeCut));
    let gone: HashSet<_> = survey.lost.iter().map(|lost| (lost.sequence, lost.kind)).collect();
    let mut traces = Traces::default();
    let mut witness = witness;
    visit(known, None, &mut |visited| {
        for kept in &visited.examined.kept {
            if let Some(witness) = &mut witness {
                witness.hear(visited.id, kept);
            }
            if gone.contains(&(kept.sequence, name_of(kept.kind))) {
                traces.copies.insert(kept.sequence);
            }
            let is_version = matches!(kept.kind, Kind::Put | Kind::Delete);
            let is_traced = is_version && kept.hash.is_some_and(|hash| hashes.contains(&hash));
            if !is_traced && !cuts {
                continue;
            }
            let Some(head) = visited.head(kept) else { continue };
            if let (true, Some(hash)) = (is_traced, kept.hash) {
                let found = (kept.sequence, kept.kind);
                let keys = traces.versions.entry(hash).or_default();
                let newest = keys.entry(head.key.to_vec()).or_insert(found);
                *newest = (*newest).max(found);
            }
            if let (true, Some(hasher), true) =
                (cuts, known.hasher, head.flags.has(Flags::EXTENDED))
            {
                for scope in head.extension.iter().flat_map(|extension| extension.scopes()) {
                    traces.scopes.entry(hasher.hash(scope)).or_insert_with(|| scope.to_vec());
                }
            }
        }
        Ok(())
    })?;
    survey.lost.retain(|lost| !traces.copies.contains(&lost.sequence));
    let mut endings = BTreeSet::new();
    let newest_lost = newest_lost(&survey.lost);
    for lost in &mut survey.lost {
        endings.extend(settle(lost, &traces, &newest_lost));
    }
    if let Some(witness) = witness {
        // Above every number that can have been given out.
        let next = survey.newest.0.max(known.state.next_sequence.0).saturating_add(SEQUENCE_GAP);
        let next = SequenceNumber(next);
        let spoken = witness.settle(known, next, &mut survey.lost)?;
        survey.newest = survey.newest.max(spoken.newest);
        endings.extend(spoken.endings);
    }
    survey.endings = endings.into_iter().collect();
    Ok(())
}

/// The newest lost version of each hash.
pub(super) fn newest_lost(lost: &[LostRecord]) -> HashMap<u64, SequenceNumber> {
    let mut newest: HashMap<u64, SequenceNumber> = HashMap::new();
    for lost in lost.iter().filter(|lost| lost.is_version()) {
        if let Some(hash) = lost.hash {
            let so_far = newest.entry(hash).or_default();
            *so_far = lost.sequence.max(*so_far);
        }
    }
    newest
}

/// Decides what became of the key of a lost record, and what has to be written because of it.
fn settle(
    lost: &mut LostRecord,
    traces: &Traces,
    newest_lost: &HashMap<u64, SequenceNumber>,
) -> Vec<Ending> {
    let Some(hash) = lost.hash else { return Vec::new() };
    if lost.is(Kind::ScopeCut) {
        let scope = lost.key.clone().or_else(|| traces.scopes.get(&hash).cloned());
        // Of a scope that no record is in nothing has to be cut.
        lost.fate = Fate::Restored;
        lost.key.clone_from(&scope);
        let (sequence, kind) = (lost.sequence, Kind::ScopeCut);
        return scope.map(|key| Ending { sequence, kind, key, touch: None }).into_iter().collect();
    }
    let none = HashMap::new();
    let keys = traces.versions.get(&hash).unwrap_or(&none);
    let is_its = |key: &Vec<u8>| lost.key.as_ref().is_none_or(|its| its == key);
    let mut versions: Vec<_> = keys.iter().filter(|(key, _)| is_its(key)).collect();
    versions.sort_unstable();
    if lost.is(Kind::Touch) {
        lost.fate = Fate::OlderExpiry;
        if let (None, [(key, (newest, _))]) = (&lost.key, versions.as_slice()) {
            let is_displaced = *newest > lost.sequence;
            lost.fate = if is_displaced { Fate::Superseded } else { Fate::OlderExpiry };
            lost.key = Some((*key).clone());
        }
        return Vec::new();
    }
    let (newer, older): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|(_, (newest, _))| *newest > lost.sequence);
    let shows = |(_, (_, kind)): &(&Vec<u8>, &(SequenceNumber, Kind))| *kind == Kind::Put;
    let hidden: Vec<_> = older.iter().filter(|version| shows(version)).collect();
    let name = |versions: &[(&Vec<u8>, &(SequenceNumber, Kind))]| match versions {
        [(key, _)] => Some((*key).clone()),
        _ => None,
    };
    let is_newest = newest_lost.get(&hash).is_none_or(|newest| *newest <= lost.sequence);
    lost.fate = match lost.is(Kind::Delete) {
        _ if older.is_empty() && !newer.is_empty() => Fate::Superseded,
        true => Fate::Restored,
        false if hidden.is_empty() => Fate::Gone,
        false => Fate::Hidden,
    };
    if lost.key.is_none() {
        lost.key = name(&older).or_else(|| name(&newer));
    }
    if !is_newest {
        // What is lost too, and newer, has the last word.
        return Vec::new();
    }
    let (sequence, kind) = (lost.sequence, Kind::Delete);
    hidden
        .into_iter()
        .map(|(key, _)| Ending { sequence, kind, key: (*key).clone(), touch: None })
        .collect()
}
