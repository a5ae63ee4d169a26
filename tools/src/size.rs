//! Sizes as people write them: `64MiB`, `500MB`, `512B`, or a plain number of bytes.

/// The units, in bytes. A unit that ends like another one stands before it.
const UNITS: [(&str, u64); 11] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// The size in bytes.
///
/// # Errors
/// A sentence, if it is no size.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no size; write 64MiB, 500MB, 10KiB, 512B or a number of bytes");
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let bytes = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    bytes.ok_or_else(|| format!("{text:?} is more than this tool can count"))
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

    /// Goal: every unit means what it says.
    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512B", 512),
            ("10KiB", 10 << 10),
            ("64MiB", 64 << 20),
            ("3GiB", 3 << 30),
            ("2TiB", 2 << 40),
            ("7kB", 7_000),
            ("7KB", 7_000),
            ("500MB", 500_000_000),
            ("4GB", 4_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

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

    /// Goal: what is not clearly a size is refused, without a panic or a wrapped number.
    #[test]
    fn refusals() {
        for text in [
            "",
            "B",
            "MiB",
            "-1",
            "+1",
            "-5MiB",
            "1.5MiB",
            "1 MiB",
            "64mib",
            "64M",
            "64Mib",
            "1BB",
            "0x10",
            "٣MiB",
            "10%",
            "18446744073709551616",
            "16777216TiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_limit("1"), Ok(1));
        for zero in ["0", "0MiB", "000B"] {
            assert!(parse_limit(zero).is_err(), "{zero}");
        }
    }
}
