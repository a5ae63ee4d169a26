//! A copy of a store at one moment, taken from its files: beside a running writer, without a lock, from a read-only
//! medium. What comes out is a store by itself, with a sheet that says which files it has and how to know them.
//!
//! Sealed segments never change (I1), so they are linked, or copied in any order; if compaction removes one before it
//! was taken, the manifest is read again. Then come the unsealed ones, newest first, cut to what counts of them; then
//! the manifest that was read before them; then the sheet. *A prefix of the store's history, complete only with its
//! sheet.*

mod content;
mod into_directory;
mod into_stream;
mod proof;
mod sheet;
mod stage;
mod swap;

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    content::{Base, Source, Step, Taken},
    into_directory::IntoDirectory,
    into_stream::IntoStream,
};
use crate::{
    error::{Corruption, Damage, Error, Result},
    format::{
        checksum::checksum,
        file_name::{self, FileName},
        manifest::{Edit, SealSegment},
        segment_header::SegmentHeader,
    },
    io::{Access, Disk, MemoryDisk, read_file, read_file_backwards},
    segment::{
        Home, RECORDS_AT,
        manifest_file::{Loaded, ManifestFile, proves_lost_edits, require},
        tail::{Unsealed, judge},
    },
    types::{SegmentId, SequenceNumber},
};

pub use self::sheet::SHEET;
#[cfg(feature = "testing")]
pub use self::sheet::check_sheet;
use self::sheet::{Line, Proof, Sheet};
pub(crate) use self::{
    proof::{compare, sheet_of},
    stage::Stage,
    swap::MOVING,
};

/// How to back up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct BackupOptions {
    copies: bool,
    base: Option<PathBuf>,
}

impl BackupOptions {
    /// Segments are linked where the file system can, and nothing is reused.
    pub const fn new() -> Self {
        Self { copies: false, base: None }
    }

    /// Copies every byte instead of linking. A link costs no room and no time, but shares its bytes with the store: what
    /// damages the one damages the other.
    pub const fn copies(mut self, copies: bool) -> Self {
        self.copies = copies;
        self
    }

    /// An earlier backup of the same store, on the file system of the new one: segments that it has already are linked
    /// from there. The new backup is complete without it.
    pub fn base(mut self, earlier: impl Into<PathBuf>) -> Self {
        self.base = Some(earlier.into());
        self
    }
}

/// What a backup has, and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Segments in it.
    pub segments: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes that were linked from the store.
    pub linked_bytes: u64,
    /// Bytes that the earlier backup has already.
    pub reused_bytes: u64,
    /// Bytes that were written.
    pub copied_bytes: u64,
    /// The newest write in it.
    pub sequence: SequenceNumber,
    /// It was told to stop: what there was of it is removed.
    pub cancelled: bool,
}

