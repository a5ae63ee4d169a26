//! What a command of the shell does, and how it answers.

use tierce_engine::{
    Batch, Change, Engine, Entry, Error, Follower, PutOptions, Stats, Timestamp, Value,
};

use super::command::{Command, HELP};
use crate::{
    entries::sorted_keys,
    escape::{NIL, escape, escape_value, one_line},
    exit::{Code, Fail, code_of},
    lifetime::Ttl,
    limits::Defaults,
};

/// The store of a session.
pub(super) enum Store {
    /// Open for this process alone.
    Open(Engine),
    /// Read as it is on disk, beside any writer.
    Beside(Box<Follower>),
}

impl Store {
    /// Brings a reader up to what is on disk now. Costs one small read if nothing was written.
    fn refresh(&self) -> Result<(), Error> {
        match self {
            Self::Open(_) => Ok(()),
            Self::Beside(reader) => reader.refresh().map(drop),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        match self {
            Self::Open(engine) => engine.get(key),
            Self::Beside(reader) => reader.get(key),
        }
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Fail> {
        match self {
            Self::Open(engine) => sorted_keys(&engine.snapshot()?, prefix),
            Self::Beside(reader) => sorted_keys(&reader.snapshot(), prefix),
        }
    }

    fn now(&self) -> Timestamp {
        match self {
            Self::Open(engine) => engine.now(),
            Self::Beside(reader) => reader.now(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Open(engine) => engine.stats(),
            Self::Beside(reader) => reader.stats(),
        }
    }

    /// Whether it works. Only the process that writes knows.
    fn health(&self) -> &'static str {
        match self {
            Self::Open(engine) => engine.health().name(),
            Self::Beside(_) => "unknown",
        }
    }
}

/// A store with at most one batch being collected.
pub(super) struct Session {
    store: Store,
    defaults: Defaults,
    batch: Option<Collected>,
}

/// The batch so far. After a refused line it only waits for its end: half of a batch is not what was meant.
struct Collected {
    batch: Batch,
    spoiled: bool,
}

/// The answer to a command, as lines.
pub(super) type Reply = Vec<String>;

/// Why a command was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    Usage(String),
    Engine(Error),
    Interrupted,
}

impl From<Fail> for Refusal {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Engine(error) => Self::Engine(error),
            Fail::Interrupted => Self::Interrupted,
            other => Self::Usage(other.to_string()),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Refusal {
    /// The one line that says so.
    pub(super) fn line(&self) -> String {
        let (kind, message) = match self {
            Self::Usage(message) => ("usage", message.clone()),
            Self::Engine(error) => (error.kind(), error.to_string()),
            Self::Interrupted => ("interrupted", "a signal came first".to_owned()),
        };
        format!("ERR {kind} {}", one_line(&message))
    }

    /// The exit code of a shell that ends because of it.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Usage(_) => Code::Usage,
            Self::Engine(error) => code_of(error),
            Self::Interrupted => Code::Interrupted,
        }
    }
}

impl Session {
    pub(super) const fn new(store: Store, defaults: Defaults) -> Self {
        Self { store, defaults, batch: None }
    }

    pub(super) const fn is_collecting(&self) -> bool {
        self.batch.is_some()
    }

    /// Ends the session. A batch that was not committed is forgotten.
    pub(super) fn close(self) -> Result<(), Error> {
        match self.store {
            Store::Open(engine) => engine.close(),
            Store::Beside(_) => Ok(()),
        }
    }

    /// The store, to be written to.
    const fn writer(&self) -> Result<&Engine, Refusal> {
        match &self.store {
            Store::Open(engine) => Ok(engine),
            Store::Beside(_) => Err(Refusal::Engine(Error::ReadOnly)),
        }
    }

    /// A line was no command: a batch that it may have been meant for is not complete.
    pub(super) const fn spoil(&mut self) {
        if let Some(collected) = &mut self.batch {
            collected.spoiled = true;
        }
    }

