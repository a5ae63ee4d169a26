//! Where things go: the standard directories of a program, and the cache directory of a class.

use std::{
    io,
    path::{Path, PathBuf},
};

use tierce_engine::io::{Disk as _, OsDisk};

use crate::{Error, Result};

/// The standard directories below a program's data directory. Paths are computed; nothing is created before
/// [`Self::create`] is called.
///
/// ```
/// use tierce::ops::Directories;
///
/// let dir = tempfile::tempdir()?;
/// let directories = Directories::new(dir.path().join("data"));
/// assert!(!directories.cache().exists());
/// directories.create()?;
/// directories.create()?; // a second time changes nothing
/// assert!(directories.cache().is_dir() && directories.db().ends_with("data/db"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    base: PathBuf,
}

impl Directories {
    /// The directories below `base`. A relative one starts at the working directory of now.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        Self { base: std::path::absolute(&base).unwrap_or(base) }
    }

    /// The directory that they are in.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// What can be fetched or computed again.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.base.join("cache")
    }

    /// Logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.base.join("logs")
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.base.join("config")
    }

    /// Databases: what must not be lost.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.base.join("db")
    }

    /// What need not survive; backups leave it out.
    #[must_use]
    pub fn temp(&self) -> PathBuf {
        self.base.join(TEMP)
    }

    /// Creates those that are missing, with their parents, for their owner only. What is there stays as it is.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be created, or something else has its name. Those created before it stay.
    pub fn create(&self) -> Result<()> {
        for directory in [self.cache(), self.logs(), self.config(), self.db(), self.temp()] {
            let failed = |source| Error::io("create directory", &directory, source);
            OsDisk.create_dir_all(&directory).map_err(failed)?;
            if !directory.is_dir() {
                return Err(failed(io::ErrorKind::NotADirectory.into()));
            }
        }
        Ok(())
    }
}

pub(super) const TEMP: &str = "temp";

/// The cache directory that all instances of a class share: `{data_dir}/{ClassName}/cache`. Nothing is created; the
/// store creates it when it is opened.
///
/// # Errors
/// [`Error::Name`] if the name is empty, longer than 255 bytes, or would lead out of `data_dir`.
///
/// ```
/// let path = tierce::ops::cache_of("/var/lib/hassette", "WeatherApp")?;
/// assert_eq!(path.to_str(), Some("/var/lib/hassette/WeatherApp/cache"));
/// # Ok::<(), tierce::Error>(())
/// ```
pub fn cache_of(data_dir: impl AsRef<Path>, class_name: &str) -> Result<PathBuf> {
    let refuse = |reason| Err(Error::Name { name: class_name.to_owned(), reason });
    if class_name.is_empty() {
        return refuse("it is empty");
    }
    if class_name.len() > 255 {
        return refuse("it is longer than 255 bytes");
    }
    if matches!(class_name, "." | "..") || class_name.contains(['/', '\\', '\0', ':']) {
        return refuse("it is no name of one directory");
    }
    Ok(data_dir.as_ref().join(class_name).join("cache"))
}
