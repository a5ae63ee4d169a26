//! A typed cache: entries with lifetimes and tags, which may be forgotten to stay under the store's limits.

mod entry;
mod events;
mod flight;
mod glob;
mod invalidate;
mod lifetime;
mod load;
mod load_task;
mod loader;
mod put;
mod record;
mod stats;
mod uses;
mod weights;
mod writing;

use std::{ops::ControlFlow, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{PutOptions, Timestamp, View};

use self::{
    entry::describe,
    events::{Listeners, Raw},
    flight::Flights,
    record::{Standing, standing},
    stats::Counters,
    uses::Uses,
    weights::Weights,
};
use crate::{
    codec::{Codec, MsgPack},
    error::{Error, Result},
    found::Found,
    key::{Lookup, OwnedKey},
    space::SpaceOptions,
    store::Store,
    sync::{Mutex, PoisonError},
    ttl::End,
    typed::{Outcome, Typed},
};

pub use entry::Entry;
pub use events::{Event, Events, Removal};
pub(crate) use loader::Verdict;
pub use loader::{LoadPolicy, Loaded, Loading, Old};
pub use put::Put;
pub use stats::CacheStats;

/// A typed cache.
///
/// A cheap handle that may be used from any thread; every handle of one space shares loads and statistics. A read is
/// answered from the index and the mapped log: no lock is held across it and nothing is written for it. An entry whose
/// value cannot be decoded (its type changed) is a miss; [`CacheStats::undecodable`] counts them. A stored `None` is a
/// hit.
///
/// What a method acknowledged is kept as safely as the store's durability says, until it expires, is removed, or is
/// evicted to stay under a limit of the store.
///
/// ```
/// use tierce::{Put, Store, Ttl};
/// let store = Store::in_memory()?;
/// let weather = store.cache::<String, f64>("weather")?;
/// weather.insert_with("London", &17.5, &Put::new().ttl(Ttl::minutes(30)).tag("europe"))?;
/// assert_eq!(weather.get("London")?, Some(17.5));
/// assert_eq!(weather.invalidate_tag("europe")?, 1);
/// assert_eq!(weather.get("London")?, None);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Cache<K, V, C = MsgPack> {
    pub(crate) typed: Typed<K, V, C>,
    shared: Arc<CacheShared>,
}

impl<K, V, C> std::fmt::Debug for Cache<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cache").field(&self.typed).finish()
    }
}

impl<K, V, C> Clone for Cache<K, V, C> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// What all handles of one cache share.
#[derive(Debug, Default)]
pub(crate) struct CacheShared {
    counters: Counters,
    flights: Arc<Flights>,
    listeners: Listeners,
    uses: Uses,
    weights: Weights,
    /// Why a value that was loaded could not be stored, the last time.
    unstored: Mutex<Option<String>>,
}

impl CacheShared {
    fn note_unstored(&self, error: &Error) {
        self.counters.unstored.add(1);
        *self.unstored.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    fn unstored_because(&self) -> Option<String> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store {
    /// A typed cache with default options.
    ///
    /// # Errors
    /// As [`Self::cache_with`].
    pub fn cache<K, V>(&self, name: &str) -> Result<Cache<K, V>>
    where
        K: OwnedKey,
        V: Serialize + DeserializeOwned,
    {
        self.cache_with(name, &SpaceOptions::new())
    }

    /// As [`Self::cache`], with options of the space, and with another codec if the type says so.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::{Cache, SpaceOptions, Store, codec::Raw};
    /// let store = Store::in_memory()?;
    /// let pages: Cache<String, Vec<u8>, Raw> =
    ///     store.cache_with("pages", &SpaceOptions::new().ttl(Duration::from_secs(300)))?;
    /// pages.insert("/", &b"<html>".to_vec())?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Type`] if the space holds something else; [`Error::Options`] if it was created with
    /// other options; the engine's.
    pub fn cache_with<K, V, C>(&self, name: &str, options: &SpaceOptions) -> Result<Cache<K, V, C>>
    where
        K: OwnedKey,
        C: Codec<V>,
    {
        let typed = Typed::open(self, name, "cache", options)?;
        Ok(Cache { shared: typed.space().attached(), typed })
    }
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// The value of `key`, if it is there and fresh.
    ///
    /// # Errors
    /// The engine's; a damaged record is [`Corruption`](tierce_engine::Error::Corruption), never a wrong value.
    #[inline]
    pub fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        self.typed.with_key(key, |key| {
            let found = self.fresh_at(key, |value, _| value)?;
            self.shared.counters.count(found.is_some());
            if found.is_some() {
                self.note_used(key);
            }
            Ok(found)
        })
    }

    /// The value of `key`, even if it is fresh no more, and whether it is. Nothing past its expiry is ever returned.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_stale<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Entry<V>>> {
        let now = self.now();
        self.typed.with_key(key, |key| {
            let found = self.shared.uses.of(key);
            self.look_at(key, |value, view| describe(value, &view, found, now))
        })
    }

