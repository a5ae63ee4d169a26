//! All states in one SQLite file, for programs and people that have tools for such files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params, types::Value as Cell};
use serde_json::Value;
use tierce_engine::io::{Clock, OsClock};

use super::{
    Damage, Object, OnCorrupt, StateStore,
    damage::{Found, free_path},
    value::check_depth,
};
use crate::error::{Error, Result};

/// All states in one SQLite file in WAL mode: table `states`, with `name` and `value`, a JSON text. Other processes may
/// read while this one writes. A save is on the device when it returns.
///
/// A row that is no JSON object moves to the table `corrupt`; a file that is no database moves to
/// `<file>.corrupt-<time>`. Both are told by [`StateStore::take_damage`]. Missing parents are created.
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
    on_corrupt: OnCorrupt,
    clock: Arc<dyn Clock>,
    found: Found,
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
        let path = path.into();
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        }
        let found = Found::default();
        let connection = match connect(&path) {
            Ok(connection) => connection,
            Err(error) if is_damage(&error) => {
                let reason = error.to_string();
                if on_corrupt == OnCorrupt::Fail {
                    return Err(Error::CorruptFile { file: path, quarantined: None, reason });
                }
                let kept = move_aside(&path, &clock)?;
                found.add(Damage {
                    what: path.display().to_string(),
                    name: None,
                    kept: Some(kept.display().to_string()),
                    reason,
                });
                connect(&path).map_err(failed("create the file"))?
            }
            Err(error) => return Err(failed("open the file")(error)),
        };
        Ok(Self {
            connection: Mutex::new(connection),
            path,
            on_corrupt,
            clock: Arc::new(clock),
            found,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn hold(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a row that is no state to the other table, in one transaction.
    fn set_aside(&self, connection: &mut Connection, name: &str, reason: &str) -> Result<()> {
        let at_ms = i64::try_from(self.clock.wall_ms()).unwrap_or(i64::MAX);
        let mut moved = || {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO corrupt SELECT name, value, ?2, ?3 FROM states WHERE name = ?1",
                params![name, reason, at_ms],
            )?;
            transaction.execute("DELETE FROM states WHERE name = ?1", [name])?;
            transaction.commit()
        };
        moved().map_err(failed("move a damaged row aside"))?;
        self.found.add(Damage {
            what: format!("the row `{name}` of {}", self.path.display()),
            name: Some(name.to_owned()),
            kept: Some("the table `corrupt`".to_owned()),
            reason: reason.to_owned(),
        });
        Ok(())
    }
}

/// Moves the database and what belongs to it.
fn move_aside(path: &Path, clock: &dyn Clock) -> Result<PathBuf> {
    let kept = free_path(path, clock).map_err(|error| Error::io("move aside", path, error))?;
    // Order: the database last, so that a crash in between finds it damaged again, without a log that is not its own.
    for end in ["-wal", "-shm", ""] {
        let (mut from, mut to) = (path.as_os_str().to_owned(), kept.as_os_str().to_owned());
        from.push(end);
        to.push(end);
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("move aside", from, error)),
        }
    }
    Ok(kept)
}

fn decode(cell: Cell) -> Result<Object, &'static str> {
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
        let row: Option<Cell> = connection
            .prepare_cached("SELECT value FROM states WHERE name = ?1")
            .and_then(|mut query| query.query_row([name], |row| row.get(0)).optional())
            .map_err(failed("load"))?;
        match (row.map(decode), self.on_corrupt) {
            (None, _) => Ok(None),
            (Some(Ok(object)), _) => Ok(Some(object)),
            (Some(Err(reason)), OnCorrupt::Quarantine) => {
                self.set_aside(&mut connection, name, reason)?;
                Ok(None)
            }
            (Some(Err(reason)), OnCorrupt::Fail) => Err(Error::Decode {
                space: "states".to_owned(),
                key: format!("`{name}`"),
                source: reason.into(),
            }),
        }
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let text = serde_json::to_string(object)
            .map_err(|error| Error::Encode { space: name.to_owned(), source: error.into() })?;
        self.hold()
            .prepare_cached("INSERT OR REPLACE INTO states (name, value) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![name, text]))
            .map_err(failed("save"))?;
        Ok(())
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
        self.found.take()
    }
}
