//! A file that remembers its first failed write or sync and refuses everything that would come after it.
//!
//! After a failed sync the kernel may already have dropped the dirty pages, and it reports the failure only once
//! per open file: a second sync, or one that runs at the same time in another thread, may well succeed and would
//! promise bytes that are gone (I8). So syncs of one file go one at a time, and none comes after a failure.

use std::{io, sync::Arc};

use super::{File, write_all_at};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// An open segment file, as writers see it.
#[derive(Debug)]
pub(crate) struct FailStopFile {
    file: Arc<dyn File>,
    failed: Mutex<Option<io::ErrorKind>>,
}

impl FailStopFile {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file, failed: Mutex::new(None) }
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_or(bytes, offset, |_| false)
    }

    /// As [`Self::write`]. A write that fails is done once more if `is_relieved` says that its cause is gone: the same
    /// bytes go to the same place, so nothing rests on what became of the first one.
    pub(crate) fn write_or(
        &self,
        bytes: &[u8],
        offset: u64,
        is_relieved: impl FnOnce(&io::Error) -> bool,
    ) -> io::Result<()> {
        // The mutex is not held: a sync that runs at the same time need not cover this write.
        Self::check(*self.lock())?;
        let written = match write_all_at(self.file.as_ref(), bytes, offset) {
            Err(error) if is_relieved(&error) => write_all_at(self.file.as_ref(), bytes, offset),
            written => written,
        };
        self.remember(written)
    }

    /// Makes everything written before this call durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut failed = self.lock();
        Self::check(*failed)?;
        let synced = self.file.sync();
        if let Err(error) = &synced {
            *failed = Some(error.kind());
        }
        synced
    }

    /// Cuts or extends the file.
    pub(crate) fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        Self::check(*self.lock())?;
        let set = self.file.set_bytes(bytes);
        self.remember(set)
    }

    /// The file itself, for reading and allocating.
    pub(crate) fn inner(&self) -> &Arc<dyn File> {
        &self.file
    }

    fn lock(&self) -> MutexGuard<'_, Option<io::ErrorKind>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(failed: Option<io::ErrorKind>) -> io::Result<()> {
        match failed {
            Some(kind) => Err(io::Error::new(kind, "an earlier write or sync of this file failed")),
            None => Ok(()),
        }
    }

    fn remember<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            *self.lock() = Some(error.kind());
        }
        result
    }
}
