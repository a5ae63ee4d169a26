//! Directory handle of an open store. Paths in it are looked up from the open directory, not by its name: it may be
//! renamed, and another may take its name, and the process may change its working directory; the files that are
//! reached stay those of the directory that was opened. What a link names is never opened.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatvfs, linkat, mkdirat, openat,
        renameat, statat, unlinkat,
    },
    io::Errno,
};

use super::{
    Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, OsDisk, PathKind, Space,
    os::{OsFile, lock_exclusive, lock_shared, refuse_special, synced},
    owner::{self, Owner},
    parent,
};

/// The file systems of this machine, with one directory held open.
#[derive(Debug)]
pub(super) struct HeldDir {
    dir: PathBuf,
    handle: fs::File,
}

impl HeldDir {
    /// Holds `dir`. Paths that begin with it, as it is written, are looked up from there.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        Self::open_at((CWD, dir), dir)
    }

    fn open_at((at, rest): (BorrowedFd<'_>, &Path), dir: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = openat(at, rest, flags, Mode::empty())?;
        Ok(Self { dir: dir.to_owned(), handle: handle.into() })
    }

    /// Where a lookup of `path` starts, and the rest of the way; `None` for paths outside.
    fn within<'a>(&'a self, path: &'a Path) -> Option<(BorrowedFd<'a>, &'a Path)> {
        let rest = path.strip_prefix(&self.dir).ok()?;
        let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
        Some((self.handle.as_fd(), rest))
    }

    fn start<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        self.within(path).unwrap_or((CWD, path))
    }

    fn stat(&self, path: &Path, flags: AtFlags) -> io::Result<Option<Stat>> {
        let (at, rest) = self.start(path);
        match statat(at, rest, flags) {
            // The held directory can still be looked at when it was removed. Of others the name is gone then; some
            // file systems count no links of them at all.
            Ok(found) if found.st_nlink == 0 && rest == Path::new(".") => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl HeldDir {
    /// The owner of the directory that `path` is in.
    fn owner_above(&self, path: &Path) -> Option<Owner> {
        let found = self.stat(&parent(path), AtFlags::empty()).ok()??;
        Some((found.st_uid, found.st_gid))
    }
}

fn type_of(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

fn kind_of(file_type: FileType) -> PathKind {
    match file_type {
        FileType::RegularFile => PathKind::File,
        FileType::Directory => PathKind::Directory,
        _ => PathKind::Other,
    }
}

impl Disk for HeldDir {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let Some(found) = self.stat(path, AtFlags::SYMLINK_NOFOLLOW)? else { return Ok(None) };
        if type_of(&found) != FileType::Symlink {
            return Ok(Some(kind_of(type_of(&found))));
        }
        match self.stat(path, AtFlags::empty()) {
            Ok(Some(target)) if type_of(&target) == FileType::Directory => {
                Ok(Some(PathKind::Directory))
            }
            _ => Ok(Some(PathKind::Other)),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.within(path).is_none() {
            return OsDisk.create_dir_all(path);
        }
        if self.kind(path)?.is_some() {
            return Ok(());
        }
        let above = parent(path);
        self.create_dir_all(&above)?;
        let (at, rest) = self.start(path);
        match mkdirat(at, rest, Mode::RWXU) {
            Ok(()) => {
                let owner = self.owner_above(path);
                if let Ok(made) = Self::open_at((at, rest), path) {
                    owner::give(&made.handle, owner);
                }
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Order: the new name is durable before anything inside it can be relied on.
        self.sync_dir(&above)
    }

    fn own_like(&self, dir: &Path, like: &Path) -> io::Result<()> {
        OsDisk.own_like(dir, like)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let Some((at, rest)) = self.within(dir) else { return OsDisk.list(dir) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = openat(at, rest, flags, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = match statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = kind_of(type_of(&found));
            let bytes =
                if kind == PathKind::File { found.st_size.max(0).unsigned_abs() } else { 0 };
            let name = name.to_string_lossy().into_owned();
            entries.push(DirectoryEntry { name, kind, bytes });
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let Some((at, rest)) = self.within(path) else { return OsDisk.open(path, access) };
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = flags
            | match access {
                Access::Read => OFlags::RDONLY,
                Access::Write => OFlags::RDWR,
                Access::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            };
        let file = fs::File::from(openat(at, rest, flags, Mode::RUSR | Mode::WUSR)?);
        refuse_special(&file)?;
        if access == Access::CreateNew {
            owner::give(&file, self.owner_above(path));
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old_at, old), (new_at, new)) = (self.start(from), self.start(to));
        Ok(renameat(old_at, old, new_at, new)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old_at, old), (new_at, new)) = (self.start(from), self.start(to));
        Ok(linkat(old_at, old, new_at, new, AtFlags::empty())?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (at, rest) = self.start(path);
        Ok(unlinkat(at, rest, AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let (at, rest) = self.start(dir);
        Ok(unlinkat(at, rest, AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let Some((at, rest)) = self.within(dir) else { return OsDisk.sync_dir(dir) };
        if rest == Path::new(".") {
            return synced(self.handle.sync_all());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle: fs::File = openat(at, rest, flags, Mode::empty())?.into();
        synced(handle.sync_all())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        let (at, rest) = self.start(path);
        let named = || statat(at, rest, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
        let open = |flags: OFlags| {
            let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = openat(at, rest, flags, Mode::RUSR | Mode::WUSR)?;
            Ok::<_, io::Error>(fs::File::from(file))
        };
        match mode {
            LockMode::Exclusive => {
                let is_named = |file: &fs::File| {
                    let held = fstat(file)?;
                    match named() {
                        Ok(named) => Ok((held.st_ino, held.st_dev) == (named.st_ino, named.st_dev)),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                        Err(error) => Err(error),
                    }
                };
                let is_regular = || named().map(|named| type_of(&named) == FileType::RegularFile);
                let open = || {
                    let file = open(OFlags::RDWR | OFlags::CREATE)?;
                    owner::give(&file, self.owner_above(path));
                    Ok(file)
                };
                lock_exclusive(&is_regular, &open, &is_named)
            }
            LockMode::Shared => lock_shared(open(OFlags::RDONLY | OFlags::NONBLOCK)?),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        if self.within(dir).is_none() {
            return OsDisk.space(dir);
        }
        let found = fstatvfs(&self.handle)?;
        Ok(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn identity(&self, path: &Path) -> io::Result<String> {
        let (at, rest) = self.start(path);
        let found = statat(at, rest, AtFlags::empty())?;
        Ok(format!("os:{}:{}", found.st_dev, found.st_ino))
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        OsDisk.absolute(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        OsDisk.resolve(path)
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(Some(Arc::new(Self::open_at(self.start(dir), dir)?)))
    }

    fn is_mount_point(&self, dir: &Path) -> io::Result<bool> {
        OsDisk.is_mount_point(dir)
    }
}
