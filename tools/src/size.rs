//! Sizes as people write them: `64MiB`, `1.5 GB`, `512B`, or a plain number of bytes. The grammar is the library's.

use tierce_engine::{Options, units::parse_bytes};

/// The size in bytes.
///
/// # Errors
/// A sentence, if it is no size.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| format!("{text:?} is no size: {error}"))
}

/// A size of at most `most` bytes.
///
/// # Errors
/// A sentence, if it is no size or larger.
pub(crate) fn parse_size_to(text: &str, most: u64) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes > most => Err(format!("at most {}", human_bytes(most))),
        bytes => Ok(bytes),
    }
}

/// A size that a value can have.
///
/// # Errors
/// As [`parse_size_to`].
pub(crate) fn parse_value_bytes(text: &str) -> Result<u64, String> {
    parse_size_to(text, Options::VALUE_BYTES_MAX)
}

/// A size that is a limit: zero would hold nothing.
///
/// # Errors
/// A sentence, if it is no size or zero.
pub(crate) fn parse_limit(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a limit of 0 bytes holds nothing; leave it out for no limit".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A size for people: `1.5 MiB`; exact below 1 KiB.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const NAMES: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(6);
    // Tenths, rounded down: a size never reads as more than it is.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, NAMES[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a size reads well and is never said to be more than it is.
    #[test]
    fn for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_075, "1.0 KiB"),
            (1_076, "1.0 KiB"),
            (1_127, "1.1 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    /// Goal: sizes are what the library takes them for; limits of nothing and sizes that do not fit are refused.
    #[test]
    fn refusals() {
        for (text, bytes) in [("1048576", 1 << 20), ("64mib", 64 << 20), ("1.5 GiB", 3 << 29)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "10%", "18446744073709551616", "16777216TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_limit("1"), Ok(1));
        for zero in ["0", "0MiB", "000B"] {
            assert!(parse_limit(zero).is_err(), "{zero}");
        }
        assert_eq!(parse_size_to("1KiB", 1 << 10), Ok(1 << 10));
        assert!(parse_size_to("1025", 1 << 10).is_err_and(|why| why.contains("1.0 KiB")));
    }
}
