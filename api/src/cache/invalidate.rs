//! Removing many entries: by tag, by what their keys look like, by a question, all.

use std::ops::ControlFlow;

use super::{
    Cache, Entry, Removal,
    entry::describe,
    events::Raw,
    glob::Glob,
    record::{self, TAG},
};
use crate::{
    codec::Codec,
    error::{Error, Result},
    found::Found,
    key::{Key, KeyWriter, OwnedKey, is_under},
};

/// Longest tag in bytes.
const TAG_BYTES_MAX: usize = 240;

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// The name of a tag's scope.
    pub(super) fn scope_of(&self, tag: &str) -> Result<Vec<u8>> {
        let wrong = |reason| Err(Error::Name { name: tag.chars().take(80).collect(), reason });
        if tag.is_empty() {
            return wrong("a tag is empty");
        }
        if tag.len() > TAG_BYTES_MAX {
            return wrong("a tag is longer than 240 bytes");
        }
        Ok([&self.typed.space().prefix, &[TAG][..], tag.as_bytes()].concat())
    }

    /// Removes every entry with this tag at once, without looking at one of them: costs one small record, however many
    /// there are. So it cannot say how many they were: [`Self::invalidate_tag`] can, at its cost. A crash leaves all or
    /// none of them removed. Values with this tag that are being loaded are not stored.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// cache.insert_with(&1, &1, &tierce::Put::new().tag("a"))?;
    /// cache.cut_tag("a")?;
    /// assert!(!cache.contains_key(&1)?);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Name`]; the engine's.
    pub fn cut_tag(&self, tag: &str) -> Result<()> {
        let scope = self.scope_of(tag)?;
        let removing = self.shared.flights.cut_tag(tag);
        let cutting = self.shared.listeners.begin_cut();
        self.typed.cut(&scope)?;
        drop(removing);
        cutting.tell(self.place(), &Raw::TagCut(tag.to_owned()));
        Ok(())
    }

    /// As [`Self::cut_tag`], and says how many entries had the tag, which are counted first: reads the head of every
    /// entry of the store.
    ///
    /// # Errors
    /// As [`Self::cut_tag`].
    pub fn invalidate_tag(&self, tag: &str) -> Result<u64> {
        let scope = self.scope_of(tag)?;
        let mut count = 0;
        self.scan(false, &mut |_, view| {
            count += u64::from(view.scopes().any(|name| name == scope));
            ControlFlow::Continue(())
        })?;
        self.cut_tag(tag)?;
        Ok(self.invalidated(count))
    }

    /// The keys of every entry with this tag.
    ///
    /// # Errors
    /// [`Error::Name`]; the engine's.
    pub fn keys_with_tag(&self, tag: &str) -> Result<Vec<K>> {
        let scope = self.scope_of(tag)?;
        let mut found = Found::default();
        self.scan(false, &mut |key, view| match view.scopes().any(|name| name == scope) {
            true => found.add(self.typed.key_of(key)),
            false => ControlFlow::Continue(()),
        })?;
        found.finish()
    }

    /// Removes every entry at once, at a cost that does not depend on how many there are. Compaction gives the bytes
    /// back.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn cut(&self) -> Result<()> {
        let writing = self.shared.flights.write_all();
        let cutting = self.shared.listeners.begin_cut();
        self.typed.cut(&self.typed.space().prefix)?;
        drop(writing);
        cutting.tell(self.place(), &Raw::Cleared);
        Ok(())
    }

    /// As [`Self::cut`], and says how many entries there were, which are counted first.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// cache.insert(&1, &1)?;
    /// assert_eq!(cache.clear()?, 1);
    /// assert!(cache.is_empty()?);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn clear(&self) -> Result<u64> {
        let count = self.len()? as u64;
        self.cut()?;
        Ok(self.invalidated(count))
    }

    /// Removes every entry whose first key part is `part`, of keys that are tuples; says how many those were.
    ///
    /// ```
    /// let plans = tierce::Store::in_memory()?.cache::<(String, u32), String>("plans")?;
    /// plans.insert(&("gabriel", 1), &"swim".into())?;
    /// plans.insert(&("gabriella", 1), &"run".into())?;
    /// assert_eq!(plans.invalidate_under("gabriel")?, 1);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_under<P: Key + ?Sized>(&self, part: &P) -> Result<u64> {
        let mut prefix = self.typed.space().prefix.clone();
        part.write_nested(&mut KeyWriter::new(&mut prefix));
        self.invalidate_where(&mut |key| is_under(key, &prefix))
    }

    /// Removes every entry for whose key `is_it` says so; returns how many those were. Reads no values.
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_keys(&self, mut is_it: impl FnMut(&K) -> bool) -> Result<u64> {
        self.invalidate_where(&mut |key| self.typed.key_of(key).is_ok_and(|key| is_it(&key)))
    }

    /// Removes every entry, stale ones included, for which `is_it` says so; returns how many of those were fresh. A value
    /// that is being loaded cannot be asked about: if anything is removed, none of those is stored.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// (0..10).try_for_each(|n| cache.insert(&n, &n))?;
    /// assert_eq!(cache.invalidate_if(|_, entry| entry.value % 2 == 0)?, 5);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_if(&self, mut is_it: impl FnMut(&K, &Entry<V>) -> bool) -> Result<u64> {
        let now = self.now();
        let mut entries = Vec::new();
        self.typed.scan_at(&self.typed.space().prefix, true, &mut |bytes, view| {
            if !record::is_failure(&view)
                && let (Ok(key), Ok(value)) =
                    (self.typed.key_of(bytes), self.typed.value_of(bytes, &view))
            {
                let entry = describe(value, &view, self.shared.uses.of(bytes), now);
                entries.push((bytes.to_vec(), key, entry, view.version()));
            }
            ControlFlow::Continue(())
        })?;
        // Order: asked when the scan is over. The answer may come from the store.
        entries.retain(|(_, key, entry, _)| is_it(key, entry));
        let _removing = self.shared.flights.remove_some();
        if !entries.is_empty() {
            drop(self.shared.flights.write_all());
        }
        let mut count = 0;
        for (bytes, key, entry, judged) in entries {
            // What was stored meanwhile was not judged, and stays. What was given another expiry is judged again.
            let deleted = self.typed.delete_if_at(&bytes, &mut |view| {
                view.version() == judged
                    || (view.stored == entry.version
                        && self.typed.value_of(&bytes, view).is_ok_and(|value| {
                            is_it(&key, &describe(value, view, self.shared.uses.of(&bytes), now))
                        }))
            })?;
            if deleted {
                count += u64::from(!entry.is_stale);
                self.tell(|| Raw::Removed(bytes, Removal::Invalidated));
            }
        }
        Ok(self.invalidated(count))
    }

    fn invalidate_where(&self, is_it: &mut dyn FnMut(&[u8]) -> bool) -> Result<u64> {
        // Order: before they are looked for. A load that is stored after the look began after this.
        self.shared.flights.outdate_where(is_it);
        let mut keys = Vec::new();
        self.typed.scan_at(&self.typed.space().prefix, false, &mut |key, view| {
            keys.push((key.to_vec(), self.is_fresh(&view)));
            ControlFlow::Continue(())
        })?;
        // Order: asked when the scan is over. The answer may come from the store.
        keys.retain(|(key, _)| is_it(key));
        self.delete_all(keys.into_iter())
    }

    /// Removes these keys; returns how many of those that are fresh were there.
    fn delete_all(&self, keys: impl Iterator<Item = (Vec<u8>, bool)>) -> Result<u64> {
        let mut count = 0;
        for (key, is_fresh) in keys {
            let writing = self.shared.flights.write(&key);
            let is_deleted = self.typed.delete_at(&key)?;
            drop(writing);
            if is_deleted {
                count += u64::from(is_fresh);
                self.tell(|| Raw::Removed(key, Removal::Invalidated));
            }
        }
        Ok(self.invalidated(count))
    }

    fn invalidated(&self, count: u64) -> u64 {
        self.shared.counters.invalidated.add(count);
        count
    }
}

