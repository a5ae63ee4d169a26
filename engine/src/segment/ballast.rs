//! Ballast file: room on the file system that an open store gives up when the disk is full, so that deletes, cuts,
//! compaction and recovery go on.
//!
//! It is made with the first segment of a session, stays when the store is closed, and holds nothing. Once it is spent,
//! users' writes are refused until there is room for it again: they would use up what it gave back.

use std::{io, sync::Arc};

use super::Home;
use crate::{
    error::is_disk_full,
    format::file_name,
    io::{Access, PathKind, remove_if_there, write_all_at},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Room for the header of a segment, a page of records, and what the manifest grows by; twice the last.
const BALLAST_BYTES: u64 = 16 << 10;
/// What has to be free beside it before it is made again: else the next writes would spend it at once.
const BESIDE_BYTES: u64 = 16 << 10;
/// A store whose limit is below this has none: it would be much of the limit.
const LIMIT_BYTES_MIN: u64 = 4 << 20;

/// The state of the ballast file of an open store.
#[derive(Debug, Default)]
pub(crate) struct Ballast {
    is_there: Mutex<bool>,
    /// It was given up, or there was no room to make it.
    is_spent: AtomicBool,
    /// Bytes that it has or should have.
    bytes: AtomicU64,
}

/// Bytes of the ballast of a store whose manifest takes so many when it is written whole.
pub(crate) fn ballast_bytes(manifest: u64) -> u64 {
    BALLAST_BYTES + manifest.next_multiple_of(4096)
}

impl Home {
    /// The same directory, whose ballast is kept, if the store has one: not on a disk that is never full, and not below
    /// a small limit.
    pub(crate) fn with_ballast(mut self, limit: Option<u64>) -> Self {
        let is_endless = self.disk.space(&self.dir).is_ok_and(|space| space.total == u64::MAX);
        let path = self.path(file_name::BALLAST);
        if !is_endless && limit.is_none_or(|limit| limit >= LIMIT_BYTES_MIN) {
            let ballast = Ballast::default();
            let kind = self.disk.kind(&path);
            let is_there = matches!(kind, Ok(Some(PathKind::File)));
            let file = || self.disk.open(&path, Access::Read).and_then(|file| file.bytes());
            let bytes = if is_there { file().unwrap_or_default() } else { 0 };
            *ballast.is_there.lock().unwrap_or_else(PoisonError::into_inner) = is_there;
            ballast.bytes.store(bytes, Ordering::Relaxed);
            self.ballast = Some(ballast.into());
        } else {
            let _ = remove_if_there(self.disk.as_ref(), &path);
        }
        self
    }

    /// Bytes of the ballast that is there.
    pub(crate) fn ballast_found(&self) -> u64 {
        self.ballast.as_ref().map_or(0, |ballast| ballast.bytes.load(Ordering::Relaxed))
    }

    /// Whether the store is one that has a ballast.
    pub(crate) const fn keeps_ballast(&self) -> bool {
        self.ballast.is_some()
    }

    /// Whether the ballast is spent, so that users' writes have to wait for room.
    pub(crate) fn lacks_ballast(&self) -> bool {
        self.ballast.as_ref().is_some_and(|ballast| ballast.is_spent.load(Ordering::Acquire))
    }

    /// Whether the ballast is there, so that the manifest finds room whatever becomes of the rest.
    pub(crate) fn has_ballast(&self) -> bool {
        let is_there = |ballast: &Arc<Ballast>| {
            *ballast.is_there.lock().unwrap_or_else(PoisonError::into_inner)
        };
        self.ballast.as_ref().is_some_and(is_there)
    }

    /// There is no room for a ballast under the limit: the store goes on without one.
    pub(crate) fn forgo_ballast(&self) {
        if let Some(ballast) = &self.ballast {
            ballast.is_spent.store(false, Ordering::Release);
        }
    }

    /// What has to be free on the file system before users' writes go on.
    pub(crate) fn ballast_wanted(&self) -> u64 {
        let bytes = self.ballast.as_ref().map_or(0, |b| b.bytes.load(Ordering::Relaxed));
        bytes.max(BALLAST_BYTES) + BESIDE_BYTES
    }

    /// Gives the ballast up, for something that is small and has to go on; `false` if there is none.
    pub(crate) fn spend_ballast(&self) -> bool {
        let Some(ballast) = &self.ballast else { return false };
        let mut is_there = ballast.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_there || self.disk.remove(&self.path(file_name::BALLAST)).is_err() {
            return false;
        }
        *is_there = false;
        ballast.is_spent.store(true, Ordering::Release);
        true
    }

    /// Makes the ballast if it is not there and there is room; `false` if it is missing because there is none. A file
    /// system that does not do this has a store without one.
    pub(crate) fn keep_ballast(&self, bytes: u64) -> bool {
        let Some(ballast) = &self.ballast else { return true };
        let mut is_there = ballast.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        let before = ballast.bytes.fetch_max(bytes, Ordering::Relaxed);
        if *is_there {
            // It grows with the manifest. If there is no room for that, what there is stays.
            if before < bytes {
                let file = self.disk.open(&self.path(file_name::BALLAST), Access::Write);
                let _ = file.and_then(|file| file.allocate(bytes));
            }
            return true;
        }
        let free = self.disk.space(&self.dir).map_or(u64::MAX, |space| space.available);
        let made = match free < self.ballast_wanted() {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.make_ballast(ballast.bytes.load(Ordering::Relaxed)),
        };
        *is_there = made.is_ok();
        let is_full = made.is_err_and(|error| is_disk_full(&error));
        ballast.is_spent.store(is_full, Ordering::Release);
        !is_full
    }

    fn make_ballast(&self, bytes: u64) -> io::Result<()> {
        let path = self.path(file_name::BALLAST);
        let made =
            self.disk.open(&path, Access::CreateNew).and_then(|file| match file.allocate(bytes) {
                Err(error) if !is_disk_full(&error) => {
                    write_all_at(file.as_ref(), &vec![0; usize::try_from(bytes).unwrap_or(0)], 0)
                }
                made => made,
            });
        if made.is_err() {
            let _ = remove_if_there(self.disk.as_ref(), &path);
        }
        made
    }
}
