//! Codes of findings: how bad each is, what it means, and what to do about it.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A healthy store may show it, after a crash for instance.
    Note,
    /// Something that had been stored is damaged or gone.
    Problem,
}

/// Row of the table of codes.
struct Row {
    text: &'static str,
    severity: Severity,
    meaning: &'static str,
    advice: &'static str,
}

const REPAIR: &str =
    "restore a backup, or repair: what can still be read is kept, the rest is set aside";
const REPLACE: &str = "put the right file back in its place, or repair";
const NOTHING: &str =
    "nothing: it is removed or made good when the store is next opened for writing";

/// Declares the codes and their table from one list, in the order of their texts.
macro_rules! codes {
    ($($name:ident $text:literal $severity:ident, $meaning:literal, $advice:expr;)*) => {
        /// One kind of finding. Codes are added, never given another meaning.
        ///
        /// ```
        /// use tierce_engine::check::{Code, Severity};
        /// let torn = Code::ALL.iter().find(|code| code.as_str() == "C030").expect("a code stays");
        /// assert_eq!((*torn, torn.severity()), (Code::WriteUnfinished, Severity::Note));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!($text, ": ", $meaning, ".")] $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }

        /// By the number of the code's variant.
        const ROWS: &[Row] = &[$(Row {
            text: $text,
            severity: Severity::$severity,
            meaning: $meaning,
            advice: $advice,
        }),*];
    };
}

codes! {
    ManifestDamaged "C001" Problem, "the manifest is damaged", REPAIR;
    ManifestUnfinished "C002" Note, "the manifest ends in an unfinished frame", NOTHING;
    EditsMissing "C003" Problem, "the manifest lacks edits that had been made", REPAIR;
    SegmentMissing "C010" Problem, "a segment is missing", REPLACE;
    SegmentLength "C011" Problem, "a segment has a wrong length", REPAIR;
    HeaderDamaged "C012" Problem, "a segment's header is damaged", REPAIR;
    SegmentMisplaced "C013" Problem, "a segment belongs elsewhere", REPLACE;
    NoRegularFile "C014" Problem, "a name of the store is no regular file", "remove it, or put the file in its place";
    Unreadable "C015" Problem, "a file cannot be read", "see to the device and to permissions, then check again";
    FooterDamaged "C020" Problem, "a footer is damaged", "rebuild: a footer only says again what the records say";
    RecordDamaged "C021" Problem, "a record is damaged", REPAIR;
    FooterWrong "C022" Problem, "a footer does not say what the records say", "rebuild the footer; report it as a fault of ours";
    WriteUnfinished "C030" Note, "the log ends in an unfinished write", NOTHING;
    RecordsMissing "C031" Problem, "records that had been synced are gone", REPAIR;
    SegmentUnnamed "C040" Note, "a segment that the manifest does not name", NOTHING;
    FileUnfinished "C041" Note, "an unfinished or superseded file", NOTHING;
    FileSetAside "C042" Note, "a file that was set aside because of damage", "look into it, then delete it: it is never read";
    NameForeign "C043" Note, "a name that looks like one of ours and is not", "none of ours: move it elsewhere";
    CheckpointDamaged "C050" Problem, "the checkpoint is missing or damaged", "open and close the store: it is written again";
    CheckpointWrong "C051" Problem, "the checkpoint does not say what the records say", "rebuild the checkpoint; report it as a fault of ours";
    StoreChanging "C060" Note, "the store changed too fast to be judged in whole", "check again when less is written, or check a backup";
}

impl Code {
    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Stable text of the code, as reports and scripts carry it: `C001` and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().text
    }

    /// Severity of its findings.
    #[must_use]
    pub const fn severity(self) -> Severity {
        self.row().severity
    }

    /// Meaning, in one line.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Advice for the operator, in one line.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        self.row().advice
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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
        let severity = |code: &Code| match code.severity() {
            Severity::Note => "note",
            Severity::Problem => "problem",
        };
        let known: Vec<_> = Code::ALL
            .iter()
            .map(|code| (code.to_string(), severity(code).to_owned(), code.meaning().to_owned()))
            .collect();
        assert_eq!(told, known);
    }
}
