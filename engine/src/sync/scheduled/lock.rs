//! Mutual exclusion and reader-writer locks: the standard library's, taken only when a scheduler says so.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    panic::Location,
    sync::{self, LockResult, PoisonError, TryLockError, TryLockResult},
};

use super::world::{State, here};

/// Tries to take a lock until it is had. In a world a lock that is held is waited for by its tasks only.
#[track_caller]
fn take<G>(
    on: usize,
    wait: impl FnOnce() -> LockResult<G>,
    mut attempt: impl FnMut() -> TryLockResult<G>,
) -> LockResult<G> {
    let Some((world, me)) = here() else { return wait() };
    let at = Location::caller();
    world.point(me, at);
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => world.wait(me, State::Blocked(on), at),
        };
    }
}

fn released(on: usize) {
    if let Some((world, _)) = here() {
        world.released(on);
    }
}

fn wrap<G, W>(taken: LockResult<G>, wrap: impl Fn(G) -> W) -> LockResult<W> {
    match taken {
        Ok(guard) => Ok(wrap(guard)),
        Err(error) => Err(PoisonError::new(wrap(error.into_inner()))),
    }
}

/// Mutual exclusion lock.
#[derive(Default)]
pub struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// The value, without the lock.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    pub fn into_inner(self) -> LockResult<T> {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    fn on(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }

    /// Takes the lock, waiting for it.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let taken = take(self.on(), || self.0.lock(), || self.0.try_lock());
        wrap(taken, |guard| MutexGuard { guard: Some(guard), lock: self })
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// If it is not, or a thread panicked with it.
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        super::point();
        let guard = |guard| MutexGuard { guard: Some(guard), lock: self };
        match self.0.try_lock() {
            Ok(taken) => Ok(guard(taken)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(error)) => {
                Err(TryLockError::Poisoned(PoisonError::new(guard(error.into_inner()))))
            }
        }
    }

    /// Whether a thread panicked with the lock.
    pub fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }

    /// Forgets that a thread panicked with the lock.
    pub fn clear_poison(&self) {
        self.0.clear_poison();
    }

    /// The value, which no other thread can have.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// The right to a value behind a [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized> {
    guard: Option<sync::MutexGuard<'a, T>>,
    lock: &'a Mutex<T>,
}

const HELD: &str = "a guard holds its lock until it is dropped";

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The standard library's guard, and how to make one of these of it again.
    pub(super) fn part(mut self) -> (&'a Mutex<T>, sync::MutexGuard<'a, T>) {
        (self.lock, self.guard.take().expect(HELD))
    }

    pub(super) const fn of(lock: &'a Mutex<T>, guard: sync::MutexGuard<'a, T>) -> Self {
        Self { guard: Some(guard), lock }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            drop(guard);
            released(self.lock.on());
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Lock of one writer or many readers.
#[derive(Default)]
pub struct RwLock<T: ?Sized>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// The value, without the lock.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    pub fn into_inner(self) -> LockResult<T> {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    fn on(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }

    /// Takes the lock to read.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let on = self.on();
        let taken = take(on, || self.0.read(), || self.0.try_read());
        wrap(taken, |guard| RwLockReadGuard { guard: Some(guard), on })
    }

    /// Takes the lock to write.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let on = self.on();
        let taken = take(on, || self.0.write(), || self.0.try_write());
        wrap(taken, |guard| RwLockWriteGuard { guard: Some(guard), on })
    }

    /// The value, which no other thread can have.
    ///
    /// # Errors
    /// If a thread panicked with the lock.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to read a value behind an [`RwLock`].
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    guard: Option<sync::RwLockReadGuard<'a, T>>,
    on: usize,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.guard.take());
        released(self.on);
    }
}

/// The right to change a value behind an [`RwLock`].
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    guard: Option<sync::RwLockWriteGuard<'a, T>>,
    on: usize,
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect(HELD)
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect(HELD)
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.guard.take());
        released(self.on);
    }
}
