//! States in Redis or Valkey, for programs that run in several places.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Client, Connection, ConnectionLike as _, FromRedisValue, RedisError, cmd};
use serde_json::Value;
use tierce_engine::io::Clock;

use super::{Damage, Object, OnCorrupt, StateStore, damage::Quarantine, value::check_depth};
use crate::{
    error::{Error, Result},
    sync::{Mutex, PoisonError},
};

/// States in Redis or Valkey: the key is a prefix and the name, the value a JSON text.
///
/// A broken connection is made anew and the command tried again, once; after that it is an [`Error::Backend`], and the
/// state stays dirty. So it does if the server refuses, because it is out of memory or a replica. All commands may be
/// repeated. What a save survives is up to the server's settings; one that evicts keys without an expiry
/// (`maxmemory-policy allkeys-..`) is refused, see [`Self::evicting_server`].
///
/// A value that is no JSON object moves to the key `corrupt-<time>:<prefix><name>`, told by
/// [`StateStore::take_damage`], when it is loaded or would be written over. What is moved or written over is what was
/// judged: a script on the server compares the bytes, and if another program changed them, they are judged again.
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
    takes_eviction: bool,
    connection: Mutex<Option<Connection>>,
}

/// In one step: if the key (1) has the bytes that were judged, or nothing if nothing was there, moves it to the other key
/// (2) if one is given, and sets it if there is something to set. Arguments: whether there was something, what that was,
/// whether there is something to set, and that. Answers what was done, or what is there instead.
const CHANGE: &str = "
local now = redis.call('GET', KEYS[1])
local judged = false
if ARGV[1] == '1' then judged = ARGV[2] end
if now ~= judged then return {'changed', now} end
if KEYS[2] then
  if redis.call('EXISTS', KEYS[2]) == 1 then return {'taken', false} end
  redis.call('RENAME', KEYS[1], KEYS[2])
end
if ARGV[3] == '1' then redis.call('SET', KEYS[1], ARGV[4]) end
return {'done', false}";

/// What a script did.
enum Step {
    Done,
    /// The other key is taken.
    Taken,
    /// Something else is there: this.
    Changed(Option<Vec<u8>>),
}

