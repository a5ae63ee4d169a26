//! A reader beside a writer that may be another process: no lock, not one byte written. It reads the store as a crash at
//! that moment would have left it, which is a state that recovery understands, and reads it again when asked to.

use std::{fmt, path::Path, sync::Arc};

use super::{
    accounts::{SegmentAccount, accounts},
    hold,
    opening::prepare,
    shared::{lookup_of, written_policy},
};
use crate::{
    error::{Error, Result},
    format::{
        file_name,
        record::{Decoded, decode_head},
    },
    io::{Access, read_up_to_at},
    lookup::Lookup,
    options::{Evict, Options},
    reader::{Changes, Entry, Iter, Reader, Snapshot, View},
    recovery::{RecoveryReport, recover},
    segment::{
        FILE_BYTES_MAX, Home, Segment, Value,
        manifest_file::{Loaded, load},
        manifest_state::ManifestState,
        tail::Rest,
    },
    stats::Stats,
    sync::{Mutex, PoisonError, RwLock},
    types::{SequenceNumber, Timestamp},
};

/// A store that another process may be writing to, as it was at one moment: opened by [`Options::open_reader`], brought
/// up to date by [`Follower::refresh`]. Any number of them may read a store, whether a writer has it or not; a writer
/// never waits for them and does not know of them.
///
/// What it shows is what a crash at the moment of its refresh would leave: everything up to one write, nothing after it.
/// A write is shown as soon as its record is in the file. For a write that waits for the device that is before its call
/// returns. If the call then fails, the store's own readers never see the write, and a follower may show it, complete,
/// until it refreshes after [`Engine::try_recover`](crate::Engine::try_recover) or after a later write of the same key;
/// if the store is reopened instead, the store may show that write, too. Writes that
/// only the writer's process has ([`Durability::Buffered`](crate::Durability::Buffered), staged ones) are not in it.
/// Entries expire as time passes; what a limit made the writer forget may still be here, because that is not written
/// before the next checkpoint. Segments that compaction removes stay readable here until the next refresh, and their
/// disk space stays in use so long (on systems that cannot remove an open file: the removal waits).
///
/// It may be used from any thread.
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk};
/// let disk = MemoryDisk::new();
/// let writer = Options::new().disk(disk.clone()).open("store")?;
/// writer.put("k", "1")?;
/// let reader = Options::new().disk(disk).open_reader("store")?;
/// assert_eq!(reader.get("k")?.as_deref(), Some(&b"1"[..]));
///
/// writer.put("k", "2")?;
/// assert_eq!(reader.get("k")?.as_deref(), Some(&b"1"[..]));
/// assert!(!reader.staleness()?.is_current);
/// assert!(reader.refresh()?);
/// assert_eq!(reader.get("k")?.as_deref(), Some(&b"2"[..]));
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub struct Follower {
    pub(super) home: Home,
    options: Options,
    seen: RwLock<Arc<Seen>>,
    /// Held while the files are looked at: of two looks the later one is shown last.
    looking: Mutex<()>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// How old what a [`Follower`] shows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staleness {
    /// The newest write that it shows.
    pub sequence: SequenceNumber,
    /// Milliseconds of store time since it looked at the files.
    pub age_ms: u64,
    /// Whether nothing has been written to the files since.
    pub is_current: bool,
}

/// The store at the moment when it was read.
pub(super) struct Seen {
    pub(super) lookup: Arc<Lookup>,
    pub(super) reader: Reader,
    newest: SequenceNumber,
    read_at: Timestamp,
    manifest: Mutex<Mark>,
    /// What that manifest says, but for marks and times.
    listed: ManifestState,
    /// What stood behind the records of the newest unsealed segment.
    rest: Rest,
    pub(super) report: RecoveryReport,
    /// Under which policy the epochs were written; `None` if they mean nothing.
    pub(super) written: Option<Evict>,
}

/// Tells two states of a manifest apart: a new one has another generation in its header, and edits only lengthen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    header: [u8; 64],
    bytes: u64,
}

impl Options {
    /// Reads the store in `path` without opening it: beside a writer, on a read-only medium, any number of times. Takes
    /// no lock and writes nothing. Of the options only disk, clock, read mode and recovery policy matter.
    ///
    /// Costs what opening after a crash costs, in time and memory; nothing is shared with other readers but the pages of
    /// the files.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::UnknownFormat`]; [`Error::Io`], with [`std::io::ErrorKind::ResourceBusy`] if the
    /// writer never let it finish; [`Error::Corruption`] if acknowledged data is damaged and the policy is strict.
    pub fn open_reader(self, path: impl AsRef<Path>) -> Result<Follower> {
        let options = self.read_only(true).create(false);
        let home = Home::absolute(&options.disk, path.as_ref())?;
        let seen = read(&home, &options, Timestamp(0))?;
        Ok(Follower { home, options, seen: RwLock::new(Arc::new(seen)), looking: Mutex::new(()) })
    }
}

