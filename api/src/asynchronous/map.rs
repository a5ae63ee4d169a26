//! The async face of a map.

use std::ops::RangeBounds;

use super::Work;
use crate::{
    codec::{Codec, MsgPack},
    error::Result,
    key::{Encoded, Key, Lookup, OwnedKey},
    map::Map,
};

/// The async face of a [`Map`]: what each method does, and how safely, stands there. Reads answer at once; the rest is
/// a
/// [`Work`]. A cheap handle.
///
/// ```
/// use tierce::asynchronous::block_on;
/// let offsets = tierce::Store::in_memory()?.map::<(String, u32), f64>("calibration")?.asynchronous();
/// block_on(async {
///     offsets.insert(&("scale", 1), &0.5).await?;
///     assert_eq!(offsets.get(&("scale", 1)).await?, Some(0.5));
///     assert_eq!(offsets.update(&("scale", 1), |old| old.map(|n| n * 2.0)).await?, Some(1.0));
///     assert_eq!(offsets.take(&("scale", 1)).await?, Some(1.0));
/// #   Ok::<(), tierce::Error>(())
/// })?;
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct AsyncMap<K, V, C = MsgPack> {
    map: Map<K, V, C>,
}

impl<K, V, C> std::fmt::Debug for AsyncMap<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncMap").field(&self.map).finish()
    }
}

impl<K, V, C> Clone for AsyncMap<K, V, C> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<K, V, C> From<Map<K, V, C>> for AsyncMap<K, V, C> {
    fn from(map: Map<K, V, C>) -> Self {
        Self { map }
    }
}

impl<K, V, C> Map<K, V, C> {
    /// The async face of this map.
    #[must_use]
    pub fn asynchronous(&self) -> AsyncMap<K, V, C> {
        self.clone().into()
    }
}

impl<K, V, C> AsyncMap<K, V, C> {
    /// The blocking face. Not to be called in a task.
    #[must_use]
    pub const fn blocking(&self) -> &Map<K, V, C> {
        &self.map
    }
}

impl<K: OwnedKey, V: 'static, C: Codec<V>> AsyncMap<K, V, C> {
    /// As [`Map::get`], at once.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub async fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.map.get(key)
    }

    /// As [`Map::contains_key`], at once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.map.contains_key(key)
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Map<K, V, C>) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        let map = self.map.clone();
        Work::new(self.map.typed.store().common().pool(), move || work(&map))
    }

    /// As [`Map::insert`]. The value is encoded at once.
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Work<()> {
        let key = Encoded::new(key);
        Work::prepared(
            self.map
                .typed
                .encode(value)
                .map(|bytes| self.work(move |map| map.insert_encoded(&key, &bytes))),
        )
    }

    /// As [`Map::insert_if_absent`]. The value is encoded at once.
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn insert_if_absent<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Work<bool> {
        let key = Encoded::new(key);
        Work::prepared(
            self.map
                .typed
                .encode(value)
                .map(|bytes| self.work(move |map| map.insert_encoded_if_absent(&key, &bytes))),
        )
    }

    /// As [`Map::remove`].
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Work<bool> {
        let key = Encoded::new(key);
        self.work(move |map| map.remove(&key))
    }

    /// As [`Map::keys`].
    ///
    /// # Errors
    /// As [`Map::entries`].
    pub fn keys(&self) -> Work<Vec<K>> {
        self.work(Map::keys)
    }

    /// As [`Map::len`].
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Work<usize> {
        self.work(Map::len)
    }

    /// As [`Map::is_empty`].
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Work<bool> {
        self.work(Map::is_empty)
    }

    /// As [`Map::clear`].
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn clear(&self) -> Work<()> {
        self.work(Map::clear)
    }
}

impl<K: OwnedKey, V: Send + 'static, C: Codec<V>> AsyncMap<K, V, C> {
    /// As [`Map::get_or_insert`].
    ///
    /// # Errors
    /// As [`Map::get`] and [`Map::insert`].
    pub fn get_or_insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, default: V) -> Work<V> {
        let key = Encoded::new(key);
        self.work(move |map| map.get_or_insert(&key, default))
    }

    /// As [`Map::take`]. If this is dropped after it was polled, the value may be gone: nobody got it.
    ///
    /// # Errors
    /// As [`Map::take`].
    pub fn take<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Work<Option<V>> {
        let key = Encoded::new(key);
        self.work(move |map| map.take(&key))
    }

    /// As [`Map::update`]; `change` runs on a thread of the store.
    ///
    /// # Errors
    /// As [`Map::update`].
    pub fn update<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> Option<V> + Send + 'static,
    ) -> Work<Option<V>> {
        let key = Encoded::new(key);
        self.work(move |map| map.update(&key, change))
    }

    /// As [`Map::insert_all`]: all of them or none, dropped or not. The entries are taken at once.
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn insert_all<Q: Lookup<K>>(&self, entries: impl IntoIterator<Item = (Q, V)>) -> Work<()> {
        let entries = entries.into_iter().map(|(key, value)| (Encoded::new(&key), value));
        let entries: Vec<_> = entries.collect();
        self.work(move |map| map.insert_all(entries))
    }

    /// As [`Map::entries`].
    ///
    /// # Errors
    /// As [`Map::entries`].
    pub fn entries(&self) -> Work<Vec<(K, V)>> {
        self.work(Map::entries)
    }

    /// As [`Map::entries_under`].
    ///
    /// # Errors
    /// As [`Map::entries`].
    pub fn entries_under<P: Key + ?Sized>(&self, part: &P) -> Work<Vec<(K, V)>> {
        let part = Encoded::nested(part);
        self.work(move |map| map.entries_under(&part))
    }

    /// As [`Map::range`].
    ///
    /// # Errors
    /// As [`Map::range`].
    pub fn range(&self, range: impl RangeBounds<K> + Send + 'static) -> Work<Vec<(K, V)>> {
        self.work(move |map| map.range(range))
    }
}
