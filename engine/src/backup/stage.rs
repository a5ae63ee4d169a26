//! The stage of a restore: a directory in which the new store is complete and verified before it takes its place.
//!
//! It stands beside the place, named like it with `.restoring` behind, so that one rename ends the restore. Where that
//! cannot be (a mount point cannot be renamed, the directory above may be read-only), it stands inside, and the files
//! are moved. `swap` is how the place is taken.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SHEET,
    proof::sheet_of,
    sheet::{Sheet, belongs},
    swap::{MOVING, move_within, put_back, rename_beside},
};
use crate::{
    error::{Corruption, Damage, Error, Result},
    format::file_name::{self, FileName},
    io::{
        Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, PathKind, remove_if_there,
        write_all_at,
    },
};

/// Stands in a stage from its beginning to its end: a directory without it is somebody else's.
const MARK: &str = "RESTORING";
/// Behind the name of the place, or alone inside it.
const ENDING: &str = ".restoring";
/// Bytes that are read and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

type Lock = Box<dyn Send + Sync>;

/// A restore until it has taken its place. Dropped before that, it leaves nothing behind.
pub(crate) struct Stage {
    disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    to: PathBuf,
    /// Whether the place holds a store.
    replaces: bool,
    /// Whether the stage stands in the place itself.
    is_within: bool,
    /// Whether the lock file of the place was not there before.
    made_lock: bool,
    is_over: bool,
    /// Keep writers out of the store that is to be replaced, and other restores out of the stage.
    _holds: [Option<Lock>; 2],
}

/// The place of a restore, as found.
struct Found {
    to: PathBuf,
    is_there: bool,
    holds_store: bool,
    /// It can only be filled, not be renamed.
    is_fixed: bool,
    lock: Option<Lock>,
    made_lock: bool,
}

