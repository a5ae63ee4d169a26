//! Exclusive and shared file access among all threads and processes that use this crate.
//!
//! The lock is that of the directory the file is in (`flock`), so that no other file stands beside it. Where a directory
//! cannot be locked (some network file systems, other systems, a directory that may not be read), threads of this
//! process still take turns.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::atomic::{canonical, parent};
use crate::{
    Error, Result,
    sync::{Mutex, MutexGuard, PoisonError, thread},
};

/// How long to wait for another holder.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

/// For directories that cannot be locked.
static UNLOCKABLE: Mutex<()> = Mutex::new(());

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _directory: Option<fs::File>,
    _process: Option<MutexGuard<'static, ()>>,
}

impl Turn {
    /// Waits for the only turn at the file `path`, and at all others in its directory.
    ///
    /// # Errors
    /// [`Error::Io`] (timed out) if another holds it for half a minute.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        Self::wait(path, fs::File::try_lock)
    }

    /// As [`Self::take`], beside others that only look.
    ///
    /// # Errors
    /// As [`Self::take`].
    #[cfg(feature = "sqlite")]
    pub(crate) fn share(path: &Path) -> Result<Self> {
        Self::wait(path, fs::File::try_lock_shared)
    }

    fn wait(path: &Path, lock: impl Fn(&fs::File) -> Result<(), fs::TryLockError>) -> Result<Self> {
        let Ok(directory) = fs::File::open(parent(&canonical(path))) else {
            return Ok(Self::unlocked());
        };
        let start = Instant::now();
        loop {
            match lock(&directory) {
                Ok(()) => return Ok(Self { _directory: Some(directory), _process: None }),
                Err(fs::TryLockError::Error(_)) => return Ok(Self::unlocked()),
                Err(fs::TryLockError::WouldBlock) if start.elapsed() > PATIENCE => {
                    let reason = "another process holds the lock of its directory";
                    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, reason);
                    return Err(Error::io("lock", path, source));
                }
                Err(fs::TryLockError::WouldBlock) => thread::sleep(PAUSE),
            }
        }
    }

    fn unlocked() -> Self {
        let process = UNLOCKABLE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { _directory: None, _process: Some(process) }
    }
}
