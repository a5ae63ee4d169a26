//! From a directory to a running state.
//!
//! 1. Manifest: which segments exist.
//! 2. Directory: which files are there; `decision` says what each mismatch means.
//! 3. Unsealed segments: `segment::tail` says what counts; it stays in memory, and the writer rewrites it before
//!    anything else is written.
//! 4. Index: from the checkpoint and what came after, or from the footers.
//! 5. Leftovers are removed.
//!
//! Until the writer rewrites the tail, nothing on disk has changed but leftovers: a second crash finds what the
//! first one left. Nothing is ever appended to a file that was found.

mod covered;
mod decision;
mod identity;
mod load;
mod report;
mod uses;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    covered::{SlotGiver, count_live, fill},
    decision::{Decision, Listed, Presence, decide},
    identity::{read_manifest, read_start},
    load::{Entries, Source},
    uses::Uses,
};
use crate::{
    checkpoint,
    error::{Corruption, Damage, Error, Result},
    format::{
        FORMAT_MAJOR,
        file_name::{self, FileName},
        hash::KeyHasher,
        manifest::{AddSegment, Edit, ManifestHeader, SealSegment},
        record::HEADER_BYTES,
        segment_header::{SEGMENT_MAGIC, SegmentHeader, newer_major},
        wire::u32_at,
    },
    index::Index,
    io::{Access, DirectoryEntry, PathKind, TolerantDisk, read_file, read_file_backwards},
    options::{Options, RecoveryPolicy},
    overrides::Overrides,
    segment::{
        Home, Segment,
        append::OpenSegment,
        catalog::Catalog,
        manifest_file::{self, ManifestFile},
        manifest_state::{ManifestState, SegmentState},
        seal::{entries_by_scan, open_sealed},
        tail::{Unsealed, judge},
    },
    sync::Mutex,
    types::{SegmentId, SequenceNumber, Timestamp},
};

pub use report::{RecoveryReport, TornTail};

/// A store as it comes up.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) catalog: Catalog,
    pub(crate) index: Index,
    pub(crate) overrides: Overrides,
    pub(crate) hasher: KeyHasher,
    pub(crate) next_sequence: SequenceNumber,
    /// Numbers from here on were given to no write that is left.
    pub(crate) gap_from: SequenceNumber,
    pub(crate) high_water: Timestamp,
    pub(crate) unsealed: Vec<OpenSegment>,
    pub(crate) damaged: Vec<SegmentId>,
    pub(crate) report: RecoveryReport,
}

/// After a crash this many sequence numbers are left out: more than could have been given to records that were
/// lost, so that none is ever used twice (I5). Lost is at most what was not sealed: a few segments of the largest size,
/// filled with the shortest records there are.
pub(crate) const SEQUENCE_GAP: u64 = 1 << 28;
const _: () = assert!(
    SEQUENCE_GAP >= UNSEALED_MAX * Options::SEGMENT_BYTES_MAX / HEADER_BYTES as u64,
    "I5: a number that was given out would be given out again"
);
/// More segments than are unsealed at a time.
const UNSEALED_MAX: u64 = 4;

struct Recovery<'a> {
    home: &'a Home,
    options: &'a Options,
    files: BTreeMap<FileName, u64>,
    header: ManifestHeader,
    state: ManifestState,
    manifest_is_sound: bool,
    report: RecoveryReport,
    /// Records of a foreign hash seed or without a footer: these must be scanned.
    must_scan: Vec<SegmentId>,
}

/// Reads the store in `home`. The caller holds its lock.
pub(crate) fn recover(home: &Home, options: &Options) -> Result<Recovered> {
    let started = options.clock.monotonic_ms();
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let files = ours(&listed);
    let (header, state, report, manifest_is_sound) = read_manifest(home, options, &files)?;
    let mut recovery = Recovery {
        home,
        options,
        files,
        header,
        state,
        manifest_is_sound,
        report,
        must_scan: Vec::new(),
    };
    let mut recovered = recovery.run()?;
    recovered.report.duration_ms = options.clock.monotonic_ms().saturating_sub(started);
    Ok(recovered)
}

