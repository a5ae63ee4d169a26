//! The durable list of segments. Edits are appended and synced; the file is replaced whole, by rename, when a
//! session begins to write, when it has grown, and after any failure to append.

use std::sync::Arc;

use super::{
    FILE_BYTES_MAX, Home,
    manifest_state::ManifestState,
    scanner::{Found, Scanner, Sought, Values},
};
use crate::{
    error::{Damage, DecodeError, Error, Result},
    format::{
        FORMAT_MAJOR,
        file_name::{self, FileName},
        hash::KeyHasher,
        manifest::{
            Edit, Frame, MANIFEST_HEADER_BYTES, MANIFEST_MAGIC, ManifestHeader, decode_frame,
            encode_frame,
        },
        segment_header::{Class, SEGMENT_HEADER_BYTES, SegmentHeader, newer_major},
        wire::u32_at,
    },
    io::{Access, File, PathKind, read_file, read_up_to_at, replace_file, write_all_at},
    types::{SegmentId, SequenceNumber},
};

/// The manifest is replaced by its sum when it has grown to four times that, within these bounds.
const GROWN_BYTES_MIN: u64 = 8 << 10;
const GROWN_BYTES_MAX: u64 = 256 << 10;
/// Bytes that frames behind a torn one may claim in all before their lengths must be forged.
const FORGED_BYTES_MAX: usize = 64 << 20;
/// Generations count up from a random number below 2^48.
const GENERATION_MAX: u64 = 1 << 62;
/// More than the edits of one segment take.
const SEGMENT_EDITS_BYTES: u64 = 192;

/// Why edits were not made, and with it what the manifest on disk may say.
#[derive(Debug)]
pub(crate) enum Unapplied {
    /// It has none of them: the files that they would have named may go.
    Disowned(Error),
    /// It may have them: the files of both sides must stay.
    Unsure(Error),
}

impl From<Unapplied> for Error {
    fn from(unapplied: Unapplied) -> Self {
        match unapplied {
            Unapplied::Disowned(error) | Unapplied::Unsure(error) => error,
        }
    }
}

/// The manifest of a store that is open for writing.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    home: Home,
    header: ManifestHeader,
    state: ManifestState,
    /// The file that edits may be appended to; `None` until this session has written one, and after a failure.
    file: Option<Arc<dyn File>>,
    bytes: u64,
    frames: u64,
}

impl ManifestFile {
    /// The manifest as it was found. Nothing is ever appended to a file that another session wrote.
    pub(crate) fn found(home: Home, header: ManifestHeader, state: ManifestState) -> Self {
        Self { home, header, state, file: None, bytes: 0, frames: 0 }
    }

    pub(crate) const fn header(&self) -> &ManifestHeader {
        &self.header
    }

    pub(crate) const fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Makes `edits` durable, all or none, and only then part of the state.
    ///
    /// On an error the store may come up after a crash with or without them: the caller keeps the files of both.
    pub(crate) fn apply(&mut self, edits: &[Edit]) -> Result<()> {
        // A file whose name is gone can still be written to.
        self.home.check_lock()?;
        let mut next = self.state.clone();
        for edit in edits {
            next.apply(edit).map_err(|reason| self.senseless(reason))?;
        }
        let written = match self.file.take() {
            Some(file) if self.bytes < self.grown_bytes() => self.append(file, edits),
            _ => self.replace(&next),
        };
        match written {
            Err(error) if error.is_disk_full() && self.home.spend_ballast() => {
                self.replace(&next)?
            }
            written => written?,
        }
        self.state = next;
        Ok(())
    }

    /// As [`Self::apply`], with the file replaced whole: it has one frame then, and whatever is missing from it is
    /// provably missing. The last frames of a longer one look, cut off, as if they had never been written.
    pub(crate) fn apply_whole(&mut self, edits: &[Edit]) -> Result<()> {
        self.file = None;
        self.apply(edits)
    }

    /// As [`Self::apply`]. After a failure the manifest is written anew as it was before, so that it surely has none of
    /// the edits.
    pub(crate) fn apply_or_disown(&mut self, edits: &[Edit]) -> Result<(), Unapplied> {
        self.apply(edits).map_err(|error| match self.disown() {
            Ok(()) => Unapplied::Disowned(error),
            Err(_) => Unapplied::Unsure(error),
        })
    }

    /// After an [`Self::apply`] that failed: makes sure that the manifest on disk has none of its edits.
    pub(crate) fn disown(&mut self) -> Result<()> {
        self.apply(&[Edit::Clock(self.state.high_water)])
    }

