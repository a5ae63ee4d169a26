//! The door: opens, closes, and hands each operation to the worker that does it.

mod accounts;
#[cfg(feature = "testing")]
mod audit;
#[cfg(test)]
mod evicted_tests;
mod expiry;
mod follower;
mod keeping;
mod map;
mod opening;
mod place;
mod planning;
mod restoring;
mod room;
#[cfg(test)]
mod sealing_tests;
mod shared;
mod upkeep;

use std::{
    fmt,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use crate::{
    error::{Error, Result},
    options::{Condition, Durability, Options, PutOptions},
    reader::{Entry, Iter, Snapshot, View},
    recovery::RecoveryReport,
    segment::Value,
    stats::Stats,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    types::{SequenceNumber, Timestamp, is_live},
    writer::{Batch, Outcome, Queued, StagedChange},
};

pub use accounts::{PlannedJob, SegmentAccount};
pub use expiry::Swept;
pub use follower::{Follower, Staleness};
pub use map::{CellBytes, LastUses, SegmentMap};
pub use restoring::{Restore, Restored, Verified, restore, verify_backup};
pub use room::Usage;
pub(crate) use shared::Shared;
pub use upkeep::CompactionReport;

/// An open store. A cheap handle: clones share it, and it may be used from any thread.
///
/// The store is closed when the last handle is dropped, best effort; [`Engine::close`] says how it went.
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk};
/// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
/// engine.put("k", "v")?;
/// assert_eq!(engine.get("k")?.as_deref(), Some(&b"v"[..]));
/// engine.close()?;
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub struct Engine {
    shared: Arc<Shared>,
    /// Whether this handle is counted; not any more once it was closed.
    counts: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Whether a store takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It does.
    Good,
    /// Staged writes ([`Durability::Periodic`]) could not be brought to the device in time. They are tried again;
    /// until that succeeds no more are staged.
    Behind,
    /// A staged write ([`Durability::Periodic`]) was dropped because it can never be written: it has become larger than
    /// the limits allow, or stands for a record that is damaged. Until [`Engine::try_recover`].
    StagedLost {
        /// The key, and why.
        cause: String,
    },
    /// Compaction failed, or could not read a segment; nothing is lost, and it is tried again. Writes go on while
    /// there is room.
    CompactionFails {
        /// The failure.
        cause: String,
    },
    /// A write or sync failed: reads go on, writes are refused until [`Engine::try_recover`] succeeds.
    Stopped {
        /// The failure.
        cause: String,
    },
}

impl Health {
    /// A short, stable name: `good`, `behind`, `compaction-fails`, `stopped`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Behind => "behind",
            Self::CompactionFails { .. } => "compaction-fails",
            Self::StagedLost { .. } => "staged-lost",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// What [`Engine::update`] is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave the entry as it is.
    Keep,
    /// Delete it.
    Delete,
    /// Store this value. Its condition, if any, is replaced.
    Put(Vec<u8>, PutOptions),
}

/// A write that is on its way. Dropping the ticket does not take the write back.
#[must_use = "the write is acknowledged only by `wait`"]
#[derive(Debug)]
pub struct Ticket {
    engine: Engine,
    queued: Queued,
}

impl Ticket {
    /// Waits until the write is as safe as was asked.
    ///
    /// # Errors
    /// As [`Engine::put_with`].
    pub fn wait(self) -> Result<SequenceNumber> {
        self.engine.check()?;
        self.engine.check_callback()?;
        sequence_of(self.engine.shared.writer.wait(&self.queued)?)
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clone for Engine {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), counts: true }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let place = Arc::clone(&self.shared.place);
        // Order: whoever opens the same directory waits until it is closed and its lock is free.
        let _open = hold(&place.open);
        if self.counts && self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Best effort: who wants to know calls `close`.
            let _ = self.shared.close();
        }
    }
}

fn sequence_of(outcome: Outcome) -> Result<SequenceNumber> {
    match outcome {
        Outcome::Written(sequence) => Ok(sequence),
        Outcome::Absent => Ok(SequenceNumber::default()),
        Outcome::Refused(found) => Err(Error::Conflict { found }),
    }
}

impl Engine {
    /// Opens the store in `path` with default options; see [`Options::open`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// Refuses what a closed handle or a forked child must not do.
    #[inline]
    fn check(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if self.shared.fork.is_in_child() {
            return Err(Error::Forked);
        }
        Ok(())
    }

    fn check_write(&self) -> Result<()> {
        self.check()?;
        self.check_callback()?;
        if self.shared.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// What a callback of a compaction asks for could wait for its job, by itself or behind another writer.
    fn check_callback(&self) -> Result<()> {
        if self.shared.upkeep.is_own_job() { Err(Error::InCallback) } else { Ok(()) }
    }

    /// Stores `value` under `key`. Clears the expiry and scopes of an older entry.
    ///
    /// # Errors
    /// [`Error::TooLarge`] before a byte is written; [`Error::Stopped`]; [`Error::Io`] if this write failed, and
    /// then it may or may not be there after a crash.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        static PLAIN: LazyLock<PutOptions> = LazyLock::new(PutOptions::new);
        self.put_with(key, value, &PLAIN).map(drop)
    }

