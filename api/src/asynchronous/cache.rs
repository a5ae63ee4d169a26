//! The async face of a cache.

use std::time::Duration;

use super::Work;
use crate::{
    cache::{Cache, CacheStats, Entry, LoadPolicy, Loaded, Put},
    codec::{Codec, MsgPack},
    error::{BoxError, Error, Result},
    key::{Encoded, Key, Lookup, OwnedKey},
    ttl::Ttl,
};

/// The async face of a [`Cache`]: what each method does, and how safely, stands there. Reads answer at once; the rest
/// is a
/// [`Work`]; loads run in the task that asks. A cheap handle; both faces share loads and statistics.
///
/// ```
/// use tierce::{Put, Ttl, asynchronous::block_on};
/// let weather = tierce::Store::in_memory()?.cache::<String, f64>("weather")?.asynchronous();
/// block_on(async {
///     let put = Put::new().ttl(Ttl::minutes(30)).tag("europe");
///     weather.insert_with("London", &17.5, &put).await?;
///     assert_eq!(weather.get("London").await?, Some(17.5));
///     assert_eq!(weather.invalidate_tag("europe").await?, 1);
///     assert_eq!(weather.blocking().get("London")?, None);
/// #   Ok::<(), tierce::Error>(())
/// })?;
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct AsyncCache<K, V, C = MsgPack> {
    cache: Cache<K, V, C>,
}

impl<K, V, C> std::fmt::Debug for AsyncCache<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncCache").field(&self.cache).finish()
    }
}

impl<K, V, C> Clone for AsyncCache<K, V, C> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone() }
    }
}

impl<K, V, C> From<Cache<K, V, C>> for AsyncCache<K, V, C> {
    fn from(cache: Cache<K, V, C>) -> Self {
        Self { cache }
    }
}

impl<K, V, C> Cache<K, V, C> {
    /// The async face of this cache.
    ///
    /// ```
    /// use tierce::asynchronous::block_on;
    /// let cache = tierce::Store::in_memory()?.cache::<u8, u8>("c")?;
    /// cache.insert(&1, &2)?;
    /// assert_eq!(block_on(cache.asynchronous().get(&1))?, Some(2));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn asynchronous(&self) -> AsyncCache<K, V, C> {
        self.clone().into()
    }
}

impl<K, V, C> AsyncCache<K, V, C> {
    /// The blocking face. Not to be called in a task.
    #[must_use]
    pub const fn blocking(&self) -> &Cache<K, V, C> {
        &self.cache
    }
}

