//! What a check found: findings, counts, one verdict.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    codes::{Code, Severity},
    options::CheckLevel,
};

/// One thing that a check noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Kind of the finding.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The file it is about.
    pub file: PathBuf,
    /// Where in the file, in bytes from its start: the start of the damaged record, frame or field.
    pub offset: Option<u64>,
    /// A sentence for people.
    pub message: String,
}

impl Finding {
    pub(super) fn new(
        code: Code,
        file: &Path,
        offset: Option<u64>,
        message: impl fmt::Display,
    ) -> Self {
        let severity = code.severity();
        Self { code, severity, file: file.to_owned(), offset, message: message.to_string() }
    }

    pub(super) fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing that was looked at is damaged or gone.
    Healthy,
    /// Something is.
    Problems,
    /// It was broken off before it found anything.
    Unfinished,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Everything noticed, at most [`Self::FINDINGS_MAX`] of each code.
    pub findings: Vec<Finding>,
    /// How thoroughly it looked.
    pub level: CheckLevel,
    /// Segments looked at.
    pub segments: u64,
    /// Records with a key that were read and are sound.
    pub records: u64,
    /// Bytes read, each counted once.
    pub bytes: u64,
    /// Keys whose newest record is a put. Counted by a full check only, otherwise 0.
    pub entries: u64,
    /// Findings that were left out because there were too many of their code.
    pub omitted: u64,
    /// Whether it was broken off by who watched its progress: what it did not come to is not judged.
    pub cancelled: bool,
}

impl CheckReport {
    /// Most findings of one code that a report holds; the others are only counted.
    pub const FINDINGS_MAX: usize = 10_000;

    /// Whether the check came to its end and nothing that it looked at is damaged or gone.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.verdict() == Verdict::Healthy
    }

    /// The sum of it. Problems are problems in a check that was broken off, too.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.findings.iter().any(Finding::is_problem) {
            Verdict::Problems
        } else if self.cancelled {
            Verdict::Unfinished
        } else {
            Verdict::Healthy
        }
    }

    /// Leaves of each code as many as a report may hold.
    pub(super) fn limit(&mut self) {
        let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
        let before = self.findings.len();
        self.findings.retain(|finding| {
            let count = counts.entry(finding.code).or_default();
            *count += 1;
            *count <= Self::FINDINGS_MAX
        });
        self.omitted += (before - self.findings.len()) as u64;
    }
}