    /// Stores `value` under `key` with options. The sequence number is that of the record; 0 if it is only staged
    /// ([`Durability::Periodic`]).
    ///
    /// # Errors
    /// As [`Self::put`]; [`Error::Conflict`] if a condition does not hold.
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &PutOptions,
    ) -> Result<SequenceNumber> {
        self.check_write()?;
        sequence_of(self.shared.writer.put(key.as_ref(), value.as_ref(), options)?)
    }

    /// Queues a put and returns at once: one thread can have many on their way and share their flushes.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; the outcome of the write itself comes from [`Ticket::wait`].
    pub fn submit(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &PutOptions,
    ) -> Result<Ticket> {
        self.check_write()?;
        let queued = self.shared.writer.submit(key.as_ref(), value.as_ref(), options)?;
        Ok(Ticket { engine: self.clone(), queued })
    }

    /// The value of `key`; `None` if it is absent, expired or cut off.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the record is damaged: a wrong value is never returned. [`Error::Io`].
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.check()?;
        if self.shared.writer.staging().len() > 0
            && let Some(staged) = self.staged(key.as_ref())
        {
            return Ok(staged.map(|entry| entry.value));
        }
        self.shared.reader.get(key.as_ref())
    }

    /// The entry of `key` with everything known of it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.check()?;
        match self.staged(key.as_ref()) {
            Some(staged) => Ok(staged),
            None => self.shared.reader.entry(key.as_ref()),
        }
    }

    /// Shows the entry of `key`, if it is there, to `look`, without copying it. `look` must not write to this store.
    ///
    /// ```
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.put("k", "value")?;
    /// assert_eq!(engine.view("k", |entry| entry.value.len())?, Some(5));
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::get`].
    #[inline]
    pub fn view<R>(
        &self,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check()?;
        if self.shared.writer.staging().len() > 0
            && let Some(staged) = self.staged(key.as_ref())
        {
            return Ok(staged.map(|entry| look(entry.view())));
        }
        self.shared.reader.view(key.as_ref(), look)
    }

    /// As [`Self::view`], without the value, which is empty here: it is neither read nor checked. Counts as no use.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn peek<R>(
        &self,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check()?;
        match self.staged(key.as_ref()) {
            Some(staged) => Ok(staged.map(|entry| look(entry.view().without_value()))),
            None => self.shared.reader.peek(key.as_ref(), look),
        }
    }

    /// The values of many keys, in their order. Faster than one by one: waits for memory overlap.
    ///
    /// # Errors
    /// As [`Self::get`], of the first key that fails.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.check()?;
        if self.shared.writer.staging().len() > 0 {
            return keys.iter().map(|key| self.get(key)).collect();
        }
        let keys: Vec<_> = keys.iter().map(AsRef::as_ref).collect();
        self.shared.reader.get_many(&keys)
    }

    /// What a layer above keeps with this store: one value of each type, made when it is first asked for and shared by
    /// every handle of the store. It must hold no handle itself, or the store is never closed.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// engine.attached(AtomicU64::default).fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(engine.clone().attached(AtomicU64::default).load(Ordering::Relaxed), 1);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    pub fn attached<T: std::any::Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.shared.attached.get(make)
    }

    /// Whether `key` is there. Reads no value and does not count as a use.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        match self.staged(key.as_ref()) {
            Some(staged) => Ok(staged.is_some()),
            None => self.shared.reader.contains(key.as_ref()),
        }
    }

    /// What is staged for `key`: an entry, or `Some(None)` if it is staged to be gone or has expired.
    fn staged(&self, key: &[u8]) -> Option<Option<Entry>> {
        let change = self.shared.writer.staging().get(key)?;
        let now = self.now();
        Some(match change {
            StagedChange::Put(value, options) if is_live(options.expires_at, now) => {
                Some(Entry::new(value, options))
            }
            StagedChange::Put(..) | StagedChange::Delete => None,
        })
    }

    /// Deletes `key`; says whether a live entry was there. An absent key writes nothing, unless it is absent because
    /// its entry has expired or was evicted: that is written down, so that no crash and no clock brings the entry back.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check_write()?;
        let outcome = self.shared.writer.delete(key.as_ref(), None)?;
        Ok(matches!(outcome, Outcome::Written(_)))
    }

    /// As [`Self::delete`], with a durability of its own.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn delete_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<bool> {
        self.check_write()?;
        let outcome = self.shared.writer.delete(key.as_ref(), Some(durability))?;
        Ok(matches!(outcome, Outcome::Written(_)))
    }

    /// Gives `key` a new expiry (`None` = never) without writing its value again; says whether it was there.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn touch(&self, key: impl AsRef<[u8]>, expires_at: Option<Timestamp>) -> Result<bool> {
        self.check_write()?;
        let outcome = self.shared.writer.touch(key.as_ref(), expires_at)?;
        Ok(matches!(outcome, Outcome::Written(_)))
    }

    /// Lets `key` live for `lifetime` from now on, without writing its value again; says whether it was there. For
    /// entries that live as long as they are used: however often it is called, it writes at most eight small records
    /// in a lifetime. A crash may take back up to an eighth of the lifetime; it never adds to it.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn slide(&self, key: impl AsRef<[u8]>, lifetime: Duration) -> Result<bool> {
        self.check_write()?;
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let outcome = self.shared.writer.slide(key.as_ref(), lifetime_ms)?;
        Ok(matches!(outcome, Outcome::Written(_)))
    }

    /// Reads `key`, asks `change` what to do, and does it, atomically: if another write, touch or slide comes between,
    /// `change` is asked again with what is there then. `None` if it kept what was there, or was to delete what was not.
    /// `change` must not write `key` itself: it would be asked for ever.
    ///
    /// # Errors
    /// As [`Self::put`] and [`Self::get`].
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<&Entry>) -> Change,
    ) -> Result<Option<SequenceNumber>> {
        self.check_write()?;
        let key = key.as_ref();
        loop {
            self.shared.writer.settle_staged(key)?;
            let old = self.shared.reader.entry(key)?;
            let outcome = match (change(old.as_ref()), &old) {
                (Change::Keep, _) => return Ok(None),
                (Change::Delete, old) => {
                    let found = old.as_ref().map(Entry::version);
                    let condition = found.map_or(Condition::Absent, Condition::Unchanged);
                    match self.shared.writer.delete_if(key, condition)? {
                        Outcome::Absent => return Ok(None),
                        outcome => outcome,
                    }
                }
                (Change::Put(value, options), old) => {
                    let options = match old {
                        Some(old) => options.only_if_unchanged(old.version()),
                        None => options.only_if_absent(),
                    };
                    self.shared.writer.put(key, &value, &options)?
                }
            };
            match outcome {
                Outcome::Written(sequence) => return Ok(Some(sequence)),
                Outcome::Absent | Outcome::Refused(_) => {}
            }
        }
    }

    /// Ends every entry of a scope, at a cost that does not depend on how many there are.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn cut_scope(&self, scope: impl AsRef<[u8]>) -> Result<()> {
        self.check_write()?;
        self.shared.writer.cut_scope(scope.as_ref()).map(drop)
    }

    /// Carries out all changes of a batch, or none.
    ///
    /// # Errors
    /// As [`Self::put_with`].
    pub fn commit(&self, batch: Batch) -> Result<()> {
        self.check_write()?;
        sequence_of(self.shared.writer.commit_batch(batch)?).map(drop)
    }

    /// The store at this moment, to be read at leisure; writers do not wait for it.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::Io`] if staged writes could not be taken in.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.check()?;
        self.shared.writer.between_turns(|| self.shared.reader.snapshot())
    }

    /// All entries as of this moment; see [`Snapshot::iter`].
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn iter(&self) -> Result<Iter> {
        Ok(self.snapshot()?.iter())
    }

    /// Everything acknowledged so far, in whatever mode, is on the device when this returns.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.check_write()?;
        self.shared.writer.sync()
    }

    /// Writes the index to disk, so that the next opening reads less.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn checkpoint(&self) -> Result<()> {
        self.check_write()?;
        self.shared.write_checkpoint()
    }

    /// Carries out one piece of background work that is due; `false` if nothing was. Needed only with
    /// [`Options::background`] off.
    ///
    /// # Errors
    /// What that work failed with; the store's health says so too.
    pub fn step(&self) -> Result<bool> {
        self.check_write()?;
        self.shared.step()
    }

    /// Store time: wall time that never goes back; see [`StoreClock`](crate::io::StoreClock).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.lookup.clock.now()
    }

    /// Whether the store takes writes.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.shared.writer.stopped() {
            Some(_) if self.shared.options.read_only => Health::Good,
            Some(cause) => Health::Stopped { cause },
            None if self.shared.writer.is_overdue() => Health::Behind,
            None => match (self.shared.writer.lost(), self.shared.upkeep.failure()) {
                (Some(cause), _) => Health::StagedLost { cause },
                (None, Some(cause)) => Health::CompactionFails { cause },
                (None, None) if self.shared.lacks_background() => {
                    let cause =
                        "the system gave no thread for it; try_recover asks again".to_owned();
                    Health::CompactionFails { cause }
                }
                (None, None) => Health::Good,
            },
        }
    }

    /// After a failed write or sync, once the cause is gone: writes what is only in memory into new files and takes
    /// writes again. Everything that had been acknowledged is there. Does nothing on a healthy store.
    ///
    /// # Errors
    /// [`Error::Io`] if it still fails; [`Error::Full`] if snapshots hold the room that it needs. Call again later.
    pub fn try_recover(&self) -> Result<()> {
        self.check_write()?;
        self.shared.try_recover()?;
        opening::ensure_background(&self.shared);
        self.shared.writer.flush_overdue()
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (newest, durable, _) = self.shared.writer.frontier();
        Stats {
            staged: self.shared.writer.staging().len() as u64,
            sequence: newest.0,
            durable_sequence: durable.0,
            ..self.shared.lookup.sizes()
        }
    }

    /// What opening found.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.shared.home.dir()
    }
}
