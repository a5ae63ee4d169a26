//! A typed map that forgets nothing by itself.

use std::ops::{Bound, ControlFlow, RangeBounds};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::View;

use crate::{
    codec::{Codec, MsgPack},
    error::{Error, Result},
    found::Found,
    key::{Lookup, OwnedKey},
    kv::Edit,
    space::SpaceOptions,
    store::Store,
    typed::{Outcome, Typed},
};

/// A typed map: what is in it stays until it is removed. It never evicts, and by itself nothing expires.
///
/// A cheap handle that may be used from any thread. What a method acknowledged is kept as safely as the store's
/// durability says; a crash leaves each call done or not done. A value that cannot be decoded is
/// [`Error::Decode`], never a wrong value.
///
/// ```
/// use tierce::Store;
/// let store = Store::in_memory()?;
/// let offsets = store.map::<(String, u32), f64>("calibration")?;
/// offsets.insert(&("scale", 1), &0.5)?;
/// assert_eq!(offsets.get(&("scale", 1))?, Some(0.5));
/// assert_eq!(offsets.update(&("scale", 1), |old| old.map(|offset| offset * 2.0))?, Some(1.0));
/// assert!(offsets.remove(&("scale", 1))?);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Map<K, V, C = MsgPack> {
    pub(crate) typed: Typed<K, V, C>,
}

impl<K, V, C> std::fmt::Debug for Map<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Map").field(&self.typed).finish()
    }
}

impl<K, V, C> Clone for Map<K, V, C> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone() }
    }
}

impl Store {
    /// A typed map that keeps everything until it is removed: state, settings, counters.
    ///
    /// # Errors
    /// As [`Self::map_with`].
    pub fn map<K: OwnedKey, V: Serialize + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Map<K, V>> {
        self.map_with(name, &SpaceOptions::new())
    }

    /// As [`Self::map`], with options of the space, and with another codec if the type says so.
    ///
    /// ```
    /// use tierce::{Map, SpaceOptions, Store, codec::Json};
    /// let store = Store::in_memory()?;
    /// let map: Map<(String, u32), Vec<u8>, Json> =
    ///     store.map_with("house/rooms", &SpaceOptions::new().ordered(true))?;
    /// map.insert(&("attic", 1), &vec![1])?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Type`] if the space holds something else;
    /// [`Error::Options`] if it was created with other options; the engine's.
    pub fn map_with<K, V, C>(&self, name: &str, options: &SpaceOptions) -> Result<Map<K, V, C>>
    where
        K: OwnedKey,
        C: Codec<V>,
    {
        Map::open(self, name, options)
    }
}

impl<K: OwnedKey, V, C: Codec<V>> Map<K, V, C> {
    pub(crate) fn open(store: &Store, name: &str, options: &SpaceOptions) -> Result<Self> {
        if options.ttl.is_some() || options.evictable == Some(true) {
            let complaints = vec!["a map never expires or evicts: use a cache".to_owned()];
            return Err(Error::Options { what: format!("space `{name}`"), complaints });
        }
        Ok(Self { typed: Typed::open(store, name, "map", options)? })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Decode`]; the engine's.
    pub fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.typed.with_key(key, |key| self.typed.get_at(key))
    }

    /// Whether `key` is there. Does not read the value.
    ///
    /// # Errors
    /// The engine's.
    pub fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.typed.with_key(key, |key| self.typed.kv().contains(key))
    }

    /// Stores `value`, in the place of an older one if there is one.
    ///
    /// # Errors
    /// [`Error::Encode`]; the engine's: [`Full`](tierce_engine::Error::Full) if the limit leaves no room.
    pub fn insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<()> {
        self.insert_encoded(key, &self.typed.encode(value)?)
    }

    /// As [`Self::insert`], with the bytes of a value.
    pub(crate) fn insert_encoded<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        bytes: &[u8],
    ) -> Result<()> {
        let options = self.typed.put_options(None);
        self.typed.with_key(key, |key| self.typed.put_raw(key, bytes, &options))
    }

    /// Stores `value` unless there is one already; says whether it did.
    ///
    /// ```
    /// let map = tierce::Store::in_memory()?.map::<String, u32>("m")?;
    /// assert!(map.insert_if_absent("a", &1)?);
    /// assert!(!map.insert_if_absent("a", &2)?);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn insert_if_absent<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<bool> {
        self.insert_encoded_if_absent(key, &self.typed.encode(value)?)
    }

