//! A log of lines whose files never grow beyond a limit.

use std::{
    fmt, fs, io,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use super::{
    atomic::{absolute, parent, target},
    files, time,
};
use crate::{Error, Result};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Not as it should be, and the program goes on.
    Warning,
    /// Something was not done.
    Error,
    /// The program cannot go on.
    Critical,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        })
    }
}

/// A line of a log: time, name, level, message. The time is RFC 3339 in UTC with milliseconds.
///
/// ```
/// use tierce::{Timestamp, ops::{Level, format_line}};
///
/// let line = format_line(Timestamp(1_700_000_000_000), "addon", Level::Info, "started");
/// assert_eq!(line, "2023-11-14T22:13:20.000Z - addon - INFO - started");
/// ```
#[must_use]
pub fn format_line(at: Timestamp, name: &str, level: Level, message: &str) -> String {
    format!("{} - {name} - {level} - {message}", time::rfc3339_ms(at))
}

/// A file of lines. When the next line would make it longer than its limit, it is renamed to `NAME.1`, the one before
/// to `NAME.2` and so on, and a new one begins; the oldest goes.
///
/// A line is in the hands of the operating system when [`Self::append`] returns: it survives a crash of the process,
/// and a power cut after [`Self::sync`]. One log, one writer: two of the same file rotate each other's lines away. If
/// another program renames or removes the file, as logrotate does, the next line begins a new one under its name. One
/// that is cut, as with `copytruncate`, goes on.
///
/// ```
/// use tierce::ops::{Level, RotatingLog};
///
/// let dir = tempfile::tempdir()?;
/// let mut log = RotatingLog::open(dir.path().join("addon.log"))?;
/// log.log(Level::Info, "addon", "started")?;
/// assert!(std::fs::read_to_string(log.path())?.ends_with("Z - addon - INFO - started\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RotatingLog {
    path: PathBuf,
    file: fs::File,
    /// What tells the file from another one under its name.
    identity: Option<Identity>,
    /// Whether the file may not have its name on the device yet.
    is_new: bool,
    /// Length of the file.
    bytes: u64,
    file_bytes_max: u64,
    backups: u32,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for RotatingLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, file_bytes_max, backups, .. } = self;
        write!(
            f,
            "RotatingLog({}, {bytes} of {file_bytes_max} bytes, {backups} backups)",
            path.display()
        )
    }
}

impl RotatingLog {
    /// Longest file by default: 10 MiB.
    pub const FILE_BYTES_MAX_DEFAULT: u64 = 10 << 20;
    /// Older files kept by default.
    pub const BACKUPS_DEFAULT: u32 = 5;