impl Follower {
    /// Looks at the files again, if anything was written to them since; says whether it did. What was read before stays
    /// readable through snapshots and iterators that were taken from it. On an error everything stays as it was.
    ///
    /// Costs one small read if nothing changed, else as much as [`Options::open_reader`]; while it runs, memory holds the
    /// old index and the new one.
    ///
    /// # Errors
    /// As [`Options::open_reader`].
    pub fn refresh(&self) -> Result<bool> {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.seen();
        if self.is_current(&seen)? {
            return Ok(false);
        }
        let new = read(&self.home, &self.options, seen.lookup.clock.confirmed())?;
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// How old what it shows is, compared with the files.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAStore`] if the store is gone.
    pub fn staleness(&self) -> Result<Staleness> {
        let seen = self.seen();
        Ok(Staleness {
            sequence: seen.newest,
            age_ms: seen.lookup.clock.now().0.saturating_sub(seen.read_at.0),
            is_current: self.is_current(&seen)?,
        })
    }

    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_current(&self, seen: &Seen) -> Result<bool> {
        let now = mark(&self.home)?;
        let is_as_seen = now == *hold(&seen.manifest);
        if !is_as_seen && !self.says_the_same(seen)? {
            return Ok(false);
        }
        // Whatever was appended since then is looked at again.
        *hold(&seen.manifest) = now;
        let table = seen.lookup.catalog.table();
        let unsealed = table.iter().filter(|segment| segment.as_sealed().is_none());
        match unsealed.max_by_key(|segment| segment.id()) {
            None => Ok(true),
            Some(last) => self.is_end(last, seen),
        }
    }

    /// Whether the manifest got nothing but marks and times since it was read: those are no news.
    fn says_the_same(&self, seen: &Seen) -> Result<bool> {
        let loaded = load(&self.home)?;
        let is_sound = |loaded: &Loaded| loaded.torn.is_none() && loaded.damaged.is_none();
        Ok(loaded.filter(is_sound).is_some_and(|loaded| without_marks(loaded.state) == seen.listed))
    }

    /// Whether no record follows those that were seen of an unsealed segment, but what was seen and did not count: a batch
    /// whose marker never came.
    fn is_end(&self, segment: &Segment, seen: &Seen) -> Result<bool> {
        /// More than the longest head has.
        const HEAD_BYTES_MAX: usize = 128 << 10;
        let at = segment.file_bytes();
        let failed = |source| Error::io("read", &segment.path, source);
        let file = match self.home.disk.open(&segment.path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(failed(source)),
        };
        let mut start = [0; 8];
        read_up_to_at(file.as_ref(), &mut start, at).map_err(failed)?;
        if start == [0; 8] {
            return Ok(true);
        }
        let mut bytes = vec![0; HEAD_BYTES_MAX];
        let read = read_up_to_at(file.as_ref(), &mut bytes, at).map_err(failed)?;
        // What a crash tore is no record, and no news.
        let next = decode_head(&bytes[..read], segment.add.salt, at);
        if !matches!(next, Ok(Decoded::Head(head)) if head.sequence > seen.newest) {
            return Ok(true);
        }
        let length = file.bytes().map_err(failed)?.min(FILE_BYTES_MAX).saturating_sub(at);
        let mut rest = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = read_up_to_at(file.as_ref(), &mut rest, at).map_err(failed)?;
        Ok(Rest::of(&rest[..read]) == seen.rest)
    }

    /// The value of `key`; `None` if it is absent, expired or cut off.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the record is damaged: a wrong value is never returned. [`Error::Io`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.seen().reader.get(key.as_ref())
    }

