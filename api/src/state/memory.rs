//! State in memory, for tests, and nowhere at all.

use std::{collections::BTreeMap, fmt};

use super::{Object, StateStore, value::check_depth};
use crate::{
    error::Result,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// State in memory, gone with the process. What goes in and out is a copy.
///
/// ```
/// use serde_json::json;
/// use tierce::state::{MemoryStore, StateStore};
/// let store = MemoryStore::new();
/// store.save("sensor", json!({"count": 99}).as_object().unwrap())?;
/// assert_eq!(store.load("sensor")?.unwrap()["count"], 99);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Object>>,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn hold(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("names", &self.hold().keys().collect::<Vec<_>>())
            .finish()
    }
}

impl StateStore for MemoryStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        Ok(self.hold().get(name).cloned())
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        self.hold().insert(name.to_owned(), object.clone());
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.hold().remove(name).is_some())
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.hold().keys().cloned().collect())
    }
}

/// Keeps nothing: `load` finds nothing and `save` does nothing.
///
/// ```
/// use tierce::state::{NullStore, Object, StateStore};
/// NullStore.save("sensor", &Object::new())?;
/// assert_eq!(NullStore.load("sensor")?, None);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStore;

impl StateStore for NullStore {
    fn load(&self, _name: &str) -> Result<Option<Object>> {
        Ok(None)
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)
    }

    fn remove(&self, _name: &str) -> Result<bool> {
        Ok(false)
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn discards(&self) -> bool {
        true
    }
}
