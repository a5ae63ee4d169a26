//! The real disk and the real clock. The only home of `unsafe` in this crate.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

#[cfg(unix)]
use super::owner;
use super::{
    Access, Clock, DirectoryEntry, Disk, File, LockMode, LockOutcome, Mapping, PathKind, Space,
    parent,
};

use crate::sync::OnceLock;

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

#[derive(Debug)]
pub(super) struct OsFile(pub(super) fs::File);

fn kind_of(file_type: fs::FileType) -> PathKind {
    if file_type.is_file() {
        PathKind::File
    } else if file_type.is_dir() {
        PathKind::Directory
    } else {
        PathKind::Other
    }
}

impl Disk for OsDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        match fs::symlink_metadata(path) {
            // A link to a directory is a fine place for a store; other links are not followed.
            Ok(meta) if meta.is_symlink() => match fs::metadata(path) {
                Ok(target) if target.is_dir() => Ok(Some(PathKind::Directory)),
                _ => Ok(Some(PathKind::Other)),
            },
            Ok(meta) => Ok(Some(kind_of(meta.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let above = parent(path);
        self.create_dir_all(&above)?;
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(path) {
            #[cfg(unix)]
            Ok(()) => owner::give_dir(path, owner::of_dir(&above)),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Order: the new name is durable before anything inside it can be relied on.
        self.sync_dir(&above)
    }

    #[cfg(unix)]
    fn own_like(&self, dir: &Path, like: &Path) -> io::Result<()> {
        owner::copy(dir, like)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = kind_of(entry.file_type()?);
            let bytes = match entry.metadata() {
                Ok(meta) if kind == PathKind::File => meta.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
                Ok(_) => 0,
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirectoryEntry { name, kind, bytes });
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Write => {
                options.write(true);
            }
            Access::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        without_waiting(&mut options);
        let file = options.open(path)?;
        refuse_special(&file)?;
        #[cfg(unix)]
        if access == Access::CreateNew {
            owner::give(&file, owner::of_dir(&parent(path)));
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        #[cfg(unix)]
        match fs::File::open(dir) {
            Ok(handle) => synced(handle.sync_all())?,
            // A directory may be entered and written to, and yet not be opened: then everything is synced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => rustix::fs::sync(),
            Err(error) => return Err(error),
        }
        #[cfg(not(unix))]
        let _ = dir;
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        match mode {
            LockMode::Exclusive => {
                let is_regular = || fs::symlink_metadata(path).map(|meta| meta.is_file());
                let open = || {
                    let mut options = fs::OpenOptions::new();
                    options.read(true).write(true).create(true).truncate(false);
                    #[cfg(unix)]
                    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                    let file = options.open(path)?;
                    #[cfg(unix)]
                    owner::give(&file, owner::of_dir(&parent(path)));
                    Ok(file)
                };
                lock_exclusive(&is_regular, &open, &|file| is_same_file(file, path))
            }
            LockMode::Shared => {
                let mut options = fs::OpenOptions::new();
                options.read(true);
                without_waiting(&mut options);
                lock_shared(options.open(path)?)
            }
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stats = fs2::statvfs(dir)?;
        Ok(Space { total: stats.total_space(), available: stats.available_space() })
    }

    fn identity(&self, dir: &Path) -> io::Result<String> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let meta = fs::metadata(dir)?;
            Ok(format!("os:{}:{}", meta.dev(), meta.ino()))
        }
        #[cfg(not(unix))]
        Ok(format!("os:{}", fs::canonicalize(dir)?.display()))
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    #[cfg(unix)]
    fn hold_dir(&self, dir: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(Some(Arc::new(super::held::HeldDir::open(dir)?)))
    }

    #[cfg(target_os = "linux")]
    fn is_mount_point(&self, dir: &Path) -> io::Result<bool> {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let found = statx(CWD, dir, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
        if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        }
        // Before Linux 5.8: a mount of another file system, at least.
        let above = statx(CWD, dir.join(".."), AtFlags::empty(), StatxFlags::BASIC_STATS)?;
        let place = |at: &rustix::fs::Statx| (at.stx_dev_major, at.stx_dev_minor);
        Ok(place(&found) != place(&above))
    }
}

/// The outcome of syncing a directory. Some network and user-space file systems have no such call; a failure of the
/// device never has these errors.
#[cfg(unix)]
pub(super) fn synced(outcome: io::Result<()>) -> io::Result<()> {
    use rustix::io::Errno;
    match outcome {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS)
            ) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

/// A lock that is given up by word, not only by closing the file: a process that another thread is just starting
/// has a copy of the open file for a moment, and would hold the lock with it.
struct Flock {
    file: fs::File,
    pid: u32,
}

impl Flock {
    fn new(file: fs::File) -> Self {
        Self { file, pid: std::process::id() }
    }
}

impl Drop for Flock {
    fn drop(&mut self) {
        // A forked child shares the lock with its parent and must not give it up for it.
        if std::process::id() == self.pid {
            // Whoever is told that the directory is busy later is not told of this process. (Fails on a shared
            // lock's file, which is open for reading only and tells nothing of us.)
            let _ = self.file.set_len(0);
            let _ = fs2::FileExt::unlock(&self.file);
        }
    }
}

/// Opens and locks the lock file, then makes sure that it is still the one with that name: a lock on a file that was
/// removed meanwhile excludes nobody.
pub(super) fn lock_exclusive(
    is_regular: &dyn Fn() -> io::Result<bool>,
    open: &dyn Fn() -> io::Result<fs::File>,
    is_named: &dyn Fn(&fs::File) -> io::Result<bool>,
) -> io::Result<LockOutcome> {
    loop {
        // What a link names may be anybody's, and is written to below.
        if let Ok(false) = is_regular() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut file = open()?;
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(LockOutcome::Busy { pid: holder(&file) });
            }
            Err(error) => return Err(error),
        }
        if !is_named(&file)? {
            continue;
        }
        // The id is for people only; the lock holds without it, a full disk included.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        return Ok(LockOutcome::Held(Box::new(Flock::new(file))));
    }
}

/// Opening a pipe waits for a writer, unless this is said.
fn without_waiting(options: &mut fs::OpenOptions) {
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags);
    }
    #[cfg(not(unix))]
    let _ = options;
}

