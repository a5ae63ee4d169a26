//! Settings from environment variables and from files of them.

use std::{env, fs, path::Path};

use super::{
    Config, Origin,
    raw::{NAMES, Raw, Reading},
};
use crate::{Error, Result};

impl Config {
    /// Reads the variables of this process's environment whose names begin with `prefix`: see the table of [`Config`].
    /// Variables that are no settings are not looked at; an empty one counts as not set.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong.
    ///
    /// ```
    /// let config = tierce::Config::from_env("NOBODY_SETS_THIS_")?;
    /// assert_eq!(config.directory()?.to_str(), Some("tmp/cache"));
    /// assert_eq!(config.size_limit(), 524_288_000);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn from_env(prefix: &str) -> Result<Self> {
        let mut reading = reading();
        for (name, value) in env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) else {
                continue;
            };
            match value.to_str() {
                Some(value) => {
                    set(&mut reading, prefix, name, value, Origin::Variable(name.to_owned()))
                }
                None if is_setting(prefix, name) => {
                    reading.complaints.push(format!("{name}: it is not UTF-8"));
                }
                None => {}
            }
        }
        reading.finish()
    }

    /// As [`Self::from_env`], with variables of the caller's.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong.
    ///
    /// ```
    /// use tierce::{Config, Ttl};
    ///
    /// let config = Config::from_vars("CACHE_", [
    ///     ("CACHE_DIRECTORY", "tmp/cache"),
    ///     ("CACHE_SIZE_LIMIT", "524288000"),
    ///     ("CACHE_CONTENT_TTL", "0"),
    ///     ("CACHE_SEARCH_TTL", "300"),
    /// ])?;
    /// assert_eq!(config.size_limit(), 500 << 20);
    /// assert_eq!(config.ttl_of("content"), Ttl::Never);
    /// assert_eq!(config.ttl_of("search"), Ttl::minutes(5));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn from_vars<N: AsRef<str>, V: AsRef<str>>(
        prefix: &str,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        let mut reading = reading();
        for (name, value) in variables {
            let name = name.as_ref();
            set(&mut reading, prefix, name, value.as_ref(), Origin::Variable(name.to_owned()));
        }
        reading.finish()
    }

    /// As [`Self::from_env`], with the variables in a file such as `.env`: `NAME=value` in a line, `export` before it
    /// or not; `#` begins a comment, at the start of a line or after a space. Values may stand in quotes; in double
    /// ones,
    /// `\n`, `\t`, `\"` and `\\` are signs. Of two lines with one name, the later one counts. Nothing is put into the
    /// process's environment.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not there; [`Error::Options`] with everything that is wrong.
    ///
    /// ```
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join(".env"), "CACHE_SIZE_LIMIT=524288000      # 500MB\n")?;
    /// let config = tierce::Config::from_env_file(dir.path().join(".env"), "CACHE_")?;
    /// assert_eq!(config.size_limit(), 524_288_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_env_file(path: impl AsRef<Path>, prefix: &str) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        let mut variables: Vec<(usize, String, String)> = Vec::new();
        let mut complaints = Vec::new();
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            match assignment(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    variables.retain(|(_, other, _)| *other != name);
                    variables.push((number, name, value));
                }
                Err(fault) => {
                    complaints.push(format!("{}, line {number}: {fault}", path.display()))
                }
            }
        }
        let mut reading = reading();
        reading.complaints = complaints;
        for (line, variable, value) in variables {
            let file = path.to_owned();
            let origin = Origin::VariableFile { file, line, variable: variable.clone() };
            set(&mut reading, prefix, &variable, &value, origin);
        }
        reading.finish()
    }
}

fn reading() -> Reading {
    Reading { config: Config { is_env: true, ..Config::default() }, ..Reading::default() }
}

/// What a variable is about.
enum Subject {
    Setting(&'static str),
    Space(String),
}

fn subject(prefix: &str, variable: &str) -> Option<Subject> {
    let name = variable.strip_prefix(prefix)?.to_ascii_lowercase();
    // Only the names themselves: `CACHE_CACHE_DIR` is nobody's intention.
    if let Some((own, _)) = NAMES.iter().find(|(own, _)| *own == name) {
        return Some(Subject::Setting(own));
    }
    let space = name.strip_suffix("_ttl").filter(|space| !space.is_empty())?;
    Some(Subject::Space(space.to_owned()))
}

fn is_setting(prefix: &str, variable: &str) -> bool {
    subject(prefix, variable).is_some()
}

fn set(reading: &mut Reading, prefix: &str, variable: &str, value: &str, origin: Origin) {
    let value = value.trim();
    if value.is_empty() {
        return;
    }
    match subject(prefix, variable) {
        Some(Subject::Setting(name)) => reading.set(name, Raw::Text(value), origin),
        Some(Subject::Space(space)) => reading.set_ttl(&space, Raw::Text(value), origin),
        None => {}
    }
}

/// The name and value in a line; `None` if it has none. A fault is told without the line: it may hold a secret.
fn assignment(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("it is no NAME=value")?;
    let name = name.trim();
    let is_name = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("it is no NAME=value");
    }
    Ok(Some((name.to_owned(), unquoted(value)?)))
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    let value = value.trim_start();
    let (text, rest) = if let Some(inside) = value.strip_prefix('\'') {
        let (text, rest) = inside.split_once('\'').ok_or("a quote is not closed")?;
        (text.to_owned(), rest)
    } else if let Some(inside) = value.strip_prefix('"') {
        double_quoted(inside)?
    } else {
        // A `#` belongs to the value unless a space is before it.
        let mut end = value.len();
        for (at, _) in value.match_indices('#') {
            let before = value.get(..at).unwrap_or_default();
            if before.is_empty() || before.ends_with(char::is_whitespace) {
                end = at;
                break;
            }
        }
        return Ok(value.get(..end).unwrap_or_default().trim_end().to_owned());
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(text)
    } else {
        Err("something follows the closing quote")
    }
}

/// The text up to the closing quote, and what follows that.
fn double_quoted(inside: &str) -> Result<(String, &str), &'static str> {
    let mut text = String::new();
    let mut signs = inside.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '"' => return Ok((text, inside.get(at + 1..).unwrap_or_default())),
            '\\' => match signs.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, sign @ ('"' | '\\' | '$'))) => text.push(sign),
                Some((_, sign)) => text.extend(['\\', sign]),
                None => break,
            },
            sign => text.push(sign),
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, value) in [
            ("A=1", "1"),
            ("  export A = 1  ", "1"),
            ("A=524288000      # 500MB", "524288000"),
            ("A=a#b", "a#b"),
            ("A=# nothing", ""),
            ("A=", ""),
            ("A='x # y' # z", "x # y"),
            ("A='a\\n'", "a\\n"),
            (r#"A="a\n\"\\\d""#, "a\n\"\\\\d"),
            ("A=\"\"", ""),
            ("A=a=b", "a=b"),
        ] {
            let expected = Some(("A".to_owned(), value.to_owned()));
            assert_eq!(assignment(line), Ok(expected), "{line}");
        }
        for line in ["", "   ", "# A=1"] {
            assert_eq!(assignment(line), Ok(None), "{line}");
        }
        for line in ["A", "=1", "A B=1", "A='x", "A=\"x", "A=\"x\\", "A='x'y"] {
            assert!(assignment(line).is_err(), "{line}");
        }
    }
}
