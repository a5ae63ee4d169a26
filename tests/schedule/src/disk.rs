//! A disk whose calls are points of the scheduler, and which may panic or lose its power at one of them.

use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tierce_engine::{
    io::{Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space},
    schedule::point,
};
use tierce_kit::recorder::RecordingDisk;

/// What happens to a disk at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accident {
    /// The calling thread panics, once.
    Panic,
    /// No call has an effect any more.
    Crash,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub(crate) struct PointDisk {
    /// What is behind it.
    pub(crate) inner: RecordingDisk,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Calls to come before the accident; 0 for none.
    left: AtomicU64,
    is_crash: AtomicU64,
    happened: AtomicU64,
}

impl fmt::Debug for PointDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PointDisk {
    /// Over `inner`.
    pub(crate) fn new(inner: RecordingDisk) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// Orders an accident at the call after so many.
    pub(crate) fn arm(&self, calls: u64, accident: Accident) {
        self.shared.is_crash.store(u64::from(accident == Accident::Crash), Ordering::Relaxed);
        self.shared.left.store(calls + 1, Ordering::Relaxed);
    }

    /// Cancels it.
    pub(crate) fn disarm(&self) {
        self.shared.left.store(0, Ordering::Relaxed);
    }

    /// Whether it happened.
    pub(crate) fn has_happened(&self) -> bool {
        self.shared.happened.load(Ordering::Relaxed) > 0
    }

    fn call(&self) {
        point();
        let left = self.shared.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.shared.left.store(left - 1, Ordering::Relaxed);
        if left > 1 {
            return;
        }
        self.shared.happened.store(1, Ordering::Relaxed);
        if self.shared.is_crash.load(Ordering::Relaxed) > 0 {
            self.inner.power_off();
        } else if !std::thread::panicking() {
            panic!("a panic that was ordered");
        }
    }
}

#[derive(Debug)]
struct PointFile {
    inner: Arc<dyn File>,
    disk: PointDisk,
}

impl Disk for PointDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.call();
        self.inner.kind(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.call();
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.call();
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(PointFile { inner, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        self.inner.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call();
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call();
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        self.inner.lock(path, mode)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        self.inner.identity(dir)
    }
}

impl File for PointFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call();
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.call();
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.disk.call();
        self.inner.set_bytes(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.call();
        self.inner.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call();
        self.inner.sync()
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        self.disk.call();
        self.inner.map(bytes)
    }
}
