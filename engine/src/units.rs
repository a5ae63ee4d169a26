//! Durations and sizes in the notation of configuration files and command lines: `1h30m`, `7 days`, `P1D`, `1.5 GiB`.
//!
//! One grammar for the library and the tool. It reads text only; what a zero or a missing value means is up to the
//! setting. Unknown units and values that do not fit are errors, never rounded to the nearest one that fits.

use std::{fmt, time::Duration};

/// Why a text is not a duration or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// It is not a duration.
    NotADuration,
    /// It is not a size.
    NotASize,
    /// It has years or months, whose length varies.
    VariableLength,
    /// The value does not fit: 2^64 - 1 seconds for durations, 2^64 - 1 bytes for sizes.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADuration => {
                "not a duration; write 250ms, 30s, 5m, 1h30m, 7 days, 1w, P1D or a number of seconds"
            }
            Self::NotASize => "not a size; write 512B, 10KiB, 64 MiB, 1.5GB or a number of bytes",
            Self::VariableLength => "years and months vary in length; write days or weeks",
            Self::TooLarge => "the value is too large",
        })
    }
}

impl std::error::Error for UnitError {}

const NANOS: u128 = 1_000_000_000;

/// Names of units of time, lower case, with their nanoseconds.
const TIMES: [(&[&str], u128); 8] = [
    (&["ns", "nsec", "nsecs", "nanosecond", "nanoseconds"], 1),
    (&["us", "\u{b5}s", "\u{3bc}s", "usec", "usecs", "microsecond", "microseconds"], 1_000),
    (&["ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], NANOS),
    (&["m", "min", "mins", "minute", "minutes"], 60 * NANOS),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600 * NANOS),
    (&["d", "day", "days"], 86_400 * NANOS),
    (&["w", "wk", "wks", "week", "weeks"], 604_800 * NANOS),
];

/// Units of ISO 8601 before and after the `T`.
const ISO_DATES: [(char, u128); 2] = [('w', 604_800 * NANOS), ('d', 86_400 * NANOS)];
const ISO_TIMES: [(char, u128); 3] = [('h', 3_600 * NANOS), ('m', 60 * NANOS), ('s', NANOS)];

/// The duration that `text` says: a whole number of seconds, numbers with units (`1h30m`, `7 days`, `1.5s`,
/// `1 hour, 30 minutes`), or ISO 8601 without years and months (`P1D`, `PT1H30M`, `P2W`). A day has 24 hours.
///
/// ```
/// use std::time::Duration;
/// use tierce_engine::units::parse_duration;
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
/// assert_eq!(parse_duration("7 days"), parse_duration("1w"));
/// assert_eq!(parse_duration("P1D"), Ok(Duration::from_secs(86_400)));
/// assert_eq!(parse_duration("300"), Ok(Duration::from_secs(300)));
/// assert!(parse_duration("soon").is_err());
/// ```
///
/// # Errors
/// [`UnitError`] says what is wrong; it does not repeat the text.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let nanos = if let Some(iso) = text.strip_prefix(['P', 'p']) {
        iso_nanos(iso)?
    } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::split(text).ok_or(UnitError::NotADuration)?.0.times(NANOS)?
    } else {
        phrase_nanos(text)?
    };
    let seconds = u64::try_from(nanos / NANOS).map_err(|_| UnitError::TooLarge)?;
    // Below a second always, so it fits.
    Ok(Duration::new(seconds, u32::try_from(nanos % NANOS).unwrap_or_default()))
}

/// Numbers with units, with spaces or commas between them.
fn phrase_nanos(text: &str) -> Result<u128, UnitError> {
    let (mut rest, mut sum) = (text, 0_u128);
    loop {
        let (number, after) = Number::split(rest).ok_or(UnitError::NotADuration)?;
        let after = after.trim_start();
        let end = after.find(|sign: char| !sign.is_alphabetic()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        // One letter is case-sensitive: `M` is a month elsewhere.
        let name = if name.len() > 1 { name.to_lowercase() } else { name.to_owned() };
        let unit = TIMES.iter().find(|(names, _)| names.contains(&name.as_str()));
        let nanos = unit.ok_or(UnitError::NotADuration)?.1;
        sum = sum.checked_add(number.times(nanos)?).ok_or(UnitError::TooLarge)?;
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(sum);
        }
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
}

/// What follows the `P` of ISO 8601: units in their order, each once.
fn iso_nanos(text: &str) -> Result<u128, UnitError> {
    let lower = text.to_ascii_lowercase();
    let (dates, times) = match lower.split_once('t') {
        Some((_, "")) => return Err(UnitError::NotADuration),
        Some((dates, times)) => (dates, times),
        None if lower.is_empty() => return Err(UnitError::NotADuration),
        None => (lower.as_str(), ""),
    };
    if dates.contains(['y', 'm']) {
        return Err(UnitError::VariableLength);
    }
    let mut sum = 0_u128;
    for (mut rest, mut units) in [(dates, &ISO_DATES[..]), (times, &ISO_TIMES[..])] {
        while !rest.is_empty() {
            let (number, after) = Number::split(rest).ok_or(UnitError::NotADuration)?;
            let sign = after.chars().next().ok_or(UnitError::NotADuration)?;
            let at = units.iter().position(|(unit, _)| *unit == sign);
            let at = at.ok_or(UnitError::NotADuration)?;
            sum = sum.checked_add(number.times(units[at].1)?).ok_or(UnitError::TooLarge)?;
            units = &units[at + 1..];
            rest = &after[1..];
        }
    }
    Ok(sum)
}

/// The size in bytes that `text` says: a whole number of bytes, or a number with a unit. Units with an `i` are powers
/// of 1,024, those without are powers of 1,000; upper and lower case are the same.
///
/// ```
/// use tierce_engine::units::parse_bytes;
/// assert_eq!(parse_bytes("524288000"), Ok(524_288_000));
/// assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
/// assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
/// assert!(parse_bytes("17179869184GiB").is_err());
/// ```
///
/// # Errors
/// [`UnitError`] says what is wrong; it does not repeat the text.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = Number::split(text.trim()).ok_or(UnitError::NotASize)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    if unit.is_empty() && number.fraction.is_some() {
        return Err(UnitError::NotASize);
    }
    let base = if unit.contains('i') { 1_024_u128 } else { 1_000 };
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 1,
        "m" | "mb" | "mi" | "mib" => 2,
        "g" | "gb" | "gi" | "gib" => 3,
        "t" | "tb" | "ti" | "tib" => 4,
        "p" | "pb" | "pi" | "pib" => 5,
        "e" | "eb" | "ei" | "eib" => 6,
        _ => return Err(UnitError::NotASize),
    };
    u64::try_from(number.times(base.pow(power))?).map_err(|_| UnitError::TooLarge)
}

