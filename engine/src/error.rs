//! What can go wrong, grouped by what the caller can do about it.

use std::{fmt, io, path::PathBuf};

use crate::types::SequenceNumber;

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Each variant says what the caller can do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. Nothing acknowledged is lost; see `Engine::health` for writes.
    Io {
        /// What was being done, as a verb: "read", "sync".
        operation: &'static str,
        /// The file or directory it was done to.
        file: PathBuf,
        /// The system's own word.
        source: io::Error,
    },
    /// Bytes on disk are not what was written. Other entries are unaffected: check or repair the store.
    Corruption(Corruption),
    /// An earlier write or sync failed and this store takes no more writes; reads go on.
    /// Remove the cause, then call `Engine::try_recover`, or reopen.
    Stopped {
        /// The failure that stopped it.
        cause: String,
    },
    /// Another process has the store open. Wait, or stop that process.
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder's process id, if the lock file told.
        pid: Option<u32>,
    },
    /// The store was written by a newer version. Nothing was touched; use that version.
    UnknownFormat {
        /// The file that says so.
        file: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version known here.
        newest_known: u16,
    },
    /// The path holds something that is not a store. Nothing was touched; choose another path.
    NotAStore {
        /// The path given.
        path: PathBuf,
        /// Why it is none.
        reason: String,
    },
    /// A key, value or batch is larger than a limit. Nothing was written.
    TooLarge {
        /// Which thing.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The space allowed is used up. Delete something or raise the limit.
    Full {
        /// What the limit counts: "bytes" of files, "live bytes" or "entries".
        what: &'static str,
        /// How many there are.
        used: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// The file system has less room than is to stay free. Free some, or lower `Options::min_free_bytes`.
    LowSpace {
        /// Bytes free on the file system.
        free: u64,
        /// Bytes that are to stay free, and what this write needs.
        required: u64,
    },
    /// A condition of the write did not hold; nothing was written.
    Conflict {
        /// The sequence number the key has now, if it is there.
        found: Option<SequenceNumber>,
    },
    /// An option does not make sense; each complaint is a sentence.
    InvalidOptions {
        /// All complaints at once.
        complaints: Vec<String>,
    },
    /// A record needs a feature this version does not have (an extension item marked as required).
    Unsupported {
        /// Which feature.
        what: String,
    },
    /// The store was opened read-only.
    ReadOnly,
    /// The store was closed through this or another handle.
    Closed,
    /// This process is a fork of the one that opened the store. Open the store again in the child.
    Forked,
    /// The call came from the callback of a compaction, which would wait for itself. Reads are allowed there; anything else
    /// after the callback has returned, or from another thread that it does not wait for.
    InCallback,
}

impl Error {
    /// A short, stable word for the kind of error, as the tool prints it.
    ///
    /// ```
    /// assert_eq!(tierce_engine::Error::ReadOnly.kind(), "read-only");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Corruption(_) => "corruption",
            Self::Stopped { .. } => "stopped",
            Self::Locked { .. } => "locked",
            Self::UnknownFormat { .. } => "unknown-format",
            Self::NotAStore { .. } => "not-a-store",
            Self::TooLarge { .. } => "too-large",
            Self::Full { .. } => "full",
            Self::LowSpace { .. } => "low-space",
            Self::Conflict { .. } => "conflict",
            Self::InvalidOptions { .. } => "invalid-options",
            Self::Unsupported { .. } => "unsupported",
            Self::ReadOnly => "read-only",
            Self::Closed => "closed",
            Self::Forked => "forked",
            Self::InCallback => "in-callback",
        }
    }

    /// A look at the files of `dir` was disturbed by its writer each time. Nothing is wrong with them.
    pub(crate) fn unsteady(operation: &'static str, dir: &std::path::Path) -> Self {
        let source = io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the store changes faster than it can be read; try again when it is less busy",
        );
        Self::io(operation, dir, source)
    }

    pub(crate) fn io(operation: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { operation, file: file.into(), source }
    }

    /// Whether the file system had no room.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }

    /// Whether the device could not read what it was asked for: a later try may fail the same way, and other files are
    /// fine.
    pub(crate) fn is_bad_block(&self) -> bool {
        /// `EIO`; on Windows `ERROR_CRC`.
        const BAD_BLOCK: i32 = if cfg!(windows) { 23 } else { 5 };
        let is_bad = |source: &io::Error| source.raw_os_error() == Some(BAD_BLOCK);
        matches!(self, Self::Io { operation: "read", source, .. } if is_bad(source))
    }

    /// A second copy of this error for another waiter of the same failed group.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Io { operation, file, source } => Self::Io {
                operation,
                file: file.clone(),
                source: match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
            Self::Full { what, used, limit } => Self::Full { what, used: *used, limit: *limit },
            Self::LowSpace { free, required } => {
                Self::LowSpace { free: *free, required: *required }
            }
            Self::Stopped { cause } => Self::Stopped { cause: cause.clone() },
            other => Self::Stopped { cause: other.to_string() },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { operation, file, source } => {
                write!(f, "could not {operation} {}: {source}", file.display())
            }
            Self::Corruption(corruption) => corruption.fmt(f),
            Self::Stopped { cause } => write!(
                f,
                "writes are stopped after a failure ({cause}); remove the cause, then recover or reopen"
            ),
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "{} is open in process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "{} is open in another process", path.display())
            }
            Self::UnknownFormat { file, found, newest_known } => write!(
                f,
                "{} has format version {found}, newer than {newest_known} known here; nothing was changed",
                file.display()
            ),
            Self::NotAStore { path, reason } => {
                write!(f, "{} is not a store: {reason}", path.display())
            }
            Self::TooLarge { what, bytes, limit } => {
                write!(f, "{what} of {bytes} bytes is over the limit of {limit}")
            }
            Self::Full { what, used, limit } => {
                write!(f, "the store is full: {used} of {limit} {what} are used")
            }
            Self::LowSpace { free, required } => {
                write!(
                    f,
                    "the file system is low on space: {free} bytes are free, {required} are required"
                )
            }
            Self::Conflict { found: Some(sequence) } => {
                write!(f, "the key is already at sequence number {sequence}")
            }
            Self::Conflict { found: None } => write!(f, "the key is not there any more"),
            Self::InvalidOptions { complaints } => {
                write!(f, "options: {}", complaints.join("; "))
            }
            Self::Unsupported { what } => write!(f, "this version cannot read {what}"),
            Self::ReadOnly => write!(f, "the store is open read-only"),
            Self::Closed => write!(f, "the store is closed"),
            Self::Forked => {
                write!(f, "this process is a fork of the one that opened the store; open it again")
            }
            Self::InCallback => {
                write!(
                    f,
                    "called from the callback of a compaction, which waits for it; call when that has returned"
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Which bytes are damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file at which the damage was noticed.
    pub offset: u64,
    /// What was wrong there.
    pub damage: Damage,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file.display(), self.offset, self.damage)
    }
}

