//! What was done to a disk, in order: the input of every crash state.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use crate::image::Image;

/// One file for its whole life, whatever names it has.
pub type Inode = u64;

/// One effect on the disk. Paths go by the key of the directory: a file stays in its directory when that is renamed.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A directory came to be.
    CreateDir {
        /// Its path.
        path: PathBuf,
        /// What it is called in all events, whatever its name becomes: its path, if none was called so before.
        key: PathBuf,
    },
    /// A directory changed its name, perhaps over an empty one.
    RenameDir {
        /// The old path.
        from: PathBuf,
        /// The new path.
        to: PathBuf,
        /// The directory.
        key: PathBuf,
    },
    /// An empty directory went away.
    RemoveDir {
        /// Its path.
        path: PathBuf,
    },
    /// An empty file came to be.
    Create {
        /// Its path.
        path: PathBuf,
        /// The new file.
        inode: Inode,
    },
    /// Bytes were written.
    Write {
        /// The file.
        inode: Inode,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// A file was cut or extended with zeros.
    SetBytes {
        /// The file.
        inode: Inode,
        /// Its new length.
        bytes: u64,
    },
    /// A file was extended with reserved zeros.
    Allocate {
        /// The file.
        inode: Inode,
        /// Its least length from now on.
        bytes: u64,
    },
    /// The file's bytes and length became durable.
    SyncFile {
        /// The file.
        inode: Inode,
    },
    /// A sync of the file failed. What was written since the last good one counts as clean from now on: no later
    /// sync brings it to the device, though reads still show it.
    SyncFailed {
        /// The file.
        inode: Inode,
    },
    /// A file changed its name, perhaps over another.
    Rename {
        /// The old path.
        from: PathBuf,
        /// The new path.
        to: PathBuf,
        /// The file.
        inode: Inode,
    },
    /// A name went away.
    Remove {
        /// The path.
        path: PathBuf,
        /// The file it named.
        inode: Inode,
    },
    /// The names in a directory became durable.
    SyncDir {
        /// The directory.
        dir: PathBuf,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDir { path, .. } => write!(f, "CreateDir {}", path.display()),
            Self::RenameDir { from, to, .. } => {
                write!(f, "RenameDir {} -> {}", from.display(), to.display())
            }
            Self::RemoveDir { path } => write!(f, "RemoveDir {}", path.display()),
            Self::Create { path, inode } => write!(f, "Create #{inode} {}", path.display()),
            Self::Write { inode, offset, bytes } => {
                write!(f, "Write #{inode} {offset}+{}", bytes.len())
            }
            Self::SetBytes { inode, bytes } => write!(f, "SetBytes #{inode} {bytes}"),
            Self::Allocate { inode, bytes } => write!(f, "Allocate #{inode} {bytes}"),
            Self::SyncFile { inode } => write!(f, "SyncFile #{inode}"),
            Self::SyncFailed { inode } => write!(f, "SyncFailed #{inode}"),
            Self::Rename { from, to, inode } => {
                write!(f, "Rename #{inode} {} -> {}", from.display(), to.display())
            }
            Self::Remove { path, inode } => write!(f, "Remove #{inode} {}", path.display()),
            Self::SyncDir { dir } => write!(f, "SyncDir {}", dir.display()),
        }
    }
}

/// A disk as it was, all durable, and everything done to it since.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The disk before the first event.
    pub base: Image,
    /// What was done, in order.
    pub events: Vec<Event>,
}

impl Log {
    /// The names of the base with their inodes: 1, 2, 3 in the order of paths. Events go on from there.
    #[must_use]
    pub fn base_names(base: &Image) -> BTreeMap<PathBuf, Inode> {
        base.files.keys().cloned().zip(1..).collect()
    }
}
