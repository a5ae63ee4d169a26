//! Durable file operations for `ops` and states: write, rename, sync. One place, so that a test can record the steps and
//! check what a power cut between any two leaves.

use std::{fs, io, path::Path};

use tierce_engine::io::{Disk as _, OsDisk};

/// Renames a file; on the device after [`sync_dir`].
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(all(test, unix))]
    notes::renamed(from, to);
    Ok(())
}

/// Removes a file; on the device after [`sync_dir`].
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(all(test, unix))]
    let noted = notes::before_removal(path);
    fs::remove_file(path)?;
    #[cfg(all(test, unix))]
    notes::removed(path, noted);
    Ok(())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(directory: &Path) -> io::Result<()> {
    OsDisk.sync_dir(directory)?;
    #[cfg(all(test, unix))]
    notes::synced_dir(directory);
    Ok(())
}

/// Makes the bytes of a file durable.
pub(crate) fn sync(file: &fs::File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(all(test, unix))]
    notes::synced(file);
    Ok(())
}

/// Makes a directory; on the device after a [`sync_dir`] of the one above.
pub(crate) fn create_dir(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    #[cfg(all(test, unix))]
    notes::created_dir(directory);
    Ok(())
}

/// Opens a file that may be a new one.
pub(crate) fn open(options: &fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    let file = options.open(path)?;
    #[cfg(all(test, unix))]
    notes::opened(path, &file);
    Ok(file)
}

/// To be called when something was written to the file at `path`.
pub(crate) fn note_written(path: &Path, file: &fs::File) {
    #[cfg(all(test, unix))]
    notes::written(path, file);
    #[cfg(not(all(test, unix)))]
    let _ = (path, file);
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a test that finds an error where none belongs fails by it")]
pub(crate) mod notes {
    //! What was done, as the crash harness takes it.

    use std::{
        cell::RefCell,
        collections::BTreeMap,
        fs,
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
        sync::Arc,
    };

    use tierce_kit::{
        image::Image,
        log::{Event, Inode, Log},
    };

    #[derive(Debug, Default)]
    struct Notes {
        root: PathBuf,
        log: Log,
        inodes: BTreeMap<u64, Inode>,
        contents: BTreeMap<Inode, Vec<u8>>,
        next: Inode,
    }

    thread_local! {
        static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
    }

    /// Begins to note what this thread does below `root`, whose files are all durable.
    pub(crate) fn begin(root: &Path) {
        let base = image_of(root);
        let mut notes = Notes { root: root.to_owned(), next: 1, ..Notes::default() };
        for (path, inode) in Log::base_names(&base) {
            notes.inodes.insert(fs::metadata(root.join(&path)).unwrap().ino(), inode);
            notes.contents.insert(inode, base.files[&path].to_vec());
            notes.next = inode + 1;
        }
        notes.log.base = base;
        NOTES.set(Some(notes));
    }

    /// What was noted.
    pub(crate) fn end() -> Log {
        NOTES.take().unwrap().log
    }

    /// How much was noted so far.
    pub(crate) fn count() -> usize {
        NOTES.with_borrow(|notes| notes.as_ref().unwrap().log.events.len())
    }

    /// What is below a directory.
    pub(crate) fn image_of(root: &Path) -> Image {
        let mut image = Image::default();
        let mut left = vec![root.to_owned()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let below = path.strip_prefix(root).unwrap().to_owned();
                if path.is_dir() {
                    image.directories.insert(below);
                    left.push(path);
                } else {
                    image.files.insert(below, Arc::new(fs::read(path).unwrap()));
                }
            }
        }
        image
    }

    fn note(then: impl FnOnce(&mut Notes)) {
        NOTES.with_borrow_mut(|notes| {
            if let Some(notes) = notes {
                then(notes);
            }
        });
    }

    impl Notes {
        /// The path below the root, if it is there.
        fn below(&self, path: &Path) -> Option<PathBuf> {
            let path = std::path::absolute(path).unwrap();
            let below = path.strip_prefix(&self.root).ok()?.to_owned();
            Some(if below.as_os_str().is_empty() { PathBuf::from(".") } else { below })
        }

        fn inode(&self, file: &fs::File) -> Option<Inode> {
            self.inodes.get(&file.metadata().unwrap().ino()).copied()
        }

        fn push(&mut self, event: Event) {
            self.log.events.push(event);
        }
    }

    pub(super) fn created_dir(directory: &Path) {
        note(|notes| {
            if let Some(path) = notes.below(directory) {
                notes.push(Event::CreateDir { key: path.clone(), path });
            }
        });
    }

    pub(super) fn opened(path: &Path, file: &fs::File) {
        note(|notes| {
            let (Some(path), None) = (notes.below(path), notes.inode(file)) else { return };
            let inode = notes.next;
            notes.next += 1;
            notes.inodes.insert(file.metadata().unwrap().ino(), inode);
            notes.push(Event::Create { path, inode });
        });
    }

    pub(super) fn written(path: &Path, file: &fs::File) {
        note(|notes| {
            let Some(inode) = notes.inode(file) else { return };
            let (now, before) = (fs::read(path).unwrap(), notes.contents.remove(&inode));
            let before = before.unwrap_or_default();
            if now.len() < before.len() {
                notes.push(Event::SetBytes { inode, bytes: now.len() as u64 });
            }
            let same = now.iter().zip(&before).take_while(|(a, b)| a == b).count();
            if same < now.len() {
                let (offset, bytes) = (same as u64, now[same..].into());
                notes.push(Event::Write { inode, offset, bytes });
            }
            notes.contents.insert(inode, now);
        });
    }

    pub(super) fn synced(file: &fs::File) {
        note(|notes| {
            if let Some(inode) = notes.inode(file) {
                notes.push(Event::SyncFile { inode });
            }
        });
    }

    pub(super) fn synced_dir(directory: &Path) {
        note(|notes| {
            if let Some(dir) = notes.below(directory) {
                notes.push(Event::SyncDir { dir });
            }
        });
    }

    pub(super) fn renamed(from: &Path, to: &Path) {
        note(|notes| {
            let number = fs::symlink_metadata(to).unwrap().ino();
            let found = notes.inodes.get(&number).copied();
            if let (Some(from), Some(to), Some(inode)) = (notes.below(from), notes.below(to), found)
            {
                notes.push(Event::Rename { from, to, inode });
            }
        });
    }

    pub(super) fn before_removal(path: &Path) -> Option<u64> {
        fs::symlink_metadata(path).ok().map(|found| found.ino())
    }

    pub(super) fn removed(path: &Path, number: Option<u64>) {
        note(|notes| {
            // Another file may get its number.
            let inode = number.and_then(|number| notes.inodes.remove(&number));
            if let (Some(path), Some(inode)) = (notes.below(path), inode) {
                notes.push(Event::Remove { path, inode });
            }
        });
    }
}
