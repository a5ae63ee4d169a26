//! A value of a type of the caller's with its version, brought up to date when it is opened.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Object, StateStore,
    value::{check_depth, from_value, is_same},
};
use crate::{
    codec::inspect::to_value,
    error::{Error, Result},
    migrations::Migrations,
    sync::{Mutex, MutexGuard, PoisonError},
    version::Version,
};

const VERSION: &str = "version";
const VALUE: &str = "value";

/// A typed state: a value of any serde type, with the version of its form, in a [`StateStore`].
///
/// Stored as `{"version": "1.2.0", "value": ...}`. An object of another form, such as that of a
/// [`State`](super::State), counts as a value of version 0.0.0. What was not saved is lost in a crash; dropping the
/// last handle does not save. Clones share the value; opening twice does not.
///
/// ```
/// use std::sync::Arc;
/// use serde::{Deserialize, Serialize};
/// use tierce::state::{Document, MemoryStore};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Calibration { offset: f64, days: Vec<String> }
///
/// let store = Arc::new(MemoryStore::new());
/// let calibration = Document::open(store.clone(), "calibration", Calibration::default())?;
/// calibration.modify(|value| value.days.push("Mon".to_owned()));
/// assert!(calibration.is_dirty());
/// calibration.save()?;
/// let again = Document::open(store, "calibration", Calibration::default())?;
/// assert_eq!(again.get().days, ["Mon"]);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Document<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    store: Arc<dyn StateStore>,
    name: String,
    /// Held while saving, so that saves reach the store in the order of what they hold.
    saving: Mutex<()>,
    content: Mutex<Content<T>>,
}

struct Content<T> {
    value: T,
    /// The version that is saved with it.
    version: Version,
    /// The value as it is in the store; `None` if it is not, or not known to be.
    saved: Option<Value>,
}

impl<T> Clone for Document<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Document<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = hold(&self.inner.content).version;
        f.debug_struct("Document")
            .field("name", &self.inner.name)
            .field("version", &version.to_string())
            .finish_non_exhaustive()
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stored document: its version and its value.
fn take_apart(mut object: Object) -> (Version, Value) {
    let version = object.get(VERSION).and_then(Value::as_str).and_then(|text| text.parse().ok());
    match (object.len(), version, object.remove(VALUE)) {
        (2, Some(version), Some(value)) => (version, value),
        (_, _, value) => {
            object.extend(value.map(|value| (VALUE.to_owned(), value)));
            (Version::ZERO, Value::Object(object))
        }
    }
}

/// What is in the store, brought up to date.
struct Found<T> {
    value: T,
    json: Value,
    version: Version,
    /// Whether a step changed it.
    is_migrated: bool,
}

fn find<T: DeserializeOwned>(
    store: &dyn StateStore,
    name: &str,
    wanted: Version,
    migrations: &mut Migrations<Value>,
) -> Result<Option<Found<T>>> {
    let Some(object) = store.load(name)? else { return Ok(None) };
    let (found, mut json) = take_apart(object);
    let (mut version, mut is_migrated) = (found, false);
    // A newer minor version only added something.
    if found <= wanted || found.major != wanted.major {
        let what = format!("document `{name}`");
        is_migrated = !migrations.plan(&what, found, wanted)?.is_empty();
        json = migrations.run(&what, json, found, wanted)?;
        version = wanted;
    }
    let value = from_value(&json).map_err(|source| Error::Decode {
        space: "states".to_owned(),
        key: format!("`{name}`"),
        source,
    })?;
    Ok(Some(Found { value, json, version, is_migrated }))
}

fn encode<T: Serialize>(name: &str, value: &T) -> Result<Value> {
    to_value(value).map_err(|source| Error::Encode { space: name.to_owned(), source })
}

/// What is written for a value.
fn put_together(name: &str, version: Version, value: &Value) -> Result<Object> {
    let mut object = Object::new();
    object.insert(VERSION.to_owned(), version.to_string().into());
    object.insert(VALUE.to_owned(), value.clone());
    check_depth(name, &object)?;
    Ok(object)
}

impl<T: Serialize + DeserializeOwned> Document<T> {
    /// Loads the document `name` of `store`; it is `default`, and dirty, if it is absent. Its version is 0.0.0.
    ///
    /// # Errors
    /// As [`Self::open_versioned`].
    pub fn open(store: Arc<dyn StateStore>, name: impl Into<String>, default: T) -> Result<Self> {
        Self::open_versioned(store, name, default, Version::ZERO, &mut Migrations::default())
    }