/// Refuses pipes and devices: a read of them may wait for ever. They are opened without waiting for that reason.
pub(super) fn refuse_special(file: &fs::File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_dir() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

pub(super) fn lock_shared(file: fs::File) -> io::Result<LockOutcome> {
    refuse_special(&file)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(LockOutcome::Held(Box::new(Flock::new(file)))),
        Err(fs::TryLockError::WouldBlock) => Ok(LockOutcome::Busy { pid: holder(&file) }),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(unix)]
fn is_same_file(file: &fs::File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok(held.ino() == named.ino() && held.dev() == named.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &fs::File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// The process id in a lock file that somebody else holds.
fn holder(mut file: &fs::File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // Without KEEP_SIZE: the length grows too, so that a later sync has no new length to record.
        rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes).map_err(
            |errno| match errno {
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS => {
                    io::ErrorKind::Unsupported.into()
                }
                other => other.into(),
            },
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self, bytes: u64) -> io::Result<Mapping> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        if self.bytes()? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the bytes must not change and the file must not be cut while the map lives. Only sealed
        // segments and checkpoints are mapped, by the process that has the exclusive lock and by readers that have
        // none: the writer of the store never writes to or cuts a file again that the manifest on disk may name
        // as sealed (I1). Nothing can stop a stranger with write permission; `ReadMode::Positioned` is for
        // directories where one is feared.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(&self.0)? };
        Ok(Mapping::from_map(map))
    }
}

/// A page that starts with 1 and reads as zeros in a forked child.
#[cfg(target_os = "linux")]
pub(super) fn page_wiped_on_fork() -> Option<memmap2::MmapMut> {
    let mut page = memmap2::MmapMut::map_anon(4096).ok()?;
    let start = page.as_mut_ptr().cast();
    // SAFETY: `start` and the length are those of a whole anonymous private mapping that we own and nobody else
    // has seen yet; wiping it in a child only turns it into zeros there, which is a valid value of every byte.
    unsafe { rustix::mm::madvise(start, page.len(), rustix::mm::Advice::LinuxWipeOnFork).ok()? };
    *page.first_mut()? = 1;
    Some(page)
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn page_wiped_on_fork() -> Option<memmap2::MmapMut> {
    None
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn wall_ms(&self) -> u64 {
        // A clock before 1970 reads as 1970; the store's own clock never goes back anyway.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    #[cfg(target_os = "linux")]
    fn boot_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, ns) = (now.tv_sec.max(0).unsigned_abs(), now.tv_nsec.max(0).unsigned_abs());
        seconds.saturating_mul(1000).saturating_add(ns / 1_000_000)
    }

    fn boot_id(&self) -> [u8; 16] {
        let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let text = fs::read_to_string(path).unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).unwrap_or_default().to_le_bytes()
    }
}