impl Stage {
    /// Begins to restore `to`. What an attempt that was cut off left is removed, and what it moved is put back.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, to: &Path, replaces: bool) -> Result<Self> {
        let mut found = look_at(disk, to, replaces)?;
        let mut is_within = found.is_fixed;
        let mut made = None;
        if !is_within {
            let like = found.is_there.then_some(found.to.as_path());
            made = match make(disk, &beside(&found.to), like) {
                Err(Error::Io { source, .. }) if found.is_there && is_forbidden(&source) => None,
                made => Some(made?),
            };
            is_within = made.is_none();
        }
        if is_within && found.lock.is_none() {
            found.made_lock = true;
            found.lock = Some(lock(disk.as_ref(), &found.to)?);
        }
        let (dir, own) = match made {
            Some(made) => made,
            None => make(disk, &found.to.join(ENDING), None)?,
        };
        let stage = Self {
            disk: Arc::clone(disk),
            dir,
            to: found.to,
            replaces: found.holds_store,
            is_within,
            made_lock: found.made_lock,
            is_over: false,
            _holds: [found.lock, Some(own)],
        };
        stage.clear()?;
        Ok(stage)
    }

    /// Refuses a backup that stands in the stage, which is emptied first, or in the store that is to be replaced, with
    /// which it would be moved aside.
    pub(crate) fn refuse(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
        let Ok(from_is) = disk.resolve(from) else { return Ok(()) };
        let is_in = |dir: &Path| {
            let is_there = disk.kind(dir).is_ok_and(|kind| kind == Some(PathKind::Directory));
            is_there && disk.resolve(dir).is_ok_and(|dir| from_is.starts_with(dir))
        };
        let reason = if is_in(to) {
            "it is inside the store that is to be replaced: move it out first"
        } else if is_in(&beside(to)) {
            "a restore works there, and empties it first: move it elsewhere"
        } else {
            return Ok(());
        };
        let source = io::Error::new(io::ErrorKind::InvalidInput, reason);
        Err(Error::io("restore from", from, source))
    }

    fn failed<'a>(
        &'a self,
        operation: &'static str,
        name: &'a str,
    ) -> impl FnOnce(io::Error) -> Error + 'a {
        move |source| Error::io(operation, self.dir.join(name), source)
    }

    /// Removes the files of a backup from the stage; anything else there is nobody's of us.
    fn clear(&self) -> Result<()> {
        let listed = self.disk.list(&self.dir).map_err(self.failed("list", ""))?;
        let goes = |name: &str| {
            // A manifest that was being changed when power went.
            let is_temporary = FileName::parse(name) == Some(FileName::Temporary);
            name == SHEET || belongs(name) || is_temporary
        };
        for entry in &listed {
            if !goes(&entry.name) && !is_of_stage(&entry.name) {
                let source = io::ErrorKind::AlreadyExists.into();
                return Err(Error::io("restore over", self.dir.join(&entry.name), source));
            }
        }
        for entry in listed.into_iter().filter(|entry| goes(&entry.name)) {
            remove_if_there(self.disk.as_ref(), &self.dir.join(&entry.name))
                .map_err(self.failed("remove", &entry.name))?;
        }
        Ok(())
    }

    /// Takes one file; of two of one name the later counts.
    pub(crate) fn take(&self, name: &str, content: &mut dyn Read) -> Result<u64> {
        self.take_as(name, content, &self.dir.join(name))
    }

    /// As [`Self::take`], of a file that stands in `source`.
    fn take_as(&self, name: &str, content: &mut dyn Read, source: &Path) -> Result<u64> {
        if !belongs(name) && name != SHEET {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(Error::io("restore", self.dir.join(name), source));
        }
        let path = self.dir.join(name);
        remove_if_there(self.disk.as_ref(), &path).map_err(self.failed("remove", name))?;
        let file = self.disk.open(&path, Access::CreateNew).map_err(self.failed("create", name))?;
        let (mut chunk, mut at) = (vec![0; CHUNK_BYTES], 0);
        loop {
            let read = match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", source, error)),
            };
            write_all_at(file.as_ref(), &chunk[..read], at).map_err(self.failed("write", name))?;
            at += read as u64;
        }
        file.sync().map_err(self.failed("sync", name))?;
        Ok(at)
    }

    /// Takes the file of this name from `from`.
    pub(crate) fn take_from(&self, from: &Path, name: &str) -> Result<u64> {
        let path = from.join(name);
        let failed = |source| Error::io("read", &path, source);
        if self.disk.kind(&path).map_err(failed)? != Some(PathKind::File) {
            let damage = Damage::MissingFile;
            return Err(Error::Corruption(Corruption { file: path, offset: 0, damage }));
        }
        let file = self.disk.open(&path, Access::Read).map_err(failed)?;
        self.take_as(name, &mut Reading { file, at: 0 }, &path)
    }

    /// Takes what the sheet names and the stage has not from an earlier backup, removes what it does not name, and says
    /// what is on it.
    pub(crate) fn complete(&self, base: Option<&Path>) -> Result<Sheet> {
        let sheet = sheet_of(self.disk.as_ref(), &self.dir)?;
        let listed = self.disk.list(&self.dir).map_err(self.failed("list", ""))?;
        let there: BTreeSet<_> = listed.iter().map(|entry| entry.name.as_str()).collect();
        for line in &sheet.files {
            if !there.contains(line.name.as_str()) {
                let Some(base) = base else {
                    let damage = Damage::MissingFile;
                    let file = self.dir.join(&line.name);
                    return Err(Error::Corruption(Corruption { file, offset: 0, damage }));
                };
                self.take_from(base, &line.name)?;
            }
        }
        let wanted: BTreeSet<_> = sheet.files.iter().map(|line| line.name.as_str()).collect();
        for name in there {
            if !is_of_stage(name) && !wanted.contains(name) {
                self.disk.remove(&self.dir.join(name)).map_err(self.failed("remove", name))?;
            }
        }
        Ok(sheet)
    }

    /// Puts the stage in its place; says where what stood there is now.
    pub(crate) fn swap(mut self) -> Result<Option<PathBuf>> {
        let disk = Arc::clone(&self.disk);
        let disk = disk.as_ref();
        remove_if_there(disk, &self.dir.join(SHEET)).map_err(self.failed("remove", SHEET))?;
        // Order: every file and name in it is durable before it takes its place.
        disk.sync_dir(&self.dir).map_err(self.failed("sync the directory of", ""))?;
        if self.is_within {
            let aside = move_within(disk, &self.dir, &self.to, self.replaces)?;
            (self.replaces, self.made_lock) = (true, false);
            return Ok(aside);
        }
        let aside = rename_beside(disk, &self.dir, &self.to, self.replaces)?;
        self.is_over = true;
        // It is a store now; a mark that stays does no harm.
        let _ = disk.remove(&self.to.join(MARK));
        Ok(aside)
    }
}

impl Drop for Stage {
    /// Leaves nothing behind, as far as that can be: the next attempt removes the rest.
    fn drop(&mut self) {
        if self.is_over || self.clear().is_err() {
            return;
        }
        let disk = self.disk.as_ref();
        // Order: the mark goes last of the files: a stage without it is not taken over.
        for name in [file_name::LOCK, MARK] {
            let _ = disk.remove(&self.dir.join(name));
        }
        let _ = disk.remove_dir(&self.dir);
        if self.made_lock && !self.replaces {
            let _ = disk.remove(&self.to.join(file_name::LOCK));
        }
    }
}

