//! A disk in memory that keeps a log of every effect, and fails when told to.
//!
//! Reads see everything at once, as through a page cache. What would survive a crash is worked out from the log
//! by [`crash`](crate::crash). Files are inodes, so renames and removals under open handles work as on POSIX.

mod directories;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tierce_engine::io::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space,
};

use crate::{
    fault::{CallKind, EIO, ENOSPC, Failure, Fault, Faults},
    image::{Image, parent},
    log::{Event, Inode, Log},
};

/// Syncs that are acknowledged and not done, to see a harness notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Syncs of files do nothing.
    pub file_syncs: bool,
    /// Syncs of directories do nothing.
    pub directory_syncs: bool,
}

/// The recording disk. Clones share it.
#[derive(Clone)]
pub struct RecordingDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    id: u64,
}

#[derive(Default)]
struct State {
    log: Log,
    directories: BTreeSet<PathBuf>,
    /// What directories that have, or had, another name are called in events.
    keys: BTreeMap<PathBuf, PathBuf>,
    known_keys: BTreeSet<PathBuf>,
    /// Directories that cannot be renamed.
    fixed: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, Inode>,
    inodes: HashMap<Inode, Content>,
    next_inode: Inode,
    faults: Faults,
    calls: u64,
    calls_by_kind: BTreeMap<CallKind, u64>,
    powered_off: bool,
    capacity: Option<u64>,
    lies: Lies,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    names: u32,
    handles: u32,
}

struct RecordingFile {
    disk: RecordingDisk,
    inode: Inode,
    writable: bool,
}

struct HeldLock {
    path: PathBuf,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        hold(&self.locked).remove(&self.path);
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotFound.into())
}

impl RecordingDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with_image(&Image::default())
    }

    /// A disk that holds `image`, all of it durable.
    #[must_use]
    pub fn with_image(image: &Image) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let names = Log::base_names(image);
        let content =
            |bytes: &Arc<Vec<u8>>| Content { bytes: bytes.to_vec(), names: 1, handles: 0 };
        let mut directories = image.directories.clone();
        directories.insert(PathBuf::from("."));
        let known_keys = image.directories.clone();
        let state = State {
            log: Log { base: image.clone(), events: Vec::new() },
            directories,
            known_keys,
            inodes: (1..).zip(image.files.values().map(content)).collect(),
            next_inode: names.len() as Inode + 1,
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            locked: Arc::default(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// An empty disk that does not do all the syncs it is asked for.
    #[must_use]
    pub fn lying(lies: Lies) -> Self {
        let disk = Self::new();
        hold(&disk.state).lies = lies;
        disk
    }

    /// From now on `dir` is a mount point.
    pub fn fix(&self, dir: &Path) {
        hold(&self.state).fixed.insert(dir.to_owned());
    }

    /// Orders a failure.
    pub fn arm(&self, fault: Fault) {
        hold(&self.state).faults.arm(fault);
    }

    /// Cancels all ordered failures.
    pub fn disarm(&self) {
        hold(&self.state).faults.disarm();
    }

    /// How many calls were made to fail or cut short so far.
    #[must_use]
    pub fn fired(&self) -> u64 {
        hold(&self.state).faults.fired
    }

    /// Every later call fails, for good.
    pub fn power_off(&self) {
        hold(&self.state).powered_off = true;
    }

    /// Sets how many bytes all files together may have; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        hold(&self.state).capacity = bytes;
    }

    /// Takes the limit of bytes away.
    pub fn free(&self) {
        self.set_capacity(None);
    }

    /// Bytes of all files, those that are only held open included.
    #[must_use]
    pub fn used(&self) -> u64 {
        hold(&self.state).used()
    }

    /// How many calls were made so far.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        hold(&self.state).calls
    }

    /// How many calls of one kind were made so far.
    #[must_use]
    pub fn calls_of(&self, kind: CallKind) -> u64 {
        hold(&self.state).calls_by_kind.get(&kind).copied().unwrap_or_default()
    }

    /// How many effects there were so far.
    #[must_use]
    pub fn event_count(&self) -> usize {
        hold(&self.state).log.events.len()
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> Log {
        hold(&self.state).log.clone()
    }

    /// The paths of all files. Counts as no call.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        hold(&self.state).names.keys().cloned().collect()
    }

    /// What the disk shows now: everything done, durable or not.
    #[must_use]
    pub fn image(&self) -> Image {
        let state = hold(&self.state);
        let file = |(path, inode): (&PathBuf, &Inode)| {
            (path.clone(), Arc::new(state.inodes[inode].bytes.clone()))
        };
        let directories = state.directories.iter().filter(|dir| dir.as_os_str() != ".");
        Image {
            directories: directories.cloned().collect(),
            files: state.names.iter().map(file).collect(),
        }
    }

    /// Counts a call; fails if it has to. `Some` is a read or write that is to be cut short.
    fn call(&self, kind: CallKind) -> io::Result<(MutexGuard<'_, State>, Option<Failure>)> {
        let mut state = hold(&self.state);
        state.calls += 1;
        *state.calls_by_kind.entry(kind).or_default() += 1;
        if state.powered_off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let failure = state.faults.call(kind);
        match failure {
            None => Ok((state, None)),
            Some(Failure::Short) if matches!(kind, CallKind::Read | CallKind::Write) => {
                Ok((state, failure))
            }
            Some(Failure::ShortThen(_)) if kind == CallKind::Write => Ok((state, failure)),
            Some(Failure::Short) => Ok((state, None)),
            Some(failure) => Err(failure.error()),
        }
    }

    fn handle(&self, state: &mut State, inode: Inode, writable: bool) -> Arc<dyn File> {
        state.inodes.entry(inode).or_default().handles += 1;
        Arc::new(RecordingFile { disk: self.clone(), inode, writable })
    }
}

