//! The async face of a cache with its loader.

use std::{fmt, pin::Pin, sync::Arc};

use super::AsyncCache;
use crate::{
    cache::{Cache, LoadPolicy, Loaded, Old, Verdict},
    codec::{Codec, MsgPack},
    error::{BoxError, Result},
    key::{Lookup, OwnedKey},
};

/// A future of any type.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type Load<K, V> = dyn Fn(K, Option<Old<V>>) -> BoxFuture<Result<Loaded<V>, BoxError>> + Send + Sync;
type Spawn = dyn Fn(BoxFuture<()>) + Send + Sync;

/// A cache together with the async loader of its values, as [`Loading`](crate::Loading) is with a blocking one. A cheap
/// handle.
///
/// A value that is not there is loaded by the task that asks for it; one that is only to be replaced (stale while it is
/// revalidated, early, ahead) is loaded by a task that is spawned. [`LoadPolicy::patience`] has no effect: put the
/// runtime's timeout around [`Self::get`]; dropping that is safe.
pub struct AsyncLoading<K, V, C = MsgPack> {
    cache: AsyncCache<K, V, C>,
    policy: Arc<LoadPolicy>,
    load: Arc<Load<K, V>>,
    spawn: Arc<Spawn>,
}

impl<K, V, C> Clone for AsyncLoading<K, V, C> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            policy: Arc::clone(&self.policy),
            load: Arc::clone(&self.load),
            spawn: Arc::clone(&self.spawn),
        }
    }
}

impl<K, V, C> fmt::Debug for AsyncLoading<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncLoading").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<K, V, C> AsyncCache<K, V, C>
where
    K: OwnedKey + Lookup<K> + Clone,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// This cache with a loader: it is given the key and, if there is one, the value that is to be replaced. `spawn`
    /// has a task carried out in the background, on whatever runtime; it may drop the task, and must not run it.
    ///
    /// ```
    /// use std::{thread, time::Duration};
    /// use tierce::{LoadPolicy, Loaded, Ttl, asynchronous::block_on};
    /// let cache = tierce::Store::in_memory()?.cache::<String, String>("pages")?.asynchronous();
    /// let spawn = |task| drop(thread::spawn(|| block_on(task)));
    /// let minute = Duration::from_secs(60);
    /// let policy = LoadPolicy::new().ttl(Ttl::minutes(5)).stale_while_revalidate(minute);
    /// let pages = cache.loading_with(policy, spawn, |url: String, _old| async move {
    ///     Ok(Loaded::new(format!("content of {url}")))
    /// });
    /// assert_eq!(block_on(pages.get(&"/a".to_owned()))?, "content of /a");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn loading_with<F>(
        &self,
        policy: LoadPolicy,
        spawn: impl Fn(BoxFuture<()>) + Send + Sync + 'static,
        load: impl Fn(K, Option<Old<V>>) -> F + Send + Sync + 'static,
    ) -> AsyncLoading<K, V, C>
    where
        F: Future<Output = Result<Loaded<V>, BoxError>> + Send + 'static,
    {
        AsyncLoading {
            cache: self.clone(),
            policy: Arc::new(policy),
            load: Arc::new(move |key, old| Box::pin(load(key, old))),
            spawn: Arc::new(spawn),
        }
    }

    /// As [`Self::loading_with`]; tasks are spawned on the runtime of tokio that this is called in.
    ///
    /// ```
    /// use tierce::{LoadPolicy, Loaded};
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("squares")?.asynchronous();
    /// tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    ///     let squares = cache.loading(LoadPolicy::new(), |n: u32, _| async move {
    ///         Ok(Loaded::new(n * n))
    ///     })?;
    ///     assert_eq!(squares.get(&7).await?, 49);
    /// #   Ok::<(), tierce::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`](crate::Error::Options) outside of a runtime of tokio.
    #[cfg(feature = "tokio")]
    pub fn loading<F>(
        &self,
        policy: LoadPolicy,
        load: impl Fn(K, Option<Old<V>>) -> F + Send + Sync + 'static,
    ) -> Result<AsyncLoading<K, V, C>>
    where
        F: Future<Output = Result<Loaded<V>, BoxError>> + Send + 'static,
    {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            let what = "a cache with an async loader".to_owned();
            crate::Error::Options { what, complaints: vec![error.to_string()] }
        })?;
        Ok(self.loading_with(policy, move |task| drop(runtime.spawn(task)), load))
    }
}

impl<K, V, C> AsyncLoading<K, V, C>
where
    K: OwnedKey + Lookup<K> + Clone,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The cache.
    #[must_use]
    pub const fn cache(&self) -> &AsyncCache<K, V, C> {
        &self.cache
    }

    fn blocking(&self) -> &Cache<K, V, C> {
        self.cache.blocking()
    }

    /// As [`Loading::get`](crate::Loading::get): at once, if there is a value that may be served.
    ///
    /// # Errors
    /// As there, but for the timeout.
    pub async fn get(&self, key: &K) -> Result<V> {
        let bytes = self.blocking().typed.key_bytes(key);
        match self.blocking().judge(&bytes, &self.policy)? {
            Verdict::Serve(value, None) => Ok(value),
            Verdict::Serve(value, Some(parked)) => {
                let (this, key) = (self.clone(), key.clone());
                (self.spawn)(Box::pin(async move {
                    // A thread that could not wait so long may have taken it over.
                    if let Some(ticket) = parked.take_off() {
                        let (load, policy) = (this.loader(&key), &this.policy);
                        // Whoever waits is told; if nobody does, the failure is on record.
                        let _ = this.blocking().lead_task(ticket, &bytes, true, policy, load).await;
                    }
                }));
                Ok(value)
            }
            Verdict::Load(_) => {
                self.blocking().load_task(&bytes, false, &self.policy, self.loader(key)).await
            }
        }
    }

    /// As [`Loading::refresh`](crate::Loading::refresh).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn refresh(&self, key: &K) -> Result<V> {
        let bytes = self.blocking().typed.key_bytes(key);
        self.blocking().load_task(&bytes, true, &self.policy, self.loader(key)).await
    }

    /// The loader of one key. It is called when it is polled first, so that its panics are those of a loader.
    fn loader(
        &self,
        key: &K,
    ) -> impl FnOnce(Option<&Old<V>>) -> BoxFuture<Result<Loaded<V>, BoxError>> + use<K, V, C> {
        let (load, key) = (Arc::clone(&self.load), key.clone());
        move |old| {
            let old = old.cloned();
            Box::pin(async move { load(key, old).await })
        }
    }
}