/// Ids count up from 1: a number like this was not given by us.
const ID_MAX: u64 = 1 << 56;

/// What `name` is, if it is ours.
fn our_name(name: &str) -> Option<FileName> {
    let parsed = FileName::parse(name)?;
    let number = match parsed {
        FileName::Segment(id) | FileName::Quarantine(id) => id.0,
        FileName::Checkpoint(number) => number,
        FileName::Lock | FileName::Manifest | FileName::Ballast | FileName::Temporary => 0,
    };
    (number < ID_MAX).then_some(parsed)
}

/// Our files in a directory, with their lengths. Others are nobody's business.
pub(crate) fn ours(listed: &[DirectoryEntry]) -> BTreeMap<FileName, u64> {
    let files = listed.iter().filter(|entry| entry.kind == PathKind::File);
    files.filter_map(|entry| Some((our_name(&entry.name)?, entry.bytes))).collect()
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<Recovered> {
        let checkpoint = self.load_checkpoint();
        let mut slots = SlotGiver { checkpoint: checkpoint.as_ref(), next: 0 };
        slots.next = checkpoint
            .iter()
            .flat_map(|c| c.segments.iter().map(|row| row.slot.saturating_add(1)))
            .max()
            .unwrap_or_default();
        let (mut segments, mut unsealed) = (Vec::new(), Vec::new());
        let mut ids: Vec<_> = self.state.segments.keys().copied().collect();
        ids.extend(self.files.keys().filter_map(|name| match name {
            FileName::Segment(id) if !self.state.segments.contains_key(id) => Some(*id),
            _ => None,
        }));
        ids.sort_unstable();
        self.doubt_manifest(&ids)?;
        for id in ids {
            self.take_segment(id, &mut slots, &mut segments, &mut unsealed)?;
        }
        let unsealed = self.read_unsealed(unsealed)?;
        self.report.segments = (segments.len() + unsealed.len()) as u64;
        let open = self.judge_tail(unsealed, &mut slots)?;
        let catalog = Catalog::new(self.options.knobs);
        let tails = open.iter().map(|(open, _)| Arc::clone(&open.segment));
        catalog.change(segments.iter().cloned().chain(tails).collect(), &[]);
        let index = Index::new();
        let hasher = self.hasher();
        let overrides = self.load_index(&index, checkpoint, &segments, &open)?;
        count_live(&index, &catalog);
        self.remove_leftovers();
        let damaged = open.iter().filter(|(_, d)| *d).map(|(o, _)| o.segment.id()).collect();
        Ok(Recovered {
            manifest: Arc::new(Mutex::new(ManifestFile::found(
                self.home.clone(),
                self.header,
                self.state.clone(),
            ))),
            catalog,
            index,
            overrides,
            hasher,
            next_sequence: self.next_sequence(&open),
            gap_from: self.state.row_end().unwrap_or(self.state.next_sequence),
            high_water: self.state.high_water,
            unsealed: open.into_iter().map(|(open, _)| open).collect(),
            damaged,
            report: std::mem::take(&mut self.report),
        })
    }

    fn hasher(&self) -> KeyHasher {
        let hasher = KeyHasher::new(self.header.hash_seed);
        #[cfg(feature = "testing")]
        let hasher = hasher.weakened(self.options.hash_bits);
        hasher
    }

    fn next_sequence(&self, open: &[(OpenSegment, bool)]) -> SequenceNumber {
        let seen = open.iter().map(|(open, _)| open.newest.next().0).max().unwrap_or_default();
        let floor = self.state.next_sequence.0.max(seen).max(1);
        let gap = if self.report.clean { 0 } else { SEQUENCE_GAP };
        SequenceNumber(floor.saturating_add(gap))
    }

    fn load_checkpoint(&mut self) -> Option<checkpoint::Loaded> {
        let (number, _) = self.state.checkpoint?;
        let ManifestHeader { store_id, hash_seed, .. } = self.header;
        match checkpoint::load(self.home, number, store_id, hash_seed) {
            Ok(loaded) => Some(loaded),
            Err(reason) => {
                let name = file_name::checkpoint(number);
                self.report.notes.push(format!("checkpoint {name} was not used: {reason}"));
                None
            }
        }
    }

    /// A manifest that was cut at its end looks like one that was never longer. The segments tell: one that it must
    /// have named, or one that it names and that is gone because a later edit replaced it.
    fn doubt_manifest(&mut self, ids: &[SegmentId]) -> Result<()> {
        let is_listed = |id: &SegmentId| self.state.segments.contains_key(id);
        let is_there = |id: &SegmentId| self.files.contains_key(&FileName::Segment(*id));
        let proves = |id: &SegmentId| {
            manifest_file::proves_lost_edits(self.home, &self.header, &self.state, *id)
        };
        let is_cut = self.manifest_is_sound
            && ids.iter().any(|id| !is_listed(id) && is_there(id) && proves(id));
        let lacks_files = ids.iter().any(|id| is_listed(id) && !is_there(id));
        self.manifest_is_sound &= !is_cut && !lacks_files;
        if is_cut {
            let path = self.home.path(file_name::MANIFEST);
            let torn = self.report.torn.iter().find(|torn| torn.file == path);
            let at = torn.map_or(0, |torn| torn.offset);
            self.damage(RecoveryPolicy::Salvage, path, at, Damage::MissingEdits)?;
        }
        Ok(())
    }

    /// Decides about one segment and takes it in.
    fn take_segment(
        &mut self,
        id: SegmentId,
        slots: &mut SlotGiver<'_>,
        segments: &mut Vec<Arc<Segment>>,
        unsealed: &mut Vec<AddSegment>,
    ) -> Result<()> {
        let state = self.state.segments.get(&id).cloned();
        let listed = match &state {
            None => Listed::No,
            Some(SegmentState { seal: None, .. }) => Listed::Open,
            Some(SegmentState { seal: Some(seal), .. }) => {
                Listed::Sealed { bytes: seal.file_bytes }
            }
        };
        let presence = match self.files.get(&FileName::Segment(id)) {
            Some(&bytes) => Presence::There { bytes },
            None => Presence::Missing,
        };
        let path = self.home.segment(id);
        match (decide(listed, presence, self.manifest_is_sound), state) {
            (Decision::Use, Some(SegmentState { add, seal: Some(seal) })) => {
                let sealed = open_sealed(self.home, &seal, self.options.maps_segments())?;
                let slot = slots.give(id);
                segments.push(Arc::new(Segment::sealed(self.home, add, slot, sealed)));
            }
            (Decision::ScanTail, Some(SegmentState { add, .. })) => unsealed.push(add),
            (Decision::Damaged, Some(SegmentState { add, seal: Some(seal) })) => {
                let damage = Damage::Truncated;
                self.damage(RecoveryPolicy::SkipRecord, path, seal.file_bytes, damage)?;
                segments.extend(self.adopt(id, Some(add), slots)?);
            }
            (Decision::Lost, _) => {
                if matches!(self.home.disk.kind(&path), Ok(Some(_))) {
                    // Whatever the policy: what stands there may lead to the file, which is given up by nobody but its owner.
                    let damage = Damage::NoRegularFile;
                    return Err(Error::Corruption(Corruption { file: path, offset: 0, damage }));
                }
                self.damage(RecoveryPolicy::Salvage, path, 0, Damage::MissingFile)?;
                self.state.apply(&Edit::Retire(id)).unwrap_or_default();
            }
            (Decision::RemoveOrphan, _) => self.remove_orphan(id)?,
            (Decision::Adopt, _) => segments.extend(self.adopt(id, None, slots)?),
            _ => {}
        }
        Ok(())
    }

    /// Reads the unsealed segments, newest first and each from its end: beside a running writer, whatever was written
    /// before the bytes that were seen is seen too, so that no marker tells of records that were read too early.
    fn read_unsealed(&mut self, found: Vec<AddSegment>) -> Result<Vec<Unsealed>> {
        let mut unsealed = Vec::with_capacity(found.len());
        for add in found.into_iter().rev() {
            let path = self.home.segment(add.id);
            let bytes = read_file_backwards(self.home.disk.as_ref(), &path)
                .map_err(|source| Error::io("read", &path, source))?;
            self.check_header(&bytes, &add, &path)?;
            unsealed.push(Unsealed { add, path, bytes });
        }
        unsealed.reverse();
        Ok(unsealed)
    }

    /// A segment that was opened for writing must say who it is.
    fn check_header(&mut self, bytes: &[u8], add: &AddSegment, path: &Path) -> Result<()> {
        if let Some(found) = newer_major(bytes, SEGMENT_MAGIC) {
            let file = path.to_owned();
            return Err(Error::UnknownFormat { file, found, newest_known: FORMAT_MAJOR });
        }
        let damage = match SegmentHeader::decode(bytes) {
            Ok(header) if header.id == add.id && header.salt == add.salt => return Ok(()),
            Ok(_) => Damage::Misplaced,
            Err(fault) => fault.damage,
        };
        // The salt is in the manifest too, so the records can still be read.
        self.damage(RecoveryPolicy::SkipRecord, path.to_owned(), 0, damage)
    }

    fn damage(
        &mut self,
        least: RecoveryPolicy,
        file: PathBuf,
        offset: u64,
        damage: Damage,
    ) -> Result<()> {
        let corruption = Corruption { file, offset, damage };
        self.report.damage(self.options.recovery, least, corruption)
    }

    /// Takes in a segment by what its bytes say: it has no trustworthy seal. Its records are served where they
    /// stand; the manifest will list it as sealed there.
    fn adopt(
        &mut self,
        id: SegmentId,
        known: Option<AddSegment>,
        slots: &mut SlotGiver<'_>,
    ) -> Result<Option<Arc<Segment>>> {
        let path = self.home.segment(id);
        let bytes = read_file(self.home.disk.as_ref(), &path)
            .map_err(|source| Error::io("read", &path, source))?;
        let add = match (known, SegmentHeader::decode(&bytes)) {
            (Some(add), _) => add,
            (None, Ok(header)) if header.store_id == self.header.store_id => {
                AddSegment { id, ..AddSegment::from(&header) }
            }
            (None, Ok(_)) => {
                self.report.notes.push(format!("{} belongs to another store", path.display()));
                return Ok(None);
            }
            (None, Err(fault)) => {
                self.damage(RecoveryPolicy::Salvage, path, fault.at, fault.damage)?;
                return Ok(None);
            }
        };
        let length = bytes.len() as u64;
        // One that the manifest names is here because it was sealed; of any other only what is committed counts.
        let found = entries_by_scan(&bytes, length, add.salt, self.hasher(), known.is_some());
        let entries = &found.entries;
        let seal = SealSegment {
            id,
            file_bytes: length,
            records_end: found.records_end,
            sequence_max: entries.iter().map(|entry| entry.sequence).max().unwrap_or_default(),
            expiry_min: Timestamp(0),
            expiry_max: Timestamp(u64::MAX),
            entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            tombstones: u32::MAX,
            not_fresh: u32::MAX,
            trailer_checksum: 0,
        };
        if known.is_none() {
            let _ = self.state.apply(&Edit::Add(add));
        }
        let _ = self.state.apply(&Edit::Seal(seal));
        self.must_scan.push(id);
        let sealed = open_sealed(self.home, &seal, self.options.maps_segments())?;
        Ok(Some(Arc::new(Segment::sealed(self.home, add, slots.give(id), sealed))))
    }

    fn remove_orphan(&mut self, id: SegmentId) -> Result<()> {
        let path = self.home.segment(id);
        let start = read_start(self.home, &path).unwrap_or_default();
        if let Some(found) = newer_major(&start, SEGMENT_MAGIC) {
            return Err(Error::UnknownFormat { file: path, found, newest_known: FORMAT_MAJOR });
        }
        // Ids are never used again, those of orphans included.
        self.state.next_id = self.state.next_id.max(id.0.saturating_add(1));
        if self.state.quarantined.contains(&id) && !self.options.read_only {
            // The manifest says that it was set aside, but the crash came first.
            let aside = self.home.path(&file_name::quarantine(id));
            let _ = self.home.disk.rename(&path, &aside);
            return Ok(());
        }
        if !self.options.read_only && self.home.disk.remove(&path).is_ok() {
            self.report.orphans_removed += 1;
        }
        Ok(())
    }

    /// Judges the unsealed segments and keeps in memory what counts. The flag says which are damaged.
    fn judge_tail(
        &mut self,
        unsealed: Vec<Unsealed>,
        slots: &mut SlotGiver<'_>,
    ) -> Result<Vec<(OpenSegment, bool)>> {
        let tail = judge(&unsealed, self.state.durable());
        self.report.records_scanned = tail.scanned;
        self.state.next_sequence = self.state.next_sequence.max(tail.seen.next());
        for corruption in tail.damaged {
            self.report.damage(self.options.recovery, RecoveryPolicy::SkipRecord, corruption)?;
        }
        let mut open = Vec::new();
        for (found, kept) in unsealed.into_iter().zip(tail.kept) {
            if let Some((offset, bytes)) = kept.torn {
                self.report.torn.push(TornTail { file: found.path.clone(), offset, bytes });
            }
            if kept.is_damaged {
                let aside = self.home.path(&file_name::quarantine(found.add.id));
                self.report.quarantined.push(aside);
            }
            let slot = slots.give(found.add.id);
            let segment = Arc::new(Segment::unsealed(self.home, found.add, slot));
            let file = self
                .home
                .disk
                .open(&found.path, Access::Read)
                .map_err(|source| Error::io("open", &found.path, source))?;
            open.push((OpenSegment::found(segment, file, &kept), kept.is_damaged));
        }
        self.report.rewritten = open.len() as u64;
        Ok(open)
    }

    /// Fills the index: from the checkpoint and what came after it, or from everything.
    fn load_index(
        &mut self,
        index: &Index,
        checkpoint: Option<checkpoint::Loaded>,
        segments: &[Arc<Segment>],
        open: &[(OpenSegment, bool)],
    ) -> Result<Overrides> {
        let is_outdated = checkpoint.as_ref().is_some_and(|c| uses::is_outdated(c, segments));
        let usable = checkpoint.as_ref().filter(|_| !is_outdated);
        let on = &self.options.on_opening;
        let filled = usable.and_then(|c| Some((c, fill(index, c, segments, open, on)?)));
        let covered = filled.as_ref().map(|(checkpoint, _)| *checkpoint);
        if usable.is_some() && covered.is_none() {
            self.report.notes.push("the checkpoint does not fit and was not used".to_owned());
            index.clear();
        }
        let mut sources = Vec::new();
        for segment in segments {
            let after = covered.and_then(|c| c.slot_of(segment.id()).map(|_| c.sequence));
            if self.is_covered(segment.id(), after) {
                continue;
            }
            let entries = self.entries_of(segment)?;
            let segment = Arc::clone(segment);
            sources.push(Source { segment, entries, after: after.unwrap_or_default() });
        }
        for (open, _) in open {
            let mut file = vec![0; crate::segment::RECORDS_AT as usize];
            file.extend_from_slice(&open.segment.image());
            // What does not count is not in the image any more.
            let (end, salt) = (file.len() as u64, open.segment.add.salt);
            let mut entries = entries_by_scan(&file, end, salt, self.hasher(), true).entries;
            entries.sort_unstable_by_key(|entry| (entry.hash, entry.sequence));
            let after = covered.and_then(|c| c.slot_of(open.segment.id()).map(|_| c.sequence));
            let (segment, entries) = (Arc::clone(&open.segment), Entries::Scanned(entries));
            sources.push(Source { segment, entries, after: after.unwrap_or_default() });
        }
        let Some((_, mut loaded)) = filled else {
            let known = checkpoint.as_ref().filter(|_| is_outdated).map(Uses::of);
            let epoch_of =
                |hash, sequence| known.as_ref().and_then(|known| known.of_record(hash, sequence));
            let loaded = load::load_all(index, &sources, &epoch_of, on)?;
            for corruption in loaded.damaged {
                self.report.damage(
                    self.options.recovery,
                    RecoveryPolicy::SkipRecord,
                    corruption,
                )?;
            }
            return Ok(Overrides::new(loaded.cuts, loaded.touches));
        };
        self.report.from_checkpoint = true;
        // Older versions that a replayed record displaces may stand in any segment.
        let known: Vec<_> = sources.iter().map(|source| source.segment.id()).collect();
        for segment in segments.iter().filter(|segment| !known.contains(&segment.id())) {
            let (segment, entries) = (Arc::clone(segment), Entries::Scanned(Vec::new()));
            sources.push(Source { segment, entries, after: SequenceNumber(u64::MAX) });
        }
        load::replay(index, &sources, &mut loaded)?;
        for corruption in loaded.damaged {
            self.report.damage(self.options.recovery, RecoveryPolicy::SkipRecord, corruption)?;
        }
        Ok(Overrides::new(loaded.cuts, loaded.touches))
    }

    /// Whether the checkpoint says everything about a segment.
    fn is_covered(&self, id: SegmentId, after: Option<SequenceNumber>) -> bool {
        let seal = self.state.segments.get(&id).and_then(|state| state.seal);
        matches!((after, seal), (Some(after), Some(seal)) if seal.sequence_max <= after)
    }

    /// What a sealed segment says of its records: its footer, or a scan if that is damaged.
    fn entries_of(&mut self, segment: &Arc<Segment>) -> Result<Entries> {
        let seal = self.state.segments.get(&segment.id()).and_then(|state| state.seal);
        let (Some(sealed), Some(seal)) = (segment.as_sealed(), seal) else {
            return Ok(Entries::Scanned(Vec::new()));
        };
        if !self.must_scan.contains(&segment.id()) && seal.trailer_checksum != 0 {
            let file = self.home.disk.open(&segment.path, Access::Read);
            let fault = match file.and_then(|file| sealed.footer_in(file.as_ref())) {
                Ok(Ok((trailer, body))) if is_its_footer(segment, &seal, &trailer) => {
                    return Ok(Entries::Footer(Box::new(trailer), body));
                }
                Ok(Ok(_)) => Damage::Misplaced,
                Ok(Err(fault)) => fault.damage,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::io("read", &segment.path, error));
                }
                Err(_) => Damage::Unreadable,
            };
            let path = segment.path.display();
            self.report.notes.push(format!("the footer of {path} is damaged ({fault}): scanned"));
        }
        // Of what cannot be read the records are damaged; the others are there.
        let disk = TolerantDisk::new(Arc::clone(&self.home.disk));
        let bytes = read_file(&disk, &segment.path)
            .map_err(|source| Error::io("read", &segment.path, source))?;
        let (salt, is_committed) = (segment.add.salt, seal.trailer_checksum != 0);
        let found = entries_by_scan(&bytes, seal.records_end, salt, self.hasher(), is_committed);
        for offset in found.damaged {
            let path = segment.path.clone();
            self.damage(RecoveryPolicy::SkipRecord, path, offset, Damage::Checksum)?;
        }
        let mut entries = found.entries;
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.sequence));
        Ok(Entries::Scanned(entries))
    }

    /// Removes what unfinished work left behind. A failure is no harm: the next open tries again.
    fn remove_leftovers(&mut self) {
        if self.options.read_only {
            return;
        }
        let listed = self.home.disk.list(self.home.dir()).unwrap_or_default();
        for entry in listed.iter().filter(|entry| entry.kind == PathKind::File) {
            let is_leftover = match our_name(&entry.name) {
                Some(FileName::Temporary) => true,
                Some(FileName::Checkpoint(number)) => {
                    self.state.next_id = self.state.next_id.max(number.saturating_add(1));
                    self.state.checkpoint.is_none_or(|(valid, _)| valid != number)
                }
                _ => false,
            };
            if is_leftover && self.home.disk.remove(&self.home.path(&entry.name)).is_ok() {
                self.report.orphans_removed += 1;
            }
        }
    }
}

fn is_its_footer(
    segment: &Segment,
    seal: &SealSegment,
    trailer: &crate::format::footer::Trailer,
) -> bool {
    trailer.id == segment.add.id
        && trailer.salt == segment.add.salt
        && u32_at(&trailer.encode(), 124) == Some(seal.trailer_checksum)
}
