//! A directory while it is open: one opener at a time in this process, one process at a time.

use std::sync::{Arc, Weak};

use super::{Engine, hold};
use crate::{
    error::{Error, Result},
    format::file_name,
    io::{LockMode, LockOutcome},
    options::Options,
    segment::Home,
    sync::{Mutex, atomic::Ordering},
};

/// A directory that some handle of this process has, or had, open. Opening and closing it go one at a time.
#[derive(Debug)]
pub(super) struct Place<T> {
    pub(super) open: Mutex<Weak<T>>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self { open: Mutex::new(Weak::new()) }
    }
}

/// The lock on a directory, held until this is dropped.
pub(super) struct Hold(
    #[expect(dead_code, reason = "held for its drop")] pub(super) Box<dyn Send + Sync>,
);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold")
    }
}

/// Locks the directory for this process. `None` on a medium where nobody can write anyway.
pub(super) fn lock(home: &Home, options: &Options) -> Result<Option<Hold>> {
    let path = home.path(file_name::LOCK);
    let mode = if options.read_only { LockMode::Shared } else { LockMode::Exclusive };
    match home.disk.lock(&path, mode) {
        Ok(LockOutcome::Held(held)) => Ok(Some(Hold(held))),
        Ok(LockOutcome::Busy { pid }) => Err(Error::Locked { path: home.dir.clone(), pid }),
        // On a read-only medium there may be no lock file, and nobody can write there anyway.
        Err(_) if options.read_only => Ok(None),
        Err(source) => Err(Error::io("lock", path, source)),
    }
}

impl Engine {
    /// Gives this handle up. If it is the last, the store is closed: everything is made durable, sealed and
    /// checkpointed, so that the next opening is fast. Otherwise everything is made durable.
    ///
    /// # Errors
    /// What failed; everything acknowledged as durable is durable all the same.
    pub fn close(self) -> Result<()> {
        self.close_handle().map(drop)
    }

    /// As [`Self::close`]; says whether the store is closed now, or other handles keep it open, and locked.
    ///
    /// ```
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// let other = engine.clone();
    /// assert!(!engine.close_handle()?);
    /// assert!(other.close_handle()?);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::close`].
    pub fn close_handle(mut self) -> Result<bool> {
        self.check()?;
        self.check_callback()?;
        let place = Arc::clone(&self.shared.place);
        let open = hold(&place.open);
        // Order: counted off under the lock of the place, so that of two that close at once one is the last.
        self.counts = false;
        let is_last = self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        let closed = if is_last {
            self.shared.close()
        } else if self.shared.options.read_only {
            Ok(())
        } else {
            self.shared.writer.sync()
        };
        drop(open);
        closed.map(|()| is_last)
    }
}
