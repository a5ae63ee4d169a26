//! A whole disk at one moment: directories, files and their bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::io::{Disk as _, MemoryDisk};

use crate::rng;

/// What a disk holds. Cheap to clone: the bytes of files are shared.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The directories, parents included.
    pub directories: BTreeSet<PathBuf>,
    /// The files.
    pub files: BTreeMap<PathBuf, Arc<Vec<u8>>>,
}

impl Image {
    /// A number that two images share only if they hold the same, chance aside.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let name = |path: &Path| path.to_string_lossy().into_owned();
        let mut state = 1;
        for directory in &self.directories {
            state = rng::hash(state, name(directory).as_bytes());
        }
        for (path, bytes) in &self.files {
            state = rng::hash(rng::hash(state, name(path).as_bytes()), bytes);
        }
        state
    }

    /// A disk in memory that holds this.
    ///
    /// # Panics
    /// Never: a disk in memory does not fail.
    #[must_use]
    pub fn memory_disk(&self) -> MemoryDisk {
        let files = self.files.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec()));
        let disk = MemoryDisk::with_files(files);
        for directory in &self.directories {
            disk.create_dir_all(directory).expect("a disk in memory does not fail");
        }
        disk
    }

    /// What a disk in memory holds.
    #[must_use]
    pub fn of_memory_disk(disk: &MemoryDisk) -> Self {
        let mut image = Self::default();
        for (path, bytes) in disk.files() {
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            image.directories.extend(parents.map(Path::to_owned));
            image.files.insert(path, Arc::new(bytes));
        }
        image
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.iter().map(|(path, bytes)| (path, bytes.len()));
        write!(f, "{:?} ", self.directories)?;
        f.debug_map().entries(files).finish()
    }
}

/// The directory that holds `path`; `.` for a name alone.
#[must_use]
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
