//! A restored store before it takes its place: complete and proven first, then renamed.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SHEET,
    sheet::{Line, Proof, SHEET_BYTES_MAX, Sheet, belongs},
};
use crate::{
    error::{Corruption, Damage, Error, Result},
    format::{checksum::checksum_from, file_name, wire::u32_at},
    io::{
        Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, PathKind, read_exact_at,
        read_file, read_up_to_at, remove_if_there, write_all_at,
    },
};

/// Stands in a stage from its beginning to its end: a directory without it is somebody else's.
const MARK: &str = "RESTORING";
/// Bytes that are read and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The sheet of the backup in `dir`.
///
/// # Errors
/// [`Error::NotAStore`] if it has none; [`Error::Corruption`] if that is damaged.
pub(crate) fn sheet_of(disk: &dyn Disk, dir: &Path) -> Result<Sheet> {
    let path = dir.join(SHEET);
    let failed = |source| Error::io("read", &path, source);
    if disk.kind(&path).map_err(failed)? != Some(PathKind::File) {
        let reason = format!("it has no sheet {SHEET}: no backup, or one that was not finished");
        return Err(Error::NotAStore { path: dir.to_owned(), reason });
    }
    let file = disk.open(&path, Access::Read).map_err(failed)?;
    if file.bytes().map_err(failed)? > SHEET_BYTES_MAX {
        let damage = Damage::Length;
        return Err(Error::Corruption(Corruption { file: path, offset: 0, damage }));
    }
    let bytes = read_file(disk, &path).map_err(failed)?;
    Sheet::decode(&bytes).map_err(|fault| fault.in_file(&path, 0))
}

/// Whether the file that `line` names stands in `dir` and is the one that was taken, as far as the sheet tells: its
/// length, and the checksum of all of it or of its trailer.
pub(crate) fn compare(disk: &dyn Disk, dir: &Path, line: &Line) -> Result<(), Corruption> {
    let path = dir.join(&line.name);
    let fault = |offset, damage| Corruption { file: path.clone(), offset, damage };
    if !matches!(disk.kind(&path), Ok(Some(PathKind::File))) {
        return Err(fault(0, Damage::MissingFile));
    }
    let unreadable = |_| fault(0, Damage::MissingFile);
    let file = disk.open(&path, Access::Read).map_err(unreadable)?;
    if file.bytes().map_err(unreadable)? != line.bytes {
        return Err(fault(line.bytes, Damage::Length));
    }
    let found = match line.proof {
        Proof::Own => return Ok(()),
        Proof::Whole(_) => whole_checksum(file.as_ref()).map_err(unreadable)?,
        Proof::Sealed(_) => {
            let mut bytes = [0; 4];
            let at = line.bytes.saturating_sub(4);
            read_exact_at(file.as_ref(), &mut bytes, at).map_err(unreadable)?;
            u32_at(&bytes, 0).unwrap_or_default()
        }
    };
    match line.proof {
        Proof::Sealed(sum) if found != sum => Err(fault(line.bytes - 4, Damage::Checksum)),
        Proof::Whole(sum) if found != sum => Err(fault(0, Damage::Checksum)),
        _ => Ok(()),
    }
}

fn whole_checksum(file: &dyn File) -> io::Result<u32> {
    let (mut chunk, mut at, mut sum) = (vec![0; CHUNK_BYTES], 0, 0);
    loop {
        let read = read_up_to_at(file, &mut chunk, at)?;
        if read == 0 {
            return Ok(sum);
        }
        sum = checksum_from(sum, &chunk[..read]);
        at += read as u64;
    }
}

/// A directory beside the one that is to be restored, with its files as they come.
pub(crate) struct Stage {
    disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    to: PathBuf,
    replaces: bool,
    /// Keep writers out of the store that is to be replaced, and other restores out of the stage.
    _holds: [Option<Box<dyn Send + Sync>>; 2],
}

