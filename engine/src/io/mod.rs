//! The seam to everything that is not determined by the program: disk and clock. Nothing else is in here, and
//! nothing above reaches the operating system by another way.
//!
//! The traits are public: a test brings a disk that misbehaves, an embedder one of its own. This room knows
//! files and bytes; it has never heard of a record.

mod fail_stop;
mod fork;
#[cfg(unix)]
mod held;
mod memory;
mod os;
#[cfg(unix)]
mod owner;
mod store_clock;
mod tolerant;
mod window;

use std::{
    fmt, io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use fail_stop::FailStopFile;
pub(crate) use fork::ForkGuard;
pub use memory::MemoryDisk;
pub use os::{OsClock, OsDisk};
pub use store_clock::{ClockDoubt, StoreClock};
pub(crate) use tolerant::TolerantDisk;
pub(crate) use window::Window;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name; names that are not UTF-8 come as their closest text and are never ours.
    pub name: String,
    /// What it names.
    pub kind: PathKind,
    /// Length of a file, 0 for others.
    pub bytes: u64,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist; it is only read.
    Read,
    /// It must exist; it is read and written.
    Write,
    /// It is created empty, and must not exist. Readable by its owner only.
    CreateNew,
}

/// How to hold a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// One holder.
    Exclusive,
    /// Many holders, none of them exclusive.
    Shared,
}

/// The outcome of trying to lock.
pub enum LockOutcome {
    /// Held until this value is dropped.
    Held(Box<dyn Send + Sync>),
    /// Another process has it; its id, if the lock file told.
    Busy {
        /// The holder.
        pid: Option<u32>,
    },
}

impl fmt::Debug for LockOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(_) => write!(f, "Held"),
            Self::Busy { pid } => write!(f, "Busy({pid:?})"),
        }
    }
}

/// Room on the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this process may still use.
    pub available: u64,
}

/// A disk: a tree of directories and files. What is written is safe only after [`File::sync`]; what is created,
/// renamed or removed only after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// What stands at `path`, links not followed at the last step; `None` if nothing does.
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>>;
    /// Creates `path` and its missing parents, for the owner only, and syncs the directories that changed. What is
    /// created anywhere belongs to the owner of the directory that it is in, as far as the system lets it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Gives the new directory `dir` the owner and the permissions of the directory `like`, as far as the system lets it.
    fn own_like(&self, dir: &Path, like: &Path) -> io::Result<()> {
        let _ = (dir, like);
        Ok(())
    }
    /// The names in `dir`, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Renames a file over another, which may exist.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, durable after [`Disk::sync_dir`]. `Unsupported` where there is no such thing.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file. Maps and open handles of it go on working.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Tries to lock the lock file at `path`. With [`LockMode::Exclusive`] it is created if missing, and the
    /// holder's process id is written into it for people to read.
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome>;
    /// Room left where `dir` is.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// A name for the file or directory at `path` that is the same for every path that leads there, and differs between
    /// disks. What takes the place of `path` later has another one.
    fn identity(&self, path: &Path) -> io::Result<String>;
    /// The path that `path` means now, whatever the working directory becomes.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// The one path of what stands at `path`: absolute, and through no links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.absolute(path)
    }
    /// This disk with the directory `dir` held open: paths that begin with it, as it is written here, reach that directory
    /// from then on, even if it is renamed and another takes its name. `None` where there is no such thing.
    fn hold_dir(&self, dir: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        let _ = dir;
        Ok(None)
    }
    /// Removes an empty directory. `Unsupported` where there is no such thing.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether another file system, or a part of one, is mounted at `dir`, so that it cannot be renamed.
    fn is_mount_point(&self, dir: &Path) -> io::Result<bool> {
        let _ = dir;
        Ok(false)
    }
}

/// An open file. All calls may come from several threads at once.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 means the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes up to `bytes.len()` bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Length of the file.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) the file to `bytes`.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    /// Extends the file with zeros to `bytes` and reserves the room for them, so that writing there later
    /// needs no new metadata. `Unsupported` where the file system cannot.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Makes everything written so far durable, with the metadata needed to read it back.
    fn sync(&self) -> io::Result<()>;
    /// The first `bytes` bytes as memory. Only for files that nobody changes or cuts any more.
    fn map(&self, bytes: u64) -> io::Result<Mapping>;
}