    /// More than a manifest of this state takes, with a few edits to come.
    pub(crate) fn sum_bytes(&self) -> u64 {
        const MORE: usize = 16;
        let listed = self.state.segments.len() + self.state.quarantined.len() + MORE;
        let property = |(name, value): (&Vec<u8>, &Vec<u8>)| (name.len() + value.len() + 16) as u64;
        let properties: u64 = self.state.properties.iter().map(property).sum();
        MANIFEST_HEADER_BYTES as u64 + listed as u64 * SEGMENT_EDITS_BYTES + properties
    }

    fn grown_bytes(&self) -> u64 {
        (4 * self.sum_bytes()).clamp(GROWN_BYTES_MIN, GROWN_BYTES_MAX)
    }

    /// Most bytes that manifest files take until there are a few more segments: the one that has grown, and the
    /// one that replaces it.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes.max(self.grown_bytes() + self.sum_bytes()) + self.sum_bytes()
    }

    fn append(&mut self, file: Arc<dyn File>, edits: &[Edit]) -> Result<()> {
        let mut frame = Vec::new();
        encode_frame(edits, self.header.generation, self.frames + 1, self.bytes, &mut frame);
        let failed = |operation| {
            let path = self.home.path(file_name::MANIFEST);
            move |source| Error::io(operation, path, source)
        };
        write_all_at(file.as_ref(), &frame, self.bytes).map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        self.bytes += frame.len() as u64;
        self.frames += 1;
        // Only a file that took its last frame well is appended to again.
        self.file = Some(file);
        Ok(())
    }

    fn replace(&mut self, next: &ManifestState) -> Result<()> {
        let header = ManifestHeader { generation: self.header.generation + 1, ..self.header };
        let mut bytes = header.encode().to_vec();
        let at = bytes.len() as u64;
        encode_frame(&next.edits(), header.generation, 1, at, &mut bytes);
        let path = self.home.path(file_name::MANIFEST);
        let tmp = self.home.path(file_name::MANIFEST_TMP);
        // The generation grows even if this fails: a later attempt must not share its number.
        self.header = header;
        let file = replace_file(self.home.disk.as_ref(), &tmp, &path, &bytes)
            .map_err(|source| Error::io("replace", path, source))?;
        self.file = Some(file);
        self.bytes = bytes.len() as u64;
        self.frames = 1;
        Ok(())
    }

    fn senseless(&self, reason: &'static str) -> Error {
        DecodeError::new(0, Damage::Field(reason)).in_file(self.home.path(file_name::MANIFEST), 0)
    }
}

/// Whether segment `id`, which `state` does not name, proves that the manifest once said more: a foreground segment
/// is named durably before its first record, so records in it that are newer than anything the manifest knows
/// cannot be there otherwise. (A retired segment whose removal was lost has only records that the manifest knows to
/// be older.)
pub(crate) fn proves_lost_edits(
    home: &Home,
    header: &ManifestHeader,
    state: &ManifestState,
    id: SegmentId,
) -> bool {
    let Ok(file) = home.disk.open(&home.segment(id), Access::Read) else { return false };
    let mut start = vec![0; SEGMENT_HEADER_BYTES];
    let read = read_up_to_at(file.as_ref(), &mut start, 0).unwrap_or_default();
    let Ok(segment) = SegmentHeader::decode(&start[..read]) else { return false };
    if segment.class != Class::FOREGROUND || segment.store_id != header.store_id || segment.id != id
    {
        return false;
    }
    let after = SequenceNumber(state.next_sequence.0.saturating_sub(1));
    let end = file.bytes().unwrap_or_default().min(FILE_BYTES_MAX);
    let sought = Sought { end, salt: segment.salt, after, values: Values::Skip };
    let mut scanner = Scanner::new(file.as_ref(), sought, KeyHasher::new(header.hash_seed));
    while let Ok(Some(found)) = scanner.next() {
        if matches!(found, Found::Record(met) if met.record.sequence > after) {
            return true;
        }
    }
    false
}

/// A manifest as read from disk.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) header: ManifestHeader,
    pub(crate) state: ManifestState,
    /// Where an unfinished last frame begins, and how many bytes follow it.
    pub(crate) torn: Option<(u64, u64)>,
    /// Damage before the last frame. The state is what the frames before it say.
    pub(crate) damaged: Option<DecodeError>,
}

/// Reads the manifest of `home`; `None` if there is none.
///
/// # Errors
/// [`Error::UnknownFormat`] for a newer version, [`Error::Corruption`] for a damaged header, [`Error::Io`].
pub(crate) fn load(home: &Home) -> Result<Option<Loaded>> {
    let path = home.path(file_name::MANIFEST);
    match read_file(home.disk.as_ref(), &path) {
        Ok(bytes) => decode(home, &bytes).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", path, source)),
    }
}