impl Default for RecordingDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecordingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingDisk({})", self.id)
    }
}

impl State {
    fn used(&self) -> u64 {
        self.inodes.values().map(|content| content.bytes.len() as u64).sum()
    }

    /// How far a file may grow beyond `now` when it wants `wanted`.
    fn room(&self, now: u64, wanted: u64) -> u64 {
        let Some(capacity) = self.capacity else { return wanted };
        let free = capacity.saturating_sub(self.used());
        wanted.min(now.saturating_add(free)).max(now.min(wanted))
    }

    fn create(&mut self, path: &Path) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Content { names: 1, ..Content::default() });
        self.names.insert(path.to_owned(), inode);
        let path = self.keyed(path);
        self.log.events.push(Event::Create { path, inode });
        inode
    }

    fn unname(&mut self, inode: Inode) {
        if let Some(content) = self.inodes.get_mut(&inode) {
            content.names -= 1;
        }
        self.drop_if_unused(inode);
    }

    fn drop_if_unused(&mut self, inode: Inode) {
        if self.inodes.get(&inode).is_some_and(|content| content.names + content.handles == 0) {
            self.inodes.remove(&inode);
        }
    }

    fn content(&mut self, inode: Inode) -> &mut Vec<u8> {
        &mut self.inodes.entry(inode).or_default().bytes
    }

    fn sync_dir(&mut self, dir: &Path) {
        if !self.lies.directory_syncs {
            let dir = self.key(dir);
            self.log.events.push(Event::SyncDir { dir });
        }
    }
}

