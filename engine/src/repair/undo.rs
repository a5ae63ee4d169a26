//! The way back: before anything is changed, every file that a repair replaces, renames or removes gets a second
//! name in a directory of its own (a hard link; a copy where there are none), beside a list of what the store was.
//!
//! The way back has one of its own: it keeps the whole store as it is by then.
//!
//! Links are safe: no file that a session found is ever written to again, manifest and unsealed segments included.

use std::path::{Path, PathBuf};

use super::known::{Known, names_of};
use crate::{
    error::{Error, Result},
    format::file_name::{self, FileName},
    io::{Access, Disk, PathKind, read_file, read_up_to_at, remove_if_there, write_all_at},
    options::Options,
    segment::Home,
};

/// Name of the list.
const LIST: &str = "UNDO.txt";
const FIRST_LINE: &str = "tierce undo 1";

/// Keeps `names` of the store in `undo`, or in the first directory `undo-N` of the store that is not there yet.
pub(super) fn keep(
    known: &Known,
    undo: Option<&Path>,
    names: &[String],
    plan: &[String],
) -> Result<PathBuf> {
    let dir = match undo {
        Some(dir) => dir.to_owned(),
        None => free_name(&known.home, "undo")?,
    };
    let is_held = |name: &String| names.contains(name);
    keep_in(&known.home, &dir, ("a repair", plan), (&known.names, &is_held))?;
    Ok(dir)
}

/// Whether a file is to be held.
type Holds<'a> = dyn Fn(&String) -> bool + 'a;

/// Keeps those of the store's `files` that are to be `held` in `dir`, with the list of them all, and makes it durable.
fn keep_in(
    home: &Home,
    dir: &Path,
    (what, plan): (&str, &[String]),
    (files, is_held): (&[(String, u64)], &Holds<'_>),
) -> Result<()> {
    let disk = home.disk.as_ref();
    make_empty(disk, dir)?;
    let held = || files.iter().map(|(name, _)| name).filter(|name| is_held(name));
    for name in held() {
        link_or_copy(disk, &home.path(name), &dir.join(name))?;
    }
    let mut text = format!(
        "{FIRST_LINE}\n\
         # What {what} of {} replaced, renamed or removed, as it was before.\n\
         # To go back: tierce repair STORE --undo-from THIS-DIRECTORY\n\
         # By hand, with the store closed: take out of the store every file of a line `new`-er than this list\n\
         # (each *.seg, *.ckpt, *.quarantine and MANIFEST without a line `file` below), and put the files\n\
         # of the lines `held` in this directory back under their names.\n",
        home.dir().display()
    );
    for (name, bytes) in files {
        text.push_str(&format!("file {bytes} {name}\n"));
    }
    held().for_each(|name| text.push_str(&format!("held {name}\n")));
    plan.iter().for_each(|line| text.push_str(&format!("# {line}\n")));
    write_new(disk, &dir.join(LIST), text.as_bytes())?;
    // Order: the way back is durable before the first step is taken.
    disk.sync_dir(dir).map_err(|e| Error::io("sync the directory of", dir, e))?;
    sync(home)
}

/// The first directory of the store, of this name and a number, that is not there yet.
fn free_name(home: &Home, name: &str) -> Result<PathBuf> {
    for number in 1_u32.. {
        let dir = home.path(&format!("{name}-{number}"));
        let kind = home.disk.kind(&dir).map_err(|e| Error::io("look at", &dir, e))?;
        if kind.is_none() {
            return Ok(dir);
        }
    }
    unreachable!("a directory has fewer names than there are numbers")
}

/// Makes sure that `dir` is a directory with nothing in it.
pub(super) fn make_empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let not_empty = |reason: &str| Err(senseless(dir, reason));
    match disk.kind(dir).map_err(|e| Error::io("look at", dir, e))? {
        None => disk.create_dir_all(dir).map_err(|e| Error::io("create", dir, e)),
        Some(PathKind::Directory) => {
            let listed = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
            if listed.is_empty() { Ok(()) } else { not_empty("it is not empty") }
        }
        Some(_) => not_empty("it is no directory"),
    }
}

/// A path that cannot be used for what it was given for.
fn senseless(path: &Path, reason: &str) -> Error {
    Error::InvalidOptions { complaints: vec![format!("{}: {reason}", path.display())] }
}

/// Gives a file a second name, or copies it.
fn link_or_copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    if disk.hard_link(from, to).is_ok() {
        return Ok(());
    }
    const CHUNK: usize = 1 << 20;
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::io(operation, path, source)
    };
    let source = disk.open(from, Access::Read).map_err(failed("open", from))?;
    let target = disk.open(to, Access::CreateNew).map_err(failed("create", to))?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let count =
            read_up_to_at(source.as_ref(), &mut buffer, at).map_err(failed("read", from))?;
        write_all_at(target.as_ref(), &buffer[..count], at).map_err(failed("write", to))?;
        at += count as u64;
        if count < CHUNK {
            return target.sync().map_err(failed("sync", to));
        }
    }
}

fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |operation| move |source| Error::io(operation, path, source);
    let file = disk.open(path, Access::CreateNew).map_err(failed("create"))?;
    write_all_at(file.as_ref(), bytes, 0).map_err(failed("write"))?;
    file.sync().map_err(failed("sync"))
}

/// What a list says: the files of the store before, with their lengths, and those that are held.
struct List {
    files: Vec<(String, u64)>,
    held: Vec<String>,
}