impl<K: OwnedKey, V: 'static, C: Codec<V>> AsyncCache<K, V, C> {
    /// As [`Cache::get`], at once.
    ///
    /// # Errors
    /// As [`Cache::get`].
    #[inline]
    pub async fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.cache.get(key)
    }

    /// As [`Cache::get_stale`], at once.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn get_stale<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Entry<V>>> {
        self.cache.get_stale(key)
    }

    /// As [`Cache::entry`], at once.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn entry<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Entry<V>>> {
        self.cache.entry(key)
    }

    /// As [`Cache::get_many`], at once.
    ///
    /// # Errors
    /// As [`Cache::get`], of the first that fails.
    pub async fn get_many<'a, Q: Lookup<K> + ?Sized + 'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result<Vec<Option<V>>> {
        self.cache.get_many(keys)
    }

    /// As [`Cache::contains_key`], at once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.cache.contains_key(key)
    }

    /// As [`Cache::ttl`], at once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn ttl<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Option<Duration>>> {
        self.cache.ttl(key)
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache<K, V, C>) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        let cache = self.cache.clone();
        Work::new(self.cache.store().common().pool(), move || work(&cache))
    }

    /// As [`Cache::insert`]. The value is encoded at once.
    ///
    /// # Errors
    /// As [`Cache::insert`].
    pub fn insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Work<()> {
        let key = Encoded::new(key);
        Work::prepared(self.cache.typed.encode(value).map(|bytes| {
            self.work(move |cache| cache.insert_encoded(&key, &bytes, &Put::new()).map(drop))
        }))
    }

    /// As [`Cache::insert_with`]. The value is encoded at once.
    ///
    /// # Errors
    /// As [`Cache::insert_with`].
    pub fn insert_with<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V, put: &Put) -> Work<bool> {
        let (key, put) = (Encoded::new(key), put.clone());
        Work::prepared(
            self.cache
                .typed
                .encode(value)
                .map(|bytes| self.work(move |cache| cache.insert_encoded(&key, &bytes, &put))),
        )
    }

    /// As [`Cache::remove`].
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Work<bool> {
        let key = Encoded::new(key);
        self.work(move |cache| cache.remove(&key))
    }

    /// As [`Cache::remove_many`].
    ///
    /// # Errors
    /// As [`Self::remove`], of the first that fails; those before it are removed.
    pub fn remove_many<'a, Q: Lookup<K> + ?Sized + 'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Work<u64> {
        let keys: Vec<_> = keys.into_iter().map(Encoded::new).collect();
        self.work(move |cache| cache.remove_many(&keys))
    }

    /// As [`Cache::touch`].
    ///
    /// # Errors
    /// The engine's.
    pub fn touch<Q: Lookup<K> + ?Sized>(&self, key: &Q, ttl: impl Into<Ttl>) -> Work<bool> {
        let (key, ttl) = (Encoded::new(key), ttl.into());
        self.work(move |cache| cache.touch(&key, ttl))
    }

    /// As [`Cache::slide`].
    ///
    /// # Errors
    /// The engine's.
    pub fn slide<Q: Lookup<K> + ?Sized>(&self, key: &Q, lifetime: Duration) -> Work<bool> {
        let key = Encoded::new(key);
        self.work(move |cache| cache.slide(&key, lifetime))
    }

    /// As [`Cache::keys`].
    ///
    /// # Errors
    /// The engine's.
    pub fn keys(&self) -> Work<Vec<K>> {
        self.work(Cache::keys)
    }

    /// As [`Cache::len`].
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Work<usize> {
        self.work(Cache::len)
    }

    /// As [`Cache::is_empty`].
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Work<bool> {
        self.work(Cache::is_empty)
    }

    /// As [`Cache::stats`].
    ///
    /// # Errors
    /// The engine's.
    pub fn stats(&self) -> Work<CacheStats> {
        self.work(Cache::stats)
    }

    /// As [`Cache::reset_stats`].
    ///
    /// # Errors
    /// The engine's; then nothing is set back.
    pub fn reset_stats(&self) -> Work<CacheStats> {
        self.work(Cache::reset_stats)
    }

    /// As [`Cache::cut_tag`].
    ///
    /// # Errors
    /// As [`Cache::cut_tag`].
    pub fn cut_tag(&self, tag: &str) -> Work<()> {
        let tag = tag.to_owned();
        self.work(move |cache| cache.cut_tag(&tag))
    }

    /// As [`Cache::invalidate_tag`].
    ///
    /// # Errors
    /// As [`Cache::cut_tag`].
    pub fn invalidate_tag(&self, tag: &str) -> Work<u64> {
        let tag = tag.to_owned();
        self.work(move |cache| cache.invalidate_tag(&tag))
    }

    /// As [`Cache::keys_with_tag`].
    ///
    /// # Errors
    /// As [`Cache::keys_with_tag`].
    pub fn keys_with_tag(&self, tag: &str) -> Work<Vec<K>> {
        let tag = tag.to_owned();
        self.work(move |cache| cache.keys_with_tag(&tag))
    }

    /// As [`Cache::cut`].
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn cut(&self) -> Work<()> {
        self.work(Cache::cut)
    }

    /// As [`Cache::clear`].
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn clear(&self) -> Work<u64> {
        self.work(Cache::clear)
    }

    /// As [`Cache::invalidate_under`].
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_under<P: Key + ?Sized>(&self, part: &P) -> Work<u64> {
        let part = Encoded::nested(part);
        self.work(move |cache| cache.invalidate_under(&part))
    }

    /// As [`Cache::invalidate_keys`]; `is_it` runs on a thread of the store.
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_keys(&self, is_it: impl FnMut(&K) -> bool + Send + 'static) -> Work<u64> {
        self.work(move |cache| cache.invalidate_keys(is_it))
    }

    /// As [`Cache::invalidate_if`]; `is_it` runs on a thread of the store.
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_if(
        &self,
        is_it: impl FnMut(&K, &Entry<V>) -> bool + Send + 'static,
    ) -> Work<u64> {
        self.work(move |cache| cache.invalidate_if(is_it))
    }
}

impl<K: OwnedKey + AsRef<str>, V: 'static, C: Codec<V>> AsyncCache<K, V, C> {
    /// As [`Cache::invalidate_prefix`].
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_prefix(&self, prefix: &str) -> Work<u64> {
        let prefix = prefix.to_owned();
        self.work(move |cache| cache.invalidate_prefix(&prefix))
    }

    /// As [`Cache::invalidate_suffix`].
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_suffix(&self, suffix: &str) -> Work<u64> {
        let suffix = suffix.to_owned();
        self.work(move |cache| cache.invalidate_suffix(&suffix))
    }

    /// As [`Cache::invalidate_glob`].
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_glob(&self, pattern: &str) -> Work<u64> {
        let pattern = pattern.to_owned();
        self.work(move |cache| cache.invalidate_glob(&pattern))
    }
}

