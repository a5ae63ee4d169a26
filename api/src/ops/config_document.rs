//! Settings of a program in a JSON file that people may read and edit.

use std::{
    any::type_name,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    atomic::absolute,
    document::{self, Changes, Loaded},
    time,
};
use crate::{Error, Result, codec::inspect::to_value};

/// Settings in a JSON file. It is read when it is opened, and again before each change, which is written at once, as
/// [`super::atomic_write`] does: after a crash the file is the one before the change or the one after it. Only what is
/// changed is written again: keys that this program does not know, and edits of other handles, processes and people, stay
/// as they are written. What they changed shows after the next change, or when it is opened again. The file is created
/// by the first change.
///
/// ```
/// use tierce::ops::ConfigDocument;
///
/// let dir = tempfile::tempdir()?;
/// let mut config = ConfigDocument::open(dir.path().join("config.json"))?;
/// assert_eq!(config.get_or("interval_s", 60)?, 60);
/// config.set("interval_s", &30)?;
///
/// let config = ConfigDocument::open(dir.path().join("config.json"))?;
/// assert_eq!(config.get::<u32>("interval_s")?, Some(30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConfigDocument {
    path: PathBuf,
    values: Map<String, Value>,
    damage: Option<Error>,
    is_strict: bool,
}

impl ConfigDocument {
    /// Reads the settings at `path`. A damaged file is renamed to `NAME.corrupt-TIME`, and the document starts empty:
    /// look at [`Self::damage`], or use [`Self::open_strict`].
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there and cannot be read, or cannot be renamed. It is untouched then.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = absolute(&path.into())?;
        let (values, damage) = match document::load_json(&path, time::now())? {
            Loaded::Missing => (Map::new(), None),
            Loaded::Object(values) => (values, None),
            Loaded::Quarantined(error) => (Map::new(), Some(error)),
        };
        Ok(Self { path, values, damage, is_strict: false })
    }

    /// As [`Self::open`], but a damaged file is an error each time, and stays where it is.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::CorruptFile`].
    ///
    /// ```
    /// use tierce::ops::ConfigDocument;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("config.json");
    /// std::fs::write(&path, "{\"cut off")?;
    /// assert_eq!(ConfigDocument::open_strict(&path).unwrap_err().kind(), "corrupt-file");
    /// assert!(path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_strict(path: impl Into<PathBuf>) -> Result<Self> {
        let path = absolute(&path.into())?;
        let values = document::load_json_strict(&path)?.unwrap_or_default();
        Ok(Self { path, values, damage: None, is_strict: true })
    }

    /// What [`Self::open`], or a change later, found to be damaged last, and where it is now.
    ///
    /// ```
    /// use tierce::ops::ConfigDocument;
    ///
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("config.json"), "{\"cut off")?;
    /// let config = ConfigDocument::open(dir.path().join("config.json"))?;
    /// assert!(config.damage().unwrap().to_string().contains("config.json.corrupt-"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The setting `key`; `None` if it is not there. One that is `null` is there, if `T` can be that.
    ///
    /// # Errors
    /// [`Error::Decode`] if it is no `T`. The message says of which kind it is, never what it is.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match T::deserialize(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                let found = document::kind_of(value);
                let source = format!("{found} is stored there that is no {}", type_name::<T>());
                let (space, key) = (self.path.display().to_string(), format!("`{key}`"));
                Err(Error::Decode { space, key, source: source.into() })
            }
        }
    }

    /// The setting `key`, or `default` if it is not there.
    ///
    /// # Errors
    /// As [`Self::get`]: a setting of the wrong kind is not replaced by the default.
    pub fn get_or<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.get(key)?.unwrap_or(default))
    }

    /// Sets `key` and saves it.
    ///
    /// # Errors
    /// [`Error::Encode`] if JSON cannot hold the value (NaN and infinity among others) or it is nested so deep that it
    /// could not be read again (127 levels in the file); [`Error::Io`] if the file cannot be read or written;
    /// [`Error::CorruptFile`] if it was damaged meanwhile, after [`Self::open_strict`]. The setting is as it was then, here
    /// and in the file.
    pub fn set<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<()> {
        let value = to_value(value)
            .map_err(|source| Error::Encode { space: self.path.display().to_string(), source })?;
        self.change(&Changes::from([(key.to_owned(), Some(value))])).map(drop)
    }

    /// Removes `key` from the file, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`]; the setting is still there then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let mut config = tierce::ops::ConfigDocument::open(dir.path().join("config.json"))?;
    /// config.set("theme", "dark")?;
    /// assert!(config.remove("theme")?);
    /// assert!(!config.remove("theme")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&mut self, key: &str) -> Result<bool> {
        self.change(&Changes::from([(key.to_owned(), None)]))
    }

    /// Changes several settings and saves once: all of them or none. `change` sees what the file holds now.
    ///
    /// # Errors
    /// [`Error::Encode`] if something is nested too deep, [`Error::Io`]; nothing is changed then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let mut config = tierce::ops::ConfigDocument::open(dir.path().join("config.json"))?;
    /// config.update(|values| {
    ///     values.insert("host".to_owned(), "10.0.0.2".into());
    ///     values.insert("port".to_owned(), 8123.into());
    /// })?;
    /// assert_eq!(config.get::<u16>("port")?, Some(8123));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(&mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        // A damaged file is dealt with below.
        match document::load_json_strict(&self.path) {
            Ok(Some(values)) => self.values = values,
            Ok(None) | Err(Error::CorruptFile { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut values = self.values.clone();
        change(&mut values);
        self.change(&document::changes(&self.values, values)).map(drop)
    }

    /// Makes the changes in the file, and then here: what is held here is never newer than what a restart would find.
    fn change(&mut self, changes: &Changes) -> Result<bool> {
        let now = (!self.is_strict).then(time::now);
        let changed = document::change_json(&self.path, &self.values, changes, now)?;
        self.values = changed.values;
        if changed.damage.is_some() {
            self.damage = changed.damage;
        }
        Ok(changed.is_written)
    }

    /// All settings.
    #[must_use]
    pub const fn values(&self) -> &Map<String, Value> {
        &self.values
    }
}
