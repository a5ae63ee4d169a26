//! One at a time.

use super::keyed_lock::enter;
use crate::{
    error::{Error, Result},
    key::{self, Key},
    store::Store,
};

/// Lets one thread at a time run a section for a key; others wait for it, without spinning. Sections of different keys
/// do not wait for each other. Only one process has a store open, so nobody else can be inside; a crash leaves nothing
/// behind.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let rebuild = store.barrier("rebuild")?;
/// let lines = rebuild.run("index", || 42)?;
/// assert_eq!(lines, 42);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    store: Store,
    name: String,
}

impl Barrier {
    /// Runs `section` when no other thread is in one for `key`. If it panics, the next one goes in.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this very thread is in a section for `key`: it would wait for itself.
    pub fn run<Q: Key + ?Sized, R>(&self, key: &Q, section: impl FnOnce() -> R) -> Result<R> {
        // No space has a prefix that begins so: these names are its own.
        let name = [&[0, b'b'][..], &key::encode(&(self.name.as_str(), key))].concat();
        let Some(_inside) = enter(&self.store, &name)? else {
            let what = "be entered again by the thread that is inside";
            return Err(Error::Unsupported { backend: "a barrier", what });
        };
        Ok(section())
    }
}

impl Store {
    /// The barrier of this name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store is a remote one.
    pub fn barrier(&self, name: &str) -> Result<Barrier> {
        if self.engine().is_none() {
            return Err(Error::Unsupported { backend: "a remote store", what: "be a barrier" });
        }
        Ok(Barrier { store: self.clone(), name: name.to_owned() })
    }
}
