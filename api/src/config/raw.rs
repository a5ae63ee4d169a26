//! Names of settings and the meaning of their values, whatever source they are from.

use std::{path::PathBuf, time::Duration};

use tierce_engine::{
    Durability, Evict,
    units::{UnitError, parse_bytes, parse_duration},
};

use super::{Config, Origin, Setting, WHAT};
use crate::{Error, Result, Ttl};

/// A value as a source has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    Text(&'a str),
    Number(i64),
    /// Anything else.
    Other,
}

/// Every name with the names that mean the same.
pub(super) const NAMES: [(&str, &[&str]); 9] = [
    ("directory", &["cache_directory", "cache_dir"]),
    ("data_dir", &[]),
    ("class_name", &[]),
    ("size_limit", &["default_cache_size", "cache_size_limit"]),
    ("default_ttl", &["default_cache_ttl"]),
    ("durability", &[]),
    ("evict", &[]),
    ("max_entries", &[]),
    ("min_free_bytes", &[]),
];

/// The name that this one means, if it is any.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(own, others)| *own == name || others.contains(&name)).map(|(own, _)| *own)
}

/// A configuration that is being read, and what was wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) config: Config,
    pub(super) complaints: Vec<String>,
}

impl Reading {
    pub(super) fn finish(self) -> Result<Config> {
        if self.complaints.is_empty() {
            return Ok(self.config);
        }
        Err(Error::Options { what: WHAT.to_owned(), complaints: self.complaints })
    }

    /// Takes the value of a setting, by its canonical name.
    pub(super) fn set(&mut self, name: &str, raw: Raw<'_>, origin: Origin) {
        let config = &mut self.config;
        let result = match name {
            "directory" => store(&mut config.directory, path(raw), origin),
            "data_dir" => store(&mut config.data_dir, path(raw), origin),
            "class_name" => store(&mut config.class_name, text(raw).map(str::to_owned), origin),
            "size_limit" => store(&mut config.size_limit, size(raw), origin),
            "default_ttl" => store(&mut config.default_ttl, ttl(raw), origin),
            "durability" => store(&mut config.durability, durability(raw), origin),
            "evict" => store(&mut config.evict, evict(raw), origin),
            "max_entries" => store(&mut config.max_entries, number(raw), origin),
            "min_free_bytes" => store(&mut config.min_free_bytes, size(raw), origin),
            _ => Err(format!("{origin}: there is no such setting")),
        };
        self.complaints.extend(result.err());
    }

    /// Takes the lifetime of a space.
    pub(super) fn set_ttl(&mut self, space: &str, raw: Raw<'_>, origin: Origin) {
        let mut setting = None;
        match store(&mut setting, ttl(raw), origin) {
            Ok(()) => self.config.ttls.extend(setting.map(|setting| (space.to_owned(), setting))),
            Err(complaint) => self.complaints.push(complaint),
        }
    }
}

/// A value, or what it should have been.
type Parsed<T> = Result<T, &'static str>;

fn store<T>(
    place: &mut Option<Setting<T>>,
    parsed: Parsed<T>,
    origin: Origin,
) -> Result<(), String> {
    let value = parsed.map_err(|wanted| format!("{origin}: {wanted}"))?;
    if let Some(before) = place {
        return Err(format!("{origin}: it is set already, by {}", before.origin));
    }
    *place = Some(Setting { value, origin });
    Ok(())
}

fn text(raw: Raw<'_>) -> Parsed<&str> {
    match raw {
        Raw::Text(text) => Ok(text),
        _ => Err("a text is wanted"),
    }
}

fn path(raw: Raw<'_>) -> Parsed<PathBuf> {
    text(raw).map(PathBuf::from).map_err(|_| "a path is wanted")
}

fn number(raw: Raw<'_>) -> Parsed<u64> {
    let parsed = match raw {
        Raw::Text(text) => text.trim().parse().ok(),
        Raw::Number(number) => number.try_into().ok(),
        Raw::Other => None,
    };
    parsed.ok_or("a whole number from 0 on is wanted")
}

