//! Swap of a restored store into its place.
//!
//! By renames, if it was staged beside: the old store aside, the new one to its place. A crash between the two leaves
//! the old store under its new name and the new one in the stage: restoring again, or one rename by hand, ends it.
//!
//! By moving files, if it was staged inside: the old ones into a directory aside, then the new ones to their place.
//! Until that is done, the file [`MOVING`] says how far it is, and the directory cannot be opened; restoring again
//! begins with putting back what was moved.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::sheet::belongs;
use crate::{
    error::{Error, Result},
    format::file_name::{self, FileName},
    io::{Disk, PathKind, parent, read_file, remove_if_there, replace_file},
};

/// Stands in a directory while files of a restored store are moved to it.
pub(crate) const MOVING: &str = ".restore-unfinished";
const MOVING_TMP: &str = ".restore-unfinished.tmp";

/// Which files of ours are in the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Those of the old store, as far as they were not moved aside.
    Out,
    /// Those of the new one, as far as they were moved here.
    In,
}

/// What [`MOVING`] says: the phase, and the name of the directory aside, if there is one.
struct Progress {
    phase: Phase,
    aside: Option<String>,
}

impl Progress {
    fn write(&self, disk: &dyn Disk, to: &Path) -> Result<()> {
        let phase = if self.phase == Phase::Out { "out" } else { "in" };
        let text = format!("{phase} {}\n", self.aside.as_deref().unwrap_or("-"));
        let path = to.join(MOVING);
        replace_file(disk, &to.join(MOVING_TMP), &path, text.as_bytes())
            .map(drop)
            .map_err(|source| Error::io("write", path, source))
    }

    fn read(disk: &dyn Disk, to: &Path) -> Result<Self> {
        let path = to.join(MOVING);
        let failed = |source| Error::io("read", &path, source);
        let bytes = read_file(disk, &path).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let is_name = |name: &&str| name.starts_with(".replaced-") && !name.contains('/');
        match text.trim_end().split_once(' ') {
            Some(("in", "-")) => Ok(Self { phase: Phase::In, aside: None }),
            Some((phase @ ("out" | "in"), name)) if is_name(&name) => {
                let phase = if phase == "out" { Phase::Out } else { Phase::In };
                Ok(Self { phase, aside: Some(name.to_owned()) })
            }
            _ => Err(failed(io::ErrorKind::InvalidData.into())),
        }
    }

    fn remove(disk: &dyn Disk, to: &Path) -> Result<()> {
        let path = to.join(MOVING);
        remove_if_there(disk, &path).map_err(|source| Error::io("remove", path, source))?;
        sync(disk, to)
    }
}

fn sync(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).map_err(|source| Error::io("sync the directory of", dir, source))
}

/// Renames the store `to` aside, if there is one, and the stage `dir` to its place.
pub(super) fn rename_beside(
    disk: &dyn Disk,
    dir: &Path,
    to: &Path,
    replaces: bool,
) -> Result<Option<PathBuf>> {
    let aside = |number: u32| {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".replaced-{number}"));
        to.with_file_name(name)
    };
    let aside = replaces.then(|| free(disk, to, aside)).transpose()?.map(|(_, path)| path);
    if let Some(aside) = &aside {
        disk.rename(to, aside).map_err(|e| Error::io("move aside", to, e))?;
    }
    // Order: the old store has its new name before another takes the one that it had.
    let renamed = match &aside {
        Some(_) => sync(disk, &parent(to)),
        None => Ok(()),
    };
    let renamed =
        renamed.and_then(|()| disk.rename(dir, to).map_err(|e| Error::io("put in place", to, e)));
    // A restore that reports a failure leaves the old store in its place.
    let renamed = renamed.and_then(|()| {
        sync(disk, &parent(to)).inspect_err(|_| {
            let _ = disk.rename(to, dir);
        })
    });
    if let Err(error) = renamed {
        let back = aside.as_ref().map(|aside| (aside, disk.rename(aside, to)));
        return Err(match back {
            Some((aside, Err(source))) => {
                let reason = format!(
                    "{source}; it stands whole under this name, after this failure: {error}"
                );
                Error::io("put back", aside, io::Error::new(source.kind(), reason))
            }
            _ => error,
        });
    }
    Ok(aside)
}

