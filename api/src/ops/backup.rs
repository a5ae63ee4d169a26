//! Backup of a data directory by somebody else's copying: a list of what belongs to it before, a verification after.
//!
//! The life of the list: [`prepare_backup`] writes it, the copying takes it along, [`finish_backup`] removes it from
//! the running program's directory. Where the copy is restored, [`restore_from_backup`] finds it, verifies every file,
//! renames it ("verified": from here on files may change), migrates, rebuilds, removes it. A crash anywhere in that
//! leaves the rest to the next call.

use std::{io, path::Path};

use tierce_engine::Timestamp;

use super::{
    Migrator,
    atomic::{absolute, canonical},
    files,
    manifest::{BackupManifest, MANIFEST, VERIFIED},
    time,
};
use crate::{Error, Result, Version};

/// Choices of [`prepare_backup_with`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackupOptions {
    /// Files left out of the list: patterns over the path below the data directory, where `*` stands for any signs,
    /// `/` too, and `?` for one. Leave out what goes on changing, such as logs. Default: none.
    pub exclude: Vec<String>,
    /// The time of the backup; `None` = the machine's. Default: `None`.
    pub now: Option<Timestamp>,
}

impl BackupOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pattern to [`Self::exclude`].
    #[must_use]
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.exclude.push(pattern.into());
        self
    }

    /// Sets [`Self::now`].
    #[must_use]
    pub const fn now(mut self, now: Timestamp) -> Self {
        self.now = Some(now);
        self
    }
}

/// What [`restore_from_backup`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The list that came with the backup.
    pub manifest: BackupManifest,
    /// The migration steps that were done.
    pub migrated: Vec<(Version, Version)>,
}

/// Makes `data_dir` ready to be copied: calls `flush`, then writes `backup_metadata.json` with the version, the time,
/// and path, length and checksum of every file. `version` is the program's.
///
/// Left out are the list itself, temporary files (`*.tmp`, and all of `temp/`), lock files (`LOCK`, `*.lock`), links,
/// and files that vanish meanwhile. Nothing may write to the other files before the copy is made: close stores, or copy
/// a snapshot of them. Call [`finish_backup`] afterwards.
///
/// # Errors
/// Those of `flush`, with nothing written; [`Error::Io`] if a file cannot be read or the list not be written.
///
/// ```
/// use tierce::{Version, ops};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("state.json"), "{}")?;
/// let manifest = ops::prepare_backup(dir.path(), Version::new(0, 1, 0), || Ok(()))?;
/// assert_eq!(manifest.files[0].path, "state.json");
/// // ... the directory is copied ...
/// ops::finish_backup(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prepare_backup(
    data_dir: impl AsRef<Path>,
    version: Version,
    flush: impl FnOnce() -> Result<()>,
) -> Result<BackupManifest> {
    prepare_backup_with(data_dir, version, &BackupOptions::new(), flush)
}

/// As [`prepare_backup`], with choices.
///
/// # Errors
/// As [`prepare_backup`].
///
/// ```
/// use tierce::{Timestamp, Version, ops};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("addon.log.1"), "...")?;
/// let options = ops::BackupOptions::new().exclude("*.log*").now(Timestamp(1_700_000_000_000));
/// let manifest = ops::prepare_backup_with(dir.path(), Version::ZERO, &options, || Ok(()))?;
/// assert!(manifest.files.is_empty());
/// assert_eq!(manifest.timestamp, "2023-11-14T22:13:20Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prepare_backup_with(
    data_dir: impl AsRef<Path>,
    version: Version,
    options: &BackupOptions,
    flush: impl FnOnce() -> Result<()>,
) -> Result<BackupManifest> {
    // `flush` is the caller's and may change the working directory.
    let data_dir = &*absolute(data_dir.as_ref())?;
    // First: what is not in the files yet cannot be in the backup.
    flush()?;
    let timestamp = time::rfc3339(options.now.unwrap_or_else(time::now));
    let mut manifest = BackupManifest::of(data_dir, version, timestamp, &options.exclude)?;
    manifest.write(data_dir)?;
    Ok(manifest)
}

/// Removes the list again, after the copy was made. Returns whether there was one. If the program ends before, the next
/// [`restore_from_backup`] finds that the list is the original and no copy, and removes it; where a file system does not
/// tell the two apart, it takes the changed files for a damaged backup.
///
/// # Errors
/// [`Error::Io`].
pub fn finish_backup(data_dir: impl AsRef<Path>) -> Result<bool> {
    remove(data_dir.as_ref(), MANIFEST)
}

