//! A disk that counts what segments are written, and a clock that is moved by hand: counts then depend on nothing
//! but the program.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::time::{ClockId, clock_gettime};
use tierce_engine::{
    Engine, Options,
    io::{
        Access, Clock, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, MemoryDisk,
        PathKind, Space,
    },
};

/// A disk in memory that counts the bytes written to segments, headers and footers included.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountingDisk {
    inner: MemoryDisk,
    segments: Arc<AtomicU64>,
}

impl CountingDisk {
    /// Bytes written to segments so far.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }
}

impl Disk for CountingDisk {
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
        let is_segment = path.to_string_lossy().contains(".seg");
        let count = if is_segment { Arc::clone(&self.segments) } else { Arc::default() };
        Ok(Arc::new(CountingFile { inner, count }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
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
    fn identity(&self, dir: &Path) -> io::Result<String> {
        self.inner.identity(dir)
    }
}

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn File>,
    count: Arc<AtomicU64>,
}

impl File for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(bytes, offset)?;
        self.count.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
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
        self.inner.map(bytes)
    }
}

/// A clock that stands still until it is moved; clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandClock {
    ms: Arc<AtomicU64>,
    randoms: Arc<AtomicU64>,
}

impl HandClock {
    const START_MS: u64 = 1_700_000_000_000;

    /// Time passes.
    pub(crate) fn advance(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn wall_ms(&self) -> u64 {
        Self::START_MS + self.monotonic_ms()
    }
    fn monotonic_ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }
    fn random(&self) -> u64 {
        tierce_benches::mix(self.randoms.fetch_add(1, Ordering::Relaxed))
    }
}

/// Does what is due, in this thread.
pub(crate) fn settle(engine: &Engine) {
    while engine.step().expect("the store steps") {}
}

/// Opens a store in `dir`.
pub(crate) fn open(options: Options, dir: impl AsRef<Path>) -> Engine {
    options.open(dir).expect("the store opens")
}

/// Seconds of processor time that this process has used, all its threads and the system's part together.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