    /// Opens the log at `path` with the default limits, to go on where it ended. The directory must be there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(
            path,
            Self::FILE_BYTES_MAX_DEFAULT,
            Self::BACKUPS_DEFAULT,
            Arc::new(OsClock),
        )
    }

    /// As [`Self::open`], with files of at most `file_bytes_max` bytes, so many older ones (0: none), and times from
    /// `clock`. A single line longer than the limit has a file of its own.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tierce::{engine::io::OsClock, ops::RotatingLog};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("addon.log");
    /// let mut log = RotatingLog::open_with(&path, 10, 1, Arc::new(OsClock))?;
    /// for line in ["one", "two", "three", "four"] {
    ///     log.append(line)?;
    /// }
    /// assert_eq!(std::fs::read_to_string(&path)?, "four\n");
    /// assert_eq!(std::fs::read_to_string(dir.path().join("addon.log.1"))?, "three\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_with(
        path: impl Into<PathBuf>,
        file_bytes_max: u64,
        backups: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        // A link stays one: what it leads to rotates.
        let path = target(&absolute(&path.into())?)?;
        let (file, identity, bytes) = continued(&path)?;
        Ok(Self { path, file, identity, is_new: true, bytes, file_bytes_max, backups, clock })
    }

    /// Goes on in the file that has the name now, if another program took the one it had away.
    fn follow_name(&mut self) -> Result<()> {
        let found = match fs::metadata(&self.path) {
            Ok(found) if identity_of(&found) == self.identity => {
                // Another program may have cut it.
                self.bytes = found.len();
                return Ok(());
            }
            Ok(found) => identity_of(&found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Lines go where they went.
            Err(_) => return Ok(()),
        };
        if self.identity.is_some() && found != self.identity {
            (self.file, self.identity, self.bytes) = continued(&self.path)?;
            self.is_new = true;
        }
        Ok(())
    }

    /// The file that is written to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line as [`format_line`] makes it, with the clock's time.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn log(&mut self, level: Level, name: &str, message: &str) -> Result<()> {
        self.append(&format_line(Timestamp(self.clock.wall_ms()), name, level, message))
    }

    /// Appends one line. Ends of lines inside it are written as `\n` and `\r`: nobody can smuggle in a second one.
    ///
    /// # Errors
    /// [`Error::Io`]. The line may be there in part then; the next one begins a line of its own.
    pub fn append(&mut self, line: &str) -> Result<()> {
        self.follow_name()?;
        let mut line = line.replace('\r', "\\r").replace('\n', "\\n");
        line.push('\n');
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.file_bytes_max {
            self.rotate()?;
        }
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            // How much of it is there is not known before somebody looks.
            if let Ok(bytes) = end_last_line(&mut self.file) {
                self.bytes = bytes;
            }
            return Err(Error::io("append to", &self.path, source));
        }
        files::note_written(&self.path, &self.file);
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    /// Begins a new file now.
    ///
    /// # Errors
    /// [`Error::Io`]. The log goes on in the file it had; no line is lost.
    pub fn rotate(&mut self) -> Result<()> {
        self.follow_name()?;
        if self.backups == 0 {
            self.file.set_len(0).map_err(|source| Error::io("empty", &self.path, source))?;
            self.bytes = 0;
            return Ok(());
        }
        // This file is not written to any more, and must not be lost while others change their names.
        self.sync()?;
        // Order: the new file is there before a name changes. If there is no room for it, nothing has moved, however
        // often that is tried.
        let next = self.next_path();
        let (file, identity) = create(&next)?;
        // From the oldest on: each name is free before the next file takes it, on the device as well, so that a power cut
        // takes no file but the oldest.
        for number in (0..self.backups).rev() {
            let from = self.numbered(number);
            match files::rename(&from, &self.numbered(number + 1)) {
                Ok(()) => self.sync_names()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("rename", from, source)),
            }
        }
        files::rename(&next, &self.path).map_err(|source| Error::io("rename", next, source))?;
        (self.file, self.identity, self.bytes) = (file, identity, 0);
        self.is_new = true;
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        let directory = parent(&self.path);
        files::sync_dir(directory).map_err(|source| Error::io("sync directory", directory, source))
    }

    /// Where the next file is made.
    fn next_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".next");
        path.into()
    }

    /// Makes all lines so far survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        files::sync(&self.file).map_err(|source| Error::io("sync", &self.path, source))?;
        if self.is_new {
            self.sync_names()?;
            self.is_new = false;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        if number > 0 {
            path.push(format!(".{number}"));
        }
        path.into()
    }
}

/// Device and number of a file; `None` where there is no such thing.
type Identity = (u64, u64);

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn identity_of(metadata: &fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity_of(_: &fs::Metadata) -> Option<Identity> {
    None
}

/// The file at `path`, created if it is missing, its last line ended, and its length.
fn continued(path: &Path) -> Result<(fs::File, Option<Identity>, u64)> {
    let failed = |source| Error::io("open", path, source);
    let mut options = fs::OpenOptions::new();
    options.read(true).append(true).create(true);
    let mut file = files::open(&options, path).map_err(failed)?;
    let bytes = end_last_line(&mut file).map_err(failed)?;
    files::note_written(path, &file);
    let identity = identity_of(&file.metadata().map_err(failed)?);
    Ok((file, identity, bytes))
}

/// A new file at `path`. What stands there is of a rotation that was broken off, or a link to what is not ours.
fn create(path: &Path) -> Result<(fs::File, Option<Identity>)> {
    let failed = |source| Error::io("create", path, source);
    match files::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).append(true).create_new(true);
    let file = files::open(&options, path).map_err(failed)?;
    let identity = identity_of(&file.metadata().map_err(failed)?);
    Ok((file, identity))
}

/// Ends a line that a crash cut off, so that the next does not become part of it. Returns the length of the file.
fn end_last_line(file: &mut fs::File) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(bytes - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(bytes);
    }
    file.write_all(b"\n")?;
    Ok(bytes + 1)
}
