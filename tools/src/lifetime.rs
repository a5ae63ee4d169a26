//! How long an entry lives, as people write it: `250ms`, `30s`, `5m`, `2h`, `1d`, or a plain number of seconds.

/// The units, in milliseconds. A unit that ends like another one stands before it.
const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1_000)];

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

/// The lifetime in milliseconds.
///
/// # Errors
/// A sentence, if it is no lifetime. Zero is none: delete the key instead.
pub(crate) fn parse_lifetime_ms(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no lifetime; write 250ms, 30s, 5m, 2h, 1d or a number of seconds");
    let (digits, unit_ms) = UNITS
        .iter()
        .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))
        .ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let lifetime = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_ms));
    match lifetime {
        Some(0) => Err("a duration of 0 is none; write 250ms, 30s, 5m, 2h or 1d".to_owned()),
        Some(ms) => Ok(ms),
        None => Err(format!("{text:?} is longer than this tool can count; leave it out for never")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every unit means what it says.
    #[test]
    fn units() {
        for (text, ms) in [
            ("1ms", 1),
            ("250ms", 250),
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
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
            "ms",
            "0",
            "0ms",
            "00d",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "1w",
            "never",
            "30ss",
            "٣s",
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
