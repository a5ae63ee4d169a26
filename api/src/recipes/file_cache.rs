//! What was made from a file, for as long as the file is the same.

use std::{
    fs::{self, Metadata},
    hash::{DefaultHasher, Hasher as _},
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec::MsgPack,
    error::{BoxError, Error, Result, Shared},
    space::SpaceOptions,
    store::Store,
    typed::Typed,
};

/// A file that changed less than so many milliseconds before it was read may change again without a new time: file
/// systems keep times in steps of up to two seconds.
const YOUNG_MS: u64 = 2_000;

/// What tells a changed file from the same one without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Validator {
    bytes: u64,
    modified_ns: u64,
    /// The last change of anything about the file, and its number; 0 where the system does not say.
    changed_ns: u64,
    inode: u64,
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanos = u64::try_from(metadata.ctime_nsec()).unwrap_or(0);
    (seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, u64) {
    (0, 0)
}

impl Validator {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        let (changed_ns, inode) = identity(metadata);
        Self { bytes: metadata.len(), modified_ns, changed_ns, inode }
    }

    fn is_young(&self, now_ms: u64) -> bool {
        let newest_ms = self.modified_ns.max(self.changed_ns) / 1_000_000;
        newest_ms.saturating_add(YOUNG_MS) > now_ms
    }
}

/// A value with what it was made from.
#[derive(Debug, Serialize, Deserialize)]
struct Made<V> {
    validator: Validator,
    /// The hash of the content, if the file was young: its time alone does not say that it is the same.
    content: Option<u64>,
    value: V,
}

/// Remembers what was made from files, over restarts, each for as long as its file stays the same: a change of its
/// time, size or identity makes it anew. A file that was changed only a moment before it was read is compared by
/// content until it is old enough for its time to be trusted.
///
/// Files are told apart by their absolute path; links are followed to tell whether the file is the same. What is
/// remembered may be forgotten to stay under the store's limits; an empty file is a file like any other.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("settings");
/// std::fs::write(&path, "brightness=7")?;
/// let store = tierce::Store::in_memory()?;
/// let settings = store.file_cache::<String>("settings")?;
/// let read = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
/// assert_eq!(settings.get_with(&path, read)?, "brightness=7");
/// std::fs::write(&path, "brightness=8")?;
/// assert_eq!(settings.get_with(&path, read)?, "brightness=8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileCache<V> {
    typed: Typed<Vec<u8>, Made<V>, MsgPack>,
}

impl<V> Clone for FileCache<V> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

/// How often a file is read that changes while it is read.
const ATTEMPTS: usize = 8;

impl<V: Serialize + DeserializeOwned> FileCache<V> {
    /// What `make` made of the file, or makes of it now.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, and what was made of it is forgotten if it is missing;
    /// [`Error::Loader`] with the error of `make`; [`Error::Encode`]; the engine's.
    pub fn get_with<E: Into<BoxError>>(
        &self,
        path: impl AsRef<Path>,
        make: impl FnOnce(&[u8]) -> Result<V, E>,
    ) -> Result<V> {
        let path = absolute(path.as_ref())?;
        let key = self.key_of(&path);
        let validator = match fs::metadata(&path) {
            Ok(metadata) => Validator::of(&metadata),
            Err(source) => return Err(self.cannot_read(&key, path, source)),
        };
        let known = match self.typed.get_at(&key) {
            Err(Error::Decode { .. }) => None,
            known => known?.filter(|made| made.validator == validator),
        };
        if let Some(Made { content: None, value, .. }) = known {
            return Ok(value);
        }
        let (bytes, validator) = match read_whole(&path) {
            Ok(read) => read,
            Err(source) => return Err(self.cannot_read(&key, path, source)),
        };
        let content = hash_of(&bytes);
        let is_young = validator.is_young(self.typed.kv().now().0);
        let same = known.filter(|made| made.content == Some(content));
        let is_settled = is_young && same.as_ref().is_some_and(|made| made.validator == validator);
        let value = match same {
            Some(made) => made.value,
            None => make(&bytes).map_err(|error| Error::Loader(Shared::new(error)))?,
        };
        let made = Made { validator, content: is_young.then_some(content), value };
        if !is_settled {
            self.typed.put_at(&key, &made, &self.typed.put_options(None))?;
        }
        Ok(made.value)
    }

    /// Forgets what was made of the file; says whether there was something.
    ///
    /// # Errors
    /// [`Error::Io`] if the working directory is needed and cannot be told; the engine's.
    pub fn forget(&self, path: impl AsRef<Path>) -> Result<bool> {
        self.typed.delete_at(&self.key_of(&absolute(path.as_ref())?))
    }

    fn key_of(&self, path: &Path) -> Vec<u8> {
        self.typed.key_bytes(path.as_os_str().as_encoded_bytes())
    }

    fn cannot_read(&self, key: &[u8], path: PathBuf, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::NotFound
            && let Err(error) = self.typed.delete_at(key)
        {
            return error;
        }
        Error::io("read", path, source)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::io("find", path, source))
}

/// The file's bytes, and what it was when they were read: it was not changed in between, as far as its times tell.
fn read_whole(path: &Path) -> io::Result<(Vec<u8>, Validator)> {
    let mut before = Validator::of(&fs::metadata(path)?);
    for _ in 0..ATTEMPTS {
        let bytes = fs::read(path)?;
        let after = Validator::of(&fs::metadata(path)?);
        if before == after {
            return Ok((bytes, after));
        }
        before = after;
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the file changes while it is read"))
}

/// Another version of the standard library may hash in another way: then the file is only read once more.
fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Store {
    /// What was made from files, under this name.
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn file_cache<V: Serialize + DeserializeOwned>(&self, name: &str) -> Result<FileCache<V>> {
        let options = SpaceOptions::new().evictable(true).derived_type(std::any::type_name::<V>());
        let options = options.internal();
        let typed = Typed::open(self, &format!("tierce/files/{name}"), "files", &options)?;
        Ok(FileCache { typed })
    }
}