/// Moves the files of the store in `to` aside, if there is one, and those of the stage `dir`, which stands in `to`, to
/// their place.
pub(super) fn move_within(
    disk: &dyn Disk,
    dir: &Path,
    to: &Path,
    replaces: bool,
) -> Result<Option<PathBuf>> {
    let name_of = |number: u32| format!(".replaced-{number}");
    let aside = replaces.then(|| free(disk, to, |number| to.join(name_of(number)))).transpose()?;
    let aside = aside.map(|(number, _)| name_of(number));
    let moved = move_all(disk, dir, to, aside.clone());
    if moved.is_err() {
        // What fails for good here is done by the next restore.
        let _ = put_back(disk, to);
    }
    moved?;
    Ok(aside.map(|name| to.join(name)))
}

fn move_all(disk: &dyn Disk, dir: &Path, to: &Path, aside: Option<String>) -> Result<()> {
    if let Some(name) = &aside {
        let aside_dir = to.join(name);
        disk.create_dir_all(&aside_dir).map_err(|e| Error::io("create", &aside_dir, e))?;
        // Order: the next opening after a crash knows that files are missing before the first one is.
        Progress { phase: Phase::Out, aside: aside.clone() }.write(disk, to)?;
        move_files(disk, to, &aside_dir, &is_of_store)?;
    }
    // Order: the old files have their new names, durably, before it is said that all that is here is new.
    let progress = Progress { phase: Phase::In, aside };
    progress.write(disk, to)?;
    move_files(disk, dir, to, &belongs)?;
    Progress::remove(disk, to).inspect_err(|_| {
        // The mark may be gone from the directory and not yet from the device. With the mark back, the old files are
        // put back, as after any other failure.
        let _ = progress.write(disk, to);
    })
}

/// Puts back what a restore that was cut off had moved: `to` holds what it held before. The caller has its lock.
pub(super) fn put_back(disk: &dyn Disk, to: &Path) -> Result<()> {
    let found = match disk.kind(&to.join(MOVING)) {
        Ok(Some(PathKind::File)) => Progress::read(disk, to)?,
        Ok(_) => return Ok(()),
        Err(source) => return Err(Error::io("look at", to.join(MOVING), source)),
    };
    if found.phase == Phase::In {
        for name in names(disk, to, &is_of_store)? {
            let path = to.join(name);
            remove_if_there(disk, &path).map_err(|source| Error::io("remove", path, source))?;
        }
        sync(disk, to)?;
    }
    if let Some(name) = &found.aside {
        // Order: what is in the place from now on is old, and is not removed if this is cut off, too.
        Progress { phase: Phase::Out, aside: found.aside.clone() }.write(disk, to)?;
        let aside = to.join(name);
        move_files(disk, &aside, to, &is_of_store)?;
    }
    Progress::remove(disk, to)?;
    // Order: after the mark, which names it. Best effort: an empty directory harms nothing.
    if let Some(name) = &found.aside {
        let _ = disk.remove_dir(&to.join(name));
    }
    Ok(())
}

/// Moves the files that are asked for, and makes both directories durable.
fn move_files(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    is_asked: &dyn Fn(&str) -> bool,
) -> Result<()> {
    for name in names(disk, from, is_asked)? {
        let path = from.join(&name);
        disk.rename(&path, &to.join(&name)).map_err(|e| Error::io("move", path, e))?;
    }
    sync(disk, to)?;
    sync(disk, from)
}

fn names(disk: &dyn Disk, dir: &Path, is_asked: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let listed = disk.list(dir).map_err(|source| Error::io("list", dir, source))?;
    let files = listed.into_iter().filter(|entry| entry.kind == PathKind::File);
    Ok(files.map(|entry| entry.name).filter(|name| is_asked(name)).collect())
}

/// Whether a store has a file of this name; its lock file stays where it is.
fn is_of_store(name: &str) -> bool {
    FileName::parse(name).is_some() && name != file_name::LOCK
}

/// The first number whose path nothing has, and that path; what stood at `from` is to be moved there.
fn free(disk: &dyn Disk, from: &Path, path_of: impl Fn(u32) -> PathBuf) -> Result<(u32, PathBuf)> {
    for number in 1.. {
        let path = path_of(number);
        let kind = disk.kind(&path).map_err(|e| Error::io("look at", &path, e))?;
        if kind.is_none() {
            return Ok((number, path));
        }
    }
    Err(Error::io("move aside", from, io::ErrorKind::AlreadyExists.into()))
}