impl Disk for RecordingDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let (state, _) = self.call(CallKind::Kind)?;
        Ok(if state.names.contains_key(path) {
            Some(PathKind::File)
        } else if state.directories.contains(path) {
            Some(PathKind::Directory)
        } else {
            None
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(CallKind::CreateDir)?;
        let mut missing: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
        missing.retain(|dir| !dir.as_os_str().is_empty() && !state.directories.contains(dir));
        for dir in missing.into_iter().rev() {
            let above = parent(&dir);
            state.create_dir(dir);
            state.sync_dir(&above);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let (state, _) = self.call(CallKind::List)?;
        if !state.directories.contains(dir) {
            return not_found();
        }
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = state.names.iter().filter(|(path, _)| parent(path) == dir);
        let directories =
            state.directories.iter().filter(|path| *path != dir && parent(path) == dir);
        let file = |(path, inode): (&PathBuf, &Inode)| DirectoryEntry {
            name: name(path),
            kind: PathKind::File,
            bytes: state.inodes[inode].bytes.len() as u64,
        };
        let directory = |path: &PathBuf| DirectoryEntry {
            name: name(path),
            kind: PathKind::Directory,
            bytes: 0,
        };
        Ok(files.map(file).chain(directories.map(directory)).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let create = access == Access::CreateNew;
        let (mut state, _) = self.call(if create { CallKind::Create } else { CallKind::Open })?;
        match (state.names.get(path).copied(), create) {
            (Some(_), true) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), false) => Ok(self.handle(&mut state, inode, access == Access::Write)),
            (None, true) if state.directories.contains(&parent(path)) => {
                let inode = state.create(path);
                Ok(self.handle(&mut state, inode, true))
            }
            (None, _) => not_found(),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(CallKind::Rename)?;
        if state.directories.contains(from) {
            return state.rename_dir(from, to);
        }
        let Some(inode) = state.names.remove(from) else { return not_found() };
        let replaced = state.names.insert(to.to_owned(), inode);
        let (from, to) = (state.keyed(from), state.keyed(to));
        state.log.events.push(Event::Rename { from, to, inode });
        if let Some(replaced) = replaced {
            state.unname(replaced);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(CallKind::Remove)?;
        let Some(inode) = state.names.remove(path) else { return not_found() };
        let path = state.keyed(path);
        state.log.events.push(Event::Remove { path, inode });
        state.unname(inode);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(CallKind::Remove)?;
        if !state.directories.contains(dir) {
            return not_found();
        }
        if !state.is_empty_dir(dir) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let path = state.keyed(dir);
        state.log.events.push(Event::RemoveDir { path });
        state.directories.remove(dir);
        state.keys.remove(dir);
        Ok(())
    }

    fn is_mount_point(&self, dir: &Path) -> io::Result<bool> {
        Ok(hold(&self.state).fixed.contains(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(CallKind::SyncDir)?;
        if !state.directories.contains(dir) {
            return not_found();
        }
        state.sync_dir(dir);
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        let (mut state, _) = self.call(CallKind::Lock)?;
        if !state.names.contains_key(path) {
            if mode == LockMode::Shared || !state.directories.contains(&parent(path)) {
                return not_found();
            }
            state.create(path);
        }
        // One process has this disk: shared locks are kept as exclusive ones, which is stricter.
        if !hold(&self.locked).insert(path.to_owned()) {
            return Ok(LockOutcome::Busy { pid: Some(std::process::id()) });
        }
        let lock = HeldLock { path: path.to_owned(), locked: self.locked.clone() };
        Ok(LockOutcome::Held(Box::new(lock)))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let (state, _) = self.call(CallKind::Ask)?;
        let total = state.capacity.unwrap_or(u64::MAX);
        Ok(Space { total, available: total.saturating_sub(state.used()) })
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        let (_state, _) = self.call(CallKind::Ask)?;
        Ok(format!("recording{}:{}", self.id, dir.display()))
    }
}

impl RecordingFile {
    /// Counts a call that changes the file.
    fn change(&self, kind: CallKind) -> io::Result<(MutexGuard<'_, State>, Option<Failure>)> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.call(kind)
    }
}

impl Drop for RecordingFile {
    fn drop(&mut self) {
        let mut state = hold(&self.disk.state);
        if let Some(content) = state.inodes.get_mut(&self.inode) {
            content.handles -= 1;
        }
        state.drop_if_unused(self.inode);
    }
}

impl fmt::Debug for RecordingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingFile(#{} of {:?})", self.inode, self.disk)
    }
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

/// Half of `count`, and at least 1 if there is anything.
const fn half(count: usize) -> usize {
    count.div_ceil(2)
}

impl File for RecordingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, failure) = self.disk.call(CallKind::Read)?;
        let content = state.content(self.inode);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let mut count = buffer.len().min(content.len() - start);
        if failure.is_some() {
            count = half(count);
        }
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, failure) = self.change(CallKind::Write)?;
        let count = if failure.is_some() { half(bytes.len()) } else { bytes.len() };
        let now = state.content(self.inode).len() as u64;
        let end = state.room(now, offset + count as u64);
        let count = length(end.saturating_sub(offset))?;
        if count == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let (start, end) = (length(offset)?, length(end)?);
        let content = state.content(self.inode);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(&bytes[..count]);
        let bytes = bytes[..count].into();
        state.log.events.push(Event::Write { inode: self.inode, offset, bytes });
        match failure {
            Some(Failure::ShortThen(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(count),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        let (mut state, _) = self.disk.call(CallKind::Length)?;
        Ok(state.content(self.inode).len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let (mut state, _) = self.change(CallKind::SetBytes)?;
        let wanted = length(bytes)?;
        state.content(self.inode).resize(wanted, 0);
        state.log.events.push(Event::SetBytes { inode: self.inode, bytes });
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let (mut state, _) = self.change(CallKind::Allocate)?;
        let now = state.content(self.inode).len() as u64;
        if state.room(now, bytes) < bytes {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if now < bytes {
            let wanted = length(bytes)?;
            state.content(self.inode).resize(wanted, 0);
        }
        state.log.events.push(Event::Allocate { inode: self.inode, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.call(CallKind::Sync) {
            Ok((mut state, _)) => {
                if !state.lies.file_syncs {
                    state.log.events.push(Event::SyncFile { inode: self.inode });
                }
                Ok(())
            }
            Err(error) => {
                let mut state = hold(&self.disk.state);
                if !state.powered_off {
                    state.log.events.push(Event::SyncFailed { inode: self.inode });
                }
                Err(error)
            }
        }
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        let (mut state, _) = self.disk.call(CallKind::Map)?;
        let content = state.content(self.inode);
        let mapped = content.get(..length(bytes)?).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Mapping::from_heap(mapped.into()))
    }
}