    /// The entry of `key` with what is known of it, if it is there and fresh. Does not count as a hit or miss.
    ///
    /// ```
    /// use tierce::{Put, Ttl};
    /// let cache = tierce::Store::in_memory()?.cache::<String, u8>("c")?;
    /// cache.insert_with("a", &1, &Put::new().ttl(Ttl::seconds(60)).tags(["x", "y"]))?;
    /// let entry = cache.entry("a")?.expect("stored");
    /// assert_eq!(entry.tags, ["x", "y"]);
    /// assert!(entry.expires_at.is_some() && !entry.is_stale);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn entry<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<Entry<V>>> {
        Ok(self.get_stale(key)?.filter(|entry| !entry.is_stale))
    }

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::get`], of the first that fails.
    pub fn get_many<'a, Q: Lookup<K> + ?Sized + 'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result<Vec<Option<V>>> {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Whether `key` is there and fresh. Reads no value, and counts neither as a use nor as a hit.
    ///
    /// # Errors
    /// The engine's.
    pub fn contains_key<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let mut is_fresh = false;
        self.typed.with_key(key, |key| {
            if self.is_careful() {
                let mut look = |view: View<'_>| is_fresh = self.fresh_value(key, &view).is_some();
                return self.typed.kv().view(key, &mut look);
            }
            self.typed.kv().peek(key, &mut |view| is_fresh = self.is_fresh(&view))
        })?;
        Ok(is_fresh)
    }

    /// Whether an entry was found that cannot be decoded. From then on what counts entries reads their values, so that it
    /// agrees with `get`.
    fn is_careful(&self) -> bool {
        self.shared.counters.undecodable.get() > 0
    }

    /// Stores `value`. An older entry is replaced with everything that belonged to it: lifetime, tags, pin.
    ///
    /// # Errors
    /// [`Error::Encode`]; the engine's: [`Full`](tierce_engine::Error::Full) and
    /// [`TooLarge`](tierce_engine::Error::TooLarge) before anything is touched.
    pub fn insert<Q: Lookup<K> + ?Sized>(&self, key: &Q, value: &V) -> Result<()> {
        self.insert_with(key, value, &Put::new()).map(drop)
    }

    /// Stores `value` with a lifetime, tags and so on; says whether it is stored. It is not if its lifetime is zero,
    /// which removes the old entry, and if it was to be stored only in the absence of another.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::{Put, Ttl};
    /// let cache = tierce::Store::in_memory()?.cache::<u32, String>("c")?;
    /// assert!(cache.insert_with(&1, &"a".into(), &Put::new().if_absent())?);
    /// assert!(!cache.insert_with(&1, &"b".into(), &Put::new().if_absent())?);
    /// assert!(!cache.insert_with(&1, &"c".into(), &Put::new().ttl(Duration::ZERO))?);
    /// assert_eq!(cache.get(&1)?, None);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::insert`]; [`Error::Name`] for a tag that is empty or longer than 240 bytes.
    pub fn insert_with<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        put: &Put,
    ) -> Result<bool> {
        self.insert_encoded(key, &self.typed.encode(value)?, put)
    }

    /// As [`Self::insert_with`], with the bytes of a value.
    pub(crate) fn insert_encoded<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        value: &[u8],
        put: &Put,
    ) -> Result<bool> {
        self.typed.with_key(key, |key| {
            let was_there = self.was_there(key)?;
            let is_stored = self.insert_at(key, value, put)?;
            if is_stored {
                self.note_stored(key, was_there);
            }
            Ok(is_stored)
        })
    }

    /// Whether there is a value of `key` already; asked for only if somebody listens.
    fn was_there(&self, key: &[u8]) -> Result<bool> {
        if !self.shared.listeners.are_there() {
            return Ok(false);
        }
        let is_there = self.typed.kv().contains(key)?;
        if !is_there {
            // What expired there is reported before what takes its place.
            self.typed.kv().note_expired(key)?;
        }
        Ok(is_there)
    }

    #[inline]
    fn note_used(&self, key: &[u8]) {
        self.shared.uses.note(key, || self.now());
    }

    fn note_stored(&self, key: &[u8], was_there: bool) {
        self.shared.uses.forget(key);
        self.shared.counters.inserts.add(1);
        self.tell(|| Raw::Stored { key: key.to_vec(), was_there });
    }

    fn note_removed(&self, key: &[u8]) {
        self.shared.uses.forget(key);
        self.shared.counters.removed.add(1);
        self.tell(|| Raw::Removed(key.to_vec(), Removal::Explicit));
    }

    fn insert_at(&self, key: &[u8], value: &[u8], put: &Put) -> Result<bool> {
        let now = self.now();
        let end = put.ttl.end(self.typed.space().info.ttl(), now);
        let expires_at = match end {
            End::Never => None,
            End::At(at) => Some(at),
            End::Now if put.if_absent => return Ok(false),
            End::Now => {
                self.delete_at(key)?;
                return Ok(false);
            }
        };
        // A load that is under way began before this: what it brings is older.
        let _writing = self.shared.flights.write(key);
        let options = self.put_options(put, expires_at, now)?;
        let _coming = self.make_room(key, put.weight.unwrap_or(1))?;
        if (put.keep_ttl || put.keep_tags) && !put.if_absent {
            return self.insert_keeping(key, value, put, expires_at, now);
        }
        let options = if put.if_absent { options.only_if_absent() } else { options };
        match self.typed.put_raw(key, value, &options) {
            Ok(()) => Ok(true),
            Err(Error::Engine(tierce_engine::Error::Conflict { .. })) if put.if_absent => {
                self.replace_stale(key, value, options)
            }
            Err(error) => Err(error),
        }
    }

    /// An entry that is stale, or cannot be decoded, counts as absent.
    fn replace_stale(&self, key: &[u8], value: &[u8], options: PutOptions) -> Result<bool> {
        let stored = self.typed.put_over(key, &mut |old| {
            old.is_none_or(|view| self.fresh_value(key, &view).is_none())
                .then(|| (value.to_vec(), options.clone()))
        })?;
        Ok(stored)
    }

    /// Removes `key`; says whether it was there and fresh.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.typed.with_key(key, |key| self.delete_at(key))
    }

    /// Removes many keys; says how many were there.
    ///
    /// # Errors
    /// As [`Self::remove`], of the first that fails; those before it are removed.
    pub fn remove_many<'a, Q: Lookup<K> + ?Sized + 'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result<u64> {
        keys.into_iter().try_fold(0, |count, key| Ok(count + u64::from(self.remove(key)?)))
    }

    fn delete_at(&self, key: &[u8]) -> Result<bool> {
        let writing = self.shared.flights.write(key);
        let mut is_old = false;
        self.typed.kv().peek(key, &mut |view| is_old = !self.is_fresh(&view))?;
        let was_there = self.was_there(key)?;
        // What is deleted and was not there a moment ago was stored in between: it is fresh, too.
        let (is_deleted, is_fresh) = match is_old {
            true => self.delete_old(key)?,
            false => (self.typed.delete_at(key)?, true),
        };
        drop(writing);
        if is_deleted && is_fresh {
            self.note_removed(key);
        } else if is_deleted && was_there {
            // It was stale, and so it was there for listeners.
            self.tell(|| Raw::Removed(key.to_vec(), Removal::Expired));
        }
        Ok(is_deleted && is_fresh)
    }

    /// Deletes what was fresh no more; says whether it was there, and whether a fresh value had taken its place.
    fn delete_old(&self, key: &[u8]) -> Result<(bool, bool)> {
        let (mut is_there, mut is_fresh) = (false, false);
        let done = self.typed.update_raw_at(key, &mut |old| {
            is_there = old.is_some();
            is_fresh = old.is_some_and(|view| self.is_fresh(&view));
            Ok(if is_there { Outcome::Remove } else { Outcome::Keep })
        });
        match done {
            // A value that cannot be read is deleted all the same.
            Err(Error::Engine(tierce_engine::Error::Corruption { .. })) => {
                Ok((self.typed.delete_at(key)?, false))
            }
            done => done.map(|_| (is_there, is_fresh)),
        }
    }

    /// Removes `key` and returns its value. Of several callers one gets it. A value that cannot be decoded goes, too.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn take<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<Option<V>> {
        let mut taken = None;
        self.typed.with_key(key, |key| {
            let writing = self.shared.flights.write(key);
            self.typed.update_raw_at(key, &mut |old| {
                let fresh = old.filter(|view| self.is_fresh(view));
                taken = fresh.and_then(|view| self.fresh_value(key, &view));
                Ok(if fresh.is_some() { Outcome::Remove } else { Outcome::Keep })
            })?;
            drop(writing);
            if taken.is_some() {
                self.note_removed(key);
            }
            Ok(taken.take())
        })
    }

    /// Gives the value of `key`, or `None`, to `change`, and stores what it returns with the options given, or removes
    /// the key for `None`: atomically. `change` is asked again if another write came between. Returns what is stored
    /// then.
    ///
    /// # Errors
    /// As [`Self::get`] and [`Self::insert_with`]; then nothing has changed.
    pub fn update<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        put: &Put,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Option<V>> {
        let now = self.now();
        let end = put.ttl.end(self.typed.space().info.ttl(), now);
        let expires_at = if let End::At(at) = end { Some(at) } else { None };
        self.typed.with_key(key, |key| {
            let writing = self.shared.flights.write(key);
            let coming = self.make_room(key, put.weight.unwrap_or(1))?;
            self.was_there(key)?;
            let (mut was_there, mut is_removed) = (false, false);
            let stored = self.typed.update_raw_at(key, &mut |old| {
                let fresh = old.filter(|view| self.is_fresh(view));
                was_there = fresh.is_some();
                is_removed = false;
                let value = change(fresh.and_then(|view| self.fresh_value(key, &view)));
                Ok(match (value.filter(|_| end != End::Now), fresh) {
                    (Some(value), old) => {
                        let options = self.keeping(put, expires_at, now, old.as_ref())?;
                        Outcome::Put(value, options)
                    }
                    _ => {
                        is_removed = was_there;
                        if was_there { Outcome::Remove } else { Outcome::Keep }
                    }
                })
            })?;
            // Order: reported with nothing held; who is woken by it may come back.
            drop((writing, coming));
            if stored.is_some() {
                self.note_stored(key, was_there);
            } else if is_removed {
                self.note_removed(key);
            }
            Ok(stored)
        })
    }

    /// Every fresh entry at this moment; sorted by key if the space is ordered. Entries that cannot be decoded are left
    /// out. Reads the head of every entry of the store.
    ///
    /// # Errors
    /// The engine's.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut found = Found::default();
        self.scan(true, &mut |key, view| match (
            self.typed.key_of(key),
            self.typed.value_of(key, &view),
        ) {
            (Ok(key), Ok(value)) => found.add(Ok((key, value))),
            _ => ControlFlow::Continue(()),
        })?;
        found.finish()
    }

    /// Every fresh key at this moment; sorted if the space is ordered. Reads no values.
    ///
    /// # Errors
    /// The engine's.
    pub fn keys(&self) -> Result<Vec<K>> {
        let mut found = Found::default();
        self.scan(false, &mut |key, _| match self.typed.key_of(key) {
            Ok(key) => found.add(Ok(key)),
            Err(_) => ControlFlow::Continue(()),
        })?;
        found.finish()
    }

    /// Count of fresh entries, exact. Reads the head of every entry of the store.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<usize> {
        let mut count = 0;
        self.scan(false, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Whether there is no fresh entry.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Result<bool> {
        let mut is_empty = true;
        self.scan(false, &mut |_, _| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
        Ok(is_empty)
    }

    /// Shows every fresh entry.
    fn scan(
        &self,
        values: bool,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let prefix = &self.typed.space().prefix;
        let is_careful = self.is_careful();
        self.typed.scan_at(prefix, values || is_careful, &mut |key, view| {
            let is_there =
                self.is_fresh(&view) && !(is_careful && self.typed.value_of(key, &view).is_err());
            if is_there { each(key, view) } else { ControlFlow::Continue(()) }
        })
    }

    /// The store that this cache is in.
    #[must_use]
    pub const fn store(&self) -> &Store {
        self.typed.store()
    }

    fn now(&self) -> Timestamp {
        self.typed.kv().now()
    }

    fn is_fresh(&self, view: &View<'_>) -> bool {
        standing(view, || self.now()) == Standing::Fresh
    }

    /// The value of a record, if it is fresh. What cannot be decoded is not there.
    fn fresh_value(&self, key: &[u8], view: &View<'_>) -> Option<V> {
        if !self.is_fresh(view) {
            return None;
        }
        let value = self.typed.value_of(key, view).ok();
        self.shared.counters.undecodable.add(u64::from(value.is_none()));
        value
    }

    /// Shows the value of `key` to `look` if it is fresh.
    #[inline]
    fn fresh_at<R>(&self, key: &[u8], look: impl FnOnce(V, View<'_>) -> R) -> Result<Option<R>> {
        let is_fresh = |value, view: View<'_>| self.is_fresh(&view).then(|| look(value, view));
        Ok(self.look_at(key, is_fresh)?.flatten())
    }

    /// Shows the value of `key` to `look`, fresh or not. What cannot be decoded is not there.
    #[inline]
    fn look_at<R>(&self, key: &[u8], look: impl FnOnce(V, View<'_>) -> R) -> Result<Option<R>> {
        let is_value = |view: &View<'_>| !record::is_failure(view);
        match self.typed.look_if(key, is_value, look) {
            Err(Error::Decode { .. }) => {
                self.shared.counters.undecodable.add(1);
                Ok(None)
            }
            found => found,
        }
    }
}
