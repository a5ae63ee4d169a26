//! Jobs that run every so often, whoever asks, and also if the program was not running.

use std::time::Duration;

use tierce_engine::Timestamp;

use super::cooldown::{Cooldown, Permit};
use crate::{
    error::{Error, Result},
    store::Store,
};

/// Gives a permit back unless the job was done: also if it panics.
struct Attempt(Option<Permit>);

impl Attempt {
    fn give_back(&mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Permit::cancel)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // The job's own failure is on its way: this one would say less.
        let _ = self.give_back();
    }
}

impl Store {
    /// Runs `job` unless it was begun within the last `period`, in this run of the program or an earlier one. `None`:
    /// it was. If the job fails or panics it counts as not done. Of several threads that ask at once, one runs it.
    ///
    /// If it takes longer than `period`, the next one may begin beside it; see [`Store::barrier`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::{Error, Store};
    /// let store = Store::in_memory()?;
    /// let day = Duration::from_secs(86_400);
    /// let cleanup = || Ok::<_, Error>("cleaned");
    /// assert_eq!(store.once_every("cleanup", day, cleanup)?, Some("cleaned"));
    /// assert_eq!(store.once_every("cleanup", day, cleanup)?, None);
    /// assert!(store.last_run("cleanup")?.is_some());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// The job's own; the engine's, before it runs.
    pub fn once_every<R, E: From<Error>>(
        &self,
        key: &str,
        period: Duration,
        job: impl FnOnce() -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        let marks = Cooldown::open(self, "once", None, period, true)?;
        let Ok(permit) = marks.try_acquire(key)? else { return Ok(None) };
        let mut attempt = Attempt(Some(permit));
        let done = job()?;
        attempt.0 = None;
        Ok(Some(done))
    }

    /// When the job of this name was begun last by [`Store::once_every`], if it was done then.
    ///
    /// # Errors
    /// The engine's.
    pub fn last_run(&self, key: &str) -> Result<Option<Timestamp>> {
        Cooldown::open(self, "once", None, Duration::ZERO, true)?.last(key)
    }
}
