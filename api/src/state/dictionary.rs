//! The dictionary of one device, loaded before anybody sees it, and its knowledge of what is not saved yet.

use std::{
    collections::HashMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, LazyLock, Weak},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Object, StateStore,
    value::{check_depth, from_value, is_same, is_same_object, weight},
};
use crate::{
    codec::inspect::to_value,
    error::{Error, Result},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The state of one device: keys and JSON values, as a dictionary.
///
/// It is loaded when it is opened, so there is none that is not, and nothing can be overwritten by what was never
/// read. Changes are in memory until [`Self::save`]. A crash before loses them, and nothing else; dropping the last
/// handle does not save either (a [`Runtime`](super::Runtime) does, when it stops).
///
/// A cheap handle: clones share the state, and so does opening the same name of the same store again while a handle is
/// alive: what is not saved yet is seen, and the last change wins. It may be used from any thread.
///
/// ```
/// use std::sync::Arc;
/// use tierce::state::{MemoryStore, State};
/// let state = State::open(Arc::new(MemoryStore::new()), "sensor")?;
/// state.set("count", state.get_or("count", 0)? + 1)?;
/// let offset: f64 = state.set_default("offset", 0.5)?;
/// assert_eq!(offset, 0.5);
/// state.set("days", ["Mon"])?;
/// state.modify("days", |days| days.as_array_mut().unwrap().push("Tue".into()));
/// assert_eq!(state.get::<Vec<String>>("days")?.unwrap(), ["Mon", "Tue"]);
/// assert!(state.is_dirty());
/// state.save()?;
/// assert!(!state.is_dirty());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn StateStore>,
    name: String,
    /// Held while saving, so that saves reach the store in the order of what they hold.
    saving: Mutex<()>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    map: Object,
    /// Counts every change ever made to this handle's state.
    changes: u64,
    /// Weighs every change ever made, in bytes.
    bytes: u64,
    /// What was saved, in the same counts.
    saved_changes: u64,
    saved_bytes: u64,
}

impl Content {
    fn changed(&mut self, bytes: u64) {
        self.changes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn is_dirty(&self) -> bool {
        self.changes != self.saved_changes
    }

    fn put(&mut self, key: String, value: Value) -> Option<Value> {
        let bytes = key.len() as u64 + weight(&value);
        if self.map.get(&key).is_some_and(|old| is_same(old, &value)) {
            return Some(value);
        }
        self.changed(bytes);
        self.map.insert(key, value)
    }
}

/// What changed since the last save.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsaved {
    pub(super) is_dirty: bool,
    pub(super) changes: u64,
    pub(super) bytes: u64,
}

type Slot = Arc<Mutex<Weak<Inner>>>;
type Open = HashMap<(usize, String), Slot>;

/// Open states by store and name. A store at the address of one that is gone finds no live state here.
static OPEN: LazyLock<Mutex<Open>> = LazyLock::new(Mutex::default);

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(store: &Arc<dyn StateStore>, name: &str) -> (usize, String) {
    (Arc::as_ptr(store).cast::<()>().addr(), name.to_owned())
}

/// Forgets a slot that nobody uses.
fn forget(place: &(usize, String)) {
    let mut open = hold(&OPEN);
    if open.get(place).is_some_and(|slot| Arc::strong_count(slot) == 1) {
        open.remove(place);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        forget(&place(&self.store, &self.name));
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.hold();
        f.debug_struct("State")
            .field("name", &self.inner.name)
            .field("keys", &content.map.keys().collect::<Vec<_>>())
            .field("is_dirty", &content.is_dirty())
            .finish()
    }
}

