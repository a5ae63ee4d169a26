//! What a program says about itself in a file that others read.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};
use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use super::{
    atomic::absolute,
    document::{self, Loaded},
    time,
};
use crate::{Error, Result};

const STARTED_AT: &str = "started_at";
const STATUS: &str = "status";
const LAST_UPDATED: &str = "last_updated";

/// A status in a JSON file: `started_at`, `status`, `last_updated`, and what else the program sets. Times are RFC 3339.
/// Each save is whole or not at all, as [`super::atomic_write`] does it. It reads the file again and changes what was set;
/// what others wrote beside it stays.
///
/// A document that is not there yet starts with the time and the status "initializing"; the file is created by the
/// first save. One that is there is taken as it is.
///
/// ```
/// use tierce::ops::StatusDocument;
///
/// let dir = tempfile::tempdir()?;
/// let mut document = StatusDocument::open(dir.path().join("state.json"))?;
/// assert_eq!(document.status(), Some("initializing"));
/// document.update("running")?;
///
/// let document = StatusDocument::open(dir.path().join("state.json"))?;
/// assert_eq!(document.status(), Some("running"));
/// assert!(document.last_updated() >= document.started_at());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StatusDocument {
    path: PathBuf,
    values: Map<String, Value>,
    clock: Arc<dyn Clock>,
    damage: Option<Error>,
}

impl fmt::Debug for StatusDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, values, damage, .. } = self;
        let keys: Vec<_> = values.keys().collect();
        f.debug_struct("StatusDocument")
            .field("path", path)
            .field("keys", &keys)
            .field("damage", damage)
            .finish()
    }
}

impl StatusDocument {
    /// Reads the status at `path`. A damaged file is renamed to `NAME.corrupt-TIME`, told by [`Self::damage`], and a
    /// new document starts.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there and cannot be read, or cannot be renamed. It is untouched then.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with_clock(path, Arc::new(OsClock))
    }

    /// As [`Self::open`], with times from `clock`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_clock(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = absolute(&path.into())?;
        let now = Timestamp(clock.wall_ms());
        let (values, damage) = match document::load_json(&path, now)? {
            Loaded::Object(values) => (values, None),
            Loaded::Missing => (fresh(now), None),
            Loaded::Quarantined(error) => (fresh(now), Some(error)),
        };
        Ok(Self { path, values, clock, damage })
    }

    /// What [`Self::open`], or a save later, found to be damaged last, and where it is now.
    #[must_use]
    pub const fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The status; `None` if the file had none.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.values.get(STATUS)?.as_str()
    }

    /// When the document was started.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        time::parse(self.values.get(STARTED_AT)?.as_str()?)
    }

    /// When it was last saved; `None` if never.
    #[must_use]
    pub fn last_updated(&self) -> Option<Timestamp> {
        time::parse(self.values.get(LAST_UPDATED)?.as_str()?)
    }

    /// All of it.
    #[must_use]
    pub const fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Sets the status and the time of the update, and saves.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written. The status is as it was then, here and in the file.
    pub fn update(&mut self, status: &str) -> Result<()> {
        self.set(STATUS, status)
    }

    /// Sets any other thing worth telling and the time of the update, and saves.
    ///
    /// # Errors
    /// As [`Self::update`], and [`Error::Encode`] if it is nested too deep to be read again.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let mut document = tierce::ops::StatusDocument::open(dir.path().join("state.json"))?;
    /// document.set("devices", 12)?;
    /// assert_eq!(document.values()["devices"], 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        self.save(|values, _| {
            values.insert(key.to_owned(), value.into());
        })
    }

    /// Begins anew: started now, "initializing". For a program that wants its own start in the file.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn restart(&mut self) -> Result<()> {
        self.save(|values, now| values.append(&mut fresh(now)))
    }

    fn save(&mut self, change: impl FnOnce(&mut Map<String, Value>, Timestamp)) -> Result<()> {
        let now = Timestamp(self.clock.wall_ms());
        let mut values = self.values.clone();
        change(&mut values, now);
        values.insert(LAST_UPDATED.to_owned(), time::rfc3339(now).into());
        let changes = document::changes(&self.values, values);
        let changed = document::change_json(&self.path, &self.values, &changes, Some(now))?;
        self.values = changed.values;
        if changed.damage.is_some() {
            self.damage = changed.damage;
        }
        Ok(())
    }
}

fn fresh(now: Timestamp) -> Map<String, Value> {
    let started_at = (STARTED_AT.to_owned(), time::rfc3339(now).into());
    Map::from_iter([started_at, (STATUS.to_owned(), "initializing".into())])
}
