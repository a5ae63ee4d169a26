//! A disk in memory: for doc tests, unit tests, and caches that need not outlive the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space, parent,
};

use crate::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// A disk in memory. Clones share the same files. Nothing on it survives the process.
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk};
/// let engine = Options::new().disk(MemoryDisk::new()).open("anywhere")?;
/// engine.put("key", "value")?;
/// assert_eq!(engine.get("key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), tierce_engine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
    id: u64,
}

#[derive(Debug, Default)]
struct Tree {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Vec<u8>>);

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { tree: Arc::default(), id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// A disk that holds these files, and their directories.
    #[must_use]
    pub fn with_files(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        let disk = Self::new();
        {
            let mut tree = hold(&disk.tree);
            for (path, bytes) in files {
                tree.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
                tree.files.insert(path, Arc::new(MemoryFile(Mutex::new(bytes))));
            }
        }
        disk
    }

    /// A copy of every file as it is now.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let tree = hold(&self.tree);
        tree.files.iter().map(|(path, file)| (path.clone(), hold(&file.0).clone())).collect()
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

struct MemoryLock {
    path: PathBuf,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        hold(&self.locked).remove(&self.path);
    }
}

impl Disk for MemoryDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let tree = hold(&self.tree);
        Ok(if tree.files.contains_key(path) {
            Some(PathKind::File)
        } else if tree.directories.contains(path) {
            Some(PathKind::Directory)
        } else {
            None
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = hold(&self.tree);
        tree.directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let tree = hold(&self.tree);
        if !tree.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = tree.files.iter().filter(|(path, _)| parent(path) == dir);
        let directories =
            tree.directories.iter().filter(|path| *path != dir && parent(path) == dir);
        Ok(files
            .map(|(path, file)| DirectoryEntry {
                name: name(path),
                kind: PathKind::File,
                bytes: hold(&file.0).len() as u64,
            })
            .chain(directories.map(|path| DirectoryEntry {
                name: name(path),
                kind: PathKind::Directory,
                bytes: 0,
            }))
            .collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut tree = hold(&self.tree);
        match (tree.files.get(path), access) {
            (Some(_), Access::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(file.clone()),
            (None, Access::CreateNew) if tree.directories.contains(&parent(path)) => {
                let file = Arc::new(MemoryFile::default());
                tree.files.insert(path.to_owned(), file.clone());
                Ok(file)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = hold(&self.tree);
        let file = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = hold(&self.tree);
        let file = tree.files.get(from).ok_or(io::ErrorKind::NotFound)?.clone();
        if tree.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = hold(&self.tree).files.remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let known = hold(&self.tree).directories.contains(dir);
        if known { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        let mut tree = hold(&self.tree);
        if mode == LockMode::Exclusive {
            tree.files.entry(path.to_owned()).or_default();
        } else if !tree.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // One process has this disk: shared locks are kept as exclusive ones, which is stricter.
        let free = hold(&tree.locked).insert(path.to_owned());
        if !free {
            return Ok(LockOutcome::Busy { pid: Some(std::process::id()) });
        }
        let lock = MemoryLock { path: path.to_owned(), locked: tree.locked.clone() };
        Ok(LockOutcome::Held(Box::new(lock)))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { total: u64::MAX, available: u64::MAX })
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        Ok(format!("memory{}:{}", self.id, dir.display()))
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = hold(&self.0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut content = hold(&self.0);
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(hold(&self.0).len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        hold(&self.0).resize(length, 0);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut content = hold(&self.0);
        if content.len() < length {
            content.resize(length, 0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let content = hold(&self.0);
        let mapped = content.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Mapping::from_heap(mapped.into()))
    }
}
