//! SQLite state store: all states in one file that SQLite tools can read.

mod file;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, OptionalExtension as _, TransactionBehavior, params, types::Value as Cell,
};
use serde_json::Value;
use tierce_engine::io::{Clock, OsClock};

use self::file::OpenFile;
use super::{Damage, Object, OnCorrupt, StateStore, damage::Quarantine, value::check_depth};
use crate::{
    error::{Error, Result},
    ops::atomic::{absolute, create_directories, parent},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// All states in one SQLite file in WAL mode: table `states`, with `name` and `value`, a JSON text. Other processes may
/// read while this one writes. A save is on the device when it returns.
///
/// A row that is no JSON object moves to the table `corrupt` when it is loaded or would be written over; a file that is
/// no database moves to `<file>.corrupt-<time>`, and its log with it; a crash in between leaves the log, which follows
/// the next time the file is opened. All of it is told by [`StateStore::take_damage`]. Missing parents are created.
///
/// A damaged file that another connection has open stays where it is, whatever [`OnCorrupt`] says, since what that one
/// saves would go with it: opening fails with [`Error::CorruptFile`] until it is closed.
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
    _open: OpenFile,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.path).finish()
    }
}

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| Error::Backend { backend: "sqlite", operation, source: error.into() }
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
    /// As [`Self::open`]; [`Error::CorruptFile`] if the file is no database and `on_corrupt` is [`OnCorrupt::Fail`], or
    /// another connection has it open.
    pub fn open_with(
        path: impl Into<PathBuf>,
        on_corrupt: OnCorrupt,
        clock: impl Clock + 'static,
    ) -> Result<Self> {
        let (path, quarantine) = (absolute(&path.into())?, Quarantine::new(on_corrupt, clock));
        create_directories(parent(&path))?;
        let (connection, open) = file::open(&path, &quarantine)?;
        Ok(Self { connection: Mutex::new(connection), path, quarantine, _open: open })
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
