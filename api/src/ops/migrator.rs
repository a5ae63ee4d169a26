//! Migration of a data directory from the version that a file in it says to the version of the program.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::atomic;
use crate::{BoxError, Error, Migrations, Result, Version, migrations::Step};

/// A step that changes files below the data directory it is given.
///
/// A crash in the middle of a step means that the whole step runs again: it must be able to. "Rename, if the new name
/// is free and the old one is there" is; "append" is not.
#[derive(Debug)]
pub struct DataStep(Step<PathBuf>);

impl DataStep {
    /// The step that turns data older than `to`, and at least as new as `from`, into data of version `to`.
    ///
    /// ```
    /// use tierce::{Version, ops::DataStep};
    ///
    /// let step = DataStep::new(Version::ZERO, Version::new(0, 1, 0), |data_dir| {
    ///     let (old, new) = (data_dir.join("settings.json"), data_dir.join("config.json"));
    ///     if old.exists() && !new.exists() {
    ///         std::fs::rename(old, new)?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn new(
        from: Version,
        to: Version,
        mut change: impl FnMut(&Path) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        Self(Step::new(from, to, move |data_dir: PathBuf| {
            change(&data_dir)?;
            Ok(data_dir)
        }))
    }
}

/// Brings a data directory from the version in its version file to the one the program wants.
///
/// The version is written after each step, whole or not at all: after a crash between two steps, only what is left is
/// done. Data without a version file has version 0.0.0.
///
/// ```
/// use tierce::{Version, ops::{DataStep, Migrator}};
///
/// let dir = tempfile::tempdir()?;
/// let version = Version::new(0, 1, 0);
/// let create = |data_dir: &std::path::Path| Ok(std::fs::create_dir_all(data_dir.join("db"))?);
/// let mut migrator = Migrator::new(dir.path(), [DataStep::new(Version::ZERO, version, create)])?;
///
/// assert_eq!(migrator.plan(version)?, [(Version::ZERO, version)]); // a dry run
/// assert_eq!(migrator.migrate(version)?, [(Version::ZERO, version)]);
/// assert_eq!(migrator.version()?, version);
/// assert!(migrator.migrate(version)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Migrator {
    data_dir: PathBuf,
    version_file: PathBuf,
    steps: Migrations<PathBuf>,
}

impl Migrator {
    /// Name of the version file in the data directory, unless told otherwise.
    pub const VERSION_FILE_DEFAULT: &str = "version.txt";

    /// A migrator of `data_dir` with these steps, in any order. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong with the steps; see [`Migrations::new`].
    pub fn new(
        data_dir: impl Into<PathBuf>,
        steps: impl IntoIterator<Item = DataStep>,
    ) -> Result<Self> {
        let data_dir = atomic::absolute(&data_dir.into())?;
        let version_file = data_dir.join(Self::VERSION_FILE_DEFAULT);
        let steps = Migrations::new(steps.into_iter().map(|step| step.0))?;
        Ok(Self { data_dir, version_file, steps })
    }

    /// Takes another version file. A relative path is one below the data directory.
    #[must_use]
    pub fn version_file(mut self, path: impl AsRef<Path>) -> Self {
        self.version_file = self.data_dir.join(path);
        self
    }

    /// The version of the data: what the version file says, 0.0.0 if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there and cannot be read, [`Error::CorruptFile`] if it holds no version. It is not
    /// taken for 0.0.0 then: steps that were done must not be done again.
    pub fn version(&self) -> Result<Version> {
        let file = &self.version_file;
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Version::ZERO),
            Err(source) => return Err(Error::io("read", file, source)),
        };
        text.parse().map_err(|error: crate::ParseVersionError| Error::CorruptFile {
            file: file.clone(),
            quarantined: None,
            reason: error.to_string(),
        })
    }

    /// Writes the version, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; the old version is there then.
    pub fn set_version(&self, version: Version) -> Result<()> {
        atomic::atomic_write(&self.version_file, format!("{version}\n"))
    }

    /// The steps that [`Self::migrate`] would do. Nothing is changed.
    ///
    /// # Errors
    /// Those of [`Self::version`]; [`Error::TooNew`] if the data is newer than `wanted`; [`Error::Migration`] if it is
    /// older than every step.
    pub fn plan(&self, wanted: Version) -> Result<Vec<(Version, Version)>> {
        self.steps.plan(&self.what(), self.version()?, wanted)
    }

    /// Does the steps from the version found to `wanted`, and returns which those were. The version file says `wanted`
    /// afterwards, also if there was no step to do.
    ///
    /// # Errors
    /// Those of [`Self::plan`], with nothing done; [`Error::Migration`] if a step fails, [`Error::Io`] if the version
    /// cannot be written. The steps before it are done and on record: call this again.
    pub fn migrate(&mut self, wanted: Version) -> Result<Vec<(Version, Version)>> {
        let (what, found) = (self.what(), self.version()?);
        let done = self.steps.plan(&what, found, wanted)?;
        let version_file = self.version_file.clone();
        let record = |version| atomic::atomic_write(&version_file, format!("{version}\n"));
        let directory = self.data_dir.clone();
        self.steps.run_with(&what, directory, found, wanted, |_, version| record(version))?;
        if done.last().map_or(found, |step| step.1) != wanted {
            record(wanted)?;
        }
        Ok(done)
    }

    /// Where the data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where the version file is, in the spelling of [`atomic::canonical`].
    pub(super) fn canonical_version_file(&self) -> PathBuf {
        atomic::canonical(&self.version_file)
    }

    /// As [`Self::plan`], for data of version `found`.
    pub(super) fn plan_from(
        &self,
        found: Version,
        wanted: Version,
    ) -> Result<Vec<(Version, Version)>> {
        self.steps.plan(&self.what(), found, wanted)
    }

    fn what(&self) -> String {
        self.data_dir.display().to_string()
    }
}
