//! Opening and quarantine of the SQLite file: a damaged file that no connection has open is moved aside.
//!
//! Processes that start at once judge the same file. Each looks in a shared turn, in which nothing moves; a process that finds
//! damage takes the turn alone, judges again, and moves only what it judged then. A file that a connection has open is
//! not moved: what is saved through that one would go with it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use tierce_engine::io::{Disk as _, OsDisk};

use super::failed;
use crate::{
    error::{Error, Result},
    ops::{
        atomic::{parent, target},
        turn::Turn,
    },
    state::{
        Damage,
        damage::{Quarantine, with_end},
    },
    sync::{Mutex, PoisonError},
};

/// How long a write waits for one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS corrupt (name TEXT, value, reason TEXT, at_ms INTEGER);";

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Order: the mode is kept in the file, so it comes first; it also reads the file's head.
    connection.pragma_update(None, "journal_mode", "wal")?;
    // In WAL mode only FULL syncs each commit.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(SCHEMA)?;
    // Damage in a page that no statement above has read shows here.
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(connection);
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(verdict),
    ))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A connection to the database at `path`, and what tells others in this process that it is open. A damaged file moves
/// aside, if it may.
///
/// # Errors
/// [`Error::CorruptFile`] if it is damaged and stays; [`Error::Backend`], [`Error::Io`].
pub(super) fn open(path: &Path, quarantine: &Quarantine) -> Result<(Connection, OpenFile)> {
    // SQLite keeps the log beside the file that a link leads to.
    let path = &target(path)?;
    {
        let _turn = Turn::share(path)?;
        if !is_orphaned(path)? {
            match judge(path)? {
                Judged::Sound(connection, open) => return Ok((connection, open)),
                Judged::Damaged { reason, .. } if !quarantine.is_allowed() => {
                    return Err(stays(path, reason));
                }
                Judged::Damaged { .. } => {}
            }
        }
    }
    // The clock is the caller's: it is asked in no turn.
    let stamp = quarantine.stamp();
    let _turn = Turn::take(path)?;
    finish_moving(path, quarantine, &stamp)?;
    match judge(path)? {
        Judged::Sound(connection, open) => return Ok((connection, open)),
        Judged::Damaged { reason, .. } if is_open_elsewhere(path) => {
            let reason = format!("{reason}; another connection has it open: close that one first");
            return Err(stays(path, reason));
        }
        Judged::Damaged { identity, .. } if identity_of(path) != identity => {
            return Err(stays(path, "another file took its place while it was read".to_owned()));
        }
        Judged::Damaged { reason, .. } => move_aside(path, quarantine, &stamp, reason)?,
    }
    match judge(path)? {
        Judged::Sound(connection, open) => Ok((connection, open)),
        Judged::Damaged { reason, .. } => Err(stays(path, reason)),
    }
}

fn stays(path: &Path, reason: String) -> Error {
    Error::CorruptFile { file: path.to_owned(), quarantined: None, reason }
}

/// What a file turned out to be.
enum Judged {
    Sound(Connection, OpenFile),
    /// Its connection is closed again.
    Damaged {
        identity: Option<Identity>,
        reason: String,
    },
}

fn judge(path: &Path) -> Result<Judged> {
    let before = identity_of(path);
    match connect(path) {
        Ok(connection) => {
            if before.is_none() {
                let directory = parent(path);
                let failed = |error| Error::io("sync directory", directory, error);
                OsDisk.sync_dir(directory).map_err(failed)?;
            }
            Ok(Judged::Sound(connection, OpenFile::note(path)))
        }
        Err(error) if is_damage(&error) => {
            Ok(Judged::Damaged { identity: before, reason: error.to_string() })
        }
        Err(error) => Err(failed("open the file")(error)),
    }
}

/// Device and number of a file.
type Identity = (u64, u64);

/// Files that this process has open, once for each store. A lock says nothing to the process that has it.
static OPEN: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

/// A file that a store has open, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenFile(Option<Identity>);

impl OpenFile {
    fn note(path: &Path) -> Self {
        let identity = identity_of(path);
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).extend(identity);
        Self(identity)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|one| Some(*one) == self.0) {
            open.swap_remove(at);
        }
    }
}

/// Found by its name: a file that is opened and closed again takes the locks of every connection of this process along.
#[cfg(unix)]
fn identity_of(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Other systems rename no open file.
#[cfg(not(unix))]
fn identity_of(_: &Path) -> Option<Identity> {
    None
}

/// Whether a connection has the file open: a store of this process, or anything that holds a lock of SQLite's, as
/// connections in WAL mode do all the time.
fn is_open_elsewhere(path: &Path) -> bool {
    let Some(identity) = identity_of(path) else { return false };
    let is_ours = OPEN.lock().unwrap_or_else(PoisonError::into_inner).contains(&identity);
    is_ours || is_locked(identity.1) || is_busy(path)
}

/// Asks SQLite for the file alone. It cannot tell if the head is damaged.
fn is_busy(path: &Path) -> bool {
    let alone = || -> rusqlite::Result<()> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.query_row("PRAGMA schema_version", [], |_| Ok(()))
    };
    let codes = [Some(ErrorCode::DatabaseBusy), Some(ErrorCode::DatabaseLocked)];
    alone().is_err_and(|error| codes.contains(&error.sqlite_error_code()))
}