/// Where the files of a backup go that is no directory, in the order in which they come; the sheet is the last. A file
/// that is not on the sheet came too early and does not count; of two of one name the later counts.
pub trait BackupTarget {
    /// Takes a file of `bytes` bytes.
    ///
    /// # Errors
    /// What prevents it; the backup ends with it.
    fn take(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()>;
}

/// Told of bytes done and bytes in all, now and then; says whether to go on.
pub type GoOn<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Backs the store in `from` up into the directory `to`, which must be missing or empty. Works beside a writer, which
/// does not notice; what only that process has ([`Durability::Buffered`](crate::Durability::Buffered)) is not in it:
/// [`Engine::back_up`](crate::Engine::back_up) writes that out first.
///
/// The backup opens as a store. Everything in it is durable when this returns; after a crash before that, `to` has no
/// sheet and is no backup.
///
/// Costs a link per segment, or reading and writing its bytes, which are checked on the way; and what is not sealed.
///
/// ```
/// use std::ops::ControlFlow;
/// use tierce_engine::{Options, backup::{BackupOptions, back_up}, io::{Disk, MemoryDisk}};
/// let memory = MemoryDisk::new();
/// let engine = Options::new().disk(memory.clone()).open("store")?;
/// engine.put("k", "v")?;
/// let to = std::path::Path::new("backup");
/// let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(memory.clone());
/// let go_on = &mut |_, _| ControlFlow::Continue(());
/// back_up(&disk, engine.path(), to, &BackupOptions::new(), go_on)?;
/// let copy = Options::new().disk(memory).open(to)?;
/// assert_eq!(copy.get("k")?.as_deref(), Some(&b"v"[..]));
/// # Ok::<(), tierce_engine::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotAStore`], also of a base that is no backup; [`Error::Corruption`] if the store is damaged, as far as was
/// looked: what is copied is checked, of what is linked only length, header and trailer, and
/// [`verify_backup`](crate::verify_backup) tells the rest. Repair or salvage such a store, or copy its files as they are. [`Error::Io`], with [`io::ErrorKind::AlreadyExists`] if `to` is not empty. What was written is removed again.
pub fn back_up(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    options: &BackupOptions,
    go_on: GoOn<'_>,
) -> Result<BackupReport> {
    let home = Home::at(disk, from)?;
    let loaded = require(&home)?;
    let absolute = |path: &Path| disk.absolute(path).map_err(|e| Error::io("look at", path, e));
    let to = absolute(to)?;
    let base = options.base.as_deref().map(absolute).transpose()?;
    let options = &BackupOptions { base, ..options.clone() };
    if let Some(base) = &options.base {
        sheet_of(disk.as_ref(), base)?;
    }
    let mut into = IntoDirectory::create(disk, &to, options, &loaded.header)?;
    let report = take_all(&home, loaded, &mut into, go_on).and_then(|report| {
        if !report.cancelled {
            into.finish()?;
        }
        Ok(report)
    });
    if !matches!(&report, Ok(report) if !report.cancelled) {
        into.undo();
    }
    report
}

/// As [`back_up`], to a stream. With a `base` the segments that this earlier backup has are on the sheet but not in the
/// stream.
///
/// # Errors
/// As [`back_up`]; of the target as [`Error::Io`].
pub fn back_up_to(
    disk: &Arc<dyn Disk>,
    from: &Path,
    base: Option<&Path>,
    target: &mut dyn BackupTarget,
    go_on: GoOn<'_>,
) -> Result<BackupReport> {
    let home = Home::at(disk, from)?;
    let loaded = require(&home)?;
    base.map(|base| sheet_of(disk.as_ref(), base)).transpose()?;
    let base = base.map(|base| Base { dir: base.to_owned(), store_id: loaded.header.store_id });
    let mut into = IntoStream { disk: Arc::clone(disk), base, target };
    take_all(&home, loaded, &mut into, go_on)
}

/// Where the files go.
trait Destination {
    /// Takes a sealed segment.
    fn take_sealed(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken>;
    /// Takes a file that never changes, like a checkpoint.
    fn take_file(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken>;
    /// Takes these bytes.
    fn take_bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// A file that was taken is not wanted any more.
    fn drop_file(&mut self, name: &str);
}

/// Why a round did not end with a complete set of files.
enum Missed {
    /// A file that the manifest names is gone.
    Gone(PathBuf),
    /// Something looks damaged.
    Damaged(Corruption),
}

/// What counts of the segments that are not sealed, with the names of their files, and the newest write in them.
struct Tail {
    files: Vec<(String, Vec<u8>)>,
    newest: SequenceNumber,
}

/// Takes the files of the store: what a manifest names, and last what no compaction can take away.
///
/// Beside a writer a file may be gone, or look torn for a moment: then the manifest is read again, and what was taken
/// stays if it is still named. What stays wrong while the manifest does not change is damage.
fn take_all(
    home: &Home,
    mut loaded: Loaded,
    into: &mut dyn Destination,
    go_on: GoOn<'_>,
) -> Result<BackupReport> {
    const ROUNDS_UNCHANGED: u32 = 4;
    const ROUNDS_MAX: u32 = 10_000;
    let mut taken = BTreeMap::new();
    let mut step = Step { done: 0, total: 0, go_on };
    let (mut unchanged, mut rounds) = (0, 0);
    let tail = loop {
        if let Some(fault) = loaded.damaged.take() {
            return Err(fault.in_file(home.path(file_name::MANIFEST), 0));
        }
        let missed = match take_sealed(home, &loaded, &mut taken, into, &mut step)? {
            ControlFlow::Break(None) => {
                return Ok(BackupReport { cancelled: true, ..BackupReport::default() });
            }
            ControlFlow::Break(Some(missed)) => missed,
            ControlFlow::Continue(()) => match read_tail(home, &loaded)? {
                Ok(tail) => break tail,
                Err(missed) => missed,
            },
        };
        let next = require(home)?;
        let is_same = next.state == loaded.state;
        unchanged = if is_same { unchanged + 1 } else { 0 };
        rounds += 1;
        if step.advance(0).is_break() {
            return Ok(BackupReport { cancelled: true, ..BackupReport::default() });
        }
        if unchanged == ROUNDS_UNCHANGED || rounds == ROUNDS_MAX {
            return Err(Error::Corruption(match missed {
                Missed::Damaged(corruption) => corruption,
                Missed::Gone(file) => Corruption { file, offset: 0, damage: Damage::MissingFile },
            }));
        }
        loaded = next;
    };
    finish(home, loaded, &taken, tail, into, &mut step)
}

/// Takes the sealed segments that were not taken yet. `Break(None)`: it was told to stop.
fn take_sealed(
    home: &Home,
    loaded: &Loaded,
    taken: &mut BTreeMap<SegmentId, (SealSegment, Taken)>,
    into: &mut dyn Destination,
    step: &mut Step<'_>,
) -> Result<ControlFlow<Option<Missed>>> {
    let seals: BTreeMap<_, _> =
        loaded.state.segments.iter().filter_map(|(id, state)| Some((*id, state.seal?))).collect();
    taken.retain(|id, _| {
        let is_named = seals.contains_key(id);
        if !is_named {
            into.drop_file(&file_name::segment(*id));
        }
        is_named
    });
    let left = seals.iter().filter(|(id, _)| !taken.contains_key(id));
    step.total = left.map(|(_, seal)| seal.file_bytes).fold(step.done, u64::saturating_add);
    for (id, seal) in seals {
        let Slot::Vacant(slot) = taken.entry(id) else { continue };
        let (path, name) = (home.segment(id), file_name::segment(id));
        let source = Source { path: &path, name, bytes: seal.file_bytes, seal: Some(seal) };
        match into.take_sealed(&source, step) {
            Ok(Taken::Cancelled) => return Ok(ControlFlow::Break(None)),
            Ok(how) => {
                slot.insert((seal, how));
                let is_told = matches!(how, Taken::Copied(_));
                if !is_told && step.advance(seal.file_bytes).is_break() {
                    return Ok(ControlFlow::Break(None));
                }
            }
            Err(error) => {
                return missed(path, error).map(|missed| ControlFlow::Break(Some(missed)));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether an error is one that another look may not meet.
fn missed(file: PathBuf, error: io::Error) -> Result<Missed> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(Missed::Gone(file)),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            let damage = Damage::Checksum;
            Ok(Missed::Damaged(Corruption { file, offset: 0, damage }))
        }
        _ => Err(Error::io("back up", file, error)),
    }
}

/// Reads the segments that are not sealed, newest first, and keeps what counts.
fn read_tail(home: &Home, loaded: &Loaded) -> Result<Result<Tail, Missed>> {
    let named = &loaded.state.segments;
    let mut unsealed = Vec::new();
    for (id, state) in named.iter().rev().filter(|(_, state)| state.seal.is_none()) {
        let path = home.segment(*id);
        match read_file_backwards(home.disk.as_ref(), &path) {
            Ok(bytes) => unsealed.push(Unsealed { add: state.add, path, bytes }),
            Err(error) => return missed(path, error).map(Err),
        }
    }
    unsealed.reverse();
    if let Some(missed) = first_fault(home, loaded, &unsealed)? {
        return Ok(Err(missed));
    }
    let durable = loaded.state.durable();
    let judged = judge(&unsealed, durable);
    if let Some(corruption) = judged.damaged.into_iter().next() {
        return Ok(Err(Missed::Damaged(corruption)));
    }
    let mut tail = Tail { files: Vec::new(), newest: durable };
    let header_bytes = usize::try_from(RECORDS_AT).unwrap_or_default();
    for (found, kept) in unsealed.iter().zip(judged.kept) {
        let mut bytes = found.bytes.get(..header_bytes).unwrap_or_default().to_vec();
        bytes.extend_from_slice(&kept.image);
        tail.files.push((file_name::segment(found.add.id), bytes));
        tail.newest = tail.newest.max(kept.newest);
    }
    Ok(Ok(tail))
}

/// Headers that are not theirs, and segments that prove the manifest to be cut.
fn first_fault(home: &Home, loaded: &Loaded, unsealed: &[Unsealed]) -> Result<Option<Missed>> {
    for found in unsealed {
        let is_it =
            |header: &SegmentHeader| header.id == found.add.id && header.salt == found.add.salt;
        let damage = match SegmentHeader::decode(&found.bytes) {
            Ok(header) if is_it(&header) => continue,
            Ok(_) => Damage::Misplaced,
            Err(fault) => fault.damage,
        };
        let file = found.path.clone();
        return Ok(Some(Missed::Damaged(Corruption { file, offset: 0, damage })));
    }
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    for entry in listed {
        let Some(FileName::Segment(id)) = FileName::parse(&entry.name) else { continue };
        let is_named = loaded.state.segments.contains_key(&id);
        if !is_named && proves_lost_edits(home, &loaded.header, &loaded.state, id) {
            let file = home.path(file_name::MANIFEST);
            let damage = Damage::MissingEdits;
            return Ok(Some(Missed::Damaged(Corruption { file, offset: 0, damage })));
        }
    }
    Ok(None)
}

/// Takes checkpoint, tail and manifest, and writes the sheet.
fn finish(
    home: &Home,
    loaded: Loaded,
    taken: &BTreeMap<SegmentId, (SealSegment, Taken)>,
    tail: Tail,
    into: &mut dyn Destination,
    step: &mut Step<'_>,
) -> Result<BackupReport> {
    let mut report = BackupReport {
        segments: (taken.len() + tail.files.len()) as u64,
        sequence: tail.newest,
        ..BackupReport::default()
    };
    let mut lines = Vec::new();
    for (id, (seal, how)) in taken {
        let (name, bytes) = (file_name::segment(*id), seal.file_bytes);
        report.count(bytes, *how);
        let proof = match how {
            Taken::Copied(sum) if seal.trailer_checksum == 0 => Proof::Whole(*sum),
            _ => Proof::Sealed(seal.trailer_checksum),
        };
        lines.push(Line { name, bytes, proof });
    }
    let mut edits = vec![Edit::Clock(loaded.state.high_water)];
    if let Some((number, _)) = loaded.state.checkpoint {
        match take_checkpoint(home, number, into, step)? {
            Some((line, Taken::Cancelled)) => {
                into.drop_file(&line.name);
                return Ok(BackupReport { cancelled: true, ..report });
            }
            Some((line, how)) => {
                report.count(line.bytes, how);
                lines.push(line);
            }
            // It is not needed: the footers say the same.
            None => edits.push(Edit::Checkpoint { number: 0, sequence: SequenceNumber(0) }),
        }
    }
    if loaded.state.clean && loaded.torn.is_none() {
        edits.push(Edit::Clean);
    }
    let taken_at = loaded.state.high_water;
    let (store_id, manifest) = (loaded.header.store_id, manifest_bytes(loaded, &edits)?);
    let small = tail.files.into_iter().chain([(file_name::MANIFEST.to_owned(), manifest)]);
    for (name, bytes) in small {
        let put = into.take_bytes(&name, &bytes);
        put.map_err(|source| Error::io("write", &name, source))?;
        report.count(bytes.len() as u64, Taken::Copied(0));
        let proof = Proof::Whole(checksum(&bytes));
        lines.push(Line { name, bytes: bytes.len() as u64, proof });
    }
    let sheet = Sheet { store_id, sequence: tail.newest, taken: taken_at, files: lines }.encode();
    report.count(sheet.len() as u64, Taken::Copied(0));
    let put = into.take_bytes(SHEET, sheet.as_bytes());
    put.map_err(|source| Error::io("write", SHEET, source))?;
    Ok(report)
}

impl BackupReport {
    fn count(&mut self, bytes: u64, how: Taken) {
        self.bytes += bytes;
        match how {
            Taken::Linked => self.linked_bytes += bytes,
            Taken::Reused => self.reused_bytes += bytes,
            Taken::Copied(_) => self.copied_bytes += bytes,
            Taken::Cancelled => {}
        }
    }
}

/// Takes the checkpoint; `None` if it is gone or no whole file.
fn take_checkpoint(
    home: &Home,
    number: u64,
    into: &mut dyn Destination,
    step: &mut Step<'_>,
) -> Result<Option<(Line, Taken)>> {
    let name = file_name::checkpoint(number);
    let path = home.path(&name);
    let bytes = match home.disk.open(&path, Access::Read).and_then(|file| file.bytes()) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let source = Source { path: &path, name: name.clone(), bytes, seal: None };
    match into.take_file(&source, step) {
        Ok(how) => Ok(Some((Line { name, bytes, proof: Proof::Own }, how))),
        Err(error) => match missed(path, error)? {
            Missed::Gone(_) | Missed::Damaged(_) => {
                into.drop_file(&name);
                Ok(None)
            }
        },
    }
}

/// The bytes of a manifest that says what `loaded` says, with `edits`.
fn manifest_bytes(loaded: Loaded, edits: &[Edit]) -> Result<Vec<u8>> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let home = Home::new(disk, PathBuf::from("backup"));
    let failed = |source| Error::io("write", file_name::MANIFEST, source);
    home.disk.create_dir_all(home.dir()).map_err(failed)?;
    ManifestFile::found(home.clone(), loaded.header, loaded.state).apply(edits)?;
    read_file(home.disk.as_ref(), &home.path(file_name::MANIFEST)).map_err(failed)
}
