//! A disk with blocks that cannot be read: a read that begins in one fails with EIO, one that reaches it ends there. A
//! file that has one must not be mapped: on a real disk that kills the process.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tierce_engine::io::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space,
};

use crate::fault::EIO;

type Ranges = Arc<Mutex<Vec<(PathBuf, Range<u64>)>>>;

/// The disk. Clones share it.
#[derive(Clone, Debug)]
pub struct BadBlocks {
    inner: Arc<dyn Disk>,
    bad: Ranges,
}

#[derive(Debug)]
struct BadFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    bad: Ranges,
}

impl BadBlocks {
    /// A disk all of whose blocks can be read so far.
    pub fn new(inner: impl Disk + 'static) -> Self {
        Self { inner: Arc::new(inner), bad: Ranges::default() }
    }

    /// From now on these bytes of the file at `path` cannot be read.
    pub fn break_at(&self, path: &Path, bytes: Range<u64>) {
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.push((path.to_owned(), bytes));
    }

    /// Everything can be read again.
    pub fn heal(&self) {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl BadFile {
    /// The ranges of this file that cannot be read.
    fn bad(&self) -> Vec<Range<u64>> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.iter().filter(|(path, _)| *path == self.path).map(|(_, range)| range.clone()).collect()
    }
}

impl File for BadFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bad = self.bad();
        if bad.iter().any(|range| range.contains(&offset)) && offset < self.inner.bytes()? {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let ahead = bad.iter().map(|range| range.start).filter(|start| *start > offset).min();
        let room =
            ahead.map_or(usize::MAX, |start| usize::try_from(start - offset).unwrap_or(usize::MAX));
        let length = buffer.len().min(room);
        self.inner.read_at(&mut buffer[..length], offset)
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

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        assert!(
            self.bad().is_empty(),
            "{} was mapped: a page that cannot be read kills",
            self.path.display()
        );
        self.inner.map(bytes)
    }
}

impl Disk for BadBlocks {
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
        Ok(Arc::new(BadFile { inner, path: path.to_owned(), bad: Arc::clone(&self.bad) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)?;
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.retain(|(path, _)| path != to);
        bad.iter_mut().filter(|(path, _)| path == from).for_each(|(path, _)| to.clone_into(path));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)?;
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.retain(|(bad, _)| bad != path);
        Ok(())
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
}