fn read_list(disk: &dyn Disk, undo: &Path) -> Result<List> {
    let path = undo.join(LIST);
    let no_list = |reason: &str| senseless(&path, reason);
    let bytes = read_file(disk, &path).map_err(|_| no_list("there is no list of a repair"))?;
    let text = String::from_utf8(bytes).map_err(|_| no_list("it is no text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(no_list("it is no list of a repair"));
    }
    let mut list = List { files: Vec::new(), held: Vec::new() };
    for line in lines {
        // Only names of ours are believed: they lead nowhere else.
        let ours = |name: &str| FileName::parse(name).map(|_| name.to_owned());
        match line.split_once(' ') {
            Some(("file", rest)) => {
                let (bytes, name) = rest.split_once(' ').unwrap_or_default();
                let file = ours(name).zip(bytes.parse().ok());
                list.files.push(file.ok_or_else(|| no_list("a line makes no sense"))?);
            }
            Some(("held", name)) => {
                list.held.push(ours(name).ok_or_else(|| no_list("a line makes no sense"))?);
            }
            _ => {}
        }
    }
    Ok(list)
}

/// What going back did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UndoReport {
    /// Files that were put back.
    pub files: u64,
    /// Where the store is kept as it was before this: [`undo()`] with this directory goes there again.
    pub redo: PathBuf,
}

/// Puts the store back to what it was before the repair that made the directory `undo`, which stays as it is.
///
/// What was written since the repair is not in the store any more then. So before anything is replaced or removed, all
/// files of the store as it is now, its manifest included, are kept in `redo-N` in the store: hard links, copies where
/// there are none. That directory is one to go back to as `undo` is. A crash in between leaves the repaired store or
/// the old one, and `redo-N`, complete from before the first change.
///
/// # Errors
/// [`Error::Locked`] if the store is open; [`Error::InvalidOptions`] if `undo` is no such directory, or if the store has
/// changed so much since that it cannot be had back: then nothing was touched; [`Error::Io`].
///
/// ```no_run
/// use tierce_engine::{Options, repair};
/// let report = repair::undo(&Options::new(), "store".as_ref(), "store/undo-1".as_ref())?;
/// println!("what was there before is in {}", report.redo.display());
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn undo(options: &Options, path: &Path, undo: &Path) -> Result<UndoReport> {
    let home = Home::at(&options.disk, path)?;
    let _lock = super::lock(&home)?;
    let disk = home.disk.as_ref();
    let list = read_list(disk, undo)?;
    let now = disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let kept = disk.list(undo).map_err(|e| Error::io("list", undo, e))?;
    for (name, bytes) in &list.files {
        let place = if list.held.contains(name) { &kept } else { &now };
        if !place.iter().any(|entry| entry.name == *name && entry.bytes == *bytes) {
            let reason = format!("of {name} there is nothing any more as it was before the repair");
            return Err(senseless(undo, &reason));
        }
    }
    // Order: what is about to go is durable elsewhere first.
    let redo = free_name(&home, "redo")?;
    keep_in(&home, &redo, ("going back", &[]), (&names_of(&now), &|_| true))?;
    put_all_back(&home, undo, &list)?;
    let is_old = |name: &str| list.files.iter().any(|(old, _)| old == name);
    for (name, _) in names_of(&now).iter().filter(|(name, _)| !is_old(name)) {
        remove(&home, name)?;
    }
    sync(&home)?;
    Ok(UndoReport { files: list.held.len() as u64, redo })
}

/// Order: the files are there before the manifest that names them. Unfinished ones come last: what is put back goes
/// through one of their names.
fn put_all_back(home: &Home, undo: &Path, list: &List) -> Result<()> {
    let kind = |name: &str| FileName::parse(name);
    let is_plain = |name: &&String| {
        !matches!(kind(name), Some(FileName::Manifest | FileName::Temporary | FileName::Lock))
    };
    for name in list.held.iter().filter(is_plain) {
        put_back(home, undo, name)?;
    }
    sync(home)?;
    if list.held.iter().any(|name| name == file_name::MANIFEST) {
        put_back(home, undo, file_name::MANIFEST)?;
    } else {
        remove(home, file_name::MANIFEST)?;
    }
    sync(home)?;
    for name in list.held.iter().filter(|name| kind(name) == Some(FileName::Temporary)) {
        remove(home, name)?;
        link_or_copy(home.disk.as_ref(), &undo.join(name), &home.path(name))?;
    }
    Ok(())
}

fn sync(home: &Home) -> Result<()> {
    home.disk.sync_dir(home.dir()).map_err(|e| Error::io("sync the directory of", home.dir(), e))
}

fn remove(home: &Home, name: &str) -> Result<()> {
    let path = home.path(name);
    remove_if_there(home.disk.as_ref(), &path).map_err(|e| Error::io("remove", path, e))
}

/// Puts one file back, over what has its name now.
fn put_back(home: &Home, undo: &Path, name: &str) -> Result<()> {
    let (path, aside) = (home.path(name), home.path(file_name::MANIFEST_TMP));
    remove(home, file_name::MANIFEST_TMP)?;
    link_or_copy(home.disk.as_ref(), &undo.join(name), &aside)?;
    // A rename between two names of one file does nothing: the old name goes first, unless it is the manifest's.
    if name != file_name::MANIFEST {
        remove(home, name)?;
    }
    home.disk.rename(&aside, &path).map_err(|e| Error::io("rename", path, e))
}
