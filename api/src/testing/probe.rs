//! A store around another one that counts, and fails on command.

use std::{fmt, sync::Arc};

use crate::{
    error::{Error, Result},
    state::{Damage, Object, StateStore},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A store around another one that remembers what was saved and how often was loaded, and fails when told to.
///
/// ```
/// use std::sync::Arc;
/// use tierce::{state::{MemoryStore, State}, testing::ProbeStore};
/// let store = Arc::new(ProbeStore::new(Arc::new(MemoryStore::new())));
/// let state = State::open(store.clone(), "sensor")?;
/// state.set("count", 1)?;
/// store.fail_saves("sensor", true);
/// assert!(state.save().is_err() && state.is_dirty());
/// store.fail_saves("sensor", false);
/// state.save()?;
/// assert_eq!(store.saves("sensor").len(), 1);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct ProbeStore {
    store: Arc<dyn StateStore>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    saves: Vec<(String, Object)>,
    loads: Vec<String>,
    failing: Vec<String>,
}

impl fmt::Debug for ProbeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.hold();
        f.debug_struct("ProbeStore")
            .field("saves", &seen.saves.len())
            .field("loads", &seen.loads.len())
            .finish_non_exhaustive()
    }
}

impl ProbeStore {
    /// One around `store`.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store, seen: Mutex::default() }
    }

    fn hold(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was saved under `name`, in order. Failed saves are not in it.
    #[must_use]
    pub fn saves(&self, name: &str) -> Vec<Object> {
        let seen = self.hold();
        let saves = seen.saves.iter().filter(|(saved, _)| saved == name);
        saves.map(|(_, object)| object.clone()).collect()
    }

    /// How often `name` was loaded.
    #[must_use]
    pub fn loads(&self, name: &str) -> usize {
        self.hold().loads.iter().filter(|loaded| *loaded == name).count()
    }

    /// Lets saves of `name` fail from now on, or no longer.
    pub fn fail_saves(&self, name: &str, is_failing: bool) {
        let mut seen = self.hold();
        seen.failing.retain(|failing| failing != name);
        if is_failing {
            seen.failing.push(name.to_owned());
        }
    }
}

impl StateStore for ProbeStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        self.hold().loads.push(name.to_owned());
        self.store.load(name)
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        if self.hold().failing.iter().any(|failing| failing == name) {
            let source = "it was told to fail".into();
            return Err(Error::Backend { backend: "the probe", operation: "save", source });
        }
        self.store.save(name, object)?;
        self.hold().saves.push((name.to_owned(), object.clone()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool> {
        self.store.remove(name)
    }

    fn names(&self) -> Result<Vec<String>> {
        self.store.names()
    }

    fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.store.take_damage()
    }

    fn discards(&self) -> bool {
        self.store.discards()
    }
}