    /// Runs one command; the write it stands for is acknowledged when this returns.
    pub(super) fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Put { key, value, ttl } => self.put(&key, &value, ttl),
            Command::Get { key } => {
                self.store.refresh()?;
                let value = self.store.get(&key)?;
                one(value.map_or_else(|| NIL.to_owned(), |value| escape_value(&value)))
            }
            Command::Del { key } => self.del(&key),
            Command::Touch { key, ttl_ms } => {
                self.refuse_in_batch("touch")?;
                let engine = self.writer()?;
                let expires_at = ttl_ms.map(|ms| engine.now().saturating_add_ms(ms));
                one(u8::from(engine.touch(&key, expires_at)?))
            }
            Command::Incr { key, by } => {
                self.refuse_in_batch("incr")?;
                one(increment(self.writer()?, self.defaults, &key, by)?)
            }
            Command::Keys { prefix } => {
                self.store.refresh()?;
                let keys = self.store.keys(&prefix)?;
                let count = std::iter::once(keys.len().to_string());
                Ok(count.chain(keys.iter().map(|key| escape(key))).collect())
            }
            Command::Sync => {
                self.writer()?.sync()?;
                ok()
            }
            Command::Recover => {
                self.writer()?.try_recover()?;
                ok()
            }
            Command::Batch => self.begin(),
            Command::Commit => self.commit(),
            Command::Abort => {
                self.take_batch("abort")?;
                ok()
            }
            Command::Stats => {
                self.store.refresh()?;
                one(self.stats_line())
            }
            Command::Help => {
                Ok(HELP.iter().map(|(usage, answer)| format!("{usage:<26}{answer}")).collect())
            }
            Command::Quit => Ok(Reply::new()),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], ttl: Ttl) -> Result<Reply, Refusal> {
        let options = self.defaults.put_options(self.store.now(), ttl);
        if let Some(collected) = &mut self.batch {
            collected.batch.put_with(key, value, options);
            return one("QUEUED");
        }
        self.writer()?.put_with(key, value, &options)?;
        ok()
    }

    fn del(&mut self, key: &[u8]) -> Result<Reply, Refusal> {
        if let Some(collected) = &mut self.batch {
            collected.batch.delete(key);
            return one("QUEUED");
        }
        one(u8::from(self.writer()?.delete(key)?))
    }

    fn begin(&mut self) -> Result<Reply, Refusal> {
        self.refuse_in_batch("batch")?;
        self.batch = Some(Collected { batch: Batch::new(), spoiled: false });
        ok()
    }

    fn commit(&mut self) -> Result<Reply, Refusal> {
        let collected = self.take_batch("commit")?;
        if collected.spoiled {
            let message = "a line of the batch was refused, so none of it was written";
            return Err(Refusal::Usage(message.to_owned()));
        }
        self.writer()?.commit(collected.batch)?;
        ok()
    }

    fn take_batch(&mut self, verb: &str) -> Result<Collected, Refusal> {
        self.batch.take().ok_or_else(|| Refusal::Usage(format!("{verb} without batch")))
    }

    fn refuse_in_batch(&mut self, verb: &str) -> Result<(), Refusal> {
        if !self.is_collecting() {
            return Ok(());
        }
        self.spoil();
        Err(Refusal::Usage(format!("{verb} does not go into a batch; commit or abort it first")))
    }

    fn stats_line(&self) -> String {
        let health = self.store.health();
        let numbers = stats_fields(&self.store.stats());
        let numbers = numbers.iter().map(|(name, value)| format!("{name}={value}"));
        let words: Vec<String> = numbers.chain([format!("health={health}")]).collect();
        words.join(" ")
    }
}

fn ok() -> Result<Reply, Refusal> {
    one("OK")
}

fn one(line: impl ToString) -> Result<Reply, Refusal> {
    Ok(vec![line.to_string()])
}

/// Adds to a decimal number, absent counting as 0, and keeps what else goes with the entry.
fn increment(engine: &Engine, defaults: Defaults, key: &[u8], by: i64) -> Result<i64, Refusal> {
    let mut outcome = Ok(0);
    let new = defaults.put_options(engine.now(), Ttl::Default);
    engine.update(key, |entry| {
        outcome = sum(entry, by);
        match (&outcome, entry) {
            (Ok(number), Some(entry)) => Change::Put(number.to_string().into_bytes(), kept(entry)),
            (Ok(number), None) => Change::Put(number.to_string().into_bytes(), new.clone()),
            (Err(_), _) => Change::Keep,
        }
    })?;
    outcome.map_err(Refusal::Usage)
}

fn sum(entry: Option<&Entry>, by: i64) -> Result<i64, String> {
    let old = match entry {
        None => 0,
        Some(entry) => str::from_utf8(&entry.value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or("the value is not a whole number")?,
    };
    old.checked_add(by).ok_or_else(|| format!("{old} and {by} is more than 64 bits hold"))
}

/// Options that give a new value everything the old entry had.
fn kept(entry: &Entry) -> PutOptions {
    let mut options = PutOptions::new().evictable(entry.evictable).codec(entry.codec, entry.schema);
    if let Some(at) = entry.expires_at {
        options = options.expires_at(at);
    }
    options = entry.scopes.iter().fold(options, |options, scope| options.scope(scope.clone()));
    entry.items.iter().fold(options, |options, (kind, bytes)| options.item(*kind, bytes.clone()))
}

/// The numbers of a store, by name.
pub(crate) fn stats_fields(stats: &Stats) -> [(&'static str, u64); 29] {
    [
        ("entries", stats.entries),
        ("live_bytes", stats.live_bytes),
        ("segments", stats.segments),
        ("segment_bytes", stats.segment_bytes),
        ("index_bytes", stats.index_bytes),
        ("image_bytes", stats.image_bytes),
        ("puts", stats.puts),
        ("deletes", stats.deletes),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("writes", stats.writes),
        ("written_bytes", stats.written_bytes),
        ("syncs", stats.syncs),
        ("groups", stats.groups),
        ("grouped", stats.grouped),
        ("sealed", stats.sealed),
        ("retries", stats.retries),
        ("compactions", stats.compactions),
        ("compacted_records", stats.compacted_records),
        ("compacted_bytes", stats.compacted_bytes),
        ("reclaimed_bytes", stats.reclaimed_bytes),
        ("compaction_failures", stats.compaction_failures),
        ("evicted", stats.evicted),
        ("expired", stats.expired),
        ("cut", stats.cut),
        ("refused", stats.refused),
        ("staged", stats.staged),
        ("sequence", stats.sequence),
        ("durable_sequence", stats.durable_sequence),
    ]
}
