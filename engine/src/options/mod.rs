//! Every setting and limit of a store, with its default and the reason for it. Validated once, at the door.

mod put;

use std::{fmt, sync::Arc};

use crate::{
    error::{Error, Result},
    format::{
        record::{EXPIRY_BYTES, EXTENSION_BYTES, HEADER_BYTES, VALUE_BYTES_MAX},
        segment_header::SEGMENT_HEADER_BYTES,
    },
    io::{Clock, Disk, OsClock, OsDisk},
    knobs::Knobs,
    space::least_bytes,
};

pub use put::{Condition, EntryVersion, PutOptions};

/// What an acknowledged write has behind it. See `docs/durability.md` for the table of what survives what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It is in this process's memory; a process crash may lose the last [`Options::flush_interval_ms`].
    Buffered,
    /// The operating system has it; it survives a crash of the process. A power cut may lose the last
    /// [`Options::sync_interval_ms`]. The default.
    #[default]
    Os,
    /// The device has it. Many writers share one flush.
    Sync,
    /// It is staged in memory; every [`Options::periodic_ms`] all staged writes go to the device, as one atomic batch if
    /// they fit a segment, and a key written many times in between is written once. Made for SD cards.
    Periodic,
}

/// What to do about damage that recovery finds in acknowledged data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RecoveryPolicy {
    /// Refuse to open, with the file and offset. The default: nobody is served less than was stored unasked.
    #[default]
    Strict,
    /// Leave damaged records out, report them, set their file aside, and serve the rest.
    SkipRecord,
    /// Also do without whole segments and without a manifest: serve whatever can be read, and report the rest.
    Salvage,
}

/// How sealed segments are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// Map on 64-bit machines, positioned reads on others.
    #[default]
    Auto,
    /// Memory maps: fastest; an unreadable block or a file cut by a stranger kills the process.
    Map,
    /// Positioned reads: slower; every fault is an error.
    Positioned,
}

/// Which entry goes first when a limit is reached. Only entries stored as evictable ([`PutOptions::evictable`]) ever
/// go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evict {
    /// The one that was not used for the longest time; reads and writes count. The default.
    #[default]
    Lru,
    /// S3-FIFO (Yang and others, SOSP 2023): what is asked for once goes soon, what is asked for again stays.
    S3Fifo,
    /// The one that was stored first; reads do not count.
    Fifo,
    /// None: a write that finds no room is refused with [`Error::Full`].
    None,
}

/// When and how fast compaction works by itself. `Engine::compact` works at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Whether it works by itself. Default: yes. A store at its limit compacts all the same.
    pub automatic: bool,
    /// It works when more than this share of the segments' bytes is dead, in percent from 1 to 90. Default 20.
    pub garbage_percent: u32,
    /// Most bytes it writes in a second; `None` = as fast as it can. Default: `None`.
    pub bytes_per_second: Option<u64>,
    /// The hours of the day (UTC) in which it works, from the first up to but not including the second; may wrap
    /// midnight. `None` = always. Default: `None`.
    pub hours: Option<(u8, u8)>,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { automatic: true, garbage_percent: 20, bytes_per_second: None, hours: None }
    }
}

/// Somebody who is told how far opening is: parts done of the index, and parts in all.
#[derive(Clone, Default)]
pub struct OnOpening(Option<Arc<dyn Fn(u64, u64) + Send + Sync>>);

impl OnOpening {
    pub(crate) fn tell(&self, done: usize, total: usize) {
        if let Some(tell) = &self.0 {
            tell(done as u64, total as u64);
        }
    }
}

impl fmt::Debug for OnOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnOpening({})", if self.0.is_some() { "somebody" } else { "nobody" })
    }
}

