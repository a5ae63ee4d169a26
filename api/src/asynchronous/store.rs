//! The async face of a store.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Options, Timestamp};

use super::{AsyncCache, AsyncMap, Work};
use crate::{
    codec::Codec,
    error::Result,
    key::OwnedKey,
    pool::Pool,
    space::{SpaceInfo, SpaceOptions, SpaceStats},
    store::Store,
};

/// The async face of a [`Store`]. A cheap handle: clones, and the blocking face, share the store.
///
/// Dropping the last handle of a store closes it, which takes a moment of whatever thread does it: drop its caches and
/// maps first, and then [`close`](Self::close) it.
///
/// ```
/// use tierce::asynchronous::{AsyncStore, block_on};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// block_on(async {
///     let store = AsyncStore::open(&path).await?;
///     let counts = store.map::<String, u64>("counts").await?;
///     counts.update("runs", |old| Some(old.unwrap_or(0) + 1)).await?;
///     assert_eq!(counts.get("runs").await?, Some(1));
///     drop(counts);
///     store.close().await
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsyncStore {
    store: Store,
}

impl From<Store> for AsyncStore {
    fn from(store: Store) -> Self {
        Self { store }
    }
}

impl Store {
    /// The async face of this store.
    ///
    /// ```
    /// use tierce::asynchronous::block_on;
    /// let store = tierce::Store::in_memory()?;
    /// assert!(block_on(store.asynchronous().spaces())?.is_empty());
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn asynchronous(&self) -> AsyncStore {
        self.clone().into()
    }
}

impl AsyncStore {
    /// As [`Store::open`]. Dropped while the store is being opened, it is opened and closed again.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Work<Self> {
        Self::open_with(path, Options::new())
    }

    /// As [`Store::open_with`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Work<Self> {
        let path = path.as_ref().to_owned();
        // A store that is not open yet has no threads: this one ends with the work.
        Work::new(&Pool::new(), move || Ok(Store::open_with(path, options)?.into()))
    }

    /// As [`Store::in_memory`].
    ///
    /// # Errors
    /// None that is expected.
    pub fn in_memory() -> Work<Self> {
        Work::new(&Pool::new(), || Ok(Store::in_memory()?.into()))
    }

    /// The blocking face. Not to be called in a task, but for what only asks: see its [`engine`](Store::engine).
    #[must_use]
    pub const fn blocking(&self) -> &Store {
        &self.store
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        let store = self.store.clone();
        Work::new(self.store.common().pool(), move || work(&store))
    }

    /// As [`Store::now`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// As [`Store::cache`].
    ///
    /// # Errors
    /// As [`Store::cache_with`].
    pub fn cache<K, V>(&self, name: &str) -> Work<AsyncCache<K, V>>
    where
        K: OwnedKey,
        V: Serialize + DeserializeOwned + 'static,
    {
        self.cache_with(name, &SpaceOptions::new())
    }

    /// As [`Store::cache_with`].
    ///
    /// # Errors
    /// As [`Store::cache_with`].
    pub fn cache_with<K, V, C>(
        &self,
        name: &str,
        options: &SpaceOptions,
    ) -> Work<AsyncCache<K, V, C>>
    where
        K: OwnedKey,
        V: 'static,
        C: Codec<V>,
    {
        let (name, options) = (name.to_owned(), options.clone());
        self.work(move |store| Ok(store.cache_with(&name, &options)?.asynchronous()))
    }

    /// As [`Store::map`].
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn map<K, V>(&self, name: &str) -> Work<AsyncMap<K, V>>
    where
        K: OwnedKey,
        V: Serialize + DeserializeOwned + 'static,
    {
        self.map_with(name, &SpaceOptions::new())
    }

    /// As [`Store::map_with`].
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn map_with<K, V, C>(&self, name: &str, options: &SpaceOptions) -> Work<AsyncMap<K, V, C>>
    where
        K: OwnedKey,
        V: 'static,
        C: Codec<V>,
    {
        let (name, options) = (name.to_owned(), options.clone());
        self.work(move |store| Ok(store.map_with(&name, &options)?.asynchronous()))
    }

    /// As [`Store::spaces`].
    ///
    /// # Errors
    /// The engine's.
    pub fn spaces(&self) -> Work<Vec<SpaceInfo>> {
        self.work(Store::spaces)
    }

    /// As [`Store::space_stats`].
    ///
    /// # Errors
    /// The engine's.
    pub fn space_stats(&self, name: &str) -> Work<Option<SpaceStats>> {
        let name = name.to_owned();
        self.work(move |store| store.space_stats(&name))
    }

    /// As [`Store::drop_space`].
    ///
    /// # Errors
    /// The engine's; then the space is as it was.
    pub fn drop_space(&self, name: &str) -> Work<bool> {
        let name = name.to_owned();
        self.work(move |store| store.drop_space(&name))
    }

    /// As [`Store::sync`].
    ///
    /// # Errors
    /// The engine's.
    pub fn sync(&self) -> Work<()> {
        self.work(Store::sync)
    }

    /// As [`Store::close`].
    ///
    /// # Errors
    /// As [`Engine::close`](tierce_engine::Engine::close).
    pub fn close(self) -> Work<()> {
        let pool = self.store.common().pool().clone();
        Work::new(&pool, move || self.store.close())
    }
}
