//! A directory of damaged files as one that can be read and nothing else: every call that would change a byte is
//! refused. Files that stand under other names than a store gives them are shown under the names they should have.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    format::{
        file_name::{self, FileName},
        footer::{FOOTER_TRAILER_BYTES, Trailer},
        segment_header::SegmentHeader,
    },
    io::{Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, PathKind, Space, read_file},
    types::SegmentId,
};

/// The files of a store, wherever they are, as a directory.
pub(super) struct View {
    inner: Arc<dyn Disk>,
    dir: PathBuf,
    /// By the name that a file should have: where it is, and its length.
    files: BTreeMap<String, (PathBuf, u64)>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.dir.display())
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl View {
    /// The store's files at `path`: those in a directory, or one file alone.
    pub(super) fn of(inner: &Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let not_a_store =
            |reason: &str| Error::NotAStore { path: path.to_owned(), reason: reason.to_owned() };
        let kind = inner.kind(path).map_err(|e| Error::io("look at", path, e))?;
        let mut view =
            Self { inner: Arc::clone(inner), dir: path.to_owned(), files: BTreeMap::new() };
        match kind {
            None => return Err(not_a_store("there is nothing")),
            Some(PathKind::Directory) => view.add_directory(path)?,
            Some(PathKind::File) => view.add_segment(path),
            Some(PathKind::Other) => return Err(not_a_store("it is no directory and no file")),
        }
        let is_store = |name: &String| {
            matches!(FileName::parse(name), Some(FileName::Manifest | FileName::Segment(_)))
        };
        if view.files.keys().any(is_store) {
            Ok(view)
        } else {
            Err(not_a_store("it holds no segment"))
        }
    }

    fn add_directory(&mut self, dir: &Path) -> Result<()> {
        let listed = self.inner.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let files = || listed.iter().filter(|entry| entry.kind == PathKind::File);
        for entry in files() {
            if matches!(
                FileName::parse(&entry.name),
                Some(FileName::Manifest | FileName::Segment(_) | FileName::Checkpoint(_))
            ) {
                let file = (dir.join(&entry.name), entry.bytes);
                self.files.insert(entry.name.clone(), file);
            }
        }
        if self.files.contains_key(file_name::MANIFEST) {
            return Ok(());
        }
        // Copies of segments, under names that somebody gave them.
        for entry in files().filter(|entry| FileName::parse(&entry.name).is_none()) {
            if entry.name.ends_with(".seg") {
                self.add_segment(&dir.join(&entry.name));
            }
        }
        let is_segment =
            |name: &String| matches!(FileName::parse(name), Some(FileName::Segment(_)));
        if !self.files.keys().any(is_segment) {
            // What was set aside was replaced by what could be read of it: it counts only where nothing else is.
            let is_aside = |name| matches!(FileName::parse(name), Some(FileName::Quarantine(_)));
            let aside: Vec<_> = files().filter(|entry| is_aside(&entry.name)).collect();
            aside.iter().for_each(|entry| self.add_segment(&dir.join(&entry.name)));
        }
        Ok(())
    }

    /// Adds a file under the name of the segment that it says it is. One that says nothing keeps the number in its name.
    fn add_segment(&mut self, path: &Path) {
        let Ok(bytes) = read_file(self.inner.as_ref(), path) else { return };
        let of_trailer = || {
            let split = bytes.len().checked_sub(FOOTER_TRAILER_BYTES)?;
            Some(Trailer::decode(&bytes[split..], bytes.len() as u64).ok()?.id)
        };
        let of_name = || match FileName::parse(path.file_name()?.to_str()?) {
            Some(FileName::Segment(id) | FileName::Quarantine(id)) => Some(id),
            _ => None,
        };
        let of_header = SegmentHeader::decode(&bytes).ok().map(|header| header.id);
        let id: Option<SegmentId> = of_header.or_else(of_trailer).or_else(of_name);
        if let Some(id) = id {
            let file = (path.to_owned(), bytes.len() as u64);
            self.files.entry(file_name::segment(id)).or_insert(file);
        }
    }

    fn place(&self, path: &Path) -> Option<&(PathBuf, u64)> {
        let name = path.strip_prefix(&self.dir).ok()?.to_str()?;
        self.files.get(name)
    }

    /// Where the file that is shown at `path` really is.
    pub(super) fn real(&self, path: &Path) -> PathBuf {
        self.place(path).map_or_else(|| path.to_owned(), |(real, _)| real.clone())
    }
}

impl Disk for View {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        Ok(match self.place(path) {
            _ if path == self.dir => Some(PathKind::Directory),
            Some(_) => Some(PathKind::File),
            None => None,
        })
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let entry = |(name, (_, bytes)): (&String, &(PathBuf, u64))| DirectoryEntry {
            name: name.clone(),
            kind: PathKind::File,
            bytes: *bytes,
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        match self.place(path) {
            _ if access != Access::Read => refused(),
            Some((real, _)) => self.inner.open(real, Access::Read),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path, _: LockMode) -> io::Result<LockOutcome> {
        refused()
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        self.inner.space(&self.dir)
    }

    fn identity(&self, _: &Path) -> io::Result<String> {
        self.inner.identity(&self.dir)
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        self.inner.absolute(path)
    }
}