    /// As [`Self::insert_if_absent`], with the bytes of a value.
    pub(crate) fn insert_encoded_if_absent<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        bytes: &[u8],
    ) -> Result<bool> {
        let options = self.typed.put_options(None).only_if_absent();
        let put = self.typed.with_key(key, |key| self.typed.put_raw(key, bytes, &options));
        match put {
            Ok(()) => Ok(true),
            Err(Error::Engine(tierce_engine::Error::Conflict { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The value of `key`; `default` is stored and returned if there is none.
    ///
    /// # Errors
    /// As [`Self::get`] and [`Self::insert`].
    pub fn get_or_insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, default: V) -> Result<V> {
        loop {
            if let Some(value) = self.get(key)? {
                return Ok(value);
            }
            if self.insert_if_absent(key, &default)? {
                return Ok(default);
            }
        }
    }

    /// Removes `key`; says whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.typed.with_key(key, |key| self.typed.delete_at(key))
    }

    /// Removes `key` and returns what it was. Of several callers one gets it.
    ///
    /// # Errors
    /// As [`Self::get`]; a value that cannot be decoded stays.
    pub fn take<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        let mut taken = None;
        self.typed.with_key(key, |key| {
            self.typed.update_at(key, &mut |old| {
                taken = old.map(|(value, _)| value);
                Ok(if taken.is_some() { Outcome::Remove } else { Outcome::Keep })
            })
        })?;
        Ok(taken)
    }

    /// Gives the value of `key`, or `None`, to `change`, and stores what it returns, or removes the key for `None`:
    /// atomically. `change` is asked again if another write came between. Returns what is stored then.
    ///
    /// ```
    /// let runs = tierce::Store::in_memory()?.map::<String, u64>("runs")?;
    /// runs.update("night", |old| Some(old.unwrap_or(0) + 1))?;
    /// assert_eq!(runs.update("night", |old| Some(old.unwrap_or(0) + 1))?, Some(2));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::get`] and [`Self::insert`]; then nothing has changed.
    pub fn update<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Option<V>> {
        let options = self.typed.put_options(None);
        self.typed.with_key(key, |bytes| {
            self.typed.update_at(bytes, &mut |old| {
                Ok(match change(old.map(|(value, _)| value)) {
                    Some(value) => Outcome::Put(value, options.clone()),
                    None => Outcome::Remove,
                })
            })
        })
    }

    /// Stores all these entries or, if anything fails, none of them; a crash does not leave a part of them either.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn insert_all<Q: Lookup<K>>(
        &self,
        entries: impl IntoIterator<Item = (Q, V)>,
    ) -> Result<()> {
        let put = |(key, value): (Q, V)| {
            let bytes = self.typed.encode(&value)?;
            Ok(Edit::Put(self.typed.key_bytes(&key), bytes, self.typed.put_options(None)))
        };
        let edits = entries.into_iter().map(put).collect::<Result<Vec<_>>>()?;
        if edits.is_empty() { Ok(()) } else { self.typed.commit(edits) }
    }

    /// Every entry as it is at this moment; reads the head of every entry of the store. In an ordered space sorted by
    /// key, and read one after the other: what is written meanwhile may be seen or not.
    ///
    /// # Errors
    /// Of the first entry that fails; as [`Self::get`].
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        self.collect(&self.typed.space().prefix.clone(), |_| true)
    }

    /// Every entry whose first key part is `part`, of keys that are tuples. In an ordered space it costs only what it
    /// finds.
    ///
    /// ```
    /// use tierce::SpaceOptions;
    /// let store = tierce::Store::in_memory()?;
    /// let map: tierce::Map<(String, u32), bool> =
    ///     store.map_with("switches", &SpaceOptions::new().ordered(true))?;
    /// map.insert_all([(("attic", 1), true), (("attic", 2), false), (("hall", 1), true)])?;
    /// let attic = map.entries_under("attic")?;
    /// assert_eq!(attic, [(("attic".to_owned(), 1), true), (("attic".to_owned(), 2), false)]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn entries_under<P: crate::Key + ?Sized>(&self, part: &P) -> Result<Vec<(K, V)>> {
        let mut prefix = self.typed.space().prefix.clone();
        part.write_nested(&mut crate::key::KeyWriter::new(&mut prefix));
        self.collect(&prefix, |key| crate::key::is_under(key, &prefix))
    }

    fn collect(&self, prefix: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Result<Vec<(K, V)>> {
        let mut found = Found::default();
        self.typed.scan_at(prefix, true, &mut |key, view| match is_it(key) {
            true => found.add(self.read(key, &view)),
            false => ControlFlow::Continue(()),
        })?;
        found.finish()
    }

    fn read(&self, key: &[u8], view: &View<'_>) -> Result<(K, V)> {
        Ok((self.typed.key_of(key)?, self.typed.value_of(key, view)?))
    }

    /// The entries whose keys lie in `range`, sorted. A range that ends before it begins is empty.
    ///
    /// ```
    /// use tierce::SpaceOptions;
    /// let store = tierce::Store::in_memory()?;
    /// let map: tierce::Map<u32, String> = store.map_with("log", &SpaceOptions::new().ordered(true))?;
    /// (0..10).try_for_each(|n| map.insert(&n, &n.to_string()))?;
    /// let some: Vec<u32> = map.range(3..6)?.into_iter().map(|(key, _)| key).collect();
    /// assert_eq!(some, [3, 4, 5]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] if the space is not ordered; as [`Self::entries`].
    pub fn range(&self, range: impl RangeBounds<K>) -> Result<Vec<(K, V)>> {
        let space = self.typed.space();
        let bound = |bound: Bound<&K>| bound.map(|key| self.typed.key_bytes(key));
        let (from, to) = (bound(range.start_bound()), bound(range.end_bound()));
        let keys = space.with_order(self.typed.kv(), &space.prefix, |order| {
            match is_empty(&from, &to) {
                true => Vec::new(),
                false => order.range((from, to)).cloned().collect::<Vec<_>>(),
            }
        })?;
        let Some(keys) = keys else {
            let complaints = vec!["ranges need an ordered space".to_owned()];
            return Err(Error::Options {
                what: format!("space `{}`", space.info.name),
                complaints,
            });
        };
        let mut found = Found::default();
        self.typed.visit(&keys, true, &mut |key, view| found.add(self.read(key, &view)))?;
        found.finish()
    }

    /// Every key at this moment; sorted if the space is ordered.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn keys(&self) -> Result<Vec<K>> {
        let mut found = Found::default();
        let prefix = self.typed.space().prefix.clone();
        self.typed.scan_at(&prefix, false, &mut |key, _| found.add(self.typed.key_of(key)))?;
        found.finish()
    }

    /// Count of entries. Reads the head of every entry of the store.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<usize> {
        let mut count = 0;
        let prefix = self.typed.space().prefix.clone();
        self.typed.scan_at(&prefix, false, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Result<bool> {
        let mut is_empty = true;
        let prefix = self.typed.space().prefix.clone();
        self.typed.scan_at(&prefix, false, &mut |_, _| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
        Ok(is_empty)
    }

    /// Removes every entry, at a cost that does not depend on how many there are. Compaction gives the bytes back.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn clear(&self) -> Result<()> {
        self.typed.cut(&self.typed.space().prefix)
    }
}

/// Whether a range of keys ends before it begins, which `BTreeSet` does not take.
fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from > to,
        _ => false,
    }
}
