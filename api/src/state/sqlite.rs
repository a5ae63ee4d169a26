//! All states in one SQLite file, for programs and people that have tools for such files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params,
    types::Value as Cell,
};
use serde_json::Value;
use tierce_engine::io::{Clock, Disk as _, OsClock, OsDisk};

use super::{
    Damage, Object, OnCorrupt, StateStore,
    damage::{Quarantine, with_end},
    value::check_depth,
};
use crate::{
    error::{Error, Result},
    ops::atomic::parent,
};

/// All states in one SQLite file in WAL mode: table `states`, with `name` and `value`, a JSON text. Other processes may
/// read while this one writes. A save is on the device when it returns.
///
/// A row that is no JSON object moves to the table `corrupt` when it is loaded or would be written over; a file that is
/// no database moves to `<file>.corrupt-<time>`, and its log with it; a crash in between leaves the log, which follows
/// the next time the file is opened. All of it is told by [`StateStore::take_damage`]. Missing parents are created.
///
/// ```
/// use serde_json::json;
/// use tierce::state::{SqliteStore, StateStore};
/// let dir = tempfile::tempdir().unwrap();
/// let store = SqliteStore::open(dir.path().join("state.db"))?;
/// store.save("sensor", json!({"count": 1}).as_object().unwrap())?;
/// assert_eq!(store.load("sensor")?.unwrap()["count"], 1);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct SqliteStore {
    connection: Mutex<Connection>,
    path: PathBuf,
    quarantine: Quarantine,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.path).finish()
    }
}

/// How long a write waits for one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS corrupt (name TEXT, value, reason TEXT, at_ms INTEGER);";

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| Error::Backend { backend: "sqlite", operation, source: error.into() }
}

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

impl SqliteStore {
    /// Opens the file `path`, which is created if it is missing. Damage is dealt with as [`OnCorrupt::Quarantine`].
    ///
    /// # Errors
    /// [`Error::Backend`] or [`Error::Io`] if it cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path, OnCorrupt::Quarantine, OsClock)
    }

    /// As [`Self::open`], with another way to deal with damage, and a clock that names damaged files.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::CorruptFile`] if the file is no database and `on_corrupt` is [`OnCorrupt::Fail`].
    pub fn open_with(
        path: impl Into<PathBuf>,
        on_corrupt: OnCorrupt,
        clock: impl Clock + 'static,
    ) -> Result<Self> {
        let (path, quarantine) = (path.into(), Quarantine::new(on_corrupt, clock));
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        }
        finish_moving(&path, &quarantine)?;
        let connection = match connect(&path) {
            Ok(connection) => connection,
            Err(error) if is_damage(&error) => {
                move_aside(&path, &quarantine, error.to_string())?;
                connect(&path).map_err(failed("create the file"))?
            }
            Err(error) => return Err(failed("open the file")(error)),
        };
        Ok(Self { connection: Mutex::new(connection), path, quarantine })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn hold(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In one transaction: a row that is no state moves to the other table, if it may be moved; then `save`, if there is
    /// one, takes its place.
    fn replace(
        &self,
        connection: &mut Connection,
        operation: &'static str,
        name: &str,
        save: Option<&str>,
    ) -> Result<()> {
        let failed = || failed(operation);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed())?;
        let damage = look(&transaction, name).map_err(failed())?.and_then(Result::err);
        if let Some(reason) = damage {
            self.quarantine.allow(name, reason)?;
            let at_ms = i64::try_from(self.quarantine.now().0).unwrap_or(i64::MAX);
            let copy = "INSERT INTO corrupt SELECT name, value, ?2, ?3 FROM states WHERE name = ?1";
            transaction
                .execute(copy, params![name, reason, at_ms])
                .and_then(|_| transaction.execute("DELETE FROM states WHERE name = ?1", [name]))
                .map_err(failed())?;
        }
        if let Some(text) = save {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO states (name, value) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute(params![name, text]))
                .map_err(failed())?;
        }
        transaction.commit().map_err(failed())?;
        if let Some(reason) = damage {
            self.quarantine.tell(Damage {
                what: format!("the row `{name}` of {}", self.path.display()),
                name: Some(name.to_owned()),
                kept: Some("the table `corrupt`".to_owned()),
                reason: reason.to_owned(),
            });
        }
        Ok(())
    }
}

