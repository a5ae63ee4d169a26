//! The list of files that belong to a backup: made, written, read, compared with what is there.

use std::{
    fs, io,
    io::Read as _,
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;
use xxhash_rust::xxh3::Xxh3;

use super::{atomic, directories};
use crate::{Error, Result, Version};

/// Name of the list in the data directory.
pub(super) const MANIFEST: &str = "backup_metadata.json";
/// Its name from the moment on when all files were found to be good.
pub(super) const VERIFIED: &str = "backup_metadata.verified.json";
/// Version of the list's own form.
const FORMAT: u32 = 1;

/// The files that belong to a backup, as `backup_metadata.json` holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupManifest {
    /// The form of this list.
    format: u32,
    /// The program's version when the backup was prepared.
    pub version: Version,
    /// When that was, as RFC 3339.
    pub timestamp: String,
    /// The files, sorted by path.
    pub files: Vec<BackupFile>,
    /// Which file this list was written to: a copy of it is another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

/// What tells a file from a copy of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970, where the file system keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_ns: Option<u64>,
}

impl Place {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        // Where a file has several names, one of them may be in the copy.
        if metadata.nlink() != 1 {
            return None;
        }
        let created = metadata.created().ok();
        let since = created.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let created_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
        Some(Self { device: metadata.dev(), inode: metadata.ino(), created_ns })
    }

    #[cfg(not(unix))]
    fn of(_: &fs::Metadata) -> Option<Self> {
        None
    }

    /// Numbers of devices may change with a boot; times of creation do not, and no copy has them.
    fn is_same(&self, other: &Self) -> bool {
        let is_same_origin = match (self.created_ns, other.created_ns) {
            (Some(own), Some(others)) => own == others,
            (None, None) => self.device == other.device,
            _ => false,
        };
        self.inode == other.inode && is_same_origin
    }
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path below the data directory, with `/` between the parts on every system.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Checksum of its bytes: `xxh3:` and 16 hexadecimal digits. It finds damage, not forgery.
    pub checksum: String,
}

impl BackupManifest {
    /// Lists all regular files below `data_dir` but those that no backup should have.
    pub(super) fn of(
        data_dir: &Path,
        version: Version,
        timestamp: String,
        exclude: &[String],
    ) -> Result<Self> {
        let exclude: Vec<WildMatch> =
            exclude.iter().map(|pattern| WildMatch::new(pattern)).collect();
        let mut files = Vec::new();
        for (path, relative) in walk(data_dir)? {
            if exclude.iter().any(|pattern| pattern.matches(&relative)) {
                continue;
            }
            match checksum(&path) {
                Ok((size, checksum)) => files.push(BackupFile { path: relative, size, checksum }),
                // Gone since it was listed: then it is not part of the backup.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("read", path, source)),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { format: FORMAT, version, timestamp, files, place: None })
    }

    pub(super) fn write(&mut self, data_dir: &Path) -> Result<()> {
        atomic::atomic_write_placed(&data_dir.join(MANIFEST), |mut file, metadata| {
            self.place = Place::of(metadata);
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")
        })
    }

    /// Whether `file` is the very file that this list was written to, rather than a copy: then the directory is the one
    /// that was to be copied.
    pub(super) fn is_in_place(&self, file: &Path) -> bool {
        let found = fs::symlink_metadata(file).ok().and_then(|metadata| Place::of(&metadata));
        found.zip(self.place.as_ref()).is_some_and(|(found, written)| found.is_same(written))
    }

    /// Reads the list at `file`; `None` if there is none.
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("read", file, source)),
        };
        let corrupt = |reason: &str| Error::CorruptFile {
            file: file.to_owned(),
            quarantined: None,
            reason: reason.to_owned(),
        };
        // A later form may have other fields: its number is looked at first.
        let form: Form =
            serde_json::from_slice(&text).map_err(|_| corrupt("it is no list of files"))?;
        if form.format > FORMAT {
            let (what, known) = (file.display().to_string(), FORMAT.to_string());
            return Err(Error::TooNew { what, found: form.format.to_string(), known });
        }
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|_| corrupt("it is no list of files"))?;
        let outside = manifest.files.iter().any(|file| !is_below(&file.path));
        if outside {
            Err(corrupt("it names a file outside its directory"))
        } else {
            Ok(Some(manifest))
        }
    }

    /// Compares every file with what is there, to the end, so that all faults are told at once.
    pub(super) fn verify(&self, data_dir: &Path) -> Result<()> {
        let (mut missing, mut damaged) = (Vec::new(), Vec::new());
        for file in &self.files {
            let path = data_dir.join(&file.path);
            match checksum(&path) {
                Ok((size, sum)) if (size, &sum) == (file.size, &file.checksum) => {}
                Ok(_) => damaged.push(file.path.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.push(file.path.clone());
                }
                Err(source) => return Err(Error::io("read", path, source)),
            }
        }
        if missing.is_empty() && damaged.is_empty() {
            return Ok(());
        }
        Err(Error::Backup { directory: data_dir.to_owned(), missing, damaged })
    }
}

#[derive(Deserialize)]
struct Form {
    format: u32,
}

/// Whether the path stays below the directory it is joined to.
fn is_below(relative: &str) -> bool {
    let mut parts = Path::new(relative).components();
    !relative.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// All regular files below `data_dir` that a backup may have, with their paths relative to it. Links are not followed.
fn walk(data_dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut left = vec![(data_dir.to_owned(), String::new())];
    while let Some((directory, prefix)) = left.pop() {
        let failed = |source| Error::io("list", &directory, source);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let reason = "a backup can only list names in UTF-8";
                return Err(Error::io(
                    "list",
                    path,
                    io::Error::new(io::ErrorKind::InvalidData, reason),
                ));
            };
            let is_top = prefix.is_empty();
            let relative = format!("{prefix}{name}");
            if kind.is_dir() && !(is_top && name == directories::TEMP) {
                left.push((path, format!("{relative}/")));
            } else if kind.is_file() && !is_left_out(&name, is_top) {
                files.push((path, relative));
            }
        }
    }
    Ok(files)
}

/// The list itself, temporary files and lock files.
fn is_left_out(name: &str, is_top: bool) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_list = is_top && (name == MANIFEST || name == VERIFIED);
    let is_lock = lower == "lock" || lower.ends_with(".lock");
    is_list || is_lock || lower.ends_with(".tmp") || atomic::is_temporary(name)
}

/// Length and checksum of a file.
fn checksum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, format!("xxh3:{:016x}", hash.digest()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..read).unwrap_or_default());
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert!(is_below("a") && is_below("a/b.json") && is_below("..a/b"));
        for path in ["", "/etc/passwd", "../a", "a/../../b", "./a", "a/.."] {
            assert!(!is_below(path), "{path:?}");
        }
    }

    #[test]
    fn what_no_backup_has() {
        for name in
            ["LOCK", "db.lock", "Pipfile.LOCK", ".tierce-0.tmp", "MANIFEST.tmp", MANIFEST, VERIFIED]
        {
            assert!(is_left_out(name, true), "{name}");
        }
        assert!(!is_left_out(MANIFEST, false), "one below is somebody's data");
        assert!(!is_left_out("clock", true) && !is_left_out("tmp", true));
    }
}