/// A file as memory.
#[derive(Debug)]
pub struct Mapping(MappingKind);

#[derive(Debug)]
enum MappingKind {
    Mapped(memmap2::Mmap),
    Heap(Arc<[u8]>),
}

impl Mapping {
    /// A mapping that is plain memory, for disks that are no real ones.
    #[must_use]
    pub const fn from_heap(bytes: Arc<[u8]>) -> Self {
        Self(MappingKind::Heap(bytes))
    }

    const fn from_map(map: memmap2::Mmap) -> Self {
        Self(MappingKind::Mapped(map))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            MappingKind::Mapped(map) => map,
            MappingKind::Heap(bytes) => bytes,
        }
    }
}

/// Time, as the machine tells it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since the Unix epoch; may jump either way, and may be wrong.
    fn wall_ms(&self) -> u64;
    /// Milliseconds since some moment; never goes back while the process runs.
    fn monotonic_ms(&self) -> u64;
    /// As [`Self::monotonic_ms`], and goes on while the machine is asleep, where that is known.
    fn boot_ms(&self) -> u64 {
        self.monotonic_ms()
    }
    /// A number that nobody can guess, for salts and ids. A test may return a known sequence.
    fn random(&self) -> u64 {
        use std::hash::{BuildHasher as _, RandomState};
        RandomState::new().hash_one(self.monotonic_ms())
    }
    /// Names the machine's current boot; zeros if unknown.
    fn boot_id(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// Reads exactly `buffer.len()` bytes; short reads and interruptions are continued, the end is an error.
pub(crate) fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let read = read_up_to_at(file, buffer, offset)?;
    if read < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends; says how much it was.
pub(crate) fn read_up_to_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`; short writes and interruptions are continued.
pub(crate) fn write_all_at(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// No file of a store is longer: offsets in it have 32 bits, in units of 8 bytes, and no store comes near that.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 30;

/// The length of a file that is to be read whole, if it can be one of ours: a sparse one may claim any.
fn whole_length(file: &dyn File, bytes_max: u64) -> io::Result<usize> {
    let bytes = file.bytes()?;
    if bytes > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is longer than any file of a store can be; if it is not yours, move it away",
        ));
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

/// The whole file at `path`.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    read_file_of(disk, path, FILE_BYTES_MAX)
}

/// The whole file at `path`, which has `bytes_max` bytes at most.
pub(crate) fn read_file_of(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let length = whole_length(file.as_ref(), bytes_max)?;
    let mut bytes = vec![0; length];
    let read = read_up_to_at(file.as_ref(), &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The whole file at `path`, which another process may be appending to: its last bytes are read first. What was
/// written before something that was seen is therefore seen, too.
pub(crate) fn read_file_backwards(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    const CHUNK_BYTES: usize = 64 << 10;
    let file = disk.open(path, Access::Read)?;
    let length = whole_length(file.as_ref(), FILE_BYTES_MAX)?;
    let mut bytes = vec![0; length];
    let mut end = length;
    while end > 0 {
        let start = (end - 1) / CHUNK_BYTES * CHUNK_BYTES;
        // A file that became shorter meanwhile was sealed: only empty space went.
        read_up_to_at(file.as_ref(), &mut bytes[start..end], start as u64)?;
        end = start;
    }
    Ok(bytes)
}

/// Writes a file whole: aside under `tmp`, synced, renamed to `path`, and the directory synced. After a crash
/// either the old file or the new one is there, never a part.
pub(crate) fn replace_file(
    disk: &dyn Disk,
    tmp: &Path,
    path: &Path,
    bytes: &[u8],
) -> io::Result<Arc<dyn File>> {
    remove_if_there(disk, tmp)?;
    let file = disk.open(tmp, Access::CreateNew)?;
    let written = write_all_at(file.as_ref(), bytes, 0).and_then(|()| file.sync());
    // Order: the bytes are durable before the name shows them, and the name before anyone relies on it.
    let named = written.and_then(|()| disk.rename(tmp, path));
    if let Err(error) = named {
        let _ = disk.remove(tmp);
        return Err(error);
    }
    disk.sync_dir(&parent(path))?;
    Ok(file)
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
