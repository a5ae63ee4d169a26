//! Results that are remembered by what they were computed from.

use serde::{Serialize, de::DeserializeOwned};

use super::keyed_lock::enter;
use crate::{
    codec::MsgPack,
    error::{BoxError, Error, Result, Shared},
    key::{Lookup, OwnedKey},
    space::{SpaceOptions, Typed},
    store::Store,
    ttl::{End, Ttl},
};

/// Remembers what an expensive function returned, by its arguments, over restarts. Arguments of different types are
/// different: `1` is not `"1"`. Of several threads that ask for the same arguments at once, one computes.
///
/// What is remembered may be forgotten to stay under the store's limits. What cannot be decoded any more, because `V` is
/// another type by now, is computed again.
///
/// ```
/// use tierce::Ttl;
/// let store = tierce::Store::in_memory()?;
/// let squares = store.memo::<(String, u32), u64>("squares", Ttl::hours(1))?;
/// assert_eq!(squares.call(&("width", 12), || 144)?, 144);
/// assert_eq!(squares.call(&("width", 12), || unreachable!())?, 144);
/// squares.forget(&("width", 12))?;
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Memo<A, V> {
    typed: Typed<A, V, MsgPack>,
    ttl: Ttl,
}

impl<A, V> Clone for Memo<A, V> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone(), ttl: self.ttl }
    }
}

impl<A: OwnedKey, V: Serialize + DeserializeOwned> Memo<A, V> {
    /// What was computed for `args`, or what `compute` returns now.
    ///
    /// # Errors
    /// As [`Self::try_call`].
    pub fn call<Q: Lookup<A> + ?Sized>(&self, args: &Q, compute: impl FnOnce() -> V) -> Result<V> {
        self.try_call(args, || Ok::<V, BoxError>(compute()))
    }

    /// As [`Self::call`], for what may fail. A failure is not remembered.
    ///
    /// # Errors
    /// [`Error::Loader`] with the error of `compute`; [`Error::LoaderRecursion`] if `compute` asks for the arguments that
    /// it is asked for; [`Error::Encode`]; the engine's.
    pub fn try_call<Q: Lookup<A> + ?Sized, E: Into<BoxError>>(
        &self,
        args: &Q,
        compute: impl FnOnce() -> Result<V, E>,
    ) -> Result<V> {
        // Not this thread's buffer: `compute` may use it.
        let key = self.typed.key_bytes(args);
        if let Some(known) = self.known(&key)? {
            return Ok(known);
        }
        let Some(_inside) = enter(self.typed.store(), &key)? else {
            return Err(Error::LoaderRecursion);
        };
        if let Some(known) = self.known(&key)? {
            return Ok(known);
        }
        let value = compute().map_err(|error| Error::Loader(Shared::new(error)))?;
        let expires_at = match self.ttl.end(None, self.typed.kv().now()) {
            End::Now => return Ok(value),
            End::At(at) => Some(at),
            End::Never => None,
        };
        self.typed.put_at(&key, &value, &self.typed.put_options(expires_at))?;
        Ok(value)
    }

    fn known(&self, key: &[u8]) -> Result<Option<V>> {
        match self.typed.get_at(key) {
            Err(Error::Decode { .. }) => Ok(None),
            known => known,
        }
    }

    /// Whether something is remembered for `args`.
    ///
    /// # Errors
    /// The engine's.
    pub fn knows<Q: Lookup<A> + ?Sized>(&self, args: &Q) -> Result<bool> {
        self.typed.with_key(args, |key| self.typed.kv().contains(key))
    }

    /// Forgets what was computed for `args`; says whether there was something.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget<Q: Lookup<A> + ?Sized>(&self, args: &Q) -> Result<bool> {
        self.typed.with_key(args, |key| self.typed.delete_at(key))
    }

    /// Forgets everything, at a cost that does not depend on how much that is.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_all(&self) -> Result<()> {
        self.typed.cut(&self.typed.space().prefix)
    }
}

impl Store {
    /// The memo of this name: for functions of `A`, a key or a tuple of keys, to `V`. What is computed is remembered for
    /// `ttl`; with a zero one, what others remembered is looked up, and nothing is added to it.
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn memo<A: OwnedKey, V: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        ttl: impl Into<Ttl>,
    ) -> Result<Memo<A, V>> {
        let options = SpaceOptions::new().evictable(true);
        let typed = Typed::open(self, &format!("tierce/memos/{name}"), "memos", &options)?;
        Ok(Memo { typed, ttl: ttl.into() })
    }
}