/// A decimal number: ASCII digits, perhaps a point and more of them. It has no sign and no exponent.
struct Number<'a> {
    whole: &'a str,
    fraction: Option<&'a str>,
}

impl<'a> Number<'a> {
    /// The number that `text` begins with, and the rest; `None` if it begins with none.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let (whole, rest) = digits(text);
        if whole.is_empty() {
            return None;
        }
        let Some(after) = rest.strip_prefix('.') else {
            return Some((Self { whole, fraction: None }, rest));
        };
        let (fraction, rest) = digits(after);
        (!fraction.is_empty()).then_some((Self { whole, fraction: Some(fraction) }, rest))
    }

    /// This many times `unit`, rounded down.
    fn times(&self, unit: u128) -> Result<u128, UnitError> {
        let whole: u64 = self.whole.parse().map_err(|_| UnitError::TooLarge)?;
        let mut product = u128::from(whole) * unit;
        // Digits beyond these are worth less than a nanosecond of a week and a byte of an exbibyte.
        let fraction = self.fraction.unwrap_or_default();
        let kept = fraction.get(..18).unwrap_or(fraction);
        if let Ok(number) = kept.parse::<u64>() {
            product +=
                u128::from(number) * unit / 10_u128.pow(u32::try_from(kept.len()).unwrap_or(18));
        }
        Ok(product)
    }
}

/// The ASCII digits that `text` begins with, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every notation means what it says, to the nanosecond.
    #[test]
    fn durations() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("300", 300_000),
            (" 250ms ", 250),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("5 MINUTES", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1 hour, 30 minutes", 5_400_000),
            ("2 hours", 7_200_000),
            ("1d", 86_400_000),
            ("7 days", 604_800_000),
            ("1w", 604_800_000),
            ("1w2d", 777_600_000),
            ("P1D", 86_400_000),
            ("p2w", 1_209_600_000),
            ("PT1H30M", 5_400_000),
            ("P1DT0.5S", 86_400_500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("1ns"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_duration("2\u{b5}s"), Ok(Duration::from_micros(2)));
        assert_eq!(parse_duration("18446744073709551615"), Ok(Duration::from_secs(u64::MAX)));
    }

    /// Goal: what is not clearly a duration is refused, without a panic or a wrapped number.
    #[test]
    fn no_durations() {
        for text in [
            "",
            " ",
            "s",
            "-1",
            "-5m",
            "+1s",
            "1.5",
            ".5s",
            "1.s",
            "soon",
            "1M",
            "1D",
            "30ss",
            "1 2",
            "1,",
            "1h,",
            "\u{663}s",
            "1e3s",
            "0x10",
            "5 parsecs",
            "P",
            "PT",
            "P1",
            "P1H",
            "PT1D",
            "P1DT",
            "P1D1W",
            "P-1D",
            "1hP1D",
            "P1\u{e9}",
        ] {
            assert_eq!(parse_duration(text), Err(UnitError::NotADuration), "{text}");
        }
        for text in ["P1M", "P1Y", "P1Y2DT1H"] {
            assert_eq!(parse_duration(text), Err(UnitError::VariableLength), "{text}");
        }
        for text in [
            "18446744073709551616",
            "18446744073709551615m",
            "30500568904944w",
            "18446744073709551615s1s",
        ] {
            assert_eq!(parse_duration(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    /// Goal: every unit of size means what it says; what does not fit is refused, never the largest size instead.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("524288000", 524_288_000),
            ("512B", 512),
            ("500 MiB", 500 << 20),
            ("64mib", 64 << 20),
            ("10Ki", 10 << 10),
            ("7kB", 7_000),
            ("500MB", 500_000_000),
            (" 1.5 GiB ", 3 << 29),
            ("0.1kB", 100),
            ("16777215TiB", 16_777_215 << 40),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "B",
            "MiB",
            "-1",
            "+1",
            "1.5",
            "1.MiB",
            "lots",
            "5 parsecs",
            "1BB",
            "0x10",
            "10%",
            "\u{663}MiB",
        ] {
            assert_eq!(parse_bytes(text), Err(UnitError::NotASize), "{text}");
        }
        for text in [
            "18446744073709551616",
            "18014398509481985KiB",
            "17179869184GiB",
            "16777216TiB",
            "16EiB",
        ] {
            assert_eq!(parse_bytes(text), Err(UnitError::TooLarge), "{text}");
        }
    }
}
