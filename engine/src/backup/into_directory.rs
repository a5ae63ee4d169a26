//! A backup as a directory.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    BackupOptions, Destination,
    content::{Base, Content, Source, Step, Taken},
};
use crate::{
    error::{Error, Result},
    format::{file_name, manifest::ManifestHeader},
    io::{Access, Disk, File, PathKind, write_all_at},
};

/// Bytes that are read and written at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Files that are open at a time at most.
const UNSYNCED_MAX: usize = 128;

pub(super) struct IntoDirectory<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: PathBuf,
    links: bool,
    base: Option<Base>,
    made: Vec<String>,
    chunk: Vec<u8>,
    /// Files that are written and not durable yet. The device works better on many than on one at a time.
    unsynced: Vec<Arc<dyn File>>,
}

impl<'a> IntoDirectory<'a> {
    /// Makes sure that `to` is an empty directory.
    pub(super) fn create(
        disk: &'a Arc<dyn Disk>,
        to: &Path,
        options: &BackupOptions,
        header: &ManifestHeader,
    ) -> Result<Self> {
        let failed = |operation| move |source| Error::io(operation, to, source);
        let is_empty = match disk.kind(to).map_err(failed("look at"))? {
            None => true,
            Some(PathKind::Directory) => disk.list(to).map_err(failed("list"))?.is_empty(),
            Some(_) => false,
        };
        if !is_empty {
            return Err(failed("back up to")(io::ErrorKind::AlreadyExists.into()));
        }
        disk.create_dir_all(to).map_err(failed("create"))?;
        let base = options.base.clone().map(|dir| Base { dir, store_id: header.store_id });
        Ok(Self {
            disk,
            dir: to.to_owned(),
            links: !options.copies,
            base,
            made: Vec::new(),
            chunk: Vec::new(),
            unsynced: Vec::new(),
        })
    }

    /// Makes the names durable.
    pub(super) fn finish(&self) -> Result<()> {
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync the directory of", &self.dir, e))
    }

    /// Removes what was made, best effort.
    pub(super) fn undo(&mut self) {
        for name in std::mem::take(&mut self.made) {
            let _ = self.disk.remove(&self.dir.join(name));
        }
    }

    /// Links `from`; `false` if that cannot be and a copy has to do.
    fn link(&mut self, from: &Path, name: &str) -> io::Result<bool> {
        match self.disk.hard_link(from, &self.dir.join(name)) {
            Ok(()) => {
                self.made.push(name.to_owned());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn create_file(&mut self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(&self.dir.join(name), Access::CreateNew)?;
        self.made.push(name.to_owned());
        Ok(file)
    }

    fn copy(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        use io::Read as _;
        let mut content = Content::open(self.disk.as_ref(), source)?;
        let file = self.create_file(&source.name)?;
        self.chunk.resize(CHUNK_BYTES, 0);
        let mut at = 0;
        loop {
            let read = content.read(&mut self.chunk)?;
            if read == 0 {
                break;
            }
            write_all_at(file.as_ref(), &self.chunk[..read], at)?;
            at += read as u64;
            if step.advance(read as u64).is_break() {
                return Ok(Taken::Cancelled);
            }
        }
        let taken = content.finish()?;
        self.unsynced.push(file);
        if self.unsynced.len() >= UNSYNCED_MAX {
            self.sync_files()?;
        }
        Ok(taken)
    }

    fn sync_files(&mut self) -> io::Result<()> {
        self.unsynced.drain(..).try_for_each(|file| file.sync())
    }
}

impl Destination for IntoDirectory<'_> {
    fn take_sealed(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        let has_trailer = source.seal.is_some_and(|seal| seal.trailer_checksum != 0);
        let reused = self.base.as_ref().and_then(|base| base.find(self.disk.as_ref(), source));
        if let Some(path) = reused
            && (self.links || is_whole(self.disk.as_ref(), &path, source))
            && self.link(&path, &source.name)?
        {
            return Ok(Taken::Reused);
        }
        if self.links && has_trailer {
            // Order: what is linked has the length and the trailer that were sealed, or it is not taken.
            drop(Content::open(self.disk.as_ref(), source)?);
            if self.link(source.path, &source.name)? {
                return Ok(Taken::Linked);
            }
        }
        self.copy_or_undo(source, step)
    }

    fn take_file(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        drop(Content::open(self.disk.as_ref(), source)?);
        if self.links && self.link(source.path, &source.name)? {
            return Ok(Taken::Linked);
        }
        self.copy_or_undo(source, step)
    }

    fn take_bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name == super::SHEET || name == file_name::MANIFEST {
            // Order: a manifest, and a sheet, say nothing that is not durable.
            self.sync_files()?;
            self.disk.sync_dir(&self.dir)?;
        }
        let file = self.create_file(name)?;
        write_all_at(file.as_ref(), bytes, 0)?;
        file.sync()
    }

    fn drop_file(&mut self, name: &str) {
        // Only what this backup has made: another one may be writing here.
        if let Some(at) = self.made.iter().position(|made| made == name) {
            self.made.swap_remove(at);
            let _ = self.disk.remove(&self.dir.join(name));
        }
    }
}

/// Whether every record of the segment at `path` is what was sealed: who wants copies wants no link to damage either.
fn is_whole(disk: &dyn Disk, path: &Path, source: &Source<'_>) -> bool {
    let there = Source { path, name: source.name.clone(), ..*source };
    let read = Content::open(disk, &there).and_then(|mut content| {
        io::copy(&mut content, &mut io::sink())?;
        content.finish()
    });
    read.is_ok()
}

impl IntoDirectory<'_> {
    /// Copies; nothing stays of a copy that failed.
    fn copy_or_undo(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        let copied = self.copy(source, step);
        if copied.is_err() {
            self.drop_file(&source.name);
        }
        copied
    }
}