fn size(raw: Raw<'_>) -> Parsed<u64> {
    const WANTED: &str = "a size is wanted: bytes, or a number with a unit such as \"500 MiB\"";
    match raw {
        Raw::Text(text) => parse_bytes(text).map_err(|error| match error {
            UnitError::TooLarge => "the size is too large: 18446744073709551615 bytes is the most",
            _ => WANTED,
        }),
        other => number(other).map_err(|_| WANTED),
    }
}

/// Zero is for ever, however it is written.
fn ttl(raw: Raw<'_>) -> Parsed<Ttl> {
    const WANTED: &str = "a time is wanted: seconds (0: for ever), or a number with a unit such as \"5m\" or \"7 days\"";
    let duration = match raw {
        Raw::Text(text) => parse_duration(text).map_err(|error| match error {
            UnitError::TooLarge => "the time is too long: leave it out, or write 0, for ever",
            UnitError::VariableLength => "years and months vary in length: write days or weeks",
            _ => WANTED,
        })?,
        other => Duration::from_secs(number(other).map_err(|_| WANTED)?),
    };
    Ok(if duration.is_zero() { Ttl::Never } else { Ttl::For(duration) })
}

fn durability(raw: Raw<'_>) -> Parsed<Durability> {
    match word(raw).as_str() {
        "buffered" => Ok(Durability::Buffered),
        "os" => Ok(Durability::Os),
        "sync" => Ok(Durability::Sync),
        "periodic" => Ok(Durability::Periodic),
        _ => Err("one of buffered, os, sync, periodic is wanted"),
    }
}

fn evict(raw: Raw<'_>) -> Parsed<Evict> {
    match word(raw).as_str() {
        "lru" => Ok(Evict::Lru),
        "s3-fifo" => Ok(Evict::S3Fifo),
        "fifo" => Ok(Evict::Fifo),
        "none" => Ok(Evict::None),
        _ => Err("one of lru, s3-fifo, fifo, none is wanted"),
    }
}

fn word(raw: Raw<'_>) -> String {
    text(raw).unwrap_or_default().trim().to_ascii_lowercase().replace('_', "-")
}

/// The known name that is written most like `name`, if any is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|known| (distance(name, known), known));
    let (distance, known) = distances.min()?;
    (distance <= known.len().max(name.len()) / 2).then_some(known)
}

/// How many letters must be put in, left out or replaced to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut next = vec![at + 1];
        for ((other, above), left_above) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((left_above + usize::from(*other != letter)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("524288000", 524_288_000),
            ("500 MiB", 500 << 20),
            ("500MB", 500_000_000),
            (" 1.5 GiB ", 3 << 29),
            ("0", 0),
        ] {
            assert_eq!(size(Raw::Text(text)), Ok(bytes), "{text}");
        }
        for text in ["", "lots", "-1", "5 parsecs", "18014398509481985KiB", "17179869184GiB"] {
            assert!(size(Raw::Text(text)).is_err(), "{text}");
        }
        assert!(size(Raw::Number(-1)).is_err() && size(Raw::Other).is_err());
    }

    #[test]
    fn lifetimes() {
        for (text, ttl) in [
            ("0", Ttl::Never),
            ("0s", Ttl::Never),
            ("300", Ttl::seconds(300)),
            ("5m", Ttl::minutes(5)),
            ("2 hours", Ttl::hours(2)),
            ("1.5s", Ttl::For(Duration::from_millis(1_500))),
            ("1h30m", Ttl::minutes(90)),
            ("1d", Ttl::hours(24)),
            ("7 days", Ttl::hours(7 * 24)),
            ("1w", Ttl::hours(7 * 24)),
            ("P1D", Ttl::hours(24)),
        ] {
            assert_eq!(super::ttl(Raw::Text(text)), Ok(ttl), "{text}");
        }
        for text in ["", "-1", "-5m", "soon", "1.5", "P1M", "18446744073709551616"] {
            assert!(super::ttl(Raw::Text(text)).is_err(), "{text}");
        }
        assert!(super::ttl(Raw::Number(-1)).is_err());
    }

    #[test]
    fn nearest_names() {
        let known = || NAMES.iter().map(|(name, _)| *name);
        assert_eq!(nearest("size_limt", known()), Some("size_limit"));
        assert_eq!(nearest("sizelimit", known()), Some("size_limit"));
        assert_eq!(nearest("evcit", known()), Some("evict"));
        assert_eq!(nearest("x", known()), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