/// Asks the system for locks of any process on the bytes that SQLite locks. Numbers of devices are not compared: some
/// file systems show one to programs and keep another here. Systems without this list say nothing.
fn is_locked(inode: u64) -> bool {
    const PENDING_BYTE: u64 = 0x4000_0000;
    const END: u64 = PENDING_BYTE + 2 + 510;
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return false };
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().rev();
        let (Some(last), Some(first), Some(file)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        let is_file = file.rsplit(':').next().and_then(|text| text.parse().ok()) == Some(inode);
        let first: u64 = first.parse().unwrap_or(u64::MAX);
        let last: u64 = last.parse().unwrap_or(u64::MAX);
        is_file && first < END && last >= PENDING_BYTE
    })
}

fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Whether there is a log without its database.
fn is_orphaned(path: &Path) -> Result<bool> {
    Ok(!is_there(path)? && is_there(&with_end(path, "-wal"))?)
}

/// Endings of the files that belong to a database: its log, and what processes share of it.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Moves the database and what belongs to it.
///
/// The caller has the turn, and has judged the very file that is there now.
fn move_aside(path: &Path, quarantine: &Quarantine, stamp: &str, reason: String) -> Result<()> {
    let kept = quarantine.free_path(stamp, path)?;
    // Order: the database first. Without its log it would look sound, and be older than what was saved. A log without a
    // database is found the next time, before anything is made in its place.
    rename(path, &kept)?;
    for end in COMPANIONS {
        rename(&with_end(path, end), &with_end(&kept, end))?;
    }
    quarantine.tell(Damage {
        what: path.display().to_string(),
        name: None,
        kept: Some(kept.display().to_string()),
        reason,
    });
    Ok(())
}

/// Moves a log whose database is gone, to the database that was moved aside before it: a new one would delete it.
///
/// The caller has the turn.
fn finish_moving(path: &Path, quarantine: &Quarantine, stamp: &str) -> Result<()> {
    let log = with_end(path, "-wal");
    if !is_orphaned(path)? {
        return Ok(());
    }
    let reason = "it is the log of a database that is not there".to_owned();
    if !quarantine.is_allowed() {
        return Err(Error::CorruptFile { file: log, quarantined: None, reason });
    }
    let kept = match last_aside(path)? {
        Some(kept) if !is_there(&with_end(&kept, "-wal"))? => kept,
        _ => quarantine.free_path(stamp, path)?,
    };
    for end in COMPANIONS {
        rename(&with_end(path, end), &with_end(&kept, end))?;
    }
    let kept = with_end(&kept, "-wal");
    quarantine.tell(Damage {
        what: log.display().to_string(),
        name: None,
        kept: Some(kept.display().to_string()),
        reason,
    });
    Ok(())
}

/// The newest database that was moved aside from `path`.
fn last_aside(path: &Path) -> Result<Option<PathBuf>> {
    let failed = |error| Error::io("list", parent(path), error);
    let start = with_end(path, ".corrupt-");
    let start = start.file_name().unwrap_or_default().as_encoded_bytes();
    let mut last: Option<OsString> = None;
    for entry in fs::read_dir(parent(path)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        let is_log = COMPANIONS.iter().any(|end| bytes.ends_with(end.as_bytes()));
        if bytes.starts_with(start) && !is_log {
            // Their names have the time in them.
            last = last.max(Some(name));
        }
    }
    Ok(last.map(|name| parent(path).join(name)))
}

/// Renames a file, if it is there, for good.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let failed = |error| Error::io("move aside", from, error);
    match fs::rename(from, to) {
        Ok(()) => OsDisk.sync_dir(parent(from)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::OnCorrupt;

    /// Goal: the database is moved before its log: at no moment is there a database without the log of its saves.
    /// Method: the log cannot be moved, as a directory is in its place; the database must have gone by then.
    #[test]
    fn the_database_is_moved_before_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("state.db"), dir.path().join("state.db-wal"));
        fs::write(&path, "a database").unwrap();
        fs::write(&log, "a log").unwrap();
        let clock = tierce_kit::clock::TestClock::new();
        let quarantine = Quarantine::new(OnCorrupt::Quarantine, clock);
        let stamp = quarantine.stamp();
        let kept = quarantine.free_path(&stamp, &path).unwrap();
        fs::create_dir_all(with_end(&kept, "-wal").join("full")).unwrap();
        let error = move_aside(&path, &quarantine, &stamp, "a test".to_owned()).unwrap_err();
        assert_eq!(error.kind(), "io");
        assert!(!path.exists() && log.exists());
        assert_eq!(fs::read(&kept).unwrap(), b"a database");
        finish_moving(&path, &quarantine, &stamp).unwrap();
        let damage = quarantine.take();
        assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), b"a log");
        assert!(!log.exists());
    }
}
