//! Bytes as words and back. One spelling for keys and values, on the command line, in the shell and in listings.
//!
//! Printable text stands for itself. A space, a backslash and every byte that would not show are written `\xNN`;
//! nothing at all is written `""`. What is printed here can be given back and means the same bytes.

use std::fmt::Write as _;

use serde_json::Value;

/// How the shell answers when a key is absent.
pub(crate) const NIL: &str = "(nil)";

/// The word for no bytes.
const EMPTY: &str = "\"\"";

/// The word for `bytes`: no white space, nothing that a terminal acts upon.
pub(crate) fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return EMPTY.to_owned();
    }
    if bytes == EMPTY.as_bytes() {
        return escape_every_byte(bytes);
    }
    let mut word = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if is_plain(char) {
                word.push(char);
            } else {
                let mut buffer = [0; 4];
                word.push_str(&escape_every_byte(char.encode_utf8(&mut buffer).as_bytes()));
            }
        }
        word.push_str(&escape_every_byte(chunk.invalid()));
    }
    word
}

/// The word for a value in an answer that may also be [`NIL`]: a value of those very bytes looks different.
pub(crate) fn escape_value(bytes: &[u8]) -> String {
    if bytes == NIL.as_bytes() { escape_every_byte(bytes) } else { escape(bytes) }
}

/// The bytes that `word` stands for.
///
/// # Errors
/// A sentence, if a backslash does not begin `\xNN` or `\\`.
pub(crate) fn unescape(word: &[u8]) -> Result<Vec<u8>, String> {
    if word == EMPTY.as_bytes() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => (hex_byte(*high, *low)?, after),
            (b'\\', _) => {
                return Err(r"a backslash begins \xNN (two hexadecimal digits) or \\".to_owned());
            }
            (plain, after) => (plain, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes)
}

/// Formats a message as one line: what would break the line or what a terminal would act upon is written as `\xNN`.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char == ' ' || char == '\\' || is_plain(char) {
            line.push(char);
        } else {
            let mut buffer = [0; 4];
            line.push_str(&escape_every_byte(char.encode_utf8(&mut buffer).as_bytes()));
        }
    }
    line
}

/// Whether a terminal shows `char` and does nothing else because of it. Control characters, format characters (those
/// that change the direction of text and invisible tags among them), white space other than a blank, and unassigned
/// characters are not shown; marks that combine with the character before them are.
pub(crate) fn is_shown(char: char) -> bool {
    if char.is_ascii() {
        return (' '..='~').contains(&char);
    }
    if char.is_whitespace() {
        return false;
    }
    // On its own, a combining mark is escaped; after another character, it is not.
    char.escape_debug().count() == 1
        || ['a', char].iter().collect::<String>().escape_debug().count() == 2
}

/// JSON text on one line. Characters that are not shown are written as `\uNNNN`, which means the same.
pub(crate) fn json_text(document: &Value) -> String {
    let text = document.to_string();
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_shown(char) {
            out.push(char);
            continue;
        }
        // Outside of strings JSON text of ours is ASCII, so this is inside of one.
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

fn is_plain(char: char) -> bool {
    let quote = matches!(char, '"' | '\'');
    quote || (char != '\\' && !char.is_whitespace() && char.escape_debug().count() == 1)
}

fn escape_every_byte(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut word, byte| {
        // Writing to a String cannot fail.
        let _ = write!(word, "\\x{byte:02x}");
        word
    })
}

fn hex_byte(high: u8, low: u8) -> Result<u8, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err(r"\x wants two hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bytes: &[u8]) -> String {
        let word = escape(bytes);
        assert_eq!(unescape(word.as_bytes()).as_deref(), Ok(bytes), "{word}");
        assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
        word
    }

    /// Goal: printable text stays readable, and what would break a line or hide does not get out.
    #[test]
    fn spellings() {
        for (bytes, word) in [
            (&b"light.kitchen"[..], "light.kitchen"),
            (b"two words", r"two\x20words"),
            (b"a\tb\r\nc\0", r"a\x09b\x0d\x0ac\x00"),
            (b"back\\slash", r"back\x5cslash"),
            (b"it's \"so\"", "it's\\x20\"so\""),
            ("21 °C".as_bytes(), r"21\x20°C"),
            (b"\xff\xfe", r"\xff\xfe"),
            ("a\u{202e}b\u{a0}c".as_bytes(), r"a\xe2\x80\xaeb\xc2\xa0c"),
            (b"", "\"\""),
            (b"\"\"", r"\x22\x22"),
            (b"(nil)", "(nil)"),
        ] {
            assert_eq!(round_trip(bytes), word);
        }
        assert_eq!(escape_value(b"(nil)"), r"\x28\x6e\x69\x6c\x29");
        assert_eq!(unescape(escape_value(b"(nil)").as_bytes()).as_deref(), Ok(&b"(nil)"[..]));
        assert_eq!(escape_value(b"on"), "on");
    }

    /// Goal: every byte and every pair of bytes survives both directions.
    #[test]
    fn every_pair_round_trips() {
        for first in 0..=255 {
            round_trip(&[first]);
            for second in 0..=255 {
                round_trip(&[first, second]);
            }
        }
    }

    /// Goal: both spellings of a backslash, both cases of digits and raw bytes are understood.
    #[test]
    fn unescape_is_generous_but_not_guessing() {
        assert_eq!(unescape(br"a\\b").as_deref(), Ok(&b"a\\b"[..]));
        assert_eq!(unescape(br"\xAf\xaF").as_deref(), Ok(&b"\xaf\xaf"[..]));
        assert_eq!(unescape(b"\xff raw").as_deref(), Ok(&b"\xff raw"[..]));
        assert_eq!(unescape(b"").as_deref(), Ok(&b""[..]));
        for wrong in
            [&br"\"[..], br"\n", br"\x", br"\x1", br"\xg0", br"\x0g", br"a\", br"\X41", b"\\x\xff0"]
        {
            assert!(unescape(wrong).is_err(), "{:?}", String::from_utf8_lossy(wrong));
        }
    }

    /// Goal: JSON text means the same document, and holds nothing that a terminal acts upon: controls of both ranges,
    /// changes of direction, invisible tags. Text of other scripts stays readable.
    #[test]
    fn json_documents() {
        let hostile = "\u{9b}31m \u{7f}\u{202e}\u{61c}\u{e0041}\u{200d}\u{2028}\0\n";
        let document = serde_json::json!({ hostile: [hostile, "21 \u{b0}C, e\u{301}, \u{1f600}"] });
        let text = json_text(&document);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
        assert!(text.chars().all(is_shown), "{text:?}");
        assert!(text.contains(r"\u009b31m \u007f\u202e\u061c\udb40\udc41"), "{text}");
        assert!(text.contains("21 \u{b0}C, e\u{301}, \u{1f600}"), "{text}");
    }

    /// Goal: a message never spans two lines, and stays readable otherwise.
    #[test]
    fn messages_on_one_line() {
        assert_eq!(one_line("no such file: a b\nOK\r"), r"no such file: a b\x0aOK\x0d");
        assert_eq!(one_line(r"C:\dir °"), r"C:\dir °");
    }
}
