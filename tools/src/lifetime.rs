//! Lifetimes and other durations as people write them: `250ms`, `1h30m`, `7 days`, or a plain number of seconds. The
//! grammar is the library's; a store counts whole milliseconds.

use tierce_engine::units::{UnitError, parse_duration};

/// The lifetime that a put asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// It does not say: the default, if there is one.
    #[default]
    Default,
    /// For ever, whatever the default.
    Never,
    /// So many milliseconds.
    Ms(u64),
}

/// The default lifetime in milliseconds; 0 stands for none.
///
/// # Errors
/// As [`parse_lifetime_ms`].
pub(crate) fn parse_default_ttl_ms(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_lifetime_ms(text) }
}

/// The lifetime in milliseconds; what is shorter than one counts as one.
///
/// # Errors
/// A sentence, if it is no lifetime. Zero is none: delete the key instead.
pub(crate) fn parse_lifetime_ms(text: &str) -> Result<u64, String> {
    let duration =
        parse_duration(text).map_err(|error| format!("{text:?} is no lifetime: {error}"))?;
    if duration.is_zero() {
        return Err("a duration of 0 is none; write 250ms, 30s, 5m, 2h or 1d".to_owned());
    }
    let ms = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(ms)
        .map_err(|_| format!("{text:?}: {}; leave it out for never", UnitError::TooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: durations are what the library takes them for, in milliseconds, and never less.
    #[test]
    fn units() {
        for (text, ms) in [
            ("1ms", 1),
            ("1ns", 1),
            ("1500us", 2),
            ("30s", 30_000),
            ("30", 30_000),
            ("1h30m", 5_400_000),
            ("7 days", 604_800_000),
            ("1w", 604_800_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(parse_lifetime_ms(text), Ok(ms), "{text}");
        }
    }

    /// Goal: what is not clearly a lifetime is refused, without a panic or a wrapped number.
    #[test]
    fn refusals() {
        for text in [
            "",
            "s",
            "0",
            "0ms",
            "00d",
            "-1s",
            "+1s",
            "never",
            "30ss",
            "18446744073709551616ms",
            "18446744073709551615",
            "213503982335d",
        ] {
            assert!(parse_lifetime_ms(text).is_err(), "{text}");
        }
        assert_eq!(parse_default_ttl_ms("0"), Ok(0));
        assert_eq!(parse_default_ttl_ms("5m"), Ok(300_000));
        assert!(parse_default_ttl_ms("0s").is_err() && parse_default_ttl_ms("never").is_err());
    }
}
