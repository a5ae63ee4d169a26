//! All states in one JSON file that people can read and edit. The file is the truth: it is read before each save.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Weak},
};

use serde_json::{Value, value::RawValue};
use tierce_engine::{Timestamp, io::Clock};

use super::{
    Damage, Object, OnCorrupt, StateStore,
    damage::{Quarantine, stamp},
    value::check_depth,
};
use crate::{
    error::{Error, Result},
    ops::{
        atomic::{atomic_copy, canonical, create_directories},
        document::{Entries, kind_of, set_aside, value_of},
        turn::Turn,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

/// All states in one pretty JSON file, one entry a name. For few small states: each save writes all of them.
///
/// A save is atomic and on the device when it returns: a crash leaves the old file or the new one. Missing parents are
/// created. Several of these stores may share a file, in one process and in several of one machine: they take turns, and
/// the file is read before each save. What stands there for other names stays as it is written, with all digits of its
/// numbers.
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
    states: Entries,
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
    /// The states of the file `path`. Touches nothing yet. A relative path starts at the working directory of now.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let path = std::path::absolute(&path).unwrap_or(path);
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
    /// of this process is lost because the file of all of them was damaged. It is judged again in turn, for another
    /// process may have dealt with it; `turn` is taken if it is not yet.
    fn read(&self, seen: &mut Seen, now: Timestamp, turn: &mut Option<Turn>) -> Result<()> {
        let is_damage = |loaded: &Result<_>| matches!(loaded, Err(Error::CorruptFile { .. }));
        let mut loaded = Entries::load(&self.path);
        if is_damage(&loaded) && self.quarantine.is_allowed() && turn.is_none() {
            *turn = Some(Turn::take(&self.path)?);
            loaded = Entries::load(&self.path);
        }
        match loaded {
            Err(Error::CorruptFile { reason, .. }) if self.quarantine.is_allowed() => {
                if !seen.states.is_empty() {
                    return self.write_back(seen, now, reason);
                }
                let kept = set_aside(&self.path, now)?;
                self.tell(None, Some(&kept), reason);
            }
            // One that is missing was removed, to start from nothing.
            loaded => seen.states = loaded?.unwrap_or_default(),
        }
        seen.copied = None;
        Ok(())
    }

    /// Writes what was seen over the damaged file. First a copy: there is a file under the name all the time, and while
    /// it is the damaged one, the next call tries again.
    fn write_back(&self, seen: &mut Seen, now: Timestamp, reason: String) -> Result<()> {
        let bytes = self.bytes()?;
        // One copy, not one each time that the writing fails.
        let is_copied = |copy: &PathBuf| fs::read(copy).is_ok_and(|copied| copied == bytes);
        if !seen.copied.as_ref().is_some_and(is_copied) {
            let copied = self.copy_aside(&bytes, now)?;
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

    /// The state `name`. An entry that is no object is no state; before it is overwritten, a copy of the file is made.
    fn state_of(
        &self,
        seen: &Entries,
        name: &str,
        overwritten_at: Option<Timestamp>,
    ) -> Result<Option<Object>> {
        let Some(raw) = seen.get(name) else { return Ok(None) };
        let reason = match value_of(raw) {
            Some(Value::Object(object)) => return Ok(Some(object)),
            Some(other) => {
                format!("the entry `{name}` is {} instead of an object", kind_of(&other))
            }
            None => format!("the entry `{name}` cannot be read"),
        };
        if !self.quarantine.is_allowed() {
            return Err(Error::CorruptFile { file: self.path.clone(), quarantined: None, reason });
        }
        let copy = |now| self.copy_aside(&self.bytes()?, now);
        let aside = overwritten_at.map(copy).transpose()?;
        self.tell(Some(name), aside.as_deref(), reason);
        Ok(None)
    }

    fn copy_aside(&self, bytes: &[u8], now: Timestamp) -> Result<PathBuf> {
        let copied = self.quarantine.free_path(&stamp(now), &self.path)?;
        atomic_copy(&self.path, &copied, bytes)?;
        Ok(copied)
    }

    fn write(&self, all: &Entries) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            create_directories(dir)?;
        }
        all.save(&self.path)
    }

    /// Turns at a file whose directory is not there yet are taken when it is.
    fn turn(&self) -> Result<Turn> {
        if let Some(dir) = self.path.parent() {
            create_directories(dir)?;
        }
        Turn::take(&self.path)
    }
}

impl StateStore for JsonFileStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        // The clock is the caller's: it is asked under no lock.
        let now = self.quarantine.now();
        let mut seen = self.hold();
        self.read(&mut seen, now, &mut None)?;
        self.state_of(&seen.states, name, None)
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let now = self.quarantine.now();
        let mut seen = self.hold();
        // Held until the file is written.
        let mut turn = Some(self.turn()?);
        self.read(&mut seen, now, &mut turn)?;
        self.state_of(&seen.states, name, Some(now))?;
        let mut next = seen.states.clone();
        next.set(&self.path, name, &Value::Object(object.clone()))?;
        self.write(&next)?;
        seen.states = next;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool> {
        let now = self.quarantine.now();
        let mut seen = self.hold();
        // Held until the file is written.
        let mut turn = Some(Turn::take(&self.path)?);
        self.read(&mut seen, now, &mut turn)?;
        let mut next = seen.states.clone();
        if !next.remove(name) {
            return Ok(false);
        }
        self.write(&next)?;
        seen.states = next;
        Ok(true)
    }

    fn names(&self) -> Result<Vec<String>> {
        let now = self.quarantine.now();
        let mut seen = self.hold();
        self.read(&mut seen, now, &mut None)?;
        let is_state = |raw: &RawValue| matches!(value_of(raw), Some(Value::Object(_)));
        let names = seen.states.iter().filter(|(_, raw)| is_state(raw));
        Ok(names.map(|(name, _)| name.clone()).collect())
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.quarantine.take()
    }
}