/// Brings a data directory into use that was restored from a backup: verifies every file that the list names, migrates
/// the data to version `wanted`, calls `rebuild` (for indexes, caches and what else can be made again), and removes the
/// list. To be called at every start: without a list there is nothing to do, and the answer is `None`.
///
/// A list that [`prepare_backup`] wrote into this very directory, whose files changed since, is of a backup that was broken
/// off: it is removed, and the answer is `None`.
///
/// The data has the version in the migrator's version file if that belongs to the backup, otherwise that of the list.
/// Other files in the directory are left alone.
///
/// # Errors
/// Before anything is changed: [`Error::Backup`] with all files that are missing or damaged, [`Error::CorruptFile`] or
/// [`Error::TooNew`] for the list itself, [`Error::TooNew`] for data newer than `wanted`. Later: those of
/// [`Migrator::migrate`] and of `rebuild`; then the next call goes on there, and `rebuild` may run a second time.
///
/// ```
/// use tierce::{Version, ops::{self, Migrator}};
///
/// let dir = tempfile::tempdir()?;
/// let version = Version::new(0, 2, 0);
/// let mut migrator = Migrator::new(dir.path(), [])?;
/// assert_eq!(ops::restore_from_backup(dir.path(), &mut migrator, version, || Ok(()))?, None);
///
/// std::fs::write(dir.path().join("state.json"), "{}")?;
/// ops::prepare_backup(dir.path(), Version::new(0, 1, 0), || Ok(()))?;
/// let copy = tempfile::tempdir()?;
/// for file in std::fs::read_dir(dir.path())? {
///     let file = file?;
///     std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
/// }
/// std::fs::write(copy.path().join("state.json"), "}{")?;
/// let mut migrator = Migrator::new(copy.path(), [])?;
/// let error = ops::restore_from_backup(copy.path(), &mut migrator, version, || Ok(())).unwrap_err();
/// assert!(error.to_string().contains("damaged: state.json"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn restore_from_backup(
    data_dir: impl AsRef<Path>,
    migrator: &mut Migrator,
    wanted: Version,
    rebuild: impl FnOnce() -> Result<()>,
) -> Result<Option<Restored>> {
    let data_dir = &*absolute(data_dir.as_ref())?;
    let list = data_dir.join(MANIFEST);
    let manifest = if let Some(manifest) = BackupManifest::read(&list)? {
        match manifest.verify(data_dir) {
            // The program went on after `prepare_backup`, and did not come to `finish_backup`.
            Err(Error::Backup { .. }) if manifest.is_in_place(&list) => {
                remove(data_dir, MANIFEST)?;
                return Ok(None);
            }
            verified => verified?,
        }
        begin(data_dir, &manifest, migrator, wanted)?;
        manifest
    } else if let Some(manifest) = BackupManifest::read(&data_dir.join(VERIFIED))? {
        manifest
    } else {
        return Ok(None);
    };
    let migrated = migrator.migrate(wanted)?;
    rebuild()?;
    remove(data_dir, VERIFIED)?;
    Ok(Some(Restored { manifest, migrated }))
}

/// Gives the data its version and renames the list. In this order: once it is renamed, the version file is believed.
fn begin(
    data_dir: &Path,
    manifest: &BackupManifest,
    migrator: &Migrator,
    wanted: Version,
) -> Result<()> {
    // Both sides may spell the directory in their own way.
    let version_file = migrator.canonical_version_file();
    let has_version =
        manifest.files.iter().any(|file| canonical(&data_dir.join(&file.path)) == version_file);
    let found = if has_version { migrator.version()? } else { manifest.version };
    migrator.plan_from(found, wanted)?;
    if !has_version {
        migrator.set_version(found)?;
    }
    let failed = |source| Error::io("rename", data_dir.join(MANIFEST), source);
    files::rename(&data_dir.join(MANIFEST), &data_dir.join(VERIFIED)).map_err(failed)?;
    files::sync_dir(data_dir).map_err(failed)
}

fn remove(data_dir: &Path, name: &str) -> Result<bool> {
    let file = data_dir.join(name);
    let failed = |source| Error::io("remove", &file, source);
    match files::remove(&file) {
        Ok(()) => files::sync_dir(data_dir).map_err(failed).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed(source)),
    }
}