/// The bytes of the manifest of `home` as a manifest.
///
/// # Errors
/// As [`load`].
pub(crate) fn decode(home: &Home, bytes: &[u8]) -> Result<Loaded> {
    let path = home.path(file_name::MANIFEST);
    if let Some(found) = newer_major(bytes, MANIFEST_MAGIC) {
        return Err(Error::UnknownFormat { file: path, found, newest_known: FORMAT_MAJOR });
    }
    let header = ManifestHeader::decode(bytes).map_err(|fault| fault.in_file(&path, 0))?;
    Ok(load_frames(bytes, header))
}

/// The manifest, or an error that says there is no store.
pub(crate) fn require(home: &Home) -> Result<Loaded> {
    let not_a_store =
        |reason: &str| Error::NotAStore { path: home.dir.clone(), reason: reason.into() };
    let kind = home.disk.kind(home.dir()).map_err(|e| Error::io("look at", home.dir(), e))?;
    match kind {
        None => return Err(not_a_store("there is nothing")),
        Some(PathKind::Directory) => {}
        Some(_) => return Err(not_a_store("it is no directory")),
    }
    match load(home)? {
        Some(loaded) => Ok(loaded),
        None => {
            let listed =
                home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
            let is_segment =
                |name: &str| matches!(FileName::parse(name), Some(FileName::Segment(_)));
            if listed.iter().any(|entry| is_segment(&entry.name)) {
                let path = home.path(file_name::MANIFEST);
                return Err(DecodeError::new(0, Damage::MissingManifest).in_file(path, 0));
            }
            Err(not_a_store("there is no manifest"))
        }
    }
}

fn load_frames(bytes: &[u8], header: ManifestHeader) -> Loaded {
    let mut loaded = Loaded { header, state: ManifestState::default(), torn: None, damaged: None };
    if header.generation >= GENERATION_MAX {
        // Whoever goes on from here counts from the beginning.
        loaded.header.generation = 0;
        loaded.damaged = Some(DecodeError::new(48, Damage::Field("generation")));
        return loaded;
    }
    let mut at = MANIFEST_HEADER_BYTES;
    let mut number = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let frame = match decode_frame(rest, header.generation, at as u64) {
            Ok(frame) if frame.number == number + 1 => frame,
            Ok(_) => {
                loaded.damaged = Some(DecodeError::new(at as u64, Damage::Field("frame number")));
                return loaded;
            }
            Err(fault) => {
                return end_of_frames(loaded, bytes, at, number, fault);
            }
        };
        number = frame.number;
        for edit in &frame.edits {
            if let Err(reason) = loaded.state.apply(edit) {
                loaded.damaged = Some(DecodeError::new(at as u64, Damage::Field(reason)));
                return loaded;
            }
        }
        at += usize::try_from(frame.bytes).unwrap_or(usize::MAX);
    }
    if number == 0 {
        // A manifest appears by rename with its first frame in it: without one it was cut.
        loaded.damaged = Some(DecodeError::new(at as u64, Damage::Truncated));
    }
    loaded
}

/// Every sound frame of a manifest's bytes, in order, whatever stands between them. For those who mend it: what
/// damaged frames between them said is not in it.
pub(crate) fn sound_frames(bytes: &[u8], generation: u64) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = MANIFEST_HEADER_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let newest = frames.last().map_or(0, |frame| frame.number);
        match decode_frame(rest, generation, at as u64) {
            Ok(frame) if frame.number > newest => {
                at += usize::try_from(frame.bytes).unwrap_or(usize::MAX);
                frames.push(frame);
            }
            _ => at += 8,
        }
    }
    frames
}

/// No frame at `at`: a torn tail if it is not the first and nothing sound follows it, damage otherwise.
fn end_of_frames(
    mut loaded: Loaded,
    bytes: &[u8],
    at: usize,
    number: u64,
    fault: DecodeError,
) -> Loaded {
    let generation = loaded.header.generation;
    // Whoever forges lengths could make every look cost the whole file. What costs so much is no crash's work.
    let mut budget = FORGED_BYTES_MAX;
    let sound_later = (at + 8..bytes.len()).step_by(8).any(|later| {
        let rest = bytes.get(later..).unwrap_or_default();
        let claimed = u32_at(rest, 4).map_or(0, |bytes| bytes as usize);
        budget = budget.saturating_sub(if claimed <= rest.len() { claimed } else { 0 });
        let frame = || decode_frame(rest, generation, later as u64);
        budget == 0 || frame().is_ok_and(|frame| frame.number > number)
    });
    if number == 0 || sound_later {
        loaded.damaged = Some(DecodeError::new(at as u64 + fault.at, fault.damage));
    } else {
        loaded.torn = Some((at as u64, (bytes.len() - at) as u64));
    }
    loaded
}
