//! A file that is there whole, the old one or the new one, whenever somebody looks.
//!
//! The order that makes it so: write all under another name, sync the bytes, rename, sync the directory. A rename
//! before the sync could, after a power cut, leave the name with no bytes behind it.

use std::{
    fs, io,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use tierce_engine::io::{Clock as _, OsClock};

use super::files;
use crate::{Error, Result};

const PREFIX: &str = ".tierce-";
const SUFFIX: &str = ".tmp";

/// Replaces the file at `path` by one with these bytes, or creates it: all or nothing.
///
/// Whoever reads meanwhile sees the old file or the new one. When this returns, the new file survives a power cut; if
/// it fails or the power goes before, the old one is there, whole. A temporary file stands in the same directory
/// meanwhile and is gone afterwards, after errors too; only a killed process can leave one (`.tierce-*.tmp`).
///
/// An existing file's permissions are kept, its owner where the system allows that; a new file gets what the process
/// gives new files. A symbolic link stays one: the file it leads to is replaced. Other hard links keep the old bytes.
///
/// # Errors
/// [`Error::Io`] if `path` is a directory or has no name, or the system refuses any step. The old file is untouched
/// then, with one exception: after a failed "sync directory" the new one is there, but may not survive a power cut.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("state.json");
/// tierce::ops::atomic_write(&path, "{}")?;
/// tierce::ops::atomic_write(&path, r#"{"count": 1}"#)?;
/// assert_eq!(std::fs::read_to_string(&path)?, r#"{"count": 1}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn atomic_write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    atomic_write_with(path, |file| file.write_all(bytes.as_ref()))
}

/// As [`atomic_write`], with bytes that come piece by piece: whatever `write` writes, if it returns without error and
/// does not panic. Its result is returned. Writes are buffered.
///
/// # Errors
/// As [`atomic_write`], and the error of `write`.
///
/// ```
/// use std::io::Write as _;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("numbers.txt");
/// let lines = tierce::ops::atomic_write_with(&path, |file| {
///     for number in 1..=3 {
///         writeln!(file, "{number}")?;
///     }
///     Ok(3)
/// })?;
/// assert_eq!(lines, 3);
/// assert_eq!(std::fs::read_to_string(&path)?, "1\n2\n3\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn atomic_write_with<T>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> Result<T> {
    atomic_write_placed(path.as_ref(), |file, _| write(file))
}

/// As [`atomic_write_with`]; `write` sees what the new file is: its number stays the same when it gets its name.
///
/// # Errors
/// As [`atomic_write_with`].
pub(super) fn atomic_write_placed<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write, &fs::Metadata) -> io::Result<T>,
) -> Result<T> {
    // `write` is the caller's and may change the working directory.
    let path = target(&absolute(path)?)?;
    let existing = metadata(&path)?;
    replace(&path, existing.as_ref(), write)
}

/// Writes `bytes`, which are those of the file `original`, to `path`: with its permissions, so that a private file has
/// no public copy.
///
/// # Errors
/// As [`atomic_write`].
pub(crate) fn atomic_copy(original: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, metadata(original)?.as_ref(), |file, _| file.write_all(bytes))
}

/// Replaces the file at `path`, with the permissions of `like`.
fn replace<T>(
    path: &Path,
    like: Option<&fs::Metadata>,
    write: impl FnOnce(&mut dyn Write, &fs::Metadata) -> io::Result<T>,
) -> Result<T> {
    let directory = parent(path);
    let (temporary, file) = Temporary::create(directory, like.is_some())?;
    let failed = |operation| move |source| Error::io(operation, path, source);

    let place = file.metadata().map_err(failed("look at"))?;
    let mut buffered = BufWriter::new(file);
    let result = write(&mut buffered, &place).map_err(failed("write"))?;
    let file =
        buffered.into_inner().map_err(|error| error.into_error()).map_err(failed("write"))?;
    if let Some(like) = like {
        keep_owner_and_mode(&file, like).map_err(failed("set the permissions of"))?;
    }
    files::note_written(&temporary.path, &file);
    files::sync(&file).map_err(failed("sync"))?;
    // Windows renames no open file.
    drop(file);
    temporary.rename(path)?;
    files::sync_dir(directory).map_err(|source| Error::io("sync directory", directory, source))?;
    Ok(result)
}

/// Whether a file of this name can be one that a killed process left.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// The directory of a file; the current one for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path from the root on: it leads to the same place when the process changes its working directory.
///
/// # Errors
/// [`Error::Io`] if it is empty, or the working directory cannot be told.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::io("find", path, source))
}

/// One spelling for all paths that lead to the same file, whether it is there yet or not.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    fn known(path: &Path) -> PathBuf {
        if let Ok(found) = fs::canonicalize(path) {
            return found;
        }
        let Some(above) = path.parent() else { return path.to_owned() };
        let mut above = known(above);
        match path.file_name() {
            Some(name) => above.push(name),
            // What is not there is no link: `..` leads back from it.
            None => {
                above.pop();
            }
        }
        above
    }
    let path = follow(path).unwrap_or_else(|_| path.to_owned());
    known(&std::path::absolute(&path).unwrap_or(path))
}

/// Creates the directory and those above it that are missing; their names are durable when this returns.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn create_directories(directory: &Path) -> Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let above = parent(directory);
    create_directories(above)?;
    let failed = |source| Error::io("create", directory, source);
    match files::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        // Not there before, and there now: somebody else may not have synced it yet.
        _ => {}
    }
    files::sync_dir(above).map_err(failed)
}

/// Where a link leads: replacing the link itself would leave the file it leads to as it was.
pub(crate) fn target(path: &Path) -> Result<PathBuf> {
    if path.file_name().is_none() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
        return Err(Error::io("write", path, source));
    }
    follow(path).map_err(|source| Error::io("follow the link", path, source))
}

/// Most links that are followed, as on Linux.
const LINKS_MAX: usize = 40;

/// The path that links at the end of this one lead to, whether something is there or not.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => path = parent(&path).join(fs::read_link(&path)?),
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("there are too many links"))
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::io("write", path, io::ErrorKind::IsADirectory.into()))
        }
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("look at", path, source)),
    }
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &fs::File, existing: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
        // Only some may give files away; who may not becomes the owner. Before the mode: a new owner clears bits of it.
        let _ = fchown(file, Some(existing.uid()), Some(existing.gid()));
    }
    file.set_permissions(existing.permissions())
}

#[cfg(not(unix))]
fn keep_owner_and_mode(file: &fs::File, existing: &fs::Metadata) -> io::Result<()> {
    file.set_permissions(existing.permissions())
}

/// A file under another name; it is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// The name has a fixed length: a target with the longest name possible must not make a longer one.
    fn create(directory: &Path, private: bool) -> Result<(Self, fs::File)> {
        loop {
            let path = directory.join(format!("{PREFIX}{:016x}{SUFFIX}", OsClock.random()));
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            if private {
                // Nobody else may see the bytes of a private file before it has its permissions.
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            }
            #[cfg(not(unix))]
            let _ = private;
            match files::open(&options, &path) {
                Ok(file) => return Ok((Self { path, renamed: false }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::io("create a file in", directory, source)),
            }
        }
    }

    fn rename(mut self, to: &Path) -> Result<()> {
        files::rename(&self.path, to).map_err(|source| Error::io("replace", to, source))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // There is nobody to tell, and the error that led here says more.
            let _ = files::remove(&self.path);
        }
    }
}