/// Settings of a store.
///
/// ```
/// use tierce_engine::{Durability, Options, io::MemoryDisk};
/// let engine = Options::new().durability(Durability::Sync).disk(MemoryDisk::new()).open("store")?;
/// # Ok::<(), tierce_engine::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Default durability of writes. Default: [`Durability::Os`].
    pub durability: Durability,
    /// Target size of a segment file in bytes, [`Self::SEGMENT_BYTES_MIN`] to [`Self::SEGMENT_BYTES_MAX`].
    /// Default 8 MiB: a whole number of erase units of an SD card, and a RAM image that stays small.
    pub segment_bytes: u64,
    /// Longest value accepted, in bytes. Default and most: 1 GiB. Larger than a segment gets a private segment.
    pub value_bytes_max: u64,
    /// Longest time a [`Durability::Buffered`] write stays in this process only. Default 100 ms.
    pub flush_interval_ms: u64,
    /// Longest time a [`Durability::Os`] or buffered write stays off the device. Default 1,000 ms.
    pub sync_interval_ms: u64,
    /// How often [`Durability::Periodic`] writes go to the device. Default 5,000 ms.
    pub periodic_ms: u64,
    /// Bytes of staged periodic writes that force a flush before its time; a write that is larger is not staged. 1 to
    /// [`Self::PERIODIC_BYTES_MAX`]. Default 1 MiB.
    pub periodic_bytes_max: u64,
    /// What to do about damage found at open. Default: [`RecoveryPolicy::Strict`].
    pub recovery: RecoveryPolicy,
    /// Believe a wall clock that is far ahead of the store's time at once, at opening, and remove what has expired by it.
    /// Default: no; see [`Engine::clock_doubt`](crate::Engine::clock_doubt).
    pub trusts_clock: bool,
    /// How sealed segments are read. Default: [`ReadMode::Auto`].
    pub read_mode: ReadMode,
    /// Whether a missing store is created. Default: yes.
    pub create: bool,
    /// Whether this handle may only read; not a byte is written then. Default: no.
    pub read_only: bool,
    /// Whether a thread does the background work. Default: yes. Without it, call `Engine::step`.
    pub background: bool,
    /// Most bytes of all files in the directory together, at every moment. `None` = no limit, the default. With a
    /// limit, segments are small against it (256 KiB for 64 MiB), and three of them are kept back for compaction.
    pub max_bytes: Option<u64>,
    /// Bytes of the file system that stay free. Default 0.
    pub min_free_bytes: u64,
    /// Most bytes of the records of all live entries together. `None` = no limit, the default.
    pub max_live_bytes: Option<u64>,
    /// Most live entries. `None` = no limit, the default. What a layer above keeps for itself is not counted, once it has
    /// said how much that is: [`Engine::set_internal_entries`](crate::Engine::set_internal_entries).
    pub max_entries: Option<u64>,
    /// Whether a layer above will say so: until then nothing is evicted only because the limit was lowered. Default: no.
    pub internal_entries: bool,
    /// Which entry goes first when a limit is reached. Default: [`Evict::Lru`].
    pub evict: Evict,
    /// When and how fast compaction works by itself.
    pub compaction: Compaction,
    /// The disk. Default: [`OsDisk`].
    pub disk: Arc<dyn Disk>,
    /// The clock. Default: [`OsClock`].
    pub clock: Arc<dyn Clock>,
    /// Told how far opening is. Default: nobody.
    pub on_opening: OnOpening,
    /// Keep only this many bits of the key hash, so that different keys collide.
    #[cfg(feature = "testing")]
    pub hash_bits: u32,
    /// Production values; tests set others.
    pub(crate) knobs: Knobs,
}

impl Options {
    /// Smallest [`Self::segment_bytes`]: a header and a few records.
    pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;
    /// Largest [`Self::segment_bytes`].
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
    /// Largest [`Self::value_bytes_max`]. While it is written, a value takes about four times its length of memory: the
    /// caller's, its record, and the image of its segment, which may be moved once as it grows.
    pub const VALUE_BYTES_MAX: u64 = 1 << 30;
    /// Largest [`Self::periodic_bytes_max`]: staged writes are memory of this process.
    pub const PERIODIC_BYTES_MAX: u64 = 1 << 30;
    /// Most bytes in one batch, so that a segment that holds it stays addressable.
    pub const BATCH_BYTES_MAX: u64 = (2 << 30) - (1 << 20);

    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`Self::durability`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets [`Self::segment_bytes`].
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets [`Self::value_bytes_max`].
    #[must_use]
    pub const fn value_bytes_max(mut self, bytes: u64) -> Self {
        self.value_bytes_max = bytes;
        self
    }

