//! A store on a server of Redis or Valkey: each operation of a store of bytes as one script there.
//!
//! | Key | Holds |
//! |---|---|
//! | prefix `:` key | an entry, see `frame`; the server forgets it when it expires |
//! | prefix `:` `ff` `seq` | the last sequence number |
//! | prefix `:` `ff` `cuts` | for each scope that was cut, the sequence number of the cut; older entries of it are dead |
//!
//! A prefix has no colon, so no key of one is a key of another; no entry's key begins with `ff`.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use redis::Value;
use tierce_engine::{
    Change, Condition, Durability, Entry, EntryVersion, PutOptions, SequenceNumber, Timestamp, View,
};

use super::{
    clock::ServerClock,
    frame,
    link::{Call, Link, RedisOptions, backend},
    script::{COMMIT, DELETE, READ, Script, TOUCH},
};
use crate::{
    error::{Error, Result},
    kv::{Changer, Each, Edit, Kv, Look},
    store::{Common, Store},
    sync::{Mutex, PoisonError},
};

/// Begins the keys that are no entries.
const RESERVED: u8 = 0xff;
const PREFIX_BYTES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// A server takes 512 MiB in one piece unless it is told otherwise.
const VALUE_BYTES_MAX: usize = 500 << 20;
/// A server takes a million arguments in one call; an edit has up to five.
const BATCH_EDITS_MAX: usize = 200_000;
/// Keys that are read in one call of a scan, without their values and with them.
const SCAN_KEYS: usize = 512;
const SCAN_VALUES: usize = 64;
/// The latest moment that servers and their scripts tell from the one after it. Entries that expire later are only kept
/// from being shown.
const EXPIRY_MAX: u64 = 1 << 52;

/// Stores by URL and prefix.
type Stores = HashMap<(String, String), Weak<Redis>>;

/// Those of this process that are open.
static OPEN: LazyLock<Mutex<Stores>> = LazyLock::new(Mutex::default);

impl Store {
    /// A store on a server of Redis (from 5 on) or Valkey: the same caches, maps and so on, shared by every program
    /// that uses the same `url` and `prefix`. For when one machine is not enough any more.
    ///
    /// `url` is `redis://[[user]:password@]host[:port][/database]`, with `valkey:` in the place of `redis:`, or
    /// `unix:///path/of/socket`; TLS and clusters are not supported. All keys begin with `prefix` and a colon: 1 to 64
    /// bytes, without colons and control characters. Nothing is connected yet: a server that is not there is an error
    /// of the first call that needs it. The same URL and prefix in this process share one store.
    ///
    /// What is as it is with a store on disk: lifetimes, tags, atomic updates, batches that happen as a whole, and that
    /// a damaged or foreign entry is an error. What differs:
    ///
    /// - What was acknowledged is as safe as the server is configured to make it; durabilities are ignored, and
    ///   [`Store::sync`] only asks whether the server is there.
    /// - The server's memory is the limit, and what it does about that is its `maxmemory-policy`. Use `noeviction` or
    ///   one of the `volatile-` ones: others may forget the record of what was cut, and with it that something was
    ///   removed.
    /// - Listing, counting and scanning is no snapshot: entries written or removed meanwhile may be there or not. It
    ///   costs a look at every key of the server's database.
    /// - Entries that were cut off (cleared, or by tag) take up memory until somebody reads or scans over them, and
    ///   each tag that was ever cut takes up some bytes for good.
    /// - An ordered space is sorted when it is asked, which costs a scan.
    /// - Every call is one round trip, and values travel whole. Statistics, and that of many loaders of one key only
    ///   one runs, are each process's own; a load that was under way in one is stored even if another invalidated the
    ///   key.
    /// - Dropping a space while other processes have it open leaves what they write to it unreachable. The same goes
    ///   for emptying the server (`FLUSHALL`) under a running program: restart it.
    ///
    /// A write whose connection breaks before the answer is an [`Error::Backend`] that says it may have happened; it is
    /// never repeated. Nothing waits longer than [`RedisOptions`] says. Time is the server's.
    ///
    /// ```no_run
    /// use tierce::{Put, Store, Ttl};
    /// let store = Store::redis("redis://127.0.0.1:6379/", "app")?;
    /// let weather = store.cache::<String, f64>("weather")?;
    /// weather.insert_with("London", &17.5, &Put::new().ttl(Ttl::minutes(30)).tag("europe"))?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] for a URL or prefix that cannot be used.
    pub fn redis(url: &str, prefix: &str) -> Result<Self> {
        Self::redis_with(url, prefix, &RedisOptions::new())
    }