/// The stage beside `to`.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(ENDING);
    to.with_file_name(name)
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Looks at what stands at `to`, which is to be restored: the place itself, if a link leads there. A store in it is
/// locked.
fn look_at(disk: &Arc<dyn Disk>, to: &Path, replaces: bool) -> Result<Found> {
    let failed = |operation| move |source| Error::io(operation, to, source);
    let taken = || Err(failed("restore to")(io::ErrorKind::AlreadyExists.into()));
    let place = disk.absolute(to).map_err(failed("look at"))?;
    let mut found = Found {
        to: place,
        is_there: false,
        holds_store: false,
        is_fixed: false,
        lock: None,
        made_lock: false,
    };
    match disk.kind(&found.to).map_err(failed("look at"))? {
        None if found.to.file_name().is_some() => return Ok(found),
        Some(PathKind::Directory) => {}
        None => return Err(failed("restore to")(io::ErrorKind::InvalidInput.into())),
        Some(_) => return taken(),
    }
    found.to = disk.resolve(&found.to).map_err(failed("look at"))?;
    found.is_there = true;
    let to = found.to.as_path();
    let list = || disk.list(to).map_err(failed("list"));
    let mut listed = list()?;
    let has = |listed: &[DirectoryEntry], name| listed.iter().any(|entry| entry.name == name);
    if has(&listed, MOVING) {
        found.lock = Some(lock(disk.as_ref(), to)?);
        put_back(disk.as_ref(), to)?;
        listed = list()?;
    }
    found.holds_store = listed.iter().any(|entry| belongs(&entry.name));
    if (found.holds_store && !replaces) || listed.iter().any(is_foreign) && !found.holds_store {
        return taken();
    }
    // A store that was opened and never written to has a lock file and nothing else.
    let has_lock = has(&listed, file_name::LOCK);
    if (found.holds_store || has_lock) && found.lock.is_none() {
        found.made_lock = !has_lock;
        found.lock = Some(lock(disk.as_ref(), to)?);
    }
    found.is_fixed = to.file_name().is_none()
        || disk.is_mount_point(to).map_err(failed("look at"))?
        || (!found.holds_store && !listed.is_empty());
    Ok(found)
}

/// What neither a store nor a mount or a desktop leaves in a directory.
fn is_foreign(entry: &DirectoryEntry) -> bool {
    let name = entry.name.as_str();
    FileName::parse(name).is_none() && !name.starts_with('.') && name != "lost+found"
}

/// Makes the stage `dir`, or takes over the one that is there, and locks it.
fn make(disk: &Arc<dyn Disk>, dir: &Path, like: Option<&Path>) -> Result<(PathBuf, Lock)> {
    let taken = || Err(Error::io("restore by", dir, io::ErrorKind::AlreadyExists.into()));
    let listed = match disk.kind(dir).map_err(|e| Error::io("look beside", dir, e))? {
        None => Vec::new(),
        Some(PathKind::Directory) => disk.list(dir).map_err(|e| Error::io("list", dir, e))?,
        Some(_) => return taken(),
    };
    let is_marked = listed.iter().any(|entry| entry.name == MARK);
    let is_bare = listed.iter().all(|entry| entry.name == file_name::LOCK);
    if !is_marked && !is_bare {
        return taken();
    }
    let is_new = disk.kind(dir).map_err(|e| Error::io("look beside", dir, e))?.is_none();
    disk.create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    if is_a_link(disk.as_ref(), dir)? {
        return taken();
    }
    let own = begin(disk, dir, like, is_marked);
    if own.is_err() && is_new {
        // What cannot become a stage stands in nobody's way. Best effort: it is empty, but for the mark.
        let _ = disk.remove(&dir.join(MARK));
        let _ = disk.remove_dir(dir);
    }
    Ok((dir.to_owned(), own?))
}

/// Makes a stage of the directory `dir`, and locks it.
fn begin(disk: &Arc<dyn Disk>, dir: &Path, like: Option<&Path>, is_marked: bool) -> Result<Lock> {
    if let Some(like) = like {
        // Order: before the first file, for each belongs to the owner of its directory.
        disk.own_like(dir, like).map_err(|e| Error::io("give its owner to", dir, e))?;
    }
    if !is_marked {
        let mark = dir.join(MARK);
        disk.open(&mark, Access::CreateNew).map_err(|e| Error::io("create", &mark, e))?;
        // Order: the mark is durable before anything else is there, so that after a crash the stage is known as one.
        disk.sync_dir(dir).map_err(|e| Error::io("sync the directory of", dir, e))?;
    }
    lock(disk.as_ref(), dir)
}

/// Whether the last step to `dir` is a link. It would be put in the place of the store.
fn is_a_link(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    let failed = |source| Error::io("look at", dir, source);
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let (Some(parent), Some(name)) = (parent, dir.file_name()) else { return Ok(false) };
    let above = disk.resolve(parent).map_err(failed)?;
    Ok(disk.resolve(dir).map_err(failed)? != above.join(name))
}

/// Whether a stage has a file of this name that no backup has.
fn is_of_stage(name: &str) -> bool {
    name == SHEET || name == MARK || name == file_name::LOCK
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Lock> {
    let path = dir.join(file_name::LOCK);
    match disk.lock(&path, LockMode::Exclusive) {
        Ok(LockOutcome::Held(held)) => Ok(held),
        Ok(LockOutcome::Busy { pid }) => Err(Error::Locked { path: dir.to_owned(), pid }),
        Err(source) => Err(Error::io("lock", path, source)),
    }
}

/// A file from its beginning to its end.
struct Reading {
    file: Arc<dyn File>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
