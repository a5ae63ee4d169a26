//! All states in one JSON file that people can read and edit. The file is the truth: it is read before each save.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use serde_json::Value;
use tierce_engine::io::Clock;

use super::{Damage, Object, OnCorrupt, StateStore, damage::Quarantine, value::check_depth};
use crate::{
    error::{Error, Result},
    ops::{
        atomic::{atomic_copy, canonical, create_directories},
        document::{Loaded, kind_of, load_json, load_json_strict, save_json},
    },
};

/// All states in one pretty JSON file, one entry a name. For few small states: each save writes all of them.
///
/// A save is atomic and on the device when it returns: a crash leaves the old file or the new one. Missing parents are
/// created. Several of these stores in one process may share a file; several processes must not, as the last to save
/// would win.
///
/// A file that is no JSON object is moved aside to `<file>.corrupt-<time>` and told by
/// [`StateStore::take_damage`]; states that this process has read or saved before are written back, and as long as
/// that fails, each call tries it and fails. A file that cannot
/// be read is an [`Error::Io`], and it is not overwritten.
///
/// ```
/// use serde_json::json;
/// use tierce::state::{JsonFileStore, StateStore};
/// let dir = tempfile::tempdir().unwrap();
/// let store = JsonFileStore::new(dir.path().join("data/state.json"));
/// store.save("sensor", json!({"count": 1}).as_object().unwrap())?;
/// let text = std::fs::read_to_string(dir.path().join("data/state.json")).unwrap();
/// assert_eq!(text, "{\n  \"sensor\": {\n    \"count\": 1\n  }\n}\n");
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct JsonFileStore {
    path: PathBuf,
    quarantine: Quarantine,
    /// Shared by every store of the file.
    seen: Arc<Mutex<Seen>>,
}

impl fmt::Debug for JsonFileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JsonFileStore").field(&self.path).finish()
    }
}

/// What this process last saw in the file.
#[derive(Default)]
struct Seen {
    states: Object,
    /// The copy of the damaged file that is still there, because the states could not be written back over it.
    copied: Option<PathBuf>,
}

type Places = HashMap<PathBuf, Weak<Mutex<Seen>>>;

/// One lock for each file in use, so that two stores of one file do not undo each other's saves.
static PLACES: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

fn place(path: &Path) -> Arc<Mutex<Seen>> {
    let path = canonical(path);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(seen) = places.get(&path).and_then(Weak::upgrade) {
        return seen;
    }
    places.retain(|_, seen| seen.strong_count() > 0);
    let seen = Arc::default();
    places.insert(path, Arc::downgrade(&seen));
    seen
}

impl JsonFileStore {
    /// The states of the file `path`. Touches nothing yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let seen = place(&path);
        Self { path, quarantine: Quarantine::default(), seen }
    }

    /// Sets what to do with a damaged file. Default: [`OnCorrupt::Quarantine`].
    #[must_use]
    pub const fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.quarantine.on_corrupt = on_corrupt;
        self
    }

    /// Sets the clock that names damaged files.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.quarantine.clock = Arc::new(clock);
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn hold(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees the file as it is now. A damaged one is kept aside; what was seen before takes its place, so that no state
    /// of this process is lost because the file of all of them was damaged.
    fn read(&self, seen: &mut Seen) -> Result<()> {
        let loaded = if self.quarantine.is_allowed() && seen.states.is_empty() {
            load_json(&self.path, self.quarantine.now())?
        } else {
            match load_json_strict(&self.path) {
                Err(Error::CorruptFile { reason, .. }) if self.quarantine.is_allowed() => {
                    return self.write_back(seen, reason);
                }
                loaded => loaded?.map_or(Loaded::Missing, Loaded::Object),
            }
        };
        seen.copied = None;
        match loaded {
            Loaded::Object(object) => seen.states = object,
            // Somebody took it away, to begin anew.
            Loaded::Missing => seen.states.clear(),
            Loaded::Quarantined(Error::CorruptFile { quarantined, reason, .. }) => {
                self.tell(None, quarantined.as_deref(), reason);
            }
            Loaded::Quarantined(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what was seen over the damaged file. First a copy: there is a file under the name all the time, and while
    /// it is the damaged one, the next call tries again.
    fn write_back(&self, seen: &mut Seen, reason: String) -> Result<()> {
        let bytes = self.bytes()?;
        // One copy, not one each time that the writing fails.
        let is_copied = |copy: &PathBuf| fs::read(copy).is_ok_and(|copied| copied == bytes);
        if !seen.copied.as_ref().is_some_and(is_copied) {
            let copied = self.copy_aside(&bytes)?;
            self.tell(None, Some(&copied), reason);
            seen.copied = Some(copied);
        }
        self.write(&seen.states)?;
        seen.copied = None;
        Ok(())
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        fs::read(&self.path).map_err(|error| Error::io("read", &self.path, error))
    }

    fn tell(&self, name: Option<&str>, kept: Option<&Path>, reason: String) {
        self.quarantine.tell(Damage {
            what: self.path.display().to_string(),
            name: name.map(ToOwned::to_owned),
            kept: kept.map(|path| path.display().to_string()),
            reason,
        });
    }

    /// An entry that is no object is no state. Before it is overwritten, a copy of the file is made.
    fn check_entry(&self, seen: &Object, name: &str, is_overwritten: bool) -> Result<()> {
        let reason = match seen.get(name) {
            None | Some(Value::Object(_)) => return Ok(()),
            Some(other) => format!("the entry `{name}` is {} instead of an object", kind_of(other)),
        };
        if !self.quarantine.is_allowed() {
            return Err(Error::CorruptFile { file: self.path.clone(), quarantined: None, reason });
        }
        let mut aside = None;
        if is_overwritten {
            aside = Some(self.copy_aside(&self.bytes()?)?);
        }
        self.tell(Some(name), aside.as_deref(), reason);
        Ok(())
    }

    fn copy_aside(&self, bytes: &[u8]) -> Result<PathBuf> {
        let copied = self.quarantine.free_path(&self.path)?;
        atomic_copy(&self.path, &copied, bytes)?;
        Ok(copied)
    }

    fn write(&self, all: &Object) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            create_directories(dir)?;
        }
        save_json(&self.path, all)
    }
}

impl StateStore for JsonFileStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        let mut seen = self.hold();
        self.read(&mut seen)?;
        self.check_entry(&seen.states, name, false)?;
        Ok(seen.states.get(name).and_then(Value::as_object).cloned())
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let mut seen = self.hold();
        self.read(&mut seen)?;
        self.check_entry(&seen.states, name, true)?;
        let mut next = seen.states.clone();
        next.insert(name.to_owned(), Value::Object(object.clone()));
        self.write(&next)?;
        seen.states = next;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool> {
        let mut seen = self.hold();
        self.read(&mut seen)?;
        let mut next = seen.states.clone();
        if next.remove(name).is_none() {
            return Ok(false);
        }
        self.write(&next)?;
        seen.states = next;
        Ok(true)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut seen = self.hold();
        self.read(&mut seen)?;
        let names = seen.states.iter().filter(|(_, value)| value.is_object());
        Ok(names.map(|(name, _)| name.clone()).collect())
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.quarantine.take()
    }
}