impl State {
    /// Loads the state `name` of `store`; a new one is empty. Several that open it at once share one load.
    ///
    /// # Errors
    /// Those of [`StateStore::load`]. Nothing is written.
    pub fn open(store: Arc<dyn StateStore>, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let place = place(&store, &name);
        let slot = Arc::clone(hold(&OPEN).entry(place.clone()).or_default());
        let mut open = hold(&slot);
        if let Some(inner) = open.upgrade() {
            return Ok(Self { inner });
        }
        match store.load(&name) {
            Ok(found) => {
                let content = Content { map: found.unwrap_or_default(), ..Content::default() };
                let content = Mutex::new(content);
                let inner = Arc::new(Inner { store, name, saving: Mutex::new(()), content });
                *open = Arc::downgrade(&inner);
                Ok(Self { inner })
            }
            Err(error) => {
                drop(open);
                drop(slot);
                forget(&place);
                Err(error)
            }
        }
    }

    fn hold(&self) -> MutexGuard<'_, Content> {
        hold(&self.inner.content)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where it is kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.inner.store
    }

    fn read<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Result<T> {
        from_value(value).map_err(|source| Error::Decode {
            space: self.inner.name.clone(),
            key: format!("`{key}`"),
            source,
        })
    }

    fn write<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Value> {
        to_value(value).map_err(|source| Error::Encode {
            space: self.inner.name.clone(),
            source: format!("`{key}`: {source}").into(),
        })
    }

    /// The value of `key`; `None` if it is absent. A null is a value: ask for an `Option` or a [`Value`].
    ///
    /// # Errors
    /// [`Error::Decode`] if it is no `T`; it stays as it is.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.hold().map.get(key).cloned() else { return Ok(None) };
        self.read(key, &value).map(Some)
    }

    /// The value of `key`, or `default` if it is absent. Stores nothing.
    ///
    /// # Errors
    /// [`Error::Decode`] if it is there and no `T`: a default never hides what is stored.
    pub fn get_or<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.get(key)?.unwrap_or(default))
    }

    /// Gives `key` a value. An equal one is no change.
    ///
    /// # Errors
    /// [`Error::Encode`] if `value` is no JSON: NaN, infinity, integers beyond 64 bits. The old value stays.
    pub fn set<T: Serialize>(&self, key: impl Into<String>, value: T) -> Result<()> {
        let key = key.into();
        let value = self.write(&key, &value)?;
        self.hold().put(key, value);
        Ok(())
    }

    /// The value of `key`, which is set to `default` first if it is absent. A key that is there is no change.
    ///
    /// # Errors
    /// As [`Self::get`] and [`Self::set`].
    pub fn set_default<T>(&self, key: impl Into<String>, default: T) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let key = key.into();
        let value = self.write(&key, &default)?;
        let mut content = self.hold();
        if let Some(value) = content.map.get(&key).cloned() {
            drop(content);
            return self.read(&key, &value);
        }
        content.put(key, value);
        Ok(default)
    }

    /// Sets many keys at once, or none. Nothing to set is no change.
    ///
    /// # Errors
    /// As [`Self::set`], and then nothing is set.
    pub fn update<K, T>(&self, entries: impl IntoIterator<Item = (K, T)>) -> Result<()>
    where
        K: Into<String>,
        T: Serialize,
    {
        let mut new = Vec::new();
        for (key, value) in entries {
            let key = key.into();
            let value = self.write(&key, &value)?;
            new.push((key, value));
        }
        let mut content = self.hold();
        for (key, value) in new {
            content.put(key, value);
        }
        Ok(())
    }

    /// Removes `key` and gives what it had. One that is absent is no change.
    #[must_use = "`remove(..).is_some()` says whether it was there"]
    pub fn remove(&self, key: &str) -> Option<Value> {
        let mut content = self.hold();
        let old = content.map.remove(key)?;
        content.changed(key.len() as u64);
        Some(old)
    }

    /// Removes everything. Nothing to remove is no change.
    pub fn clear(&self) {
        let mut content = self.hold();
        if !content.map.is_empty() {
            content.map.clear();
            content.changed(0);
        }
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.hold().map.contains_key(key)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hold().map.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of everything, to which changes are no changes of the state.
    #[must_use]
    pub fn to_map(&self) -> Object {
        self.hold().map.clone()
    }

    /// Keys and values as they are now, sorted by key: a copy.
    #[must_use]
    pub fn iter(&self) -> serde_json::map::IntoIter {
        self.to_map().into_iter()
    }

    /// Keys and values as they are now, sorted by key.
    #[must_use]
    pub fn items(&self) -> Vec<(String, Value)> {
        self.iter().collect()
    }

    /// The keys, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.hold().map.keys().cloned().collect()
    }

    /// The values, in the order of their keys.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        self.hold().map.values().cloned().collect()
    }

    /// Changes the value of `key` where it is, however deep, and gives what `change` gives; `None` if it is absent.
    /// Others wait meanwhile. If `change` panics, the value is as before.
    ///
    /// `change` must not use this state: it would wait for itself.
    pub fn modify<R>(&self, key: &str, change: impl FnOnce(&mut Value) -> R) -> Option<R> {
        let mut content = self.hold();
        let mut value = content.map.get(key)?.clone();
        let given = change(&mut value);
        content.put(key.to_owned(), value);
        Some(given)
    }

    /// Lends out the whole content. What is different when the guard goes is a change, however deep it is; if a panic
    /// takes it, the content is as before.
    ///
    /// While the guard lives, its thread must not use this state otherwise: it would wait for itself.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tierce::state::{MemoryStore, State};
    /// # let state = State::open(Arc::new(MemoryStore::new()), "sensor")?;
    /// state.set("limits", [1, 9])?;
    /// state.save()?;
    /// state.edit()["limits"][0] = 3.into();
    /// assert!(state.is_dirty());
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn edit(&self) -> Edit<'_> {
        Edit { content: self.hold(), before: None }
    }

    /// Whether something changed since it was loaded or saved.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.hold().is_dirty()
    }

    /// Makes the next save write even if nothing changed.
    pub fn mark_dirty(&self) {
        self.hold().changed(0);
    }

    /// Writes it to its store if it is dirty, and says whether it was. Changes that come meanwhile stay unsaved.
    ///
    /// # Errors
    /// Those of [`StateStore::save`]; it stays dirty then. [`Error::Encode`] if it is nested too deeply.
    pub fn save(&self) -> Result<bool> {
        let _saving = hold(&self.inner.saving);
        let content = self.hold();
        if !content.is_dirty() {
            return Ok(false);
        }
        let (changes, bytes) = (content.changes, content.bytes);
        let map = content.map.clone();
        drop(content);
        check_depth(&self.inner.name, &map)?;
        self.inner.store.save(&self.inner.name, &map)?;
        let mut content = self.hold();
        content.saved_changes = changes;
        content.saved_bytes = bytes;
        Ok(true)
    }

    pub(super) fn unsaved(&self) -> Unsaved {
        let content = self.hold();
        Unsaved {
            is_dirty: content.is_dirty(),
            changes: content.changes - content.saved_changes,
            bytes: content.bytes - content.saved_bytes,
        }
    }
}

impl IntoIterator for &State {
    type Item = (String, Value);
    type IntoIter = serde_json::map::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A state that is lent out to be changed; see [`State::edit`].
#[must_use = "changes are made through it"]
pub struct Edit<'a> {
    content: MutexGuard<'a, Content>,
    /// The content before the first change that was possible.
    before: Option<Object>,
}

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.content.map.keys()).finish()
    }
}

impl Deref for Edit<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.content.map
    }
}

impl DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Object {
        if self.before.is_none() {
            self.before = Some(self.content.map.clone());
        }
        &mut self.content.map
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        if std::thread::panicking() {
            self.content.map = before;
            return;
        }
        if is_same_object(&before, &self.content.map) {
            return;
        }
        let of = |(key, value): (&String, &Value)| match before.get(key) {
            Some(old) if is_same(old, value) => 0,
            _ => key.len() as u64 + weight(value),
        };
        let bytes = self.content.map.iter().map(of).sum();
        self.content.changed(bytes);
    }
}