impl Stage {
    /// Begins to restore `to`. What an attempt that was cut off left is removed.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, to: &Path, replaces: bool) -> Result<Self> {
        let failed = |operation| move |source| Error::io(operation, to, source);
        let name = to
            .file_name()
            .ok_or_else(|| failed("restore to")(io::ErrorKind::InvalidInput.into()))?;
        let mut stage = name.to_owned();
        stage.push(".restoring");
        let dir = to.with_file_name(stage);
        let hold = match disk.kind(to).map_err(failed("look at"))? {
            None => None,
            Some(PathKind::Directory) => {
                let listed = disk.list(to).map_err(failed("list"))?;
                let is_store = listed.iter().any(|entry| belongs(&entry.name));
                match (listed.is_empty(), is_store && replaces) {
                    (true, _) => None,
                    (false, true) => Some(lock(disk.as_ref(), to)?),
                    (false, false) => {
                        return Err(failed("restore to")(io::ErrorKind::AlreadyExists.into()));
                    }
                }
            }
            Some(_) => return Err(failed("restore to")(io::ErrorKind::AlreadyExists.into())),
        };
        let mark = dir.join(MARK);
        let is_ours = |entry: &DirectoryEntry| entry.name == MARK;
        let found = match disk.kind(&dir).map_err(failed("look beside"))? {
            None => Vec::new(),
            Some(PathKind::Directory) => disk.list(&dir).map_err(|e| Error::io("list", &dir, e))?,
            Some(_) => {
                return Err(Error::io("restore by", dir, io::ErrorKind::AlreadyExists.into()));
            }
        };
        if !found.is_empty() && !found.iter().any(is_ours) {
            return Err(Error::io("restore by", dir, io::ErrorKind::AlreadyExists.into()));
        }
        disk.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        // Order: the mark is there before anything else, and one restore at a time has the stage.
        if found.is_empty() {
            disk.open(&mark, Access::CreateNew).map_err(|e| Error::io("create", &mark, e))?;
        }
        let own = lock(disk.as_ref(), &dir)?;
        let staged = Self {
            disk: Arc::clone(disk),
            dir,
            to: to.to_owned(),
            replaces: hold.is_some(),
            _holds: [hold, Some(own)],
        };
        staged.clear()?;
        Ok(staged)
    }

    /// Refuses to read from the stage itself: it is emptied first.
    pub(crate) fn refuse(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
        let mut stage = to.file_name().unwrap_or_default().to_owned();
        stage.push(".restoring");
        let stage = to.with_file_name(stage);
        let (Ok(from_is), Ok(stage_is)) = (disk.identity(from), disk.identity(&stage)) else {
            return Ok(());
        };
        if from_is == stage_is {
            return Err(Error::io("restore from", from, io::ErrorKind::InvalidInput.into()));
        }
        Ok(())
    }

    fn failed<'a>(
        &'a self,
        operation: &'static str,
        name: &'a str,
    ) -> impl FnOnce(io::Error) -> Error + 'a {
        move |source| Error::io(operation, self.dir.join(name), source)
    }

    /// Removes the files of a backup from the stage; anything else there is nobody's of us.
    pub(crate) fn clear(&self) -> Result<()> {
        let listed = self.disk.list(&self.dir).map_err(self.failed("list", ""))?;
        for entry in &listed {
            if !belongs(&entry.name) && !is_of_stage(&entry.name) {
                let source = io::ErrorKind::AlreadyExists.into();
                return Err(Error::io("restore over", self.dir.join(&entry.name), source));
            }
        }
        for entry in listed.into_iter().filter(|entry| entry.name == SHEET || belongs(&entry.name))
        {
            remove_if_there(self.disk.as_ref(), &self.dir.join(&entry.name))
                .map_err(self.failed("remove", &entry.name))?;
        }
        Ok(())
    }

    /// Takes one file; of two of one name the later counts.
    pub(crate) fn take(&self, name: &str, content: &mut dyn Read) -> Result<u64> {
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
                Err(source) => return Err(self.failed("read", name)(source)),
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
        self.take(name, &mut Reading { file, at: 0 })
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
    ///
    /// A crash between the two renames leaves the old store under its new name and the new one in the stage: restoring
    /// again, or one rename by hand, ends it.
    pub(crate) fn swap(self) -> Result<Option<PathBuf>> {
        let disk = self.disk.as_ref();
        remove_if_there(disk, &self.dir.join(SHEET)).map_err(self.failed("remove", SHEET))?;
        // Order: every file and name in it is durable before the directory takes its place.
        disk.sync_dir(&self.dir).map_err(self.failed("sync the directory of", ""))?;
        let aside = self.replaces.then(|| self.free_name()).transpose()?;
        if let Some(aside) = &aside {
            disk.rename(&self.to, aside).map_err(|e| Error::io("move aside", &self.to, e))?;
        }
        if let Err(source) = disk.rename(&self.dir, &self.to) {
            if let Some(aside) = &aside {
                let _ = disk.rename(aside, &self.to);
            }
            return Err(Error::io("put in place", &self.to, source));
        }
        let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        disk.sync_dir(parent).map_err(|e| Error::io("sync the directory of", parent, e))?;
        // It is a store now; a mark that stays does no harm.
        let _ = disk.remove(&self.to.join(MARK));
        Ok(aside)
    }

    /// A name beside the store that nothing has.
    fn free_name(&self) -> Result<PathBuf> {
        for number in 1_u32.. {
            let mut name = self.to.file_name().unwrap_or_default().to_owned();
            name.push(format!(".replaced-{number}"));
            let path = self.to.with_file_name(name);
            let kind = self.disk.kind(&path).map_err(|e| Error::io("look at", &path, e))?;
            if kind.is_none() {
                return Ok(path);
            }
        }
        Err(Error::io("move aside", &self.to, io::ErrorKind::AlreadyExists.into()))
    }
}

/// Whether a stage has a file of this name that no backup has.
fn is_of_stage(name: &str) -> bool {
    name == SHEET || name == MARK || name == file_name::LOCK
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>> {
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