    /// Sets [`Self::flush_interval_ms`].
    #[must_use]
    pub const fn flush_interval_ms(mut self, ms: u64) -> Self {
        self.flush_interval_ms = ms;
        self
    }

    /// Sets [`Self::sync_interval_ms`].
    #[must_use]
    pub const fn sync_interval_ms(mut self, ms: u64) -> Self {
        self.sync_interval_ms = ms;
        self
    }

    /// Sets [`Self::periodic_ms`].
    #[must_use]
    pub const fn periodic_ms(mut self, ms: u64) -> Self {
        self.periodic_ms = ms;
        self
    }

    /// Sets [`Self::recovery`].
    #[must_use]
    pub const fn recovery(mut self, policy: RecoveryPolicy) -> Self {
        self.recovery = policy;
        self
    }

    /// Sets [`Self::trusts_clock`].
    #[must_use]
    pub const fn trust_clock(mut self, trusts: bool) -> Self {
        self.trusts_clock = trusts;
        self
    }

    /// Sets [`Self::read_mode`].
    #[must_use]
    pub const fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets [`Self::create`].
    #[must_use]
    pub const fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets [`Self::read_only`].
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets [`Self::background`].
    #[must_use]
    pub const fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Sets [`Self::max_bytes`].
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets [`Self::min_free_bytes`].
    #[must_use]
    pub const fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.min_free_bytes = bytes;
        self
    }

    /// Sets [`Self::max_live_bytes`].
    #[must_use]
    pub const fn max_live_bytes(mut self, bytes: u64) -> Self {
        self.max_live_bytes = Some(bytes);
        self
    }

    /// Sets [`Self::internal_entries`].
    #[must_use]
    pub const fn internal_entries(mut self, yes: bool) -> Self {
        self.internal_entries = yes;
        self
    }

    /// Sets [`Self::max_entries`].
    #[must_use]
    pub const fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Sets [`Self::evict`].
    #[must_use]
    pub const fn evict(mut self, evict: Evict) -> Self {
        self.evict = evict;
        self
    }

    /// Sets [`Self::compaction`].
    #[must_use]
    pub fn compaction(mut self, compaction: Compaction) -> Self {
        self.compaction = compaction;
        self
    }

    /// Sets [`Self::disk`].
    #[must_use]
    pub fn disk(mut self, disk: impl Disk + 'static) -> Self {
        self.disk = Arc::new(disk);
        self
    }

    /// Sets [`Self::clock`].
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets [`Self::on_opening`]: `tell` gets parts done and parts in all, a few hundred times while the index is
    /// filled, from the thread that opens.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let disk = MemoryDisk::new();
    /// Options::new().disk(disk.clone()).open("store")?.put("k", "v")?;
    /// let told = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&told);
    /// let tell = move |_done, _total| { count.fetch_add(1, Ordering::Relaxed); };
    /// Options::new().disk(disk).on_opening(tell).open("store")?;
    /// assert!(told.load(Ordering::Relaxed) > 0);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    #[must_use]
    pub fn on_opening(mut self, tell: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_opening = OnOpening(Some(Arc::new(tell)));
        self
    }

    /// Keeps only `bits` bits of the key hash.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn hash_bits(mut self, bits: u32) -> Self {
        self.hash_bits = bits;
        self
    }

    /// Sets the test knobs. For the project's own tests: production code runs with the defaults.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn knobs(mut self, knobs: Knobs) -> Self {
        self.knobs = knobs;
        self
    }

    /// Whether sealed segments are mapped.
    pub(crate) const fn maps_segments(&self) -> bool {
        match self.read_mode {
            ReadMode::Auto => cfg!(target_pointer_width = "64"),
            ReadMode::Map => true,
            ReadMode::Positioned => false,
        }
    }

    /// Checks every setting and names all that make no sense at once.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`].
    pub fn validate(&self) -> Result<()> {
        let mut complaints = Vec::new();
        let segment = Self::SEGMENT_BYTES_MIN..=Self::SEGMENT_BYTES_MAX;
        if !segment.contains(&self.segment_bytes) {
            complaints.push(format!(
                "segment_bytes is {}, allowed are {} to {}",
                self.segment_bytes,
                segment.start(),
                segment.end()
            ));
        }
        if self.value_bytes_max > Self::VALUE_BYTES_MAX {
            complaints.push(format!(
                "value_bytes_max is {}, at most {} is allowed",
                self.value_bytes_max,
                Self::VALUE_BYTES_MAX
            ));
        }
        for (name, ms) in [
            ("flush_interval_ms", self.flush_interval_ms),
            ("sync_interval_ms", self.sync_interval_ms),
            ("periodic_ms", self.periodic_ms),
        ] {
            if ms == 0 {
                complaints.push(format!("{name} is 0; use Durability::Sync to wait for nothing"));
            }
        }
        if !(1..=Self::PERIODIC_BYTES_MAX).contains(&self.periodic_bytes_max) {
            complaints.push(format!(
                "periodic_bytes_max is {}, allowed are 1 to {}",
                self.periodic_bytes_max,
                Self::PERIODIC_BYTES_MAX
            ));
        }
        let least = least_bytes(Self::SEGMENT_BYTES_MIN);
        if let Some(limit) = self.max_bytes.filter(|limit| *limit < least) {
            complaints.push(format!("max_bytes is {limit}, the least that works is {least}"));
        }
        if self.max_entries == Some(0) || self.max_live_bytes == Some(0) {
            complaints.push("a limit of 0 leaves room for nothing".to_owned());
        }
        let Compaction { garbage_percent, bytes_per_second, hours, .. } = &self.compaction;
        if !(1..=90).contains(garbage_percent) {
            complaints.push(format!("garbage_percent is {garbage_percent}, allowed are 1 to 90"));
        }
        if *bytes_per_second == Some(0) {
            complaints.push("bytes_per_second is 0; pause compaction, or set automatic".to_owned());
        }
        if hours.is_some_and(|(from, to)| from > 23 || to > 24 || from == to) {
            complaints.push("hours go from 0 to 23, up to but not including 1 to 24".to_owned());
        }
        if complaints.is_empty() { Ok(()) } else { Err(Error::InvalidOptions { complaints }) }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Os,
            segment_bytes: 8 << 20,
            value_bytes_max: Self::VALUE_BYTES_MAX,
            flush_interval_ms: 100,
            sync_interval_ms: 1_000,
            periodic_ms: 5_000,
            periodic_bytes_max: 1 << 20,
            recovery: RecoveryPolicy::Strict,
            trusts_clock: false,
            read_mode: ReadMode::Auto,
            create: true,
            read_only: false,
            background: true,
            max_bytes: None,
            min_free_bytes: 0,
            max_live_bytes: None,
            max_entries: None,
            internal_entries: false,
            evict: Evict::Lru,
            compaction: Compaction::default(),
            disk: Arc::new(OsDisk),
            clock: Arc::new(OsClock),
            on_opening: OnOpening::default(),
            #[cfg(feature = "testing")]
            hash_bits: u64::BITS,
            knobs: Knobs::new(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("durability", &self.durability)
            .field("segment_bytes", &self.segment_bytes)
            .field("value_bytes_max", &self.value_bytes_max)
            .field("flush_interval_ms", &self.flush_interval_ms)
            .field("sync_interval_ms", &self.sync_interval_ms)
            .field("periodic_ms", &self.periodic_ms)
            .field("recovery", &self.recovery)
            .field("trusts_clock", &self.trusts_clock)
            .field("read_mode", &self.read_mode)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

// The hard maxima of the format hold every record that the options allow.
const _: () = assert!(
    Options::VALUE_BYTES_MAX <= VALUE_BYTES_MAX
        && Options::SEGMENT_BYTES_MIN > (SEGMENT_HEADER_BYTES + HEADER_BYTES) as u64
        && (EXPIRY_BYTES + EXTENSION_BYTES) < SEGMENT_HEADER_BYTES
);
