//! A JSON object in a file: read with care for what is there, written whole or not at all.
//!
//! Damage and a refusal of the system are different things. Damaged bytes are moved aside, so that nothing ever writes
//! over them; a file that cannot be read stays, and nothing may go on as if it were not there.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, value::RawValue};
use tierce_engine::Timestamp;

use super::{atomic, files, time, turn::Turn};
use crate::{Error, Result};

/// Most levels of nesting that are read, the outermost object counted.
const DEPTH_MAX: usize = 127;

/// A JSON object whose values are the text they were read as: what is not set is written as it was, with all digits
/// of its numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries(BTreeMap<String, Box<RawValue>>);

impl Entries {
    /// Reads the object at `path`, if there is one. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::CorruptFile`] if it is no JSON object.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("read", path, source)),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt =
            |reason| Error::CorruptFile { file: path.to_owned(), quarantined: None, reason };
        // Some editors put a mark before the text.
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match serde_json::from_slice(text) {
            Ok(entries) => Ok(Self(entries)),
            Err(_) if text.is_empty() => Err(corrupt("it is empty".to_owned())),
            // Where, not what: the text may be secret.
            Err(error) => Err(corrupt(match serde_json::from_slice::<Value>(text) {
                Ok(other) => format!("it holds {}, not an object", kind_of(&other)),
                Err(_) => {
                    format!("it is no JSON at line {}, column {}", error.line(), error.column())
                }
            })),
        }
    }

    /// Writes the object to `path`, indented and with a newline at the end, by [`super::atomic_write`].
    ///
    /// # Errors
    /// [`Error::Io`]. The old file is untouched.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        atomic::atomic_write_with(path, |file| {
            file.write_all(b"{")?;
            for (number, (key, value)) in self.0.iter().enumerate() {
                file.write_all(if number == 0 { b"\n  " } else { b",\n  " })?;
                serde_json::to_writer(&mut *file, key)?;
                write!(file, ": {}", value.get())?;
            }
            file.write_all(if self.0.is_empty() { b"}\n" } else { b"\n}\n" })
        })
    }

    /// The value of `key` as its text.
    pub(crate) fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.get(key).map(|raw| &**raw)
    }

    /// All keys, sorted, with the text of their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &RawValue)> {
        self.0.iter().map(|(key, raw)| (key, &**raw))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets `key`. `what` is the file, for messages.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value is nested too deep to be read again.
    pub(crate) fn set(&mut self, what: &Path, key: &str, value: &Value) -> Result<()> {
        let failed = |source| Error::Encode { space: what.display().to_string(), source };
        if !is_within(value, DEPTH_MAX - 1) {
            return Err(failed(format!("it has more than {DEPTH_MAX} levels").into()));
        }
        let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
        // No text in JSON has a line end in it: those that are there are between values.
        let raw = RawValue::from_string(text.replace('\n', "\n  "));
        self.0.insert(key.to_owned(), raw.map_err(|error| failed(error.into()))?);
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// All of it as values. `file` is where it is from.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] if a value is nested too deep, or text that is no Unicode.
    pub(crate) fn values(&self, file: &Path) -> Result<Map<String, Value>> {
        let value = |(key, raw): (&String, &RawValue)| match value_of(raw) {
            Some(value) if is_within(&value, DEPTH_MAX - 1) => Ok((key.clone(), value)),
            _ => Err(Error::CorruptFile {
                file: file.to_owned(),
                quarantined: None,
                reason: format!("the value of `{key}` cannot be read"),
            }),
        };
        self.iter().map(value).collect()
    }
}

