//! The version of data: three numbers that compare as numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A version of data or of a program: major, minor, patch. It compares number by number, so that 0.10.0 is newer than
/// 0.2.0. Written as text (also in files): `1.2.3`.
///
/// ```
/// use tierce::Version;
///
/// let version: Version = "0.10.0".parse()?;
/// assert!(version > Version::new(0, 2, 0));
/// assert_eq!(version.to_string(), "0.10.0");
/// assert_eq!("2".parse::<Version>()?, Version::new(2, 0, 0));
/// # Ok::<(), tierce::ParseVersionError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Another one means that older programs cannot read the data.
    pub major: u32,
    /// Another one means that something was added.
    pub minor: u32,
    /// Another one means that something was mended.
    pub patch: u32,
}

impl Version {
    /// What data has that was never given a version: 0.0.0.
    pub const ZERO: Self = Self::new(0, 0, 0);

    /// The version `major.minor.patch`.
    ///
    /// ```
    /// assert_eq!(tierce::Version::new(0, 1, 0).to_string(), "0.1.0");
    /// ```
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is no version: one to three numbers with dots between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is one to three numbers with dots between them, such as 1.2.3")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    /// One to three numbers; those that are missing are 0. White space around them does not count.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let mut parts = [0; 3];
        let mut texts = text.trim().split('.');
        for (at, part) in parts.iter_mut().enumerate() {
            match texts.next() {
                Some(digits) => *part = number(digits)?,
                None if at > 0 => {}
                None => return Err(ParseVersionError),
            }
        }
        let [major, minor, patch] = parts;
        if texts.next().is_some() {
            Err(ParseVersionError)
        } else {
            Ok(Self { major, minor, patch })
        }
    }
}

/// Digits only: the sign that Rust's own parser accepts is none of a version's.
fn number(digits: &str) -> Result<u32, ParseVersionError> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().map_err(|_| ParseVersionError)
    } else {
        Err(ParseVersionError)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_as_numbers() {
        let texts = ["0.0.0", "0.0.10", "0.2.0", "0.10.0", "1.0.0", "1.0.1", "10.0.0"];
        let versions: Vec<Version> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted());
        for (text, version) in texts.iter().zip(&versions) {
            assert_eq!(version.to_string(), *text);
        }
    }

    #[test]
    fn what_is_a_version() {
        assert_eq!(" 1.2.3\n".parse(), Ok(Version::new(1, 2, 3)));
        assert_eq!("1.2".parse(), Ok(Version::new(1, 2, 0)));
        assert_eq!("4294967295".parse(), Ok(Version::new(u32::MAX, 0, 0)));
        for text in [
            "",
            " ",
            ".",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4",
            "+1.2.3",
            "-1",
            "v1",
            "1.2.x",
            "4294967296",
        ] {
            assert_eq!(text.parse::<Version>(), Err(ParseVersionError), "{text:?}");
        }
    }
}
