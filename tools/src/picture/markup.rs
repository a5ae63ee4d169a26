//! Text in XML, HTML and in a script element. Whatever a key or a path holds, it stays text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::escape::{is_shown, json_text};

/// `text` for element content and for attributes in double quotes, in XML as in HTML. Characters that neither may
/// hold become the replacement character.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            char if is_text(char) => out.push(char),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

/// Whether `char` is part of a text and does nothing to the text around it. The joiners belong to letters and emoji.
fn is_text(char: char) -> bool {
    let is_space = char.is_whitespace() && !char.is_control();
    is_shown(char) || is_space || matches!(char, '\u{200c}' | '\u{200d}')
}

/// A document for a script element: nothing in it ends that element, begins a comment, or turns the text around it.
pub(super) fn script(document: &Value) -> String {
    let json = json_text(document);
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            // In JSON these occur in strings only, where they may be written so.
            '<' | '>' | '&' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count in little room: `1.2k`. Rounded down.
pub(super) fn short(number: u64) -> String {
    const NAMES: [(u64, &str); 6] = [
        (1_000_000_000_000_000_000, "E"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let Some((unit, name)) = NAMES.iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    let tenths = u128::from(number) * 10 / u128::from(*unit);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{name}"),
        (whole, _) if whole >= 100 => format!("{whole}{name}"),
        (whole, tenth) => format!("{whole}.{tenth}{name}"),
    }
}

/// A share in percent, of nothing 0.
pub(super) fn percent(part: u64, of: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(of.max(1));
    match (tenths, part) {
        (0, 0) => "0 %".to_owned(),
        (0, _) => "< 0.1 %".to_owned(),
        (1_000.., _) => format!("{} %", tenths / 10),
        _ => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// Seconds as people say them.
pub(super) fn lifetime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400..63_072_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} y", short(seconds / 31_536_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that is text can end an element, an attribute or the script.
    #[test]
    fn escapes() {
        let hostile =
            "</script><img onerror=\"alert('x')\">&amp;\u{0}\u{9b}\u{61c}\u{202e}\u{e0041}<!--";
        let safe = text(hostile);
        let acting = ['\u{0}', '\u{9b}', '\u{61c}', '\u{202e}', '\u{e0041}'];
        assert!(!safe.contains(['<', '>', '"', '\'']) && !safe.contains(acting), "{safe}");
        assert!(safe.starts_with("&lt;/script&gt;"), "{safe}");
        let embedded = script(&serde_json::json!({ "key": hostile }));
        assert!(!embedded.contains(['<', '>', '&']) && !embedded.contains(acting), "{embedded}");
        let back: Value = serde_json::from_str(&embedded).unwrap();
        assert_eq!(back["key"], hostile);
    }

    /// Goal: numbers read as what they are, and never as more.
    #[test]
    fn numbers() {
        for (number, long, brief) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1,000", "1k"),
            (12_345, "12,345", "12.3k"),
            (999_999, "999,999", "999k"),
            (u64::MAX, "18,446,744,073,709,551,615", "18.4E"),
        ] {
            assert_eq!((count(number).as_str(), short(number).as_str()), (long, brief));
        }
        for (part, of, told) in [
            (0, 0, "0 %"),
            (1, 3, "33.3 %"),
            (1, 10_000, "< 0.1 %"),
            (5, 5, "100 %"),
            (u64::MAX, 1, "1844674407370955161500 %"),
        ] {
            assert_eq!(percent(part, of), told);
        }
        let told = [59, 60, 7_200, 90_000, 63_072_000].map(lifetime);
        assert_eq!(told, ["59 s", "1 min", "2 h", "1 d", "2 y"]);
    }
}
