//! File ownership: new files get the owner of their directory where the system permits it.
//!
//! An operator who runs a tool as root over the store of a service would otherwise leave files there that the service
//! cannot open. For any other user nothing changes: only root may give a file away.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// A user and a group.
pub(super) type Owner = (u32, u32);

/// The owner of the directory at `path`, links followed.
pub(super) fn of_dir(path: &Path) -> Option<Owner> {
    fs::metadata(path).ok().map(|found| (found.uid(), found.gid()))
}

/// Gives an open file or directory, which this process created, to `owner`. A file with a second name may belong to
/// another program and stays as it is.
pub(super) fn give(created: &fs::File, owner: Option<Owner>) {
    let (Some((user, group)), Ok(found)) = (owner, created.metadata()) else { return };
    if found.uid() != user && (found.is_dir() || found.nlink() == 1) {
        // Without the right to do so it stays this process's.
        let _ = fchown(created, Some(user), Some(group));
    }
}

/// As [`give`], for a directory at `path` that was just created. A link in its place is not followed.
pub(super) fn give_dir(path: &Path, owner: Option<Owner>) {
    if let Ok(dir) = open_dir(path) {
        give(&dir, owner);
    }
}

/// Gives the new directory `dir` the owner and the permissions of `like`.
pub(super) fn copy(dir: &Path, like: &Path) -> io::Result<()> {
    let found = fs::metadata(like)?;
    let dir = open_dir(dir)?;
    give(&dir, Some((found.uid(), found.gid())));
    dir.set_permissions(fs::Permissions::from_mode(found.mode() & 0o777))
}

fn open_dir(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}