impl<K: OwnedKey, V: Send + 'static, C: Codec<V>> AsyncCache<K, V, C> {
    /// As [`Cache::take`]. If this is dropped after it was polled, the value may be gone: nobody got it.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub fn take<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Work<Option<V>> {
        let key = Encoded::new(key);
        self.work(move |cache| cache.take(&key))
    }

    /// As [`Cache::update`]; `change` runs on a thread of the store.
    ///
    /// # Errors
    /// As [`Cache::update`].
    pub fn update<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        put: &Put,
        change: impl FnMut(Option<V>) -> Option<V> + Send + 'static,
    ) -> Work<Option<V>> {
        let (key, put) = (Encoded::new(key), put.clone());
        self.work(move |cache| cache.update(&key, &put, change))
    }

    /// As [`Cache::entries`].
    ///
    /// # Errors
    /// The engine's.
    pub fn entries(&self) -> Work<Vec<(K, V)>> {
        self.work(Cache::entries)
    }
}

impl<K, V, C> AsyncCache<K, V, C>
where
    K: OwnedKey,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// As [`Cache::get_or_insert_with`], with a future: it is polled only if the value is not there, by the task that
    /// asks.
    ///
    /// ```
    /// use tierce::asynchronous::block_on;
    /// let cache = tierce::Store::in_memory()?.cache::<String, usize>("lengths")?.asynchronous();
    /// block_on(async {
    ///     assert_eq!(cache.get_or_insert_with("word", async { 4 }).await?, 4);
    ///     assert_eq!(cache.get_or_insert_with("word", async { unreachable!() }).await?, 4);
    /// #   Ok::<(), tierce::Error>(())
    /// })?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::get_or_load`].
    pub async fn get_or_insert_with<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        load: impl Future<Output = V>,
    ) -> Result<V> {
        self.get_or_load(key, async { Ok::<_, Error>(load.await.into()) }).await
    }

    /// As [`Self::get_or_insert_with`], with a loader that may fail.
    ///
    /// # Errors
    /// As [`Self::get_or_load`].
    pub async fn try_get_or_insert_with<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<V, E>>,
    ) -> Result<V> {
        self.get_or_load(key, async { load.await.map(Loaded::from) }).await
    }

    /// The value of `key`; if it is not there, `load` brings it, and says how long it lives, which tags it has, and so
    /// on.
    ///
    /// Of all tasks, and threads of the blocking face, that ask for a key at the same time one loads and the others
    /// wait. If the one that loads is dropped, the first of the others loads with its own loader; so dropping, at any
    /// moment, leaves no key locked, and a timeout of any runtime may be put around this. Once the store's threads
    /// have what the loader brought, it is stored even if nobody waits any more.
    ///
    /// A future that loads and is neither dropped nor polled again (left behind in a `select` while the task waits for
    /// something else) holds up the others: drop it, or spawn it.
    ///
    /// ```
    /// use tierce::{Loaded, Ttl, asynchronous::block_on};
    /// let cache = tierce::Store::in_memory()?.cache::<String, u32>("c")?.asynchronous();
    /// block_on(async {
    ///     let load = async { Ok::<_, std::io::Error>(Loaded::new(7).ttl(Ttl::minutes(5))) };
    ///     assert_eq!(cache.get_or_load("a", load).await?, 7);
    /// #   Ok::<(), tierce::Error>(())
    /// })?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Cache::try_get_or_insert_with`]. [`Error::LoaderRecursion`] is for loads that a loader polls itself: if it
    /// spawns a task that asks for the same key, and waits for that, they wait for each other.
    pub async fn get_or_load<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<Loaded<V>, E>>,
    ) -> Result<V> {
        if let Some(value) = self.cache.get(key)? {
            return Ok(value);
        }
        self.load(key, false, load).await
    }

    /// As [`Cache::force_refresh`].
    ///
    /// # Errors
    /// As [`Self::get_or_load`]; on an error the old value stays.
    pub async fn force_refresh<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<Loaded<V>, E>>,
    ) -> Result<V> {
        self.load(key, true, load).await
    }

    async fn load<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        force: bool,
        load: impl Future<Output = Result<Loaded<V>, E>>,
    ) -> Result<V> {
        let key = self.cache.typed.key_bytes(key);
        let load = async { load.await.map_err(Into::into) };
        self.cache.load_task(&key, force, &LoadPolicy::new(), |_| load).await
    }
}
