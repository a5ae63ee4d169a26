//! A disk that knows at every moment how many bytes its named files have together, remembers the most there ever
//! were, and can be full: it has a capacity, and a script for what it says is free.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tierce_engine::io::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, MemoryDisk, PathKind, Space,
};
use tierce_kit::fault::{EIO, ENOSPC};

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct MeteredDisk {
    inner: MemoryDisk,
    meter: Arc<Mutex<Meter>>,
}

#[derive(Debug, Default)]
struct Meter {
    names: HashMap<PathBuf, usize>,
    /// Length of each file, and whether it has a name.
    files: Vec<(u64, bool)>,
    total: u64,
    peak: u64,
    written: u64,
    read: u64,
    refused: u64,
    capacity: Option<u64>,
    available: Option<u64>,
    is_broken: bool,
}

impl Meter {
    /// Counts bytes that came.
    fn came(&mut self, bytes: u64) {
        self.total += bytes;
        if self.total > self.peak {
            self.peak = self.total;
        }
    }

    fn id(&mut self, path: &Path, bytes: u64) -> usize {
        if let Some(id) = self.names.get(path) {
            return *id;
        }
        self.files.push((bytes, true));
        self.names.insert(path.to_owned(), self.files.len() - 1);
        self.came(bytes);
        self.files.len() - 1
    }

    /// How far a file may grow.
    fn end_for(&mut self, id: usize, wanted: u64) -> u64 {
        let Some(capacity) = self.capacity else { return wanted };
        let now = self.files[id].0;
        let end = wanted.min(now + capacity.saturating_sub(self.total)).max(now.min(wanted));
        self.refused += u64::from(end < wanted);
        end
    }

    fn grow(&mut self, id: usize, bytes: u64) {
        let (before, is_named) = self.files[id];
        if bytes > before {
            self.files[id].0 = bytes;
            self.came(if is_named { bytes - before } else { 0 });
        }
    }

    fn unname(&mut self, path: &Path) -> Option<usize> {
        let id = self.names.remove(path)?;
        self.files[id].1 = false;
        self.total -= self.files[id].0;
        Some(id)
    }
}

struct MeteredFile {
    inner: Arc<dyn File>,
    meter: Arc<Mutex<Meter>>,
    id: usize,
}

fn hold(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MeteredDisk {
    /// An empty disk in memory.
    pub(crate) fn new() -> Self {
        Self { inner: MemoryDisk::new(), meter: Arc::default() }
    }

    /// Another disk with the files of this one, as they are when the process dies.
    pub(crate) fn copy(&self) -> Self {
        let files = self.inner.files();
        let copy = Self { inner: MemoryDisk::with_files(files.clone()), meter: Arc::default() };
        for (path, bytes) in &files {
            hold(&copy.meter).id(path, bytes.len() as u64);
        }
        copy
    }

    /// Bytes of all files that have a name.
    pub(crate) fn total(&self) -> u64 {
        hold(&self.meter).total
    }

    /// From now on [`Self::assert_peak`] looks at what comes.
    pub(crate) fn forget_peak(&self) {
        let mut meter = hold(&self.meter);
        meter.peak = meter.total;
    }

    /// Bytes handed to writes so far.
    pub(crate) fn written(&self) -> u64 {
        hold(&self.meter).written
    }

    /// Bytes that reads returned so far; maps are not counted.
    pub(crate) fn read(&self) -> u64 {
        hold(&self.meter).read
    }

    /// Calls that found no room so far.
    pub(crate) fn refused(&self) -> u64 {
        hold(&self.meter).refused
    }

    /// Bytes that all files may have together; `None` = no limit.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        hold(&self.meter).capacity = bytes;
    }

    /// From now on syncs of files fail, or do not fail any more.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        hold(&self.meter).is_broken = is_broken;
    }

    /// What the disk says is free, whatever is true; `None` = very much.
    pub(crate) fn set_available(&self, bytes: Option<u64>) {
        hold(&self.meter).available = bytes;
    }

    /// Fails if there ever were more bytes than `limit`.
    #[track_caller]
    pub(crate) fn assert_peak(&self, limit: u64, when: &str) {
        let meter = hold(&self.meter);
        assert!(meter.peak <= limit, "{when}: {} of {limit}", meter.peak);
    }
}

impl fmt::Debug for MeteredDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeteredDisk({:?})", self.inner)
    }
}

impl fmt::Debug for MeteredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeteredFile({:?})", self.inner)
    }
}

impl Disk for MeteredDisk {
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
        let mut meter = hold(&self.meter);
        let inner = self.inner.open(path, access)?;
        let id = meter.id(path, inner.bytes()?);
        Ok(Arc::new(MeteredFile { inner, meter: Arc::clone(&self.meter), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut meter = hold(&self.meter);
        self.inner.rename(from, to)?;
        meter.unname(to);
        if let Some(id) = meter.unname(from) {
            meter.files[id].1 = true;
            meter.names.insert(to.to_owned(), id);
            let bytes = meter.files[id].0;
            meter.came(bytes);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut meter = hold(&self.meter);
        self.inner.remove(path)?;
        meter.unname(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        self.inner.lock(path, mode)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let meter = hold(&self.meter);
        let total = meter.capacity.unwrap_or(1 << 50);
        let available = meter.available.unwrap_or_else(|| total.saturating_sub(meter.total));
        Ok(Space { total, available })
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        self.inner.identity(dir)
    }
}

impl File for MeteredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.inner.read_at(buffer, offset)?;
        hold(&self.meter).read += count as u64;
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut meter = hold(&self.meter);
        let end = meter.end_for(self.id, offset + bytes.len() as u64);
        let count = usize::try_from(end.saturating_sub(offset)).map_err(io::Error::other)?;
        if count == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let count = self.inner.write_at(&bytes[..count], offset)?;
        meter.written += count as u64;
        meter.grow(self.id, offset + count as u64);
        Ok(count)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut meter = hold(&self.meter);
        self.inner.set_bytes(bytes)?;
        let (before, is_named) = meter.files[self.id];
        meter.files[self.id].0 = bytes;
        if is_named {
            meter.total -= before;
            meter.came(bytes);
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut meter = hold(&self.meter);
        if meter.end_for(self.id, bytes) < bytes {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.inner.allocate(bytes)?;
        meter.grow(self.id, bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match hold(&self.meter).is_broken {
            true => Err(io::Error::from_raw_os_error(EIO)),
            false => self.inner.sync(),
        }
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        self.inner.map(bytes)
    }
}
