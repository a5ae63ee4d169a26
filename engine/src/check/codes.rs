//! What a check can say, as data: every code, how bad it is, what it means, and what to do about it.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A healthy store may show it, after a crash for instance.
    Note,
    /// Something that had been stored is damaged or gone.
    Problem,
}

/// One kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// The stable code, as findings carry it. Codes are added, never given another meaning.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// What to do about it, in one line.
    pub advice: &'static str,
}

const fn problem(code: &'static str, meaning: &'static str, advice: &'static str) -> Code {
    Code { code, severity: Severity::Problem, meaning, advice }
}

const fn note(code: &'static str, meaning: &'static str, advice: &'static str) -> Code {
    Code { code, severity: Severity::Note, meaning, advice }
}

const REPAIR: &str =
    "restore a backup, or repair: what can still be read is kept, the rest is set aside";
const REPLACE: &str = "put the right file back in its place, or repair";
const NOTHING: &str =
    "nothing: it is removed or made good when the store is next opened for writing";

/// All codes, in order.
///
/// ```
/// use tierce_engine::check::{CODES, Severity};
/// let torn = CODES.iter().find(|code| code.code == "C030").expect("a code stays");
/// assert_eq!(torn.severity, Severity::Note);
/// ```
pub const CODES: &[Code] = &[
    problem("C001", "the manifest is damaged", REPAIR),
    note("C002", "the manifest ends in an unfinished frame", NOTHING),
    problem("C003", "the manifest lacks edits that had been made", REPAIR),
    problem("C010", "a segment is missing", REPLACE),
    problem("C011", "a segment has a wrong length", REPAIR),
    problem("C012", "a segment's header is damaged", REPAIR),
    problem("C013", "a segment belongs elsewhere", REPLACE),
    problem(
        "C014",
        "a name of the store is no regular file",
        "remove it, or put the file in its place",
    ),
    problem(
        "C015",
        "a file cannot be read",
        "see to the device and to permissions, then check again",
    ),
    problem(
        "C020",
        "a footer is damaged",
        "rebuild: a footer only says again what the records say",
    ),
    problem("C021", "a record is damaged", REPAIR),
    problem(
        "C022",
        "a footer does not say what the records say",
        "rebuild the footer; report it as a fault of ours",
    ),
    note("C030", "the log ends in an unfinished write", NOTHING),
    problem("C031", "records that had been synced are gone", REPAIR),
    note("C040", "a segment that the manifest does not name", NOTHING),
    note("C041", "an unfinished or superseded file", NOTHING),
    note(
        "C042",
        "a file that was set aside because of damage",
        "look into it, then delete it: it is never read",
    ),
    note(
        "C043",
        "a name that looks like one of ours and is not",
        "none of ours: move it elsewhere",
    ),
    problem(
        "C050",
        "the checkpoint is missing or damaged",
        "open and close the store: it is written anew",
    ),
    problem(
        "C051",
        "the checkpoint does not say what the records say",
        "rebuild the checkpoint; report it as a fault of ours",
    ),
    note(
        "C060",
        "the store changed too fast to be judged in whole",
        "check again when less is written, or check a backup",
    ),
];

/// What is known of a code.
pub(super) fn of(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table in the room's documentation is this one, in the same order.
    #[test]
    fn the_documentation_has_the_same_table() {
        let row = |line: &str| {
            let cells: Vec<_> = line.strip_prefix("//! | C")?.split(" | ").map(str::trim).collect();
            let [number, severity, meaning] = cells.as_slice() else { return None };
            let meaning = meaning.trim_end_matches('|').trim();
            Some((format!("C{number}"), (*severity).to_owned(), meaning.to_owned()))
        };
        let told: Vec<_> = include_str!("mod.rs").lines().filter_map(row).collect();
        let severity = |code: &Code| match code.severity {
            Severity::Note => "note",
            Severity::Problem => "problem",
        };
        let known: Vec<_> = CODES
            .iter()
            .map(|code| (code.code.to_owned(), severity(code).to_owned(), code.meaning.to_owned()))
            .collect();
        assert_eq!(told, known);
    }
}
