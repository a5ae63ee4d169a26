//! Backups at the door: taking one of an open store, proving one, putting one back.

use std::{
    fmt,
    io::Read,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Engine;
use crate::{
    backup::{BackupOptions, BackupReport, GoOn, Stage, back_up, compare, sheet_of},
    check::{CheckReport, Finding, Severity, check_store},
    error::{Corruption, Damage, Error, Result},
    format::manifest::Edit,
    io::Disk,
    recovery::SEQUENCE_GAP,
    segment::{
        Home,
        manifest_file::{Loaded, ManifestFile, require},
    },
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// What a look at every byte of a backup found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The newest write in it.
    pub sequence: SequenceNumber,
    /// Store time when it was taken, as far as the store had written it down.
    pub taken: Timestamp,
    /// Files on its sheet.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not those on the sheet.
    pub faults: Vec<Corruption>,
    /// What a check of it as a store found.
    pub check: CheckReport,
}

impl Verified {
    /// Whether it can be restored with nothing missing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.check.is_healthy()
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// What the proof before the swap found: it was sound.
    pub verified: Verified,
    /// Where the store is now that stood there before.
    pub replaced: Option<PathBuf>,
}

/// Proves the backup in `path`: compares its files with its sheet, and checks it as a store. Reads every byte, changes
/// none.
///
/// # Errors
/// [`Error::NotAStore`] if it is no complete backup, [`Error::Corruption`] of its sheet, [`Error::Io`]. Damage to its
/// files is no error here but in what is returned.
pub fn verify_backup(disk: &Arc<dyn Disk>, path: &Path) -> Result<Verified> {
    let sheet = sheet_of(disk.as_ref(), path)?;
    let files = || sheet.files.iter();
    let faults = files().filter_map(|line| compare(disk.as_ref(), path, line).err()).collect();
    let check = check_store(disk, path)?;
    Ok(Verified {
        sequence: sheet.sequence,
        taken: sheet.taken,
        files: files().count() as u64,
        bytes: files().fold(0, |sum, line| line.bytes.saturating_add(sum)),
        faults,
        check,
    })
}

/// Restores the backup in `from` as the store `to`, which must be missing or empty, or is replaced if `replaces` says so:
/// then it is moved aside, never removed, and nobody may have it open. Copies, proves the copy, and only then puts it in
/// its place.
///
/// # Errors
/// As [`Restore::begin`] and [`Restore::finish`].
pub fn restore(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    replaces: bool,
    go_on: GoOn<'_>,
) -> Result<Option<Restored>> {
    Stage::refuse(disk.as_ref(), from, to)?;
    let sheet = sheet_of(disk.as_ref(), from)?;
    let restore = Restore::begin(disk, to, replaces)?;
    let total = sheet.files.iter().fold(0, |sum, line| line.bytes.saturating_add(sum));
    let mut done = 0;
    for line in &sheet.files {
        done += restore.stage.take_from(from, &line.name)?;
        if go_on(done, total).is_break() {
            return Ok(None);
        }
    }
    restore.stage.take_from(from, crate::backup::SHEET)?;
    let stage = restore.stage.dir.clone();
    restore.finish(None).map(Some).map_err(|error| blame(error, &stage, from))
}

/// Leaves out sequence numbers behind those of the backup: the store that it was taken of may have given them to writes
/// that are not in it. Who followed that store sees that its place is not in this one, instead of missing writes.
fn raise_numbers(disk: &Arc<dyn Disk>, dir: &Path, newest: SequenceNumber) -> Result<()> {
    let home = Home::at(disk, dir)?;
    let Loaded { header, state, .. } = require(&home)?;
    let next = state.next_sequence.max(newest.next());
    let sequence = SequenceNumber(next.0.saturating_add(SEQUENCE_GAP));
    let mut edits = vec![Edit::Floors { segment: SegmentId(state.next_id), sequence }];
    edits.extend(state.clean.then_some(Edit::Clean));
    ManifestFile::found(home, header, state).apply_whole(&edits)
}

/// Damage to a copy is that of what was copied: the copy is gone when the error is read.
fn blame(error: Error, stage: &Path, from: &Path) -> Error {
    match error {
        Error::Corruption(Corruption { file, offset, damage }) => {
            let file = file.strip_prefix(stage).map(|name| from.join(name)).unwrap_or(file);
            Error::Corruption(Corruption { file, offset, damage })
        }
        error => error,
    }
}

/// A backup that comes as files, one by one, to be restored when all of them are there. They are written to a directory
/// beside the store, named like it with `.restoring` behind; what an attempt that was cut off left there is removed.
pub struct Restore {
    disk: Arc<dyn Disk>,
    stage: Stage,
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("stage", &self.stage.dir).finish_non_exhaustive()
    }
}

impl Restore {
    /// Begins to restore the store `to`; see [`restore`].
    ///
    /// # Errors
    /// [`Error::Io`] with [`std::io::ErrorKind::AlreadyExists`] if `to` holds something and `replaces` is not set, or
    /// holds something that is no store; [`Error::Locked`] if somebody has that store open.
    pub fn begin(disk: &Arc<dyn Disk>, to: &Path, replaces: bool) -> Result<Self> {
        let stage = Stage::begin(disk, to, replaces)?;
        Ok(Self { disk: Arc::clone(disk), stage })
    }

    /// Takes one file as [`BackupTarget`](crate::backup::BackupTarget) gave it.
    ///
    /// # Errors
    /// [`Error::Io`], also for names that no backup has.
    pub fn take(&self, name: &str, content: &mut dyn Read) -> Result<()> {
        self.stage.take(name, content).map(drop)
    }

    /// Proves what came, with what the earlier backup `base` has of it, and puts it in its place.
    ///
    /// # Errors
    /// [`Error::NotAStore`] if the sheet did not come; [`Error::Corruption`] if a file is missing or damaged: nothing
    /// took its place then.
    pub fn finish(self, base: Option<&Path>) -> Result<Restored> {
        let verified = self.prove(base)?;
        raise_numbers(&self.disk, &self.stage.dir, verified.sequence)?;
        Ok(Restored { verified, replaced: self.stage.swap()? })
    }

    fn prove(&self, base: Option<&Path>) -> Result<Verified> {
        self.stage.complete(base)?;
        let verified = verify_backup(&self.disk, &self.stage.dir)?;
        let is_problem = |found: &&Finding| found.severity == Severity::Problem;
        let damaged = verified.faults.first().cloned().or_else(|| {
            let found = verified.check.findings.iter().find(is_problem)?;
            let (file, offset) = (found.file.clone(), found.offset.unwrap_or_default());
            Some(Corruption { file, offset, damage: Damage::Checksum })
        });
        damaged.map_or(Ok(verified), |damaged| Err(Error::Corruption(damaged)))
    }
}

impl Engine {
    /// Backs the store up into the directory `to`, which must be missing or empty: everything acknowledged so far, in
    /// whatever mode. Writers go on meanwhile. See [`back_up`] for what comes out and what it costs.
    ///
    /// ```
    /// use tierce_engine::{Options, backup::BackupOptions, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("k", "v")?;
    /// let report = engine.back_up("backup", &BackupOptions::new())?;
    /// assert_eq!(report.segments, 1);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`back_up`] and [`Self::sync`].
    pub fn back_up(&self, to: impl AsRef<Path>, options: &BackupOptions) -> Result<BackupReport> {
        self.check()?;
        if !self.shared.options.read_only {
            self.sync()?;
        }
        let go_on = &mut |_, _| ControlFlow::Continue(());
        back_up(&self.shared.home.disk, self.path(), to.as_ref(), options, go_on)
    }
}
