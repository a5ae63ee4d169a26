//! How thoroughly a check looks, with how many threads, and who watches it.

use std::{fmt, ops::ControlFlow};

use crate::{
    error::{Error, Result},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// How thoroughly a check looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckLevel {
    /// Manifest, directory, lengths, headers, footers, and the checkpoint's checksums. No record is read.
    Quick,
    /// Everything: every checksum, every record decoded, footers and checkpoint compared with the records.
    #[default]
    Full,
    /// [`Self::Quick`], and the records of every `t`-th sealed segment beginning at the `n`-th, and those of all
    /// unsealed ones. `t` checks with `n` from 1 to `t` read every record.
    Sample {
        /// Which part, from 1 on.
        n: u64,
        /// Of how many.
        t: u64,
    },
}

impl fmt::Display for CheckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quick => f.write_str("quick"),
            Self::Full => f.write_str("full"),
            Self::Sample { n, t } => write!(f, "sample {n}/{t}"),
        }
    }
}

impl CheckLevel {
    /// Whether the records of the sealed segment at this place in the order of ids are read.
    pub(super) const fn reads(self, place: usize) -> bool {
        match self {
            Self::Quick => false,
            Self::Full => true,
            Self::Sample { n, t } => place as u64 % t == n - 1,
        }
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, as far as is known. Grows if the store does meanwhile.
    pub total: u64,
}

type Tell<'a> = Box<dyn FnMut(CheckProgress) -> ControlFlow<()> + Send + 'a>;

/// Settings of a check.
///
/// ```
/// use std::{ops::ControlFlow, path::Path, sync::Arc};
/// use tierce_engine::{Options, check::{CheckLevel, CheckOptions, check_store_with}, io::{Disk, MemoryDisk}};
///
/// let disk = MemoryDisk::new();
/// let engine = Options::new().disk(disk.clone()).open("store")?;
/// engine.put("key", "value")?;
/// engine.close()?;
///
/// let mut seen = 0;
/// let options = CheckOptions::new().level(CheckLevel::Quick).progress(|progress| {
///     seen = progress.bytes;
///     ControlFlow::Continue(())
/// });
/// let disk: Arc<dyn Disk> = Arc::new(disk);
/// assert!(check_store_with(&disk, Path::new("store"), options)?.is_healthy());
/// assert!(seen > 0);
/// # Ok::<(), tierce_engine::Error>(())
/// ```
#[derive(Default)]
pub struct CheckOptions<'a> {
    pub(super) level: CheckLevel,
    threads: Option<usize>,
    pub(super) tell: Option<Tell<'a>>,
}

impl fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, threads, .. } = self;
        f.debug_struct("CheckOptions").field("level", level).field("threads", threads).finish()
    }
}

impl<'a> CheckOptions<'a> {
    /// Most threads that a check uses if it is not told how many.
    pub const THREADS_MAX: usize = 4;

    /// A full check, with as many threads as the machine has cores, [`Self::THREADS_MAX`] at most.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how thoroughly it looks.
    #[must_use]
    pub const fn level(mut self, level: CheckLevel) -> Self {
        self.level = level;
        self
    }

    /// Sets with how many threads at most, 1 or more; the calling one is among them.
    #[must_use]
    pub const fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count);
        self
    }

    /// Has `tell` called about once a MiB, from any of the threads. `Break` ends the check soon; its report says so.
    #[must_use]
    pub fn progress(
        mut self,
        tell: impl FnMut(CheckProgress) -> ControlFlow<()> + Send + 'a,
    ) -> Self {
        self.tell = Some(Box::new(tell));
        self
    }

    /// How many threads to use, after a look at what was asked for.
    pub(super) fn validate(&self) -> Result<usize> {
        let mut complaints = Vec::new();
        if let CheckLevel::Sample { n, t } = self.level
            && !(1..=t).contains(&n)
        {
            complaints.push(format!("sample {n}/{t}: the part is from 1 to the count of parts"));
        }
        if self.threads == Some(0) {
            complaints.push("a check takes at least one thread".to_owned());
        }
        if !complaints.is_empty() {
            return Err(Error::InvalidOptions { complaints });
        }
        Ok(self.threads.unwrap_or_else(|| super::crew::cores().min(Self::THREADS_MAX)))
    }
}

/// Who counts what is done, and says whether to go on. Shared by the threads of one check.
pub(super) trait Watch: Sync {
    /// So many more bytes are to be done.
    fn expect(&self, bytes: u64);
    /// So many bytes are done.
    fn add(&self, bytes: u64);
    /// Whether somebody said that it is enough.
    fn is_stopped(&self) -> bool;
}

/// The one who watches a check.
pub(super) struct Meter<'a> {
    done: AtomicU64,
    total: AtomicU64,
    told: AtomicU64,
    stopped: AtomicBool,
    tell: Option<Mutex<Tell<'a>>>,
}

/// Progress is told when so many bytes are done.
const TELL_BYTES: u64 = 1 << 20;

impl<'a> Meter<'a> {
    pub(super) fn new(tell: Option<Tell<'a>>) -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            told: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            tell: tell.map(Mutex::new),
        }
    }

    /// Tells how far it has come, unless another thread is just telling.
    pub(super) fn tell(&self) {
        let Some(Ok(mut tell)) = self.tell.as_ref().map(Mutex::try_lock) else { return };
        let bytes = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed).max(bytes);
        self.told.store(bytes, Ordering::Relaxed);
        if tell(CheckProgress { bytes, total }).is_break() {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl Watch for Meter<'_> {
    fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if done >= self.told.load(Ordering::Relaxed) + TELL_BYTES {
            self.tell();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
