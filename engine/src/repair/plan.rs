//! What to do about what was found: facts in, steps out. Pure.
//!
//! | found | step | what becomes of the file |
//! |-------|------|--------------------------|
//! | the manifest is damaged, missing, or lacks edits | written anew from what is there | undo copy |
//! | a segment's header, length, records or footer is wrong; it stands under a wrong name | its sound records go into a new segment | set aside if anything of it was lost, else removed |
//! | a segment is not sealed, ends in an unfinished write, or was taken in without a footer | the same | the same |
//! | a segment is missing | it leaves the manifest | |
//! | something older would show | deletes, scope cuts and touches are written | |
//! | a segment's file that the manifest does not name | removed if provably needless, else set aside | |
//! | unfinished files, old checkpoints | removed | undo copy |
//! | the checkpoint is missing, damaged or wrong, or anything else is done | written anew | undo copy |

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{examine::Reason, survey::SegmentFacts};
use crate::{
    check::{Code, Finding, Severity},
    format::file_name::FileName,
    types::SegmentId,
};

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The file it is about.
    pub file: PathBuf,
    /// Codes of the findings it answers; empty for what only follows from other steps.
    pub codes: Vec<Code>,
    /// Why, as a sentence.
    pub reason: String,
    /// Whether it answers a problem. The others answer notes, which a healthy store may show, or follow from others.
    pub is_needed: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Writes the manifest anew: it names what is there.
    WriteManifest,
    /// Copies the sound records of a segment into a new one with a footer.
    Rewrite {
        /// The segment.
        segment: SegmentId,
        /// Records that are kept.
        kept: u64,
        /// Records that are known to be lost.
        lost: u64,
        /// Whether the old file gets its quarantine name. If not, nothing in it is lost, and it goes.
        sets_aside: bool,
    },
    /// Takes a segment whose file is missing out of the manifest.
    Retire {
        /// The segment.
        segment: SegmentId,
    },
    /// Writes deletes, scope cuts and touches in the place of lost records, so that nothing older shows.
    WriteEndings {
        /// Deletes.
        deletes: u64,
        /// Scope cuts.
        cuts: u64,
        /// Touches.
        touches: u64,
    },
    /// Gives a file its quarantine name.
    SetAside,
    /// Removes a file that is provably needless.
    Remove,
    /// Writes the checkpoint anew.
    WriteCheckpoint,
}

impl Action {
    /// A short, stable word for it.
    ///
    /// ```
    /// assert_eq!(tierce_engine::repair::Action::SetAside.name(), "set-aside");
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WriteManifest => "write-manifest",
            Self::Rewrite { .. } => "rewrite",
            Self::Retire { .. } => "retire",
            Self::WriteEndings { .. } => "write-endings",
            Self::SetAside => "set-aside",
            Self::Remove => "remove",
            Self::WriteCheckpoint => "write-checkpoint",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.action.name(), self.file.display(), self.reason)?;
        match &self.action {
            Action::Rewrite { kept, lost, sets_aside, .. } => {
                let then =
                    if *sets_aside { "the old file is set aside" } else { "the old file goes" };
                write!(f, "; {kept} records kept, {lost} known to be lost; {then}")?;
            }
            Action::WriteEndings { deletes, cuts, touches } => {
                write!(f, "; {deletes} deletes, {cuts} scope cuts, {touches} touches")?;
            }
            _ => {}
        }
        if self.codes.is_empty() {
            return Ok(());
        }
        let codes: Vec<_> = self.codes.iter().map(|code| code.as_str()).collect();
        write!(f, " [{}]", codes.join(" "))
    }
}

/// What a plan follows from.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    /// What a check found.
    pub(super) findings: &'a [Finding],
    pub(super) manifest: PathBuf,
    /// Why the manifest cannot be relied on: the finding's code, and a sentence.
    pub(super) manifest_fault: Option<(Code, String)>,
    pub(super) manifest_is_torn: bool,
    /// Every segment of the store, with the path it should have.
    pub(super) segments: Vec<(SegmentId, PathBuf, SegmentFacts)>,
    /// Files of segments that belong to none, and whether they are provably needless.
    pub(super) strays: Vec<(PathBuf, bool)>,
    /// Unfinished files.
    pub(super) temporaries: Vec<PathBuf>,
    /// Checkpoints that the manifest does not name.
    pub(super) old_checkpoints: Vec<PathBuf>,
    /// The one it names, or the directory if it names none.
    pub(super) checkpoint: PathBuf,
    /// Deletes, scope cuts and touches to write.
    pub(super) endings: [u64; 3],
    /// Whether anything is lost.
    pub(super) has_loss: bool,
}

