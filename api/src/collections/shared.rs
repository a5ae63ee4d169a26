//! What all handles of one collection in this process share beside the store: locks, and what is known of the records.
//!
//! Only one process has a store open, so what is agreed here is agreed by everyone.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{
    error::Result,
    store::Store,
    sync::{Mutex, PoisonError},
};

/// Dead names are looked for when there are so many.
const SWEPT_AT_LEAST: usize = 64;

/// All the things of one type, by name; each lives as long as somebody holds it.
#[derive(Debug)]
struct Registry<T>(Mutex<Named<T>>);

#[derive(Debug)]
struct Named<T> {
    by_name: HashMap<Vec<u8>, Weak<T>>,
    sweep_at: usize,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::new(Named { by_name: HashMap::new(), sweep_at: SWEPT_AT_LEAST }))
    }
}

/// Something that handles share.
pub(crate) trait Shared: Any + Send + Sync {}

/// The thing of type `T` that belongs to `name`, which begins with a space's prefix; made if nobody holds one. `make`
/// must not run code of others: other names wait meanwhile.
///
/// A store that is no engine of this process has nothing to share; everyone gets their own.
pub(crate) fn shared<T: Shared>(
    store: &Store,
    name: &[u8],
    make: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    let Some(engine) = store.engine() else { return make().map(Arc::new) };
    let registry = engine.attached(Registry::<T>::default);
    let mut named = registry.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = named.by_name.get(name).and_then(Weak::upgrade) {
        return Ok(found);
    }
    if named.by_name.len() >= named.sweep_at {
        named.by_name.retain(|_, held| held.strong_count() > 0);
        named.sweep_at = (2 * named.by_name.len()).max(SWEPT_AT_LEAST);
    }
    let made = Arc::new(make()?);
    named.by_name.insert(name.to_vec(), Arc::downgrade(&made));
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing(usize);
    impl Shared for Thing {}

    #[test]
    fn lives_as_long_as_it_is_held() {
        let store = Store::in_memory().unwrap();
        let first = shared(&store, b"a", || Ok(Thing(1))).unwrap();
        assert_eq!(shared(&store, b"a", || Ok(Thing(2))).unwrap().0, 1);
        assert_eq!(shared(&store, b"b", || Ok(Thing(3))).unwrap().0, 3);
        drop(first);
        assert_eq!(shared(&store, b"a", || Ok(Thing(4))).unwrap().0, 4);
    }

    #[test]
    fn names_that_nobody_holds_do_not_pile_up() {
        let store = Store::in_memory().unwrap();
        for at in 0..1000_usize {
            shared(&store, &at.to_le_bytes(), || Ok(Thing(at))).unwrap();
        }
        let registry = store.engine().unwrap().attached(Registry::<Thing>::default);
        assert!(registry.0.lock().unwrap().by_name.len() <= SWEPT_AT_LEAST);
    }
}
