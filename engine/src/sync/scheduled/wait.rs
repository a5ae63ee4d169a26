//! Condition variables. In a world a wait with a time limit may time out at any point.

use std::{
    panic::Location,
    sync::{self, LockResult, PoisonError},
    time::{Duration, Instant},
};

use super::{
    MutexGuard,
    world::{State, here},
};

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.0
    }
}

/// Condition variable.
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// A condition variable without waiters.
    #[must_use]
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    fn on(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }

    /// Lets one of the waiting threads go on.
    pub fn notify_one(&self) {
        if let Some((world, _)) = here() {
            world.notify(self.on(), false);
        }
        self.0.notify_one();
    }

    /// Lets all waiting threads go on.
    pub fn notify_all(&self) {
        if let Some((world, _)) = here() {
            world.notify(self.on(), true);
        }
        self.0.notify_all();
    }

    /// Waits in a world; `Err` with the guard outside of one.
    #[track_caller]
    fn wait_in_world<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        is_timed: bool,
    ) -> Result<LockResult<(MutexGuard<'a, T>, bool)>, MutexGuard<'a, T>> {
        let Some((world, me)) = here() else { return Err(guard) };
        let at = Location::caller();
        let (lock, inner) = guard.part();
        // No other task runs between the release and the wait.
        drop(MutexGuard::of(lock, inner));
        let timed_out = world.wait(me, State::Waiting(self.on(), is_timed), at);
        Ok(match lock.lock() {
            Ok(guard) => Ok((guard, timed_out)),
            Err(error) => Err(PoisonError::new((error.into_inner(), timed_out))),
        })
    }

    /// Waits for a notification.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        match self.wait_in_world(guard, false) {
            Ok(Ok((guard, _))) => Ok(guard),
            Ok(Err(error)) => Err(PoisonError::new(error.into_inner().0)),
            Err(guard) => {
                let (lock, inner) = guard.part();
                match self.0.wait(inner) {
                    Ok(inner) => Ok(MutexGuard::of(lock, inner)),
                    Err(error) => Err(PoisonError::new(MutexGuard::of(lock, error.into_inner()))),
                }
            }
        }
    }

    /// Waits while `condition` holds.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits for a notification, for so long at most.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let result = |(guard, timed_out)| (guard, WaitTimeoutResult(timed_out));
        match self.wait_in_world(guard, true) {
            Ok(Ok(waited)) => Ok(result(waited)),
            Ok(Err(error)) => Err(PoisonError::new(result(error.into_inner()))),
            Err(guard) => {
                let (lock, inner) = guard.part();
                let made = |(inner, waited): (_, sync::WaitTimeoutResult)| {
                    result((MutexGuard::of(lock, inner), waited.timed_out()))
                };
                match self.0.wait_timeout(inner, time) {
                    Ok(waited) => Ok(made(waited)),
                    Err(error) => Err(PoisonError::new(made(error.into_inner()))),
                }
            }
        }
    }

    /// Waits while `condition` holds, for so long at most.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let start = Instant::now();
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            // In a world time is not asked: a wait times out when the scheduler says so.
            let left = match here() {
                Some(_) => time,
                None => match time.checked_sub(start.elapsed()) {
                    Some(left) => left,
                    None => return Ok((guard, WaitTimeoutResult(true))),
                },
            };
            let (woken, waited) = self.wait_timeout(guard, left)?;
            guard = woken;
            if waited.timed_out() && here().is_some() {
                let is_over = condition(&mut guard);
                return Ok((guard, WaitTimeoutResult(is_over)));
            }
        }
    }
}