/// What a text of JSON means; `None` if it is nested too deep, or has half a character.
pub(crate) fn value_of(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

/// What was at the path.
#[derive(Debug)]
pub(crate) enum Loaded<T> {
    /// Nothing.
    Missing,
    /// An object.
    Object(T),
    /// No object. The file was moved aside; the error is [`Error::CorruptFile`] and says where it is.
    Quarantined(Error),
}

/// Reads the object at `path`. A damaged file is renamed to `NAME.corrupt-TIME`, with `now` as the time.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, or is damaged and cannot be renamed. It is untouched then.
pub(crate) fn load_json(path: &Path, now: Timestamp) -> Result<Loaded<Map<String, Value>>> {
    load_or_set_aside(path, now, || load_json_strict(path))
}

/// As [`load_json`], with `load` to read the object.
///
/// # Errors
/// As [`load_json`].
pub(crate) fn load_or_set_aside<T>(
    path: &Path,
    now: Timestamp,
    load: impl Fn() -> Result<Option<T>>,
) -> Result<Loaded<T>> {
    let loaded = |found: Option<T>| found.map_or(Loaded::Missing, Loaded::Object);
    match load() {
        Err(Error::CorruptFile { .. }) => {}
        other => return other.map(loaded),
    }
    // Another may have found it damaged, too, and have written a good one meanwhile: judged again in turn.
    let _turn = Turn::take(path)?;
    match load() {
        Err(Error::CorruptFile { file, reason, .. }) => {
            let quarantined = Some(set_aside(path, now)?);
            Ok(Loaded::Quarantined(Error::CorruptFile { file, quarantined, reason }))
        }
        other => other.map(loaded),
    }
}

/// Reads the object at `path`, if there is one. Nothing is changed.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::CorruptFile`] if it is no JSON object.
pub(crate) fn load_json_strict(path: &Path) -> Result<Option<Map<String, Value>>> {
    Entries::load(path)?.map(|entries| entries.values(path)).transpose()
}

/// What to set (`Some`) and to remove (`None`).
pub(crate) type Changes = BTreeMap<String, Option<Value>>;

/// What [`change_json`] found and left.
#[derive(Debug)]
pub(crate) struct Changed {
    /// What the file holds now.
    pub(crate) values: Map<String, Value>,
    /// Whether it was written.
    pub(crate) is_written: bool,
    /// The damaged file that was moved aside.
    pub(crate) damage: Option<Error>,
}

/// Reads the object at `path` again, makes the changes, and writes it. What is not changed stays as it is written,
/// whichever program wrote it. If there is no file, `base` stands for it. A damaged file is moved aside, with `now` as the time, if
/// there is one.
///
/// # Errors
/// [`Error::Encode`], [`Error::Io`]; [`Error::CorruptFile`] if the file is damaged and there is no `now`. It is untouched
/// then.
pub(crate) fn change_json(
    path: &Path,
    base: &Map<String, Value>,
    changes: &Changes,
    now: Option<Timestamp>,
) -> Result<Changed> {
    let _turn = Turn::take(path)?;
    let read = || {
        let entries = Entries::load(path)?;
        let values = entries.as_ref().map(|entries| entries.values(path)).transpose()?;
        Ok(entries.zip(values))
    };
    let (found, damage) = match (read(), now) {
        (Err(Error::CorruptFile { file, reason, .. }), Some(now)) => {
            let quarantined = Some(set_aside(path, now)?);
            (None, Some(Error::CorruptFile { file, quarantined, reason }))
        }
        (found, _) => (found?, None),
    };
    let (mut entries, mut values) = match found {
        Some(found) => found,
        None => {
            let mut entries = Entries::default();
            for (key, value) in base {
                entries.set(path, key, value)?;
            }
            (entries, base.clone())
        }
    };
    let mut is_written = false;
    for (key, value) in changes {
        is_written |= match value {
            Some(value) => {
                entries.set(path, key, value)?;
                values.insert(key.clone(), value.clone());
                true
            }
            None => entries.remove(key) | values.remove(key).is_some(),
        };
    }
    if is_written {
        entries.save(path)?;
    }
    Ok(Changed { values, is_written, damage })
}

/// What must be set (`Some`) and removed (`None`) to turn `old` into `new`.
pub(crate) fn changes(old: &Map<String, Value>, new: Map<String, Value>) -> Changes {
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    let mut changes: Changes = removed.map(|key| (key.clone(), None)).collect();
    // Also -0.0 in the place of 0.0, which are equal and not the same text.
    let is_new = |key: &str, value: &Value| {
        let text = |value| serde_json::to_vec(value).ok();
        old.get(key).is_none_or(|old| text(old) != text(value))
    };
    changes.extend(
        new.into_iter().filter(|(key, value)| is_new(key, value)).map(|(k, v)| (k, Some(v))),
    );
    changes
}

/// Whether no more than so many levels of lists and objects are in `value`, its own counted.
pub(crate) fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => {
            levels > 0 && list.iter().all(|element| is_within(element, levels - 1))
        }
        Value::Object(map) => {
            levels > 0 && map.values().all(|element| is_within(element, levels - 1))
        }
        _ => true,
    }
}

/// What kind of thing a value is, for messages that must not show it.
pub(crate) const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Renames the file to a name that nothing has yet. The caller has the turn.
///
/// # Errors
/// [`Error::Io`]; the file has its name then.
pub(crate) fn set_aside(path: &Path, now: Timestamp) -> Result<PathBuf> {
    // A link stays one: what it leads to is damaged.
    let path = &atomic::target(path)?;
    let failed = |source| Error::io("set aside", path, source);
    let first = format!("corrupt-{}", time::for_file_name(now));
    for number in 1..=u32::MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(if number == 1 { first.clone() } else { time::numbered(&first, number) });
        let aside = path.with_file_name(name);
        if fs::symlink_metadata(&aside).is_ok() {
            continue;
        }
        files::rename(path, &aside).map_err(failed)?;
        if let Err(error) = files::sync_dir(atomic::parent(path)) {
            // Under its own name it is found, and told, the next time.
            let _ = files::rename(&aside, path);
            return Err(failed(error));
        }
        return Ok(aside);
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}