    /// The entry of `key` with everything known of it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.seen().reader.entry(key.as_ref())
    }

    /// Shows the entry of `key`, if it is there, to `look`, without copying it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn view<R>(
        &self,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        self.seen().reader.view(key.as_ref(), look)
    }

    /// As [`Self::view`], without the value, which is empty here: it is neither read nor checked.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn peek<R>(
        &self,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        self.seen().reader.peek(key.as_ref(), look)
    }

    /// Whether `key` is there. Reads no value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.seen().reader.contains(key.as_ref())
    }

    /// The store as it was last read, to be read at leisure; it stays as it is through a refresh.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.seen().reader.snapshot()
    }

    /// All entries; see [`Snapshot::iter`].
    #[must_use]
    pub fn iter(&self) -> Iter {
        self.snapshot().iter()
    }

    /// The first `limit` writes after the one with the number `since`; see
    /// [`Engine::changes_since`](crate::Engine::changes_since).
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::Io`] of the first record that cannot be read.
    pub fn changes_since(&self, since: SequenceNumber, limit: usize) -> Result<Changes> {
        let seen = self.seen();
        seen.reader.changes(since, (seen.newest, None), limit)
    }

    /// Sizes; counters are this reader's own.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let seen = self.seen();
        let sequence = seen.newest.0;
        Stats { sequence, durable_sequence: sequence, ..seen.lookup.sizes() }
    }

    /// What each segment holds; see [`Engine::segments`](crate::Engine::segments).
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentAccount> {
        accounts(&self.seen().lookup.catalog.table())
    }

    /// Store time: wall time that never goes back; see [`StoreClock`](crate::io::StoreClock).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.seen().lookup.clock.now()
    }

    /// What the last look at the files found: of a store that a writer has, what a crash at that moment would have left.
    #[must_use]
    pub fn recovery_report(&self) -> RecoveryReport {
        self.seen().report.clone()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.home.dir()
    }
}

/// What a manifest says of files and properties.
fn without_marks(state: ManifestState) -> ManifestState {
    ManifestState {
        synced: SequenceNumber::default(),
        next_sequence: SequenceNumber::default(),
        high_water: Timestamp::default(),
        ..state
    }
}

fn mark(home: &Home) -> Result<Mark> {
    let path = home.path(file_name::MANIFEST);
    let failed = |operation| {
        let path = path.clone();
        move |source| Error::io(operation, path, source)
    };
    let file = match home.disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Recovery says what that means.
            return Ok(Mark { header: [0; 64], bytes: 0 });
        }
        Err(source) => return Err(failed("open")(source)),
    };
    let mut header = [0; 64];
    read_up_to_at(file.as_ref(), &mut header, 0).map_err(failed("read"))?;
    Ok(Mark { header, bytes: file.bytes().map_err(failed("read"))? })
}

/// Reads the store as it is now.
///
/// Beside a writer, a look at the files can meet a file that is gone already, or one whose beginning was read before
/// its end was written. It then looks like damage, until one looks again. Damage that stays while the manifest does not
/// change is real.
fn read(home: &Home, options: &Options, time: Timestamp) -> Result<Seen> {
    const LOOKS_MAX: u32 = 64;
    const LOOKS_UNCHANGED: u32 = 4;
    // One look is at one directory, even if another takes its name meanwhile.
    let home = &prepare(home, options)?;
    let mut unchanged = 0;
    let mut before = mark(home)?;
    for _ in 0..LOOKS_MAX {
        let read = read_once(home, options, before, time);
        if matches!(&read, Ok(seen) if seen.report.damaged.is_empty()) {
            return read;
        }
        let after = mark(home)?;
        unchanged = if after == before { unchanged + 1 } else { 0 };
        if unchanged == LOOKS_UNCHANGED {
            return read;
        }
        before = after;
    }
    Err(Error::unsteady("read", home.dir()))
}

fn read_once(home: &Home, options: &Options, manifest: Mark, time: Timestamp) -> Result<Seen> {
    let mut recovered = recover(home, options)?;
    recovered.high_water = recovered.high_water.max(time);
    let report = std::mem::take(&mut recovered.report);
    let rest = recovered.unsealed.last().map(|open| open.rest).unwrap_or_default();
    let unsealed = recovered.unsealed.iter().map(|open| open.newest);
    let sealed = recovered.catalog.table();
    let sealed = sealed.iter().filter_map(|segment| Some(segment.as_sealed()?.sequence_max));
    let newest = sealed.chain(unsealed).max().unwrap_or_default();
    // The epochs keep the meaning they have on disk: nothing is evicted here.
    let written = written_policy(&hold(&recovered.manifest));
    let listed = without_marks(hold(&recovered.manifest).state().clone());
    let manifest = Mutex::new(manifest);
    let options = options.clone().evict(written.unwrap_or(options.evict));
    let lookup = lookup_of(recovered, &options);
    let reader = Reader::new(Arc::clone(&lookup));
    let read_at = lookup.clock.now();
    Ok(Seen { lookup, reader, newest, read_at, manifest, listed, rest, report, written })
}