impl<K: OwnedKey + AsRef<str>, V, C: Codec<V>> Cache<K, V, C> {
    /// Removes every entry whose key begins with `prefix`; returns how many those were.
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_prefix(&self, prefix: &str) -> Result<u64> {
        self.invalidate_keys(|key| key.as_ref().starts_with(prefix))
    }

    /// Removes every entry whose key ends with `suffix`; returns how many those were. With keys like
    /// `endpoint:user`, `":gabriel"` means one user, and not `gabriella`.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<String, u32>("c")?;
    /// for key in ["plan:gabriel", "leftovers:gabriel", "plan:gabriella"] {
    ///     cache.insert(key, &1)?;
    /// }
    /// assert_eq!(cache.invalidate_suffix(":gabriel")?, 2);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_suffix(&self, suffix: &str) -> Result<u64> {
        self.invalidate_keys(|key| key.as_ref().ends_with(suffix))
    }

    /// Removes every entry whose key matches `pattern`, in which `*` is any text and `?` is one character; a backslash
    /// takes the character after it as it is: `\\*` is a star. Returns how many those were.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<String, u32>("c")?;
    /// cache.insert("user:7:name", &1)?;
    /// cache.insert("user:70:name", &1)?;
    /// assert_eq!(cache.invalidate_glob("user:?:*")?, 1);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then some may be removed.
    pub fn invalidate_glob(&self, pattern: &str) -> Result<u64> {
        let pattern = Glob::new(pattern);
        self.invalidate_keys(|key| pattern.matches(key.as_ref()))
    }
}
