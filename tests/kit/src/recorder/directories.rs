//! Directories of the recording disk: renamed and removed as files are. Events call a directory by a key that it keeps.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::State;
use crate::{image::parent, log::Event};

impl State {
    /// What a directory is called in events.
    pub(super) fn key(&self, dir: &Path) -> PathBuf {
        self.keys.get(dir).cloned().unwrap_or_else(|| dir.to_owned())
    }

    /// A path as it stands in events: with the directory by its key.
    pub(super) fn keyed(&self, path: &Path) -> PathBuf {
        let above = parent(path);
        match (self.keys.get(&above), path.file_name()) {
            (Some(key), Some(name)) => key.join(name),
            _ => path.to_owned(),
        }
    }

    pub(super) fn create_dir(&mut self, dir: PathBuf) {
        let path = self.keyed(&dir);
        let mut key = path.clone();
        for number in 2.. {
            if self.known_keys.insert(key.clone()) {
                break;
            }
            key = PathBuf::from(format!("{}#{number}", path.display()));
        }
        if key != dir {
            self.keys.insert(dir.clone(), key.clone());
        }
        self.directories.insert(dir);
        self.log.events.push(Event::CreateDir { path, key });
    }

    pub(super) fn is_empty_dir(&self, dir: &Path) -> bool {
        let is_in = |path: &PathBuf| path != dir && path.starts_with(dir);
        !self.names.keys().any(is_in) && !self.directories.iter().any(is_in)
    }

    pub(super) fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.fixed.contains(from) || self.fixed.contains(to) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if !self.is_empty_dir(to) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let key = self.key(from);
        let event =
            Event::RenameDir { from: self.keyed(from), to: self.keyed(to), key: key.clone() };
        self.log.events.push(event);
        self.keys.remove(to);
        let moved = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        let keys: Vec<_> = self.directories.iter().filter(|dir| dir.starts_with(from)).collect();
        let keys: Vec<_> = keys.into_iter().map(|dir| (moved(dir), self.key(dir))).collect();
        self.keys.retain(|dir, _| !dir.starts_with(from));
        self.keys.extend(keys);
        self.directories = self.directories.iter().map(|dir| moved(dir)).collect();
        let names = std::mem::take(&mut self.names);
        self.names = names.into_iter().map(|(path, inode)| (moved(&path), inode)).collect();
        Ok(())
    }
}
