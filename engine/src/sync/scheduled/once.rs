//! `OnceLock` under the scheduler. Its initializer may be descheduled: other tasks wait at a scheduled lock.

use std::sync::{self, PoisonError};

use super::Mutex;

/// A value that is set once.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: sync::OnceLock<T>,
    making: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    /// Without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: sync::OnceLock::new(), making: Mutex::new(()) }
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Sets the value.
    ///
    /// # Errors
    /// With `value` if there is one already.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        super::point();
        self.value.set(value)
    }

    /// The value, which `make` makes if it is not set.
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.value.get() {
            return value;
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match self.value.get() {
            Some(value) => value,
            None => {
                let made = make();
                self.value.get_or_init(|| made)
            }
        }
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}