fn judge(bytes: &[u8]) -> Result<Object, &'static str> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the value is no object"),
        Err(_) => Err("the value is no JSON"),
    }
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
            takes_eviction: false,
            connection: Mutex::new(None),
        })
    }

    /// As [`Self::new`], and asks the server whether it is there.
    ///
    /// # Errors
    /// [`Error::Backend`] if it is not, or would forget states: see [`Self::evicting_server`].
    pub fn open(url: &str, prefix: impl Into<String>) -> Result<Self> {
        let store = Self::new(url, prefix)?;
        let _: String = store.ask("connect", &cmd("PING"))?;
        Ok(store)
    }

    /// Sets whether a server is taken that forgets keys without an expiry when its memory is full (`maxmemory` with a
    /// policy `allkeys-..`). Default: no, since a state that it forgot would be as if it had never been saved; connecting
    /// fails. A server that does not tell its policy is taken.
    #[must_use]
    pub const fn evicting_server(mut self, is_taken: bool) -> Self {
        self.takes_eviction = is_taken;
        self
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
        let mut connection = self.client.get_connection_with_timeout(self.timeout)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        if !self.takes_eviction && evicts(&mut connection)? {
            let reason = "the server evicts keys without an expiry";
            let advice = "set maxmemory-policy to noeviction or volatile-.., or allow it by \
                          RedisStore::evicting_server";
            let kind = redis::ErrorKind::InvalidClientConfig;
            return Err(RedisError::from((kind, reason, advice.to_owned())));
        }
        Ok(connection)
    }

    fn get(&self, operation: &'static str, name: &str) -> Result<Option<Vec<u8>>> {
        self.ask(operation, cmd("GET").arg(self.key(name)))
    }

    /// Changes what is kept under `name` from what was judged, in one step.
    fn change(
        &self,
        operation: &'static str,
        name: &str,
        judged: Option<&[u8]>,
        aside: Option<&str>,
        text: Option<&[u8]>,
    ) -> Result<Step> {
        let mut eval = cmd("EVAL");
        eval.arg(CHANGE).arg(1 + usize::from(aside.is_some())).arg(self.key(name)).arg(aside);
        for argument in [judged, text] {
            eval.arg(u8::from(argument.is_some())).arg(argument.unwrap_or_default());
        }
        let (step, found): (String, Option<Vec<u8>>) = self.ask(operation, &eval)?;
        Ok(match step.as_str() {
            "done" => Step::Done,
            "taken" => Step::Taken,
            _ => Step::Changed(found),
        })
    }

    /// Moves a value that is no state to a key that is not taken, if it may be moved, and puts `text` in its place, if
    /// there is one, in one step. Returns what is there instead, if it was changed meanwhile.
    fn set_aside(
        &self,
        operation: &'static str,
        name: &str,
        (bytes, reason): (&[u8], &'static str),
        text: Option<&[u8]>,
    ) -> Result<Option<Option<Vec<u8>>>> {
        let key = self.key(name);
        self.quarantine.allow(&key, reason)?;
        let mut changed = None;
        let kept = self.quarantine.free_name(&self.quarantine.stamp(), |time| {
            let kept = format!("{time}:{key}");
            match self.change(operation, name, Some(bytes), Some(&kept), text)? {
                Step::Taken => return Ok(None),
                Step::Done => {}
                Step::Changed(found) => {
                    // Sent twice, as the first answer was lost: it was done.
                    let is_done = found.as_deref() == text
                        && self
                            .ask::<Option<Vec<u8>>>(operation, cmd("GET").arg(&kept))?
                            .as_deref()
                            == Some(bytes);
                    if !is_done {
                        changed = Some(found);
                    }
                }
            }
            Ok(Some(kept))
        })?;
        if changed.is_none() {
            self.quarantine.tell(Damage {
                what: key,
                name: Some(name.to_owned()),
                kept: Some(kept),
                reason: reason.to_owned(),
            });
        }
        Ok(changed)
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
        let mut found = self.get("load", name)?;
        while let Some(bytes) = found {
            let reason = match judge(&bytes) {
                Ok(object) => return Ok(Some(object)),
                Err(reason) => reason,
            };
            let operation = "move a damaged value aside";
            match self.set_aside(operation, name, (&bytes, reason), None)? {
                None => return Ok(None),
                Some(other) => found = other,
            }
        }
        Ok(None)
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let text = serde_json::to_vec(object)
            .map_err(|error| Error::Encode { space: name.to_owned(), source: error.into() })?;
        let mut found = self.get("save", name)?;
        loop {
            let verdict = found.as_deref().map(|bytes| (bytes, judge(bytes)));
            if let Some((bytes, Err(reason))) = verdict {
                match self.set_aside("save", name, (bytes, reason), Some(&text))? {
                    None => return Ok(()),
                    Some(other) => found = other,
                }
                continue;
            }
            match self.change("save", name, found.as_deref(), None, Some(&text))? {
                // What is there is what is to be there: sent twice, as the first answer was lost.
                Step::Changed(other) if other.as_deref() != Some(&*text) => found = other,
                _ => return Ok(()),
            }
        }
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

/// Whether the server forgets keys without an expiry. Some servers do not say.
fn evicts(connection: &mut Connection) -> Result<bool, RedisError> {
    let info: String = match cmd("INFO").arg("memory").query(connection) {
        Ok(info) => info,
        Err(error) if error.is_io_error() => return Err(error),
        Err(_) => return Ok(false),
    };
    let of = |name| info.lines().find_map(|line| line.strip_prefix(name));
    let is_limited = of("maxmemory:").is_some_and(|bytes| bytes.trim() != "0");
    Ok(is_limited && of("maxmemory_policy:").is_some_and(|policy| policy.starts_with("allkeys")))
}
