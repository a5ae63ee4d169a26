//! Entry points for fuzz targets: text that other programs wrote. Each panics if a promise does not hold.

use crate::{escape, glob::Glob, lifetime, moving, shell, size};

/// Runs a script of the shell against a store in memory. Every line has its answers, and nothing in them that breaks a
/// line or that a terminal acts upon.
///
/// # Panics
/// If that does not hold.
pub fn shell_script(script: &[u8]) {
    let Ok(answers) = shell::run_in_memory(script) else { return };
    let text = String::from_utf8(answers).expect("answers are UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "an answer without its end: {text:?}");
    assert!(text.chars().all(|char| char == '\n' || escape::is_shown(char)), "{text:?}");
    let words = script.split(u8::is_ascii_whitespace);
    for word in words {
        arguments(word);
    }
}

/// Words of the command line: what is printed for bytes is read as the same bytes.
fn arguments(word: &[u8]) {
    let printed = escape::escape(word);
    assert_eq!(escape::unescape(printed.as_bytes()).as_deref(), Ok(word), "{printed}");
    let lossy = String::from_utf8_lossy(word);
    let line = escape::one_line(&lossy);
    assert!(line.chars().all(escape::is_shown), "{line:?}");
    let document = serde_json::Value::from(lossy.clone().into_owned());
    let json = escape::json_text(&document);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).ok(), Some(document), "{json}");
    if let Ok(glob) = Glob::parse(word) {
        let _ = glob.matches(word);
    }
    // A limit is a size that is not zero.
    let (bytes, limit) = (size::parse_size(&lossy), size::parse_limit(&lossy));
    assert_eq!(bytes.is_ok_and(|bytes| bytes > 0), limit.is_ok(), "{lossy}");
    assert!(!lifetime::parse_lifetime_ms(&lossy).is_ok_and(|ms| ms == 0), "{lossy}");
}

/// Reads a dump of the format that the first byte chooses, and a JSON document to import. What is read is written again
/// and read as the same.
///
/// # Panics
/// If that does not hold.
pub fn dump_or_import(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    moving::check_text(*choice, text);
}
