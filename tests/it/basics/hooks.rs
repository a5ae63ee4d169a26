//! A disk that calls a hook before every call that moves bytes or locks, to count it or to hold it up.

use std::{fmt, io, path::Path, sync::Arc};

use tierce_engine::io::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space,
};

/// A call that moves bytes or locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A read of so many bytes at most.
    Read(u64),
    /// A write of so many bytes.
    Write(u64),
    /// A sync of a file.
    Sync,
    /// A lock of a directory.
    Lock,
}

type Hook = Arc<dyn Fn(Call) + Send + Sync>;

/// Another disk with a hook.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    inner: Arc<dyn Disk>,
    hook: Hook,
}

struct HookedFile {
    inner: Arc<dyn File>,
    hook: Hook,
}

impl HookedDisk {
    pub(crate) fn new(
        inner: impl Disk + 'static,
        hook: impl Fn(Call) + Send + Sync + 'static,
    ) -> Self {
        Self { inner: Arc::new(inner), hook: Arc::new(hook) }
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookedDisk({:?})", self.inner)
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookedFile({:?})", self.inner)
    }
}

impl Disk for HookedDisk {
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
        Ok(Arc::new(HookedFile { inner, hook: Arc::clone(&self.hook) }))
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
        (self.hook)(Call::Lock);
        self.inner.lock(path, mode)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        self.inner.identity(dir)
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        let held = self.inner.hold_dir(dir)?;
        Ok(held.map(|inner| Arc::new(Self { inner, hook: Arc::clone(&self.hook) }) as _))
    }
}

impl File for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.hook)(Call::Read(buffer.len() as u64));
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        (self.hook)(Call::Write(bytes.len() as u64));
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
        (self.hook)(Call::Sync);
        self.inner.sync()
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        self.inner.map(bytes)
    }
}
