//! Retention: old files go, directories and links stay.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use tierce_engine::Timestamp;

use crate::{Error, Result};

/// A file that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedFile {
    /// Which.
    pub path: PathBuf,
    /// How many bytes it had.
    pub bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// What [`clean_up`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CleanedUp {
    /// What is gone, in the order of paths.
    pub removed: Vec<RemovedFile>,
    /// What could not be looked at or removed; it did not keep the others from being removed.
    pub failed: Vec<Error>,
}

impl CleanedUp {
    /// Bytes of all files removed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|file| file.bytes).sum()
    }
}

/// Removes the files right in `dir` that were last written more than `older_than` before `now`. A file exactly so old
/// stays, and so does one from the future. Directories, links and what they lead to are never touched. A directory that
/// does not exist has nothing to clean up.
///
/// # Errors
/// [`Error::Io`] if `dir` cannot be listed. One file that cannot be removed is told in [`CleanedUp::failed`].
///
/// ```
/// use std::time::Duration;
/// use tierce::{Timestamp, ops};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("old.json"), "{}")?;
/// let in_the_year_2100 = Timestamp(4_102_444_800_000);
/// let done = ops::clean_up(dir.path(), Duration::from_secs(30 * 86_400), in_the_year_2100)?;
/// assert_eq!(done.removed[0].path, dir.path().join("old.json"));
/// assert_eq!(done.bytes(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn clean_up(dir: impl AsRef<Path>, older_than: Duration, now: Timestamp) -> Result<CleanedUp> {
    run(dir.as_ref(), older_than, now, false)
}

/// As [`clean_up`], in the directories below as well. They stay, empty or not.
///
/// # Errors
/// As [`clean_up`]; a directory below that cannot be listed is told in [`CleanedUp::failed`].
///
/// ```
/// use std::time::Duration;
/// use tierce::{Timestamp, ops};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::create_dir(dir.path().join("images"))?;
/// std::fs::write(dir.path().join("images/old.png"), "")?;
/// let done = ops::clean_up_tree(dir.path(), Duration::ZERO, Timestamp(4_102_444_800_000))?;
/// assert_eq!(done.removed.len(), 1);
/// assert!(dir.path().join("images").is_dir());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn clean_up_tree(
    dir: impl AsRef<Path>,
    older_than: Duration,
    now: Timestamp,
) -> Result<CleanedUp> {
    run(dir.as_ref(), older_than, now, true)
}

fn run(dir: &Path, older_than: Duration, now: Timestamp, below: bool) -> Result<CleanedUp> {
    let age_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
    let mut done = CleanedUp::default();
    // Before 1970 there are no files.
    let Some(cutoff) = now.0.checked_sub(age_ms) else { return Ok(done) };
    let mut left = vec![dir.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                let error = Error::io("list", &directory, source);
                if directory == dir {
                    return Err(error);
                }
                done.failed.push(error);
                continue;
            }
        };
        for entry in entries {
            match look_at(&directory, entry, Timestamp(cutoff)) {
                Ok(Found::Old(file)) => remove(file, &mut done),
                Ok(Found::Directory(path)) if below => left.push(path),
                Ok(_) => {}
                Err(error) => done.failed.push(error),
            }
        }
    }
    done.removed.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(done)
}

enum Found {
    Old(RemovedFile),
    Directory(PathBuf),
    Other,
}

fn look_at(dir: &Path, entry: io::Result<fs::DirEntry>, cutoff: Timestamp) -> Result<Found> {
    let entry = entry.map_err(|source| Error::io("list", dir, source))?;
    let path = entry.path();
    // This does not follow a link, and neither does the removal.
    let found = match entry.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Other),
        Err(source) => return Err(Error::io("look at", path, source)),
    };
    if found.is_dir() {
        return Ok(Found::Directory(path));
    }
    if !found.is_file() {
        return Ok(Found::Other);
    }
    let modified = found.modified().map_err(|source| Error::io("look at", &path, source))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let file = RemovedFile { path, bytes: found.len(), modified };
    Ok(if modified < cutoff { Found::Old(file) } else { Found::Other })
}

fn remove(file: RemovedFile, done: &mut CleanedUp) {
    match fs::remove_file(&file.path) {
        Ok(()) => done.removed.push(file),
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => done.failed.push(Error::io("remove", file.path, source)),
    }
}
