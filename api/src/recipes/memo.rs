//! Results that are remembered by what they were computed from.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cache::{Cache, Loaded},
    error::{BoxError, Error, Result},
    key::{Lookup, OwnedKey},
    space::SpaceOptions,
    store::Store,
    ttl::Ttl,
};

/// Remembers what an expensive function returned, by its arguments, over restarts. Arguments of different types are
/// different: `1` is not `"1"`. Of several threads that ask for the same arguments at once, one computes.
///
/// A [`Cache`] underneath: what is remembered may be forgotten to stay under the store's limits.
///
/// ```
/// use tierce::Ttl;
/// let store = tierce::Store::in_memory()?;
/// let squares = store.memo::<(String, u32), u64>("squares", Ttl::hours(1))?;
/// assert_eq!(squares.call(&("width", 12), || 144)?, 144);
/// assert_eq!(squares.call(&("width", 12), || unreachable!())?, 144);
/// squares.forget(&("width", 12))?;
/// assert!(!squares.knows(&("width", 12))?);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Memo<A, V> {
    cache: Cache<A, V>,
    ttl: Ttl,
}

impl<A, V> Clone for Memo<A, V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), ttl: self.ttl }
    }
}

impl<A, V> Memo<A, V>
where
    A: OwnedKey,
    V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// What was computed for `args`, or what `compute` returns now.
    ///
    /// # Errors
    /// As [`Self::try_call`].
    pub fn call<Q: Lookup<A> + ?Sized>(&self, args: &Q, compute: impl FnOnce() -> V) -> Result<V> {
        self.try_call(args, || Ok::<_, Error>(compute()))
    }

    /// As [`Self::call`], for what may fail. A failure is not remembered.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_insert_with`].
    pub fn try_call<Q: Lookup<A> + ?Sized, E: Into<BoxError>>(
        &self,
        args: &Q,
        compute: impl FnOnce() -> Result<V, E>,
    ) -> Result<V> {
        self.cache.get_or_load(args, || compute().map(|value| Loaded::new(value).ttl(self.ttl)))
    }

    /// Whether something is remembered for `args`.
    ///
    /// # Errors
    /// The engine's.
    pub fn knows<Q: Lookup<A> + ?Sized>(&self, args: &Q) -> Result<bool> {
        self.cache.contains_key(args)
    }

    /// Forgets what was computed for `args`; says whether there was something.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget<Q: Lookup<A> + ?Sized>(&self, args: &Q) -> Result<bool> {
        self.cache.remove(args)
    }

    /// The cache underneath: its statistics, and to forget in other ways.
    #[must_use]
    pub const fn cache(&self) -> &Cache<A, V> {
        &self.cache
    }
}

impl Store {
    /// The memo of this name: for functions of `A`, a key or a tuple of keys, to `V`. What is computed is remembered
    /// for
    /// `ttl`; with a zero one, what others remembered is looked up, and nothing is added to it.
    ///
    /// # Errors
    /// As [`Store::cache_with`].
    pub fn memo<A: OwnedKey, V: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        ttl: impl Into<Ttl>,
    ) -> Result<Memo<A, V>> {
        let options = SpaceOptions::new().internal();
        let cache = self.cache_with(&format!("tierce/memos/{name}"), &options)?;
        Ok(Memo { cache, ttl: ttl.into() })
    }
}
