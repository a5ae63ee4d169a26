//! States in Redis or Valkey, for programs that run in several places.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Client, Connection, ConnectionLike as _, FromRedisValue, RedisError, cmd};
use serde_json::Value;
use tierce_engine::io::Clock;

use super::{Damage, Object, OnCorrupt, StateStore, damage::Quarantine, value::check_depth};
use crate::error::{Error, Result};

/// States in Redis or Valkey: the key is a prefix and the name, the value a JSON text.
///
/// A broken connection is made anew and the command tried again, once; after that it is an [`Error::Backend`], and the
/// state stays dirty. All commands may be repeated. What a save survives is up to the server's settings.
///
/// A value that is no JSON object moves to the key `corrupt-<time>:<prefix><name>`, told by
/// [`StateStore::take_damage`], when it is loaded and before it would be written over: a save asks for it first. A
/// value that another program damages between the two is overwritten.
///
/// ```no_run
/// use tierce::state::{Object, RedisStore, StateStore};
/// let store = RedisStore::open("redis://127.0.0.1:6379/", "myapp:state:")?;
/// store.save("sensor", &Object::new())?;
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct RedisStore {
    client: Client,
    prefix: String,
    timeout: Duration,
    quarantine: Quarantine,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn failed(operation: &'static str) -> impl FnOnce(RedisError) -> Error {
    move |error| Error::Backend { backend: "redis", operation, source: error.into() }
}

impl RedisStore {
    /// The states under `prefix` of the server at `url`. It is not asked yet.
    ///
    /// # Errors
    /// [`Error::Backend`] if `url` is not one.
    pub fn new(url: &str, prefix: impl Into<String>) -> Result<Self> {
        Ok(Self {
            client: Client::open(url).map_err(failed("read the address"))?,
            prefix: prefix.into(),
            timeout: Duration::from_secs(5),
            quarantine: Quarantine::default(),
            connection: Mutex::new(None),
        })
    }

    /// As [`Self::new`], and asks the server whether it is there.
    ///
    /// # Errors
    /// [`Error::Backend`] if it is not.
    pub fn open(url: &str, prefix: impl Into<String>) -> Result<Self> {
        let store = Self::new(url, prefix)?;
        let _: String = store.ask("connect", &cmd("PING"))?;
        Ok(store)
    }

    /// Sets how long connecting, and each answer, may take. Default: 5 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what to do with a value that is no state. Default: [`OnCorrupt::Quarantine`].
    #[must_use]
    pub const fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.quarantine.on_corrupt = on_corrupt;
        self
    }

    /// Sets the clock that names damaged values.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.quarantine.clock = Arc::new(clock);
        self
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(self.timeout)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        Ok(connection)
    }

    /// What is kept under `name`. A value that is no state moves to a key that is not taken, if it may be moved.
    fn look(&self, operation: &'static str, name: &str) -> Result<Option<Object>> {
        let key = self.key(name);
        let bytes: Option<Vec<u8>> = self.ask(operation, cmd("GET").arg(&key))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let reason = match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => return Ok(Some(object)),
            Ok(_) => "the value is no object",
            Err(_) => "the value is no JSON",
        };
        self.quarantine.allow(&key, reason)?;
        let kept = self.quarantine.free_name(|time| {
            let kept = format!("{time}:{key}");
            let mut rename = cmd("RENAMENX");
            let is_moved: bool =
                self.ask("move a damaged value aside", rename.arg(&key).arg(&kept))?;
            Ok(is_moved.then_some(kept))
        })?;
        self.quarantine.tell(Damage {
            what: key,
            name: Some(name.to_owned()),
            kept: Some(kept),
            reason: reason.to_owned(),
        });
        Ok(None)
    }

    /// Sends a command that may be sent twice.
    fn ask<T: FromRedisValue>(&self, operation: &'static str, command: &redis::Cmd) -> Result<T> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_again = false;
        loop {
            let answer = match &mut *held {
                Some(connection) => command.query(connection),
                empty => self.connect().and_then(|new| command.query(empty.insert(new))),
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_broken = error.is_io_error()
                || error.is_unrecoverable_error()
                || held.as_ref().is_some_and(|connection| !connection.is_open());
            if is_broken {
                // What is still on its way on it would be taken for the next answer.
                *held = None;
            }
            if !is_broken || is_again {
                return Err(failed(operation)(error));
            }
            is_again = true;
        }
    }
}

impl StateStore for RedisStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        self.look("load", name)
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let text = serde_json::to_vec(object)
            .map_err(|error| Error::Encode { space: name.to_owned(), source: error.into() })?;
        // Order: what is there and was never looked at is moved aside before it is written over.
        self.look("save", name)?;
        self.ask("save", cmd("SET").arg(self.key(name)).arg(text))
    }

    fn remove(&self, name: &str) -> Result<bool> {
        // Sent twice, the second answer says that nothing was there.
        self.ask("remove", cmd("DEL").arg(self.key(name)))
    }

    fn names(&self) -> Result<Vec<String>> {
        let prefix = self.key("");
        let mut pattern = String::new();
        for letter in prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        let (mut cursor, mut names) = (0_u64, Vec::new());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.ask("list names", &scan)?;
            names.extend(keys.iter().filter_map(|key| {
                let name = key.strip_prefix(prefix.as_bytes())?;
                String::from_utf8(name.to_vec()).ok()
            }));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // A scan may show a key twice.
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.quarantine.take()
    }
}
