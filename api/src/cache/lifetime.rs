//! How long entries live: asked, changed, and moved along with their use.

use std::time::Duration;

use tierce_engine::Timestamp;

use super::{
    Cache,
    record::{self, fresh_until},
};
use crate::{
    codec::Codec,
    error::Result,
    key::{Lookup, OwnedKey},
    ttl::{End, Ttl},
};

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// How long `key` will stay: `None` if it is not there, `Some(None)` if for ever.
    ///
    /// # Errors
    /// The engine's.
    pub fn ttl<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Option<Duration>>> {
        let now = self.now();
        let mut left = None;
        self.typed.with_key(key, |key| {
            self.typed.kv().peek(key, &mut |view| {
                let until = |end: Timestamp| Duration::from_millis(end.0.saturating_sub(now.0));
                left = self.is_fresh(&view).then(|| fresh_until(&view).map(until));
            })
        })?;
        Ok(left)
    }

    /// Gives `key` another lifetime from now on without writing its value again; says whether it was there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::Ttl;
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// cache.insert(&1, &1)?;
    /// assert!(cache.touch(&1, Ttl::seconds(60))?);
    /// assert!(cache.ttl(&1)?.flatten().is_some_and(|left| left <= Duration::from_secs(60)));
    /// assert!(cache.touch(&1, Duration::ZERO)?, "it was there");
    /// assert_eq!(cache.get(&1)?, None);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's.
    pub fn touch<Q: Lookup<K> + ?Sized>(&self, key: &Q, ttl: impl Into<Ttl>) -> Result<bool> {
        let end = ttl.into().end(self.typed.space().info.ttl(), self.now());
        self.typed.with_key(key, |key| match end {
            End::Now => self.delete_at(key),
            _ => match self.window_at(key)? {
                Some(_) => self.touch_until(key, end),
                None => Ok(false),
            },
        })
    }

    /// Has what is stored of `key`, fresh or not, be fresh until `end`, and stale for as long after it as it was to be.
    pub(super) fn touch_until(&self, key: &[u8], end: End) -> Result<bool> {
        let mut window = 0;
        self.typed.kv().peek(key, &mut |view| window = record::window_ms(&view))?;
        match end {
            End::Now => self.typed.delete_at(key),
            End::At(at) => self.typed.touch_at(key, Some(at.saturating_add_ms(window))),
            End::Never => self.typed.touch_at(key, None),
        }
    }

    /// For how many milliseconds after it is fresh the entry of `key` is stale, if it is there and fresh.
    pub(super) fn window_at(&self, key: &[u8]) -> Result<Option<u64>> {
        let mut window = None;
        self.typed.kv().peek(key, &mut |view| {
            window = self.is_fresh(&view).then(|| record::window_ms(&view));
        })?;
        Ok(window)
    }

    /// Lets `key` live for `lifetime` from now on, for entries that live as long as they are used: however often it is
    /// called, it writes at most eight small records in a lifetime. Says whether the entry was there.
    ///
    /// # Errors
    /// The engine's.
    pub fn slide<Q: Lookup<K> + ?Sized>(&self, key: &Q, lifetime: Duration) -> Result<bool> {
        self.typed.with_key(key, |key| {
            let Some(window) = self.window_at(key)? else { return Ok(false) };
            let lifetime = lifetime.saturating_add(Duration::from_millis(window));
            self.typed.slide_at(key, lifetime)
        })
    }
}