/// The ways in which bytes can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A checksum does not match the bytes it covers.
    Checksum,
    /// The bytes end before the thing they hold.
    Truncated,
    /// The file does not start with the right magic number.
    Magic,
    /// A length or count does not fit the file.
    Length,
    /// A field has a value that is never written.
    Field(&'static str),
    /// The manifest names a file that is not there.
    MissingFile,
    /// A directory, a link or a special file stands in its place. None of them is followed.
    NoRegularFile,
    /// There are segments but no manifest that names them.
    MissingManifest,
    /// Edits of the manifest that had been synced are gone: a segment is there that it must have named.
    MissingEdits,
    /// The file belongs to another store or to another place in this one.
    Misplaced,
    /// The device cannot read it.
    Unreadable,
    /// Acknowledged records between two sequence numbers are gone.
    MissingRecords {
        /// First number that should be there.
        from: SequenceNumber,
        /// First number after the hole.
        to: SequenceNumber,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => write!(f, "checksum mismatch"),
            Self::Truncated => write!(f, "the file ends too early"),
            Self::Magic => write!(f, "wrong magic number"),
            Self::Length => write!(f, "a length does not fit the file"),
            Self::Field(name) => write!(f, "field {name} has an impossible value"),
            Self::MissingFile => write!(f, "the file is missing"),
            Self::NoRegularFile => write!(
                f,
                "a directory, link or special file, which is not followed, stands in place of the file: put the file there"
            ),
            Self::MissingManifest => write!(f, "segments without a manifest"),
            Self::MissingEdits => write!(f, "edits that had been synced are gone"),
            Self::Misplaced => write!(f, "the file belongs elsewhere"),
            Self::Unreadable => write!(f, "the device cannot read it"),
            Self::MissingRecords { from, to } => {
                write!(f, "records {from} to before {to} are gone")
            }
        }
    }
}

/// Why some bytes are not the thing they should be. Decoders know no file: the caller adds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Offset within the bytes given.
    pub at: u64,
    /// What was wrong there.
    pub damage: Damage,
}

impl DecodeError {
    pub(crate) const fn new(at: u64, damage: Damage) -> Self {
        Self { at, damage }
    }

    /// The same fault as an error that names its file; `base` is where the decoded bytes begin in it.
    pub(crate) fn in_file(self, file: impl Into<PathBuf>, base: u64) -> Error {
        Error::Corruption(Corruption {
            file: file.into(),
            offset: base.saturating_add(self.at),
            damage: self.damage,
        })
    }
}

/// Whether an error says that the file system has no room.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