/// What the row of a state holds, if there is one.
fn look(connection: &Connection, name: &str) -> rusqlite::Result<Option<Decoded>> {
    let row = connection
        .prepare_cached("SELECT value FROM states WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(row.map(decode))
}

/// Endings of the files that belong to a database: its log, and what processes share of it.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Moves the database and what belongs to it, if it may be moved.
fn move_aside(path: &Path, quarantine: &Quarantine, reason: String) -> Result<()> {
    if !quarantine.is_allowed() {
        return Err(Error::CorruptFile { file: path.to_owned(), quarantined: None, reason });
    }
    let kept = quarantine.free_path(path)?;
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
fn finish_moving(path: &Path, quarantine: &Quarantine) -> Result<()> {
    let is_there = |path: &Path| match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    };
    let log = with_end(path, "-wal");
    if is_there(path)? || !is_there(&log)? {
        return Ok(());
    }
    let reason = "it is the log of a database that is not there".to_owned();
    if !quarantine.is_allowed() {
        return Err(Error::CorruptFile { file: log, quarantined: None, reason });
    }
    let kept = match last_aside(path)? {
        Some(kept) if !is_there(&with_end(&kept, "-wal"))? => kept,
        _ => quarantine.free_path(path)?,
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
    let start = start.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut last: Option<String> = None;
    for entry in fs::read_dir(parent(path)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let is_log = COMPANIONS.iter().any(|end| name.ends_with(end));
        if name.starts_with(&start) && !is_log {
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

/// A state, or why it is none.
type Decoded = Result<Object, &'static str>;

fn decode(cell: Cell) -> Decoded {
    let bytes = match cell {
        Cell::Text(text) => text.into_bytes(),
        Cell::Blob(bytes) => bytes,
        _ => return Err("the value is no text"),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the value is no object"),
        Err(_) => Err("the value is no JSON"),
    }
}

impl StateStore for SqliteStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        let mut connection = self.hold();
        match look(&connection, name).map_err(failed("load"))? {
            None => Ok(None),
            Some(Ok(object)) => Ok(Some(object)),
            Some(Err(reason)) => {
                self.quarantine.allow(name, reason)?;
                let operation = "move a damaged row aside";
                self.replace(&mut connection, operation, name, None).map(|()| None)
            }
        }
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let text = serde_json::to_string(object)
            .map_err(|error| Error::Encode { space: name.to_owned(), source: error.into() })?;
        self.replace(&mut self.hold(), "save", name, Some(&text))
    }

    fn remove(&self, name: &str) -> Result<bool> {
        let deleted = self
            .hold()
            .execute("DELETE FROM states WHERE name = ?1", [name])
            .map_err(failed("remove"))?;
        Ok(deleted > 0)
    }

    fn names(&self) -> Result<Vec<String>> {
        self.hold()
            .prepare_cached("SELECT name FROM states ORDER BY name")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
            .map_err(failed("list names"))
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.quarantine.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let kept = quarantine.free_path(&path).unwrap();
        fs::create_dir_all(with_end(&kept, "-wal").join("full")).unwrap();
        let error = move_aside(&path, &quarantine, "a test".to_owned()).unwrap_err();
        assert_eq!(error.kind(), "io");
        assert!(!path.exists() && log.exists());
        assert_eq!(fs::read(&kept).unwrap(), b"a database");
        finish_moving(&path, &quarantine).unwrap();
        let damage = quarantine.take();
        assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), b"a log");
        assert!(!log.exists());
    }
}
