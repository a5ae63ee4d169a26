//! Failures to order: which call fails, how, and how often.

use std::io;

/// Device error.
pub const EIO: i32 = 5;
/// Too many open files.
pub const EMFILE: i32 = 24;
/// File too large.
pub const EFBIG: i32 = 27;
/// No space left.
pub const ENOSPC: i32 = 28;
/// Read-only file system.
pub const EROFS: i32 = 30;
/// Quota used up.
#[cfg(target_os = "linux")]
pub const EDQUOT: i32 = 122;
/// Quota used up.
#[cfg(not(target_os = "linux"))]
pub const EDQUOT: i32 = 69;

/// The kinds of calls to a disk and its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// Asking what stands at a path.
    Kind,
    /// Creating directories.
    CreateDir,
    /// Listing a directory.
    List,
    /// Opening a file that is there.
    Open,
    /// Creating a file.
    Create,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Syncing a directory.
    SyncDir,
    /// Locking.
    Lock,
    /// Asking for space or identity.
    Ask,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Asking for the length of a file.
    Length,
    /// Cutting or extending.
    SetBytes,
    /// Reserving room.
    Allocate,
    /// Syncing a file.
    Sync,
    /// Mapping.
    Map,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It fails with this kind of error.
    Kind(io::ErrorKind),
    /// It fails with this error of the operating system.
    Errno(i32),
    /// A read or write does half of what was asked and says so. Other calls are not touched.
    Short,
    /// The call panics, as a caller's own disk may.
    Panic,
    /// A write does half of what was asked and fails with this error. Other calls just fail.
    ShortThen(i32),
}

impl Failure {
    /// The error to return.
    #[must_use]
    pub fn error(self) -> io::Error {
        match self {
            Self::Kind(kind) => kind.into(),
            Self::Errno(errno) | Self::ShortThen(errno) => io::Error::from_raw_os_error(errno),
            Self::Short | Self::Panic => io::ErrorKind::WriteZero.into(),
        }
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// That call alone.
    Once,
    /// That call and every one after it, until disarmed.
    FromThenOn,
    /// That call and each one so many calls after the last.
    Every(u64),
}

/// One order to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Only calls of these kinds are counted and fail; empty means all.
    pub kinds: Vec<CallKind>,
    /// Which call, counted from 1 at arming.
    pub nth: u64,
    /// What happens.
    pub failure: Failure,
    /// How often.
    pub repeat: Repeat,
}

impl Fault {
    /// The `nth` call of any kind fails once with `errno`.
    #[must_use]
    pub const fn nth(nth: u64, errno: i32) -> Self {
        Self { kinds: Vec::new(), nth, failure: Failure::Errno(errno), repeat: Repeat::Once }
    }

    /// Only for calls of these kinds.
    #[must_use]
    pub fn of(mut self, kinds: &[CallKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// From that call on, until disarmed.
    #[must_use]
    pub const fn lasting(mut self) -> Self {
        self.repeat = Repeat::FromThenOn;
        self
    }

    /// With this failure in place of the plain error.
    #[must_use]
    pub const fn with(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// Again each `every` calls.
    #[must_use]
    pub const fn every(mut self, every: u64) -> Self {
        self.repeat = Repeat::Every(every);
        self
    }
}

/// The armed faults of one disk.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<(Fault, u64)>,
    /// Calls that failed or were cut short so far.
    pub(crate) fired: u64,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.armed.push((fault, 0));
    }

    pub(crate) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// Counts the call; says what is to happen to it, if anything.
    pub(crate) fn call(&mut self, kind: CallKind) -> Option<Failure> {
        let mut outcome = None;
        for (fault, count) in &mut self.armed {
            if !fault.kinds.is_empty() && !fault.kinds.contains(&kind) {
                continue;
            }
            *count += 1;
            let fires = match fault.repeat {
                Repeat::Once => *count == fault.nth,
                Repeat::FromThenOn => *count >= fault.nth,
                Repeat::Every(every) => {
                    *count >= fault.nth && (*count - fault.nth).is_multiple_of(every.max(1))
                }
            };
            if fires && outcome.is_none() {
                outcome = Some(fault.failure);
            }
        }
        if outcome.is_some() {
            self.fired += 1;
        }
        assert!(outcome != Some(Failure::Panic), "the disk panics, as was ordered");
        outcome
    }
}
