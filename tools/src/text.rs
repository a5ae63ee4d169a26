//! Values as text and JSON: moments, identifiers, bytes that may be no text.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tierce_engine::Timestamp;

/// A moment as `2026-05-03T09:21:51.000Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    let (days, ms) = (at.0 / 86_400_000, at.0 % 86_400_000);
    // Days since 0000-03-01 in eras of 400 years, so that the leap day ends a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Adds `bytes` as `name`. Bytes that are no text come as their closest text, and exactly as `name_b64`.
pub(crate) fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.as_bytes() != bytes {
        object.insert(format!("{name}_b64"), base64(bytes).into());
    }
    object.insert(name.to_owned(), text.into_owned().into());
}

/// An object that holds just `bytes` as `name`.
pub(crate) fn bytes_object(name: &str, bytes: &[u8]) -> Map<String, Value> {
    let mut object = Map::new();
    insert_bytes(&mut object, name, bytes);
    object
}

/// The digits of base64, as RFC 4648 has them.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of hexadecimal digits; `None` if they are none.
pub(crate) fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// The bytes of base64 with its padding; `None` if it is none, or spelled in another way than [`base64`] does.
pub(crate) fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| -> Option<u32> {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let digits = match text {
        [digits @ .., b'=', b'='] => digits,
        [digits @ .., b'='] => digits,
        digits => digits,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().try_fold(0, |bits, byte| Some(bits << 6 | digit(*byte)?))?;
        let bits = bits << (6 * (4 - chunk.len()));
        let whole = [16, 8, 0].map(|shift| (bits >> shift & 0xff) as u8);
        let (kept, cut) = whole.split_at(chunk.len().checked_sub(1)?);
        if cut.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

/// Bytes in base64, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the calendar is right at its corners. The moments are from another program (`date -u`).
    #[test]
    fn moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_777_782_089_889, "2026-05-03T04:21:29.889Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(moment(Timestamp(ms)), text);
        }
        assert!(moment(Timestamp(u64::MAX)).ends_with('Z'), "the far future has a name too");
    }

    /// Goal: the test vectors of RFC 4648.
    #[test]
    fn base64_vectors() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(parse_base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(base64(b"\xff\xfe\xfd"), "//79");
        for wrong in
            ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "====", "=", "Z===", "Zm 9", "Zm9v\n"]
        {
            assert_eq!(parse_base64(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse_hex(b"00aBff").as_deref(), Some(&[0, 0xab, 0xff][..]));
        for wrong in ["0", "0g", "000", "+1", "0x"] {
            assert_eq!(parse_hex(wrong.as_bytes()), None, "{wrong}");
        }
    }

    /// Goal: text needs one field, other bytes get the exact second one.
    #[test]
    fn exact_bytes() {
        assert_eq!(Value::from(bytes_object("key", b"a b")).to_string(), r#"{"key":"a b"}"#);
        let object = Value::from(bytes_object("key", b"a\xff"));
        assert_eq!(object.to_string(), "{\"key\":\"a\u{fffd}\",\"key_b64\":\"Yf8=\"}");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
