//! Moments as text and back.

use tierce_engine::{
    Timestamp,
    io::{Clock as _, OsClock},
};

/// The moment as RFC 3339 in UTC, with as many digits of a second as it has.
pub(super) fn rfc3339(at: Timestamp) -> String {
    moment(at).to_string()
}

/// The moment with always three digits of a second: lines of a log stay in columns.
pub(super) fn rfc3339_ms(at: Timestamp) -> String {
    format!("{:.3}", moment(at))
}

/// The moment as part of a file name: always as many digits, so that names sort by time.
pub(crate) fn for_file_name(at: Timestamp) -> String {
    rfc3339_ms(at).chars().filter(|sign| !matches!(sign, '-' | ':' | '.')).collect()
}

/// A name that is taken already, with a number that sorts behind it and behind smaller numbers.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    format!("{name}-{number:04}")
}

/// The moment that a text of this module, or any other of RFC 3339, says; 1970 if it was before.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(u64::try_from(moment.as_millisecond()).unwrap_or_default()))
}

/// The machine's time, for who brings none.
pub(super) fn now() -> Timestamp {
    Timestamp(OsClock.wall_ms())
}

/// What is beyond the calendar ends at its end.
fn moment(at: Timestamp) -> jiff::Timestamp {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let at = Timestamp(1_700_000_000_123);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse(&rfc3339(at)), Some(at));
        assert_eq!(rfc3339_ms(Timestamp(1_700_000_000_000)), "2023-11-14T22:13:20.000Z");
        assert_eq!(for_file_name(at), "20231114T221320123Z");
        let names = [0, 390, 395, 1_000].map(|ms| for_file_name(Timestamp(1_700_000_000_000 + ms)));
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
        assert!(numbered("a", 2) < numbered("a", 10) && *"a" < *numbered("a", 2));
        assert_eq!(parse("2023-11-14T23:13:20+01:00"), Some(Timestamp(1_700_000_000_000)));
        assert_eq!(parse("1960-01-01T00:00:00Z"), Some(Timestamp(0)));
        assert_eq!(parse("yesterday"), None);
        assert!(rfc3339(Timestamp(u64::MAX)).starts_with("9999-12-30"));
    }
}
