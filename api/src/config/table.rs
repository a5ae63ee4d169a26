//! Settings from a table of a TOML file.

use std::{fs, path::Path};

use toml::Value;

use super::{
    Config, Origin, WHAT,
    raw::{NAMES, Raw, Reading, canonical, nearest},
};
use crate::{Error, Result};

const TTL: &str = "ttl";

/// A table of a TOML file, by its name: `cache`, or `tool.cache` for one in another; the whole file if it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    name: &'a str,
    is_foreign: bool,
}

impl<'a> Table<'a> {
    /// A table that has these settings only: a key that is none of them is an error.
    #[must_use]
    pub const fn own(name: &'a str) -> Self {
        Self { name, is_foreign: false }
    }

    /// A table that others have keys in too: what is none of these settings is not looked at.
    #[must_use]
    pub const fn foreign(name: &'a str) -> Self {
        Self { name, is_foreign: true }
    }
}

impl<'a> From<&'a str> for Table<'a> {
    /// [`Table::own`].
    fn from(name: &'a str) -> Self {
        Self::own(name)
    }
}

impl Config {
    /// Reads the settings in a table of a TOML text. Without that table, nothing is set.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong: no TOML, keys that are no settings (with the nearest that is),
    /// values of the wrong kind.
    ///
    /// ```
    /// use tierce::{Config, Ttl};
    ///
    /// let config = Config::from_toml_str(
    ///     "[cache]\ndirectory = 'tmp/cache'\nsize_limit = '500 MiB'\nttl = { content = 0, search = 300 }",
    ///     "cache",
    /// )?;
    /// assert_eq!(config.ttl_of("content"), Ttl::Never);
    ///
    /// let error = Config::from_toml_str("[cache]\nsize_limt = 1", "cache").unwrap_err();
    /// assert!(error.to_string().contains("`cache.size_limt`: there is no such setting; is `size_limit` meant?"));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn from_toml_str<'a>(text: &str, table: impl Into<Table<'a>>) -> Result<Self> {
        read(text, None, table.into())
    }

    /// Reads the settings in a table of a TOML file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not there; those of [`Self::from_toml_str`].
    ///
    /// ```
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("hassette.toml"), "[cache]\nsize_limit = 209715200")?;
    /// let config = tierce::Config::from_toml_file(dir.path().join("hassette.toml"), "cache")?;
    /// assert_eq!(config.size_limit(), 200 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_toml_file<'a>(path: impl AsRef<Path>, table: impl Into<Table<'a>>) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        read(&text, Some(path), table.into())
    }
}

fn read(text: &str, file: Option<&Path>, table: Table<'_>) -> Result<Config> {
    let complain = |complaint: String| {
        let place = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
        let complaints = vec![format!("{place}{complaint}")];
        Error::Options { what: WHAT.to_owned(), complaints }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // Where, not what: the line may hold somebody's secret.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        complain(format!("line {} is no TOML", before.matches('\n').count() + 1))
    })?;
    let mut found = &document;
    for part in table.name.split('.').filter(|part| !part.is_empty()) {
        match found.get(part) {
            None => return Ok(Config::new()),
            Some(Value::Table(inner)) => found = inner,
            Some(_) => return Err(complain(format!("`{}` is no table", table.name))),
        }
    }
    let mut reading = Reading::default();
    let origin = |key: &str| {
        let key =
            if table.name.is_empty() { key.to_owned() } else { format!("{}.{key}", table.name) };
        Origin::Toml { file: file.map(Path::to_owned), key }
    };
    for (key, value) in found {
        if let Some(name) = canonical(key) {
            reading.set(name, raw(value), origin(key));
        } else if let (TTL, Value::Table(spaces)) = (key.as_str(), value) {
            for (space, value) in spaces {
                reading.set_ttl(space, raw(value), origin(&format!("{TTL}.{space}")));
            }
        } else if !table.is_foreign {
            let known = NAMES.iter().map(|(name, _)| *name).chain([TTL]);
            let hint = nearest(key, known)
                .map_or_else(String::new, |name| format!("; is `{name}` meant?"));
            let complaint = if key == TTL {
                "a table of lifetimes is wanted"
            } else {
                "there is no such setting"
            };
            let hint = if key == TTL { String::new() } else { hint };
            reading.complaints.push(format!("{}: {complaint}{hint}", origin(key)));
        }
    }
    reading.finish()
}

fn raw(value: &Value) -> Raw<'_> {
    match value {
        Value::String(text) => Raw::Text(text),
        Value::Integer(number) => Raw::Number(*number),
        _ => Raw::Other,
    }
}