    /// As [`Self::redis`], with other timeouts. If this process has the store open, the options of the first opening
    /// hold.
    ///
    /// ```
    /// use tierce::{RedisOptions, Store};
    /// let refused = Store::redis_with("redis://127.0.0.1/", "a:b", &RedisOptions::new());
    /// assert_eq!(refused.unwrap_err().kind(), "options");
    /// ```
    ///
    /// # Errors
    /// As [`Self::redis`].
    pub fn redis_with(url: &str, prefix: &str, options: &RedisOptions) -> Result<Self> {
        check_prefix(prefix)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, store| store.upgrade().is_some_and(|store| !store.link.is_closed()));
        let name = (url.to_owned(), prefix.to_owned());
        let store = match open.get(&name).and_then(Weak::upgrade) {
            Some(store) => store,
            None => {
                let store = Arc::new(Redis::new(url, prefix, options)?);
                open.insert(name, Arc::downgrade(&store));
                store
            }
        };
        let common = Arc::clone(&store.common);
        Ok(Self::remote(store, common))
    }
}

fn check_prefix(prefix: &str) -> Result<()> {
    let complaint = match prefix {
        "" => "it is empty",
        _ if prefix.len() > PREFIX_BYTES_MAX => "it is longer than 64 bytes",
        _ if prefix.contains(':') => "it has a colon, which is what ends it",
        _ if prefix.chars().any(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    let complaints = vec![complaint.to_owned()];
    Err(Error::Options { what: format!("the prefix {prefix:?}"), complaints })
}

/// All keys of one prefix on one server.
struct Redis {
    link: Link,
    clock: ServerClock,
    /// The prefix and its colon.
    prefix: Vec<u8>,
    common: Arc<Common>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.link, self.prefix.escape_ascii())
    }
}

/// What a script that changes something says.
enum Answer {
    Absent,
    Done(SequenceNumber),
    Refused(Option<SequenceNumber>),
    Damaged,
}

impl Redis {
    fn new(url: &str, prefix: &str, options: &RedisOptions) -> Result<Self> {
        Ok(Self {
            link: Link::new(url, options)?,
            clock: ServerClock::default(),
            prefix: [prefix.as_bytes(), b":"].concat(),
            common: Arc::default(),
        })
    }

