//! Locks by key, for the threads of this process, which is the only one that has the store open.

use std::sync::Arc;

use crate::{
    collections::{Shared, shared},
    error::Result,
    store::Store,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        thread::{self, ThreadId},
    },
};

#[derive(Debug, Default)]
struct KeyedLock {
    inside: Mutex<Option<ThreadId>>,
    left: Condvar,
}
impl Shared for KeyedLock {}

impl KeyedLock {
    fn hold(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by who is inside.
#[derive(Debug)]
pub(super) struct Inside(Arc<KeyedLock>);

impl Drop for Inside {
    fn drop(&mut self) {
        *self.0.hold() = None;
        self.0.left.notify_one();
    }
}

/// Waits until nobody is inside `key`, and goes in; `None` if it is this very thread that is inside.
pub(super) fn enter(store: &Store, key: &[u8]) -> Result<Option<Inside>> {
    let lock = shared(store, key, || Ok(KeyedLock::default()))?;
    let mut inside = lock.hold();
    let me = thread::current().id();
    if *inside == Some(me) {
        return Ok(None);
    }
    while inside.is_some() {
        inside = lock.left.wait(inside).unwrap_or_else(PoisonError::into_inner);
    }
    *inside = Some(me);
    drop(inside);
    Ok(Some(Inside(lock)))
}
