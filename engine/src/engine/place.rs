//! A directory while it is open: one opener at a time in this process, one process at a time.

use std::sync::Weak;

use crate::{
    error::{Error, Result},
    format::file_name,
    io::{LockMode, LockOutcome},
    options::Options,
    segment::Home,
    sync::Mutex,
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