fn step(action: Action, file: &Path, code: Option<Code>, reason: &str) -> Step {
    let codes = code.into_iter().collect();
    Step { action, file: file.to_owned(), codes, reason: reason.to_owned(), is_needed: false }
}

fn needed(step: Step) -> Step {
    Step { is_needed: true, ..step }
}

/// The steps of a repair, in the order in which they are carried out. None if there is nothing to do.
pub(super) fn decide(facts: &Facts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some((code, fault)) = &facts.manifest_fault {
        let write = step(Action::WriteManifest, &facts.manifest, Some(*code), fault);
        steps.push(needed(write));
    } else if facts.manifest_is_torn {
        let reason = "it ends in an unfinished edit";
        steps.push(step(
            Action::WriteManifest,
            &facts.manifest,
            Some(Code::ManifestUnfinished),
            reason,
        ));
    }
    for (id, path, found) in &facts.segments {
        steps.extend(of_segment(facts, *id, path, found));
    }
    let [deletes, cuts, touches] = facts.endings;
    if deletes + cuts + touches > 0 {
        let action = Action::WriteEndings { deletes, cuts, touches };
        let reason = "older records would show in the place of lost ones";
        steps.push(needed(step(action, &facts.manifest, None, reason)));
    }
    for (path, is_needless) in &facts.strays {
        let (action, reason) = match *is_needless && !facts.has_loss {
            true => (Action::Remove, "the manifest does not name it, and never needs it again"),
            false => (Action::SetAside, "the manifest does not name it, and it may hold something"),
        };
        steps.push(step(action, path, Some(Code::SegmentUnnamed), reason));
    }
    for path in &facts.temporaries {
        steps.push(step(Action::Remove, path, Some(Code::FileUnfinished), "it was never finished"));
    }
    for path in &facts.old_checkpoints {
        steps.push(step(
            Action::Remove,
            path,
            Some(Code::FileUnfinished),
            "the manifest does not name it",
        ));
    }
    steps.extend(of_checkpoint(facts, &steps));
    steps
}

fn of_segment(
    facts: &Facts<'_>,
    segment: SegmentId,
    path: &Path,
    found: &SegmentFacts,
) -> Option<Step> {
    if found.is_missing {
        let retire = step(
            Action::Retire { segment },
            path,
            Some(Code::SegmentMissing),
            "its file is missing",
        );
        return Some(needed(retire));
    }
    let is_here = |finding: &&Finding| {
        finding.severity == Severity::Problem && finding.file.file_name() == path.file_name()
    };
    // What a check has found and the scan has not is a reason all the same.
    let told: Vec<&Finding> = facts.findings.iter().filter(is_here).collect();
    if found.reasons.is_empty() && told.is_empty() {
        return None;
    }
    let mut codes: Vec<_> = found.reasons.iter().filter_map(Reason::code).collect();
    codes.extend(told.iter().map(|finding| finding.code));
    codes.sort_unstable();
    codes.dedup();
    let mut reasons: Vec<_> = found.reasons.iter().map(ToString::to_string).collect();
    reasons.dedup();
    if reasons.is_empty() {
        reasons.extend(told.iter().map(|finding| finding.message.clone()));
    }
    let action = Action::Rewrite {
        segment,
        kept: found.kept,
        lost: found.lost,
        sets_aside: !found.is_whole,
    };
    Some(Step {
        action,
        file: path.to_owned(),
        codes,
        reason: reasons.join(", "),
        is_needed: !told.is_empty() || found.reasons.iter().any(Reason::is_damage),
    })
}

fn of_checkpoint(facts: &Facts<'_>, steps: &[Step]) -> Option<Step> {
    let is_its = |finding: &&Finding| {
        let name = finding.file.file_name().and_then(|name| name.to_str());
        let is_checkpoint = matches!(name.and_then(FileName::parse), Some(FileName::Checkpoint(_)));
        finding.severity == Severity::Problem && is_checkpoint
    };
    let told: Vec<&Finding> = facts.findings.iter().filter(is_its).collect();
    let Some(first) = told.first() else {
        let is_due = steps.iter().any(|step| !matches!(step.action, Action::Remove));
        let reason = "what it says is about to change";
        return is_due.then(|| step(Action::WriteCheckpoint, &facts.checkpoint, None, reason));
    };
    let write = step(Action::WriteCheckpoint, &facts.checkpoint, Some(first.code), &first.message);
    Some(needed(write))
}
