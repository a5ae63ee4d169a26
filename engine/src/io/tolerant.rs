//! Disk wrapper that reads around bad blocks. Its files read to their end: blocks that cannot be read come as
//! bytes that nothing of ours consists of, and are remembered. Nothing is mapped: a page of a map that cannot be read
//! kills the process.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space};
use crate::sync::{Mutex, PoisonError};

/// Read alone where a longer read fails; the least that a page cache reads.
const BLOCK_BYTES: u64 = 4096;
/// In place of each byte that cannot be read. Not zero: zeros look like room that was never written to.
const FILL: u8 = 0xa5;

/// By file, start of each range that cannot be read, and its length.
type Unreadable = Arc<Mutex<BTreeMap<PathBuf, BTreeMap<u64, u64>>>>;

/// Another disk, of which everything reads.
pub(crate) struct TolerantDisk {
    inner: Arc<dyn Disk>,
    unreadable: Unreadable,
}

struct TolerantFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    unreadable: Unreadable,
}

impl fmt::Debug for TolerantDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TolerantDisk({:?})", self.inner)
    }
}

impl fmt::Debug for TolerantFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TolerantFile({:?})", self.inner)
    }
}

impl TolerantDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, unreadable: Unreadable::default() }
    }

    /// What could not be read so far: file, offset and length.
    pub(crate) fn unreadable(&self) -> Vec<(PathBuf, u64, u64)> {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = |(path, ranges): (&PathBuf, &BTreeMap<u64, u64>)| {
            let range = |(at, bytes): (&u64, &u64)| (path.clone(), *at, *bytes);
            ranges.iter().map(range).collect::<Vec<_>>()
        };
        unreadable.iter().flat_map(ranges).collect()
    }
}

impl TolerantFile {
    /// Fills `buffer` as far as the file goes, block by block; says how far that is.
    fn read_around(&self, buffer: &mut [u8], offset: u64, cause: io::Error) -> io::Result<usize> {
        let end = self.inner.bytes()?.min(offset.saturating_add(buffer.len() as u64));
        let mut at = offset;
        // A file of which not even the length is true has no end to read to.
        if at >= end {
            return Err(cause);
        }
        while at < end {
            let next = (at / BLOCK_BYTES + 1).saturating_mul(BLOCK_BYTES).min(end);
            let from = usize::try_from(at - offset).map_err(io::Error::other)?;
            let to = usize::try_from(next - offset).map_err(io::Error::other)?;
            let block = &mut buffer[from..to];
            match super::read_exact_at(self.inner.as_ref(), block, at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
                Err(_) => {
                    block.fill(FILL);
                    self.note(at, next - at);
                }
            }
            at = next;
        }
        usize::try_from(end - offset).map_err(io::Error::other)
    }

    fn note(&self, at: u64, bytes: u64) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = unreadable.entry(self.path.clone()).or_default();
        let before = ranges.range_mut(..=at).next_back();
        match before {
            // The same again, or the next to it.
            Some((start, known)) if start + *known >= at => {
                *known = (*known).max(at + bytes - start);
            }
            _ => {
                ranges.insert(at, bytes);
            }
        }
    }
}

impl File for TolerantFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.inner.read_at(buffer, offset) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.read_around(buffer, offset, error)
            }
            read => read,
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_bytes(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.inner.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn map(&self, _: u64) -> io::Result<Mapping> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Disk for TolerantDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.inner.kind(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, access)?;
        let (path, unreadable) = (path.to_owned(), Arc::clone(&self.unreadable));
        Ok(Arc::new(TolerantFile { inner, path, unreadable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        self.inner.lock(path, mode)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn identity(&self, path: &Path) -> io::Result<String> {
        self.inner.identity(path)
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.absolute(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.resolve(path)
    }
}