    /// The server's name of an entry.
    fn name(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    fn sequence(&self) -> Vec<u8> {
        self.name(b"\xffseq")
    }

    fn cuts(&self) -> Vec<u8> {
        self.name(b"\xffcuts")
    }

    /// Runs a script and hears what time it is. The caller's time comes before `arguments`.
    fn run(
        &self,
        call: (Call, &'static str),
        script: &'static Script,
        keys: &[Vec<u8>],
        mut arguments: Vec<Vec<u8>>,
    ) -> Result<Vec<Value>> {
        let now = self.clock.now().unwrap_or_default();
        arguments.insert(0, now.0.to_string().into_bytes());
        let answer = self
            .link
            .call(call, &self.clock, &|connection| script.run(connection, keys, &arguments))?;
        let Value::Array(mut answer) = answer else { return Err(strange(call.1)) };
        match answer.first() {
            Some(&Value::Int(ms)) => self.clock.hear(u64::try_from(ms).unwrap_or_default()),
            _ => return Err(strange(call.1)),
        }
        answer.remove(0);
        Ok(answer)
    }

    fn change(
        &self,
        operation: &'static str,
        script: &'static Script,
        keys: &[Vec<u8>],
        arguments: Vec<Vec<u8>>,
    ) -> Result<Answer> {
        let answer = self.run((Call::Write, operation), script, keys, arguments)?;
        let sequence = match answer.get(1) {
            Some(Value::BulkString(bytes)) => bytes.as_slice().try_into().ok(),
            _ => None,
        };
        let sequence = sequence.map(|bytes| SequenceNumber(u64::from_le_bytes(bytes)));
        Ok(match answer.first() {
            Some(Value::Int(0)) => Answer::Absent,
            Some(Value::Int(1)) => Answer::Done(sequence.unwrap_or_default()),
            Some(Value::Int(2)) => Answer::Refused(sequence),
            Some(Value::Int(3)) => Answer::Damaged,
            _ => return Err(strange(operation)),
        })
    }

    /// The live ones among entries, each with the bytes of its record, in their order.
    fn read(&self, keys: &[&[u8]], with_values: bool) -> Result<Vec<Option<(Entry, u64)>>> {
        const OPERATION: &str = "read";
        let mut names = vec![self.cuts()];
        names.extend(keys.iter().map(|key| self.name(key)));
        let depth = if with_values { b"v" } else { b"h" };
        let call = (Call::Read, OPERATION);
        let answer = self.run(call, &READ, &names, vec![depth.to_vec()])?;
        if answer.len() != keys.len() {
            return Err(strange(OPERATION));
        }
        let one = |(key, answer): (&&[u8], Value)| {
            let Value::Array(parts) = answer else { return Ok(None) };
            let [Value::BulkString(bytes), Value::Int(total)] = parts.as_slice() else {
                return Err(strange(OPERATION));
            };
            let total = usize::try_from(*total).unwrap_or_default();
            let entry = frame::decode(key, bytes, total).map_err(|error| damaged(key, &error))?;
            // The script's opinion was an earlier one, and the entry may have expired since.
            let is_live = tierce_engine::is_live(entry.expires_at, self.now());
            Ok(is_live.then(|| (entry, (key.len() + total) as u64)))
        };
        keys.iter().zip(answer).map(one).collect()
    }

    fn read_one(&self, key: &[u8], with_value: bool) -> Result<Option<(Entry, u64)>> {
        check_key(key)?;
        Ok(self.read(&[key], with_value)?.pop().flatten())
    }

    fn commit_edits(&self, operation: &'static str, edits: &[Edit]) -> Result<SequenceNumber> {
        if edits.len() > BATCH_EDITS_MAX {
            return too_large("batch", edits.len(), BATCH_EDITS_MAX);
        }
        let (mut keys, mut arguments) = (vec![self.sequence(), self.cuts()], Vec::new());
        for edit in edits {
            match edit {
                Edit::Put(key, value, options) => {
                    let (frame, expires_at) = prepare(key, value, options)?;
                    let condition = condition(options.condition());
                    arguments.extend([b"p".to_vec(), condition, frame, expiry(expires_at)]);
                    keys.push(self.name(key));
                }
                Edit::Delete(key) => {
                    check_key(key)?;
                    arguments.push(b"d".to_vec());
                    keys.push(self.name(key));
                }
                Edit::Cut(scope) => {
                    check_scope(scope)?;
                    arguments.extend([b"c".to_vec(), scope.clone()]);
                }
            }
        }
        match self.change(operation, &COMMIT, &keys, arguments)? {
            Answer::Done(sequence) => Ok(sequence),
            Answer::Refused(found) => Err(tierce_engine::Error::Conflict { found }.into()),
            Answer::Absent => Err(strange(operation)),
            Answer::Damaged => Err(backend(operation, "what is stored there is damaged")),
        }
    }

    fn delete_at(&self, key: &[u8], unchanged: Option<EntryVersion>) -> Result<Answer> {
        check_key(key)?;
        let keys = [self.cuts(), self.name(key)];
        let wanted = unchanged.map_or(Vec::new(), frame::version);
        self.change("delete", &DELETE, &keys, vec![wanted])
    }

    /// One step through the server's keys: those that begin with `prefix`, and where to go on; 0 at the end.
    fn scan_step(&self, pattern: &[u8], cursor: &[u8]) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
        self.link.call((Call::Read, "scan"), &self.clock, &|connection| {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000);
            command.query(connection)
        })
    }
}

