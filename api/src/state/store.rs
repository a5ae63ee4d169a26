//! What a back end does: it keeps one object under each name.

use serde_json::{Map, Value};

use super::Damage;
use crate::error::{Error, Result};

/// What is kept under one name: keys and JSON values.
pub type Object = Map<String, Value>;

/// A place where states are kept. Two methods make one; see the example `custom_state_store`.
///
/// Any text is a name, the empty one too. What `save` got is what `load` gives, whole, as an independent copy. A store
/// that can be damaged moves the damaged part aside and tells by [`Self::take_damage`]; one that cannot read fails,
/// and writes nothing in the place of what it could not read. `tierce::testing::conformance` checks all of it.
pub trait StateStore: Send + Sync {
    /// What is kept under `name`; `None` if nothing is.
    ///
    /// # Errors
    /// If it cannot be read. It is not overwritten then.
    fn load(&self, name: &str) -> Result<Option<Object>>;

    /// Keeps `object` under `name`, in the place of what was there. The stores of this crate move aside, and tell, what
    /// was there and is no state, also if nobody has loaded it.
    ///
    /// # Errors
    /// If it cannot be written. What was there is still there, or, if the place failed to say, may be either.
    fn save(&self, name: &str, object: &Object) -> Result<()>;

    /// Forgets what is kept under `name`; says whether something was.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the store can do it.
    fn remove(&self, name: &str) -> Result<bool> {
        let _ = name;
        Err(Error::Unsupported { backend: "this state store", what: "remove" })
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the store can do it.
    fn names(&self) -> Result<Vec<String>> {
        Err(Error::Unsupported { backend: "this state store", what: "list names" })
    }

    /// Brings everything saved to where it survives a power failure. The stores of this crate do that in `save`.
    ///
    /// # Errors
    /// If that fails.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// What was found damaged since the last call, and where it was moved to.
    fn take_damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    /// Whether everything saved is thrown away, as [`NullStore`](super::NullStore) does.
    fn discards(&self) -> bool {
        false
    }
}
