//! A JSON object in a file: read with care for what is there, written whole or not at all.
//!
//! Damage and a refusal of the system are different things. Damaged bytes are moved aside, so that nothing ever writes
//! over them; a file that cannot be read stays, and nothing may go on as if it were not there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use tierce_engine::{
    Timestamp,
    io::{Disk as _, OsDisk},
};

use super::{atomic, time};
use crate::{Error, Result};

/// Most levels of nesting that are read, the outermost object counted.
const DEPTH_MAX: usize = 127;

/// What was at the path.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Nothing.
    Missing,
    /// An object.
    Object(Map<String, Value>),
    /// No object. The file was moved aside; the error is [`Error::CorruptFile`] and says where it is.
    Quarantined(Error),
}

/// Reads the object at `path`. A damaged file is renamed to `NAME.corrupt-TIME`, with `now` as the time.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, or is damaged and cannot be renamed. It is untouched then.
pub(crate) fn load_json(path: &Path, now: Timestamp) -> Result<Loaded> {
    match load_json_strict(path) {
        Ok(None) => Ok(Loaded::Missing),
        Ok(Some(object)) => Ok(Loaded::Object(object)),
        Err(Error::CorruptFile { file, reason, .. }) => {
            let quarantined = Some(set_aside(path, now)?);
            Ok(Loaded::Quarantined(Error::CorruptFile { file, quarantined, reason }))
        }
        Err(error) => Err(error),
    }
}

/// Reads the object at `path`, if there is one. Nothing is changed.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::CorruptFile`] if it is no JSON object.
pub(crate) fn load_json_strict(path: &Path) -> Result<Option<Map<String, Value>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let corrupt = |reason| Error::CorruptFile { file: path.to_owned(), quarantined: None, reason };
    // Some editors put a mark before the text.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(other) => Err(corrupt(format!("it holds {}, not an object", kind_of(&other)))),
        Err(_) if text.is_empty() => Err(corrupt("it is empty".to_owned())),
        // Where, not what: the text may be secret.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            Err(corrupt(format!("it is no JSON at line {line}, column {column}")))
        }
    }
}

/// Writes `object` to `path`, indented and with a newline at the end, by [`super::atomic_write`].
///
/// # Errors
/// [`Error::Encode`] if it is nested too deep to be read again; [`Error::Io`]. The old file is untouched.
pub(crate) fn save_json(path: &Path, object: &Map<String, Value>) -> Result<()> {
    if !object.values().all(|value| is_within(value, DEPTH_MAX - 1)) {
        let source = format!("it has more than {DEPTH_MAX} levels").into();
        return Err(Error::Encode { space: path.display().to_string(), source });
    }
    atomic::atomic_write_with(path, |mut file| {
        serde_json::to_writer_pretty(&mut file, object)?;
        file.write_all(b"\n")
    })
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

/// Renames the file to a name that nothing has yet.
fn set_aside(path: &Path, now: Timestamp) -> Result<PathBuf> {
    let failed = |source| Error::io("set aside", path, source);
    let time = time::for_file_name(now);
    for number in 1..=u32::MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(if number == 1 {
            format!(".corrupt-{time}")
        } else {
            format!(".corrupt-{time}-{number}")
        });
        let aside = path.with_file_name(name);
        if fs::symlink_metadata(&aside).is_ok() {
            continue;
        }
        fs::rename(path, &aside).map_err(failed)?;
        if let Err(error) = OsDisk.sync_dir(atomic::parent(path)) {
            // Under its own name it is found, and told, the next time.
            let _ = fs::rename(&aside, path);
            return Err(failed(error));
        }
        return Ok(aside);
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}