impl Kv for Redis {
    fn view(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        let found = self.read_one(key, true)?;
        Ok(show(found.as_ref(), look))
    }

    fn peek(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        let found = self.read_one(key, false)?;
        Ok(show(found.as_ref(), look))
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.read_one(key, false)?.is_some())
    }

    fn put(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<SequenceNumber> {
        self.commit_edits("put", &[Edit::Put(key.to_vec(), value.to_vec(), options.clone())])
    }

    /// How safe it is is the server's affair.
    fn delete(&self, key: &[u8], _: Option<Durability>) -> Result<bool> {
        Ok(matches!(self.delete_at(key, None)?, Answer::Done(_)))
    }

    fn touch(&self, key: &[u8], expires_at: Option<Timestamp>) -> Result<bool> {
        check_key(key)?;
        let keys = [self.cuts(), self.name(key)];
        let arguments = vec![frame::expiry(expires_at).to_vec(), expiry(expires_at)];
        match self.change("touch", &TOUCH, &keys, arguments)? {
            Answer::Done(_) => Ok(true),
            Answer::Absent | Answer::Refused(_) => Ok(false),
            Answer::Damaged => Err(damaged(key, &"it is damaged".into())),
        }
    }

    /// Written down each time: it costs the server no more than looking whether it must be.
    fn slide(&self, key: &[u8], lifetime: Duration) -> Result<bool> {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        self.touch(key, Some(self.now().saturating_add_ms(lifetime_ms)))
    }

    fn update(&self, key: &[u8], change: &mut Changer<'_>) -> Result<Option<SequenceNumber>> {
        // Ends: if an attempt is refused, somebody else's has been carried out.
        loop {
            let old = self.read_one(key, true)?;
            let view = old.as_ref().map(view_of);
            let version = view.map(|view| view.version());
            match (change(view), version) {
                (Change::Keep, _) | (Change::Delete, None) => return Ok(None),
                (Change::Delete, Some(version)) => match self.delete_at(key, Some(version))? {
                    Answer::Done(_) => return Ok(Some(version.sequence().next())),
                    Answer::Absent | Answer::Refused(_) => {}
                    Answer::Damaged => return Err(damaged(key, &"it is damaged".into())),
                },
                (Change::Put(value, options), version) => {
                    let options = match version {
                        Some(version) => options.only_if_unchanged(version),
                        None => options.only_if_absent(),
                    };
                    let put = [Edit::Put(key.to_vec(), value, options)];
                    match self.commit_edits("update", &put) {
                        Ok(sequence) => return Ok(Some(sequence)),
                        Err(Error::Engine(tierce_engine::Error::Conflict { .. })) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    fn commit(&self, edits: Vec<Edit>, _: Option<Durability>) -> Result<()> {
        match edits.is_empty() {
            true => Ok(()),
            false => self.commit_edits("commit", &edits).map(drop),
        }
    }

    /// No snapshot: entries that are written or removed meanwhile may be shown or not, none twice.
    fn scan(&self, prefix: &[u8], values: bool, each: &mut Each<'_>) -> Result<()> {
        let pattern = [&escaped(&self.name(prefix)), &b"*"[..]].concat();
        let batch = if values { SCAN_VALUES } else { SCAN_KEYS };
        let mut seen = HashSet::new();
        let mut cursor = b"0".to_vec();
        loop {
            let (next, names) = self.scan_step(&pattern, &cursor)?;
            let key_of = |name: Vec<u8>| Some(name.strip_prefix(&*self.prefix)?.to_vec());
            let mut keys: Vec<_> = names.into_iter().filter_map(key_of).collect();
            // A server that is rearranging its keys may name one twice.
            keys.retain(|key| {
                key.starts_with(prefix)
                    && key.first() != Some(&RESERVED)
                    && seen.insert(key.clone())
            });
            for keys in keys.chunks(batch) {
                let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
                for (key, found) in keys.iter().zip(self.read(&keys, values)?) {
                    let Some(found) = found else { continue };
                    if each(key, view_of(&found)).is_break() {
                        return Ok(());
                    }
                }
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn sync(&self) -> Result<()> {
        let ping = |connection: &mut redis::Connection| redis::cmd("PING").query(connection);
        self.link.call((Call::Read, "sync"), &self.clock, &ping)
    }

    fn close(&self) -> Result<()> {
        self.link.close();
        Ok(())
    }

    fn now(&self) -> Timestamp {
        if let Some(now) = self.clock.now() {
            return now;
        }
        let ask = |connection: &mut redis::Connection| redis::cmd("TIME").query(connection);
        let answer: Result<(u64, u64)> =
            self.link.call((Call::Read, "ask for the time"), &self.clock, &ask);
        if let Ok((seconds, micros)) = answer {
            self.clock.hear(seconds.saturating_mul(1_000).saturating_add(micros / 1_000));
        }
        self.clock.now().unwrap_or_else(|| self.clock.wall())
    }

    fn nature(&self) -> &'static str {
        "a remote store"
    }

    fn is_shared(&self) -> bool {
        true
    }
}

fn strange(operation: &'static str) -> Error {
    backend(operation, "the server gave an answer that makes no sense")
}

fn damaged(key: &[u8], error: &crate::BoxError) -> Error {
    let shown = &key[..key.len().min(80)];
    backend("read", format!("the entry under `{}`: {error}", shown.escape_ascii()))
}

fn view_of((entry, bytes): &(Entry, u64)) -> View<'_> {
    let mut view = entry.view();
    view.record_bytes = *bytes;
    view
}

fn show(found: Option<&(Entry, u64)>, look: &mut Look<'_>) -> bool {
    if let Some(found) = found {
        look(view_of(found));
    }
    found.is_some()
}

fn too_large<T>(what: &'static str, bytes: usize, limit: usize) -> Result<T> {
    let (bytes, limit) = (bytes as u64, limit as u64);
    Err(tierce_engine::Error::TooLarge { what, bytes, limit }.into())
}

fn invalid(complaint: &str) -> Error {
    tierce_engine::Error::InvalidOptions { complaints: vec![complaint.to_owned()] }.into()
}

fn check_key(key: &[u8]) -> Result<()> {
    match key.first() {
        _ if key.len() > KEY_BYTES_MAX => too_large("key", key.len(), KEY_BYTES_MAX),
        Some(&RESERVED) => Err(invalid("keys that begin with the byte ff are reserved")),
        _ => Ok(()),
    }
}

fn check_scope(scope: &[u8]) -> Result<()> {
    match scope.len() {
        0 => Err(invalid("a scope name is empty")),
        1..=255 => Ok(()),
        length => too_large("scope name", length, 255),
    }
}

/// The frame of a put, and when it is over. Checks the limits.
fn prepare(key: &[u8], value: &[u8], options: &PutOptions) -> Result<(Vec<u8>, Option<Timestamp>)> {
    check_key(key)?;
    if value.len() > VALUE_BYTES_MAX {
        return too_large("value", value.len(), VALUE_BYTES_MAX);
    }
    let entry = Entry::new(value.to_vec(), options.clone());
    let mut total = 0;
    for scope in &entry.scopes {
        check_scope(scope)?;
        total += scope.len() + 2;
    }
    for (_, item) in &entry.items {
        if item.len() > 255 {
            return too_large("extension item", item.len(), 255);
        }
        total += item.len() + 2;
    }
    if total > KEY_BYTES_MAX {
        return too_large("extension", total, KEY_BYTES_MAX);
    }
    Ok((frame::encode(key, &entry), entry.expires_at))
}

fn condition(condition: Condition) -> Vec<u8> {
    match condition {
        Condition::Always => Vec::new(),
        Condition::Absent => b"a".to_vec(),
        Condition::Unchanged(version) => frame::version(version),
    }
}

/// When the server is to forget the entry, as the scripts want it.
fn expiry(at: Option<Timestamp>) -> Vec<u8> {
    match at {
        Some(at) if at.0 <= EXPIRY_MAX => at.0.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// The bytes of a pattern that matches only these.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        if b"*?[]\\^-".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern
}
