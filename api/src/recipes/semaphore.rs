//! So many holders at a time, each for a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_engine::Timestamp;

use super::{Entries, between, millis, open};
use crate::{
    error::{Error, Result},
    store::Store,
    typed::Outcome,
};

/// Who holds a permit: number, and until when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Holders {
    last: u64,
    held: Vec<(u64, u64)>,
}

impl Holders {
    fn end_those_before(&mut self, now: Timestamp) {
        self.held.retain(|(_, until_ms)| now.0 < *until_ms);
    }
}

/// So many permits, each held until it is given back or its time is up, also over a restart.
///
/// ```
/// use std::time::Duration;
/// let store = tierce::Store::in_memory()?;
/// let downloads = store.semaphore("downloads", 2)?;
/// let time = Duration::from_secs(60);
/// let one = downloads.try_acquire(time)?.unwrap();
/// let two = downloads.try_acquire(time)?.unwrap();
/// assert!(downloads.try_acquire(time)?.is_err());
/// one.release()?;
/// assert!(downloads.try_acquire(time)?.is_ok());
/// # two.release()?;
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    entries: Entries<Holders>,
    name: String,
    permits: usize,
}

/// One permit of a semaphore. Dropping it gives it back, best effort; if the process dies it ends with its time.
#[derive(Debug)]
pub struct SemaphorePermit {
    semaphore: Semaphore,
    number: u64,
    is_released: bool,
}

impl Semaphore {
    fn key(&self) -> Vec<u8> {
        self.entries.key_bytes(&self.name)
    }

    /// A permit for so long, or how long it takes at most until one is free.
    ///
    /// # Errors
    /// The engine's; then none was taken.
    pub fn try_acquire(&self, time: Duration) -> Result<Result<SemaphorePermit, Duration>> {
        let (mut number, mut wait) = (0, None);
        self.entries.update_at(&self.key(), &mut |old| {
            let now = self.entries.kv().now();
            let mut holders = old.map(|(holders, _)| holders).unwrap_or_default();
            holders.end_those_before(now);
            wait = None;
            if holders.held.len() >= self.permits {
                // With as many permits as there are holders less those that end first, one is free.
                let mut ends: Vec<_> = holders.held.iter().map(|(_, until_ms)| *until_ms).collect();
                ends.sort_unstable();
                let next = ends.get(ends.len() - self.permits).copied().unwrap_or(u64::MAX);
                wait = Some(between(now, Timestamp(next)));
                return Ok(Outcome::Keep);
            }
            holders.last += 1;
            number = holders.last;
            holders.held.push((number, now.saturating_add_ms(millis(time)).0));
            Ok(Outcome::Put(holders, self.entries.put_options(None)))
        })?;
        let permit = || SemaphorePermit { semaphore: self.clone(), number, is_released: false };
        Ok(wait.map_or_else(|| Ok(permit()), Err))
    }

    /// How many permits are free.
    ///
    /// # Errors
    /// The engine's.
    pub fn available(&self) -> Result<usize> {
        let mut holders = self.entries.get_at(&self.key())?.unwrap_or_default();
        holders.end_those_before(self.entries.kv().now());
        Ok(self.permits.saturating_sub(holders.held.len()))
    }
}

impl SemaphorePermit {
    /// Whether it is still held.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_held(&self) -> Result<bool> {
        let semaphore = &self.semaphore;
        let mut holders = semaphore.entries.get_at(&semaphore.key())?.unwrap_or_default();
        holders.end_those_before(semaphore.entries.kv().now());
        Ok(holders.held.iter().any(|(number, _)| *number == self.number))
    }

    /// Holds it for so long from now on.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if its time was over; the engine's.
    pub fn renew(&self, time: Duration) -> Result<()> {
        self.change(&|until_ms, now| *until_ms = now.saturating_add_ms(millis(time)).0)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if its time was over; the engine's.
    pub fn release(mut self) -> Result<()> {
        self.is_released = true;
        self.change(&|until_ms, _| *until_ms = 0)
    }

    fn change(&self, change: &dyn Fn(&mut u64, Timestamp)) -> Result<()> {
        let semaphore = &self.semaphore;
        let mut is_held = false;
        semaphore.entries.update_at(&semaphore.key(), &mut |old| {
            let now = semaphore.entries.kv().now();
            let mut holders = old.map(|(holders, _)| holders).unwrap_or_default();
            holders.end_those_before(now);
            let mine = holders.held.iter_mut().find(|(number, _)| *number == self.number);
            is_held = mine.is_some();
            let Some((_, until_ms)) = mine else { return Ok(Outcome::Keep) };
            change(until_ms, now);
            holders.end_those_before(now);
            Ok(Outcome::Put(holders, semaphore.entries.put_options(None)))
        })?;
        let what = || format!("permit {} of semaphore `{}`", self.number, semaphore.name);
        if is_held { Ok(()) } else { Err(Error::NotHeld { what: what() }) }
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        if !self.is_released {
            // Best effort: if it fails, the permit ends with its time.
            let _ = self.change(&|until_ms, _| *until_ms = 0);
        }
    }
}

impl Store {
    /// The semaphore of this name, with so many permits. The number is not stored: each handle counts by its own.
    ///
    /// # Errors
    /// [`Error::Options`] for none at all; the engine's.
    pub fn semaphore(&self, name: &str, permits: usize) -> Result<Semaphore> {
        if permits == 0 {
            let complaints = vec!["there is at least one permit".to_owned()];
            return Err(Error::Options { what: format!("semaphore `{name}`"), complaints });
        }
        Ok(Semaphore { entries: open(self, "semaphores", None)?, name: name.to_owned(), permits })
    }
}