    /// Loads the document `name` of `store`, and brings it to `version`; it is `default`, and dirty, if it is absent.
    ///
    /// What steps of `migrations` made of it is saved before this returns. A newer minor version is taken as it is, and
    /// keeps its version.
    ///
    /// ```
    /// use serde_json::json;
    /// use tierce::{Version, migrations::{Migrations, Step}, state::{Document, StateStore}};
    /// # use tierce::state::MemoryStore;
    /// # let store = std::sync::Arc::new(MemoryStore::new());
    /// store.save("limits", json!({"low": 3}).as_object().unwrap())?;
    /// let version = Version::new(1, 0, 0);
    /// let mut migrations = Migrations::new([Step::new(Version::ZERO, version, |old: serde_json::Value| {
    ///     Ok(json!([old["low"], 100]))
    /// })])?;
    /// let limits: Document<[u32; 2]> =
    ///     Document::open_versioned(store.clone(), "limits", [0, 0], version, &mut migrations)?;
    /// assert_eq!(*limits.get(), [3, 100]);
    /// assert_eq!(store.load("limits")?.unwrap()["version"], "1.0.0");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooNew`], [`Error::Migration`], [`Error::Decode`] if it is no `T`, and those of
    /// [`StateStore::load`]: what is stored is as it was. Those of [`StateStore::save`].
    pub fn open_versioned(
        store: Arc<dyn StateStore>,
        name: impl Into<String>,
        default: T,
        version: Version,
        migrations: &mut Migrations<Value>,
    ) -> Result<Self> {
        let name = name.into();
        let content = match find(&*store, &name, version, migrations)? {
            Some(Found { value, json, version, is_migrated }) => {
                if is_migrated {
                    store.save(&name, &put_together(&name, version, &json)?)?;
                }
                // Compared are forms of the value as it is now: fields that the stored form lacks are no change.
                let saved = to_value(&value).ok();
                Content { value, version, saved }
            }
            None => Content { value: default, version, saved: None },
        };
        let content = Mutex::new(content);
        Ok(Self { inner: Arc::new(Inner { store, name, saving: Mutex::new(()), content }) })
    }

    /// What [`Self::open_versioned`] would give, `None` if it is absent. Runs the steps on a copy and saves nothing.
    ///
    /// # Errors
    /// As [`Self::open_versioned`].
    pub fn dry_run(
        store: &dyn StateStore,
        name: &str,
        version: Version,
        migrations: &mut Migrations<Value>,
    ) -> Result<Option<T>> {
        Ok(find(store, name, version, migrations)?.map(|found| found.value))
    }

    /// The value. Others wait until the guard is gone, so does this thread if it uses the document meanwhile: for ever.
    #[must_use]
    pub fn get(&self) -> Ref<'_, T> {
        Ref(hold(&self.inner.content))
    }

    /// Changes the value in place. What is different afterwards, however deep, makes it dirty. `change` must not use
    /// this document: it would wait for itself. If it panics, the value is as far as it came.
    pub fn modify<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut hold(&self.inner.content).value)
    }

    /// Gives it another value.
    pub fn set(&self, value: T) {
        hold(&self.inner.content).value = value;
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The version it is saved with.
    #[must_use]
    pub fn version(&self) -> Version {
        hold(&self.inner.content).version
    }

    /// Whether it differs from what is stored, by its JSON form. A change that was changed back is none.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let content = hold(&self.inner.content);
        match (to_value(&content.value), &content.saved) {
            (Ok(now), Some(saved)) => !is_same(&now, saved),
            _ => true,
        }
    }

    /// Makes the next save write even if nothing changed.
    pub fn mark_dirty(&self) {
        hold(&self.inner.content).saved = None;
    }

    /// Writes it to its store if it is dirty, and says whether it was.
    ///
    /// # Errors
    /// [`Error::Encode`] if it holds NaN, infinity, or something else that JSON does not have. Those of
    /// [`StateStore::save`]. It stays dirty.
    pub fn save(&self) -> Result<bool> {
        let Inner { store, name, saving, content } = &*self.inner;
        let _saving = hold(saving);
        let held = hold(content);
        let (now, version) = (encode(name, &held.value)?, held.version);
        if held.saved.as_ref().is_some_and(|saved| is_same(&now, saved)) {
            return Ok(false);
        }
        drop(held);
        store.save(name, &put_together(name, version, &now)?)?;
        hold(content).saved = Some(now);
        Ok(true)
    }
}

/// A look at the value of a [`Document`].
pub struct Ref<'a, T>(MutexGuard<'a, Content<T>>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
