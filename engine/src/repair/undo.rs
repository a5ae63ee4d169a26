//! The way back: before anything is changed, every file that a repair replaces, renames or removes gets a second
//! name in a directory of its own (a hard link; a copy where there are none), beside a list of what the store was.
//!
//! Links are safe: no file that a session found is ever written to again, manifest and unsealed segments included.

use std::path::{Path, PathBuf};

use super::known::Known;
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
    let home = &known.home;
    let disk = home.disk.as_ref();
    let dir = match undo {
        Some(dir) => dir.to_owned(),
        None => free_name(home)?,
    };
    make_empty(disk, &dir)?;
    for name in names {
        link_or_copy(disk, &home.path(name), &dir.join(name))?;
    }
    let mut text = format!(
        "{FIRST_LINE}\n\
         # What a repair of {} replaced, renamed or removed, as it was before.\n\
         # To go back: tierce repair STORE --undo-from THIS-DIRECTORY\n\
         # By hand, with the store closed: take out of the store every file of a line `new`-er than this list\n\
         # (each *.seg, *.ckpt, *.quarantine and MANIFEST without a line `file` below), and put the files\n\
         # of the lines `held` in this directory back under their names.\n",
        home.dir().display()
    );
    for (name, bytes) in &known.names {
        text.push_str(&format!("file {bytes} {name}\n"));
    }
    names.iter().for_each(|name| text.push_str(&format!("held {name}\n")));
    plan.iter().for_each(|line| text.push_str(&format!("# {line}\n")));
    write_new(disk, &dir.join(LIST), text.as_bytes())?;
    // Order: the way back is durable before the first step is taken.
    disk.sync_dir(&dir).map_err(|e| Error::io("sync the directory of", &dir, e))?;
    disk.sync_dir(home.dir()).map_err(|e| Error::io("sync the directory of", home.dir(), e))?;
    Ok(dir)
}

fn free_name(home: &Home) -> Result<PathBuf> {
    for number in 1_u32.. {
        let dir = home.path(&format!("undo-{number}"));
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

/// Puts the store back to what it was before the repair that made the directory `undo`; says how many files were put
/// back. The directory stays as it is. A crash in between leaves the repaired store or the old one.
///
/// # Errors
/// [`Error::Locked`] if the store is open; [`Error::InvalidOptions`] if `undo` is no such directory, or if the store has
/// changed so much since that it cannot be had back: then nothing was touched; [`Error::Io`].
///
/// ```no_run
/// use tierce_engine::{Options, repair};
/// repair::undo(&Options::new(), "store".as_ref(), "store/undo-1".as_ref())?;
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn undo(options: &Options, path: &Path, undo: &Path) -> Result<u64> {
    let home = Home { disk: options.disk.clone(), dir: path.to_owned() };
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
    let is_manifest = |name: &&String| *name == file_name::MANIFEST;
    // Order: the files are there before the manifest that names them, and what it does not name goes last.
    for name in list.held.iter().filter(|name| !is_manifest(name)) {
        put_back(&home, undo, name)?;
    }
    sync(&home)?;
    if list.held.iter().any(|name| is_manifest(&name)) {
        put_back(&home, undo, file_name::MANIFEST)?;
    } else {
        remove(&home, file_name::MANIFEST)?;
    }
    sync(&home)?;
    let is_old =
        |name: &str| list.files.iter().any(|(old, _)| old == name) || name == file_name::LOCK;
    for entry in now.iter().filter(|entry| entry.kind == PathKind::File && !is_old(&entry.name)) {
        if FileName::parse(&entry.name).is_some() {
            remove(&home, &entry.name)?;
        }
    }
    sync(&home)?;
    Ok(list.held.len() as u64)
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
