//! What can be made anew from sound records: footers and checkpoint. And the version of the format.

use std::path::Path;

use super::{
    Investigated, apply,
    examine::Reason,
    investigate, lock_store,
    plan::{Action, Step},
    read_around,
};
use crate::{
    check::{Severity, check_store},
    error::{Corruption, Damage, Error, Result},
    format::{
        FORMAT_MAJOR, FORMAT_MINOR, file_name,
        segment_header::{SEGMENT_MAGIC, newer_major},
    },
    io::{Access, read_up_to_at},
    options::Options,
    segment::{Home, manifest_file::require},
};

/// What [`rebuild`] is to make anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// Footers that are damaged or missing.
    pub footers: bool,
    /// The checkpoint, whatever it is like.
    pub checkpoint: bool,
}

/// What [`rebuild`] made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuildReport {
    /// Segments that got a footer. What was not sealed is among them.
    pub footers: u64,
    /// Whether a checkpoint was written. Footers bring one with them.
    pub checkpoint: bool,
}

/// Makes footers and checkpoint of the store at `path` anew from its records, which must be sound. Nothing is lost;
/// a crash leaves the store as it was, or rebuilt. Segments that need a footer are written again, one beside the
/// other; what is not sealed is sealed on the way.
///
/// Of `options` only disk and clock count.
///
/// # Errors
/// [`Error::Corruption`] if anything else is damaged: then nothing was touched, and [`super::repair`] is the way.
/// [`Error::NotAStore`], [`Error::Locked`], [`Error::UnknownFormat`], [`Error::Io`].
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk, repair};
/// let options = Options::new().disk(MemoryDisk::new());
/// let engine = options.clone().open("store")?;
/// engine.put("key", "value")?;
/// engine.close()?;
/// let what = repair::Rebuild { footers: true, checkpoint: true };
/// assert_eq!(repair::rebuild(&options, "store".as_ref(), what)?.footers, 0);
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn rebuild(options: &Options, path: &Path, what: Rebuild) -> Result<RebuildReport> {
    let (home, disk) = read_around(options, path)?;
    let _lock = lock_store(&home)?;
    let before = check_store(&home.disk, path)?;
    let Investigated { known, survey, plan } = investigate(options, (&home, disk), before)?;
    let of_footers = |step: &Step| match step.action {
        Action::Rewrite { segment, .. } => survey.segments.get(&segment).is_some_and(|facts| {
            facts.is_whole && !facts.reasons.is_empty() && facts.reasons.iter().all(is_of_footer)
        }),
        _ => false,
    };
    let is_mendable = |step: &Step| step.action == Action::WriteCheckpoint || of_footers(step);
    let refusing = plan.steps.iter().find(|step| step.is_needed && !is_mendable(step));
    if let Some(step) = refusing.or_else(|| plan.steps.iter().find(|_| plan.loses())) {
        return Err(damage_at(&plan.before.findings, step));
    }
    let rewrites: Vec<Step> = plan.steps.iter().filter(|step| of_footers(step)).cloned().collect();
    let is_due = what.checkpoint || (what.footers && !rewrites.is_empty());
    if !is_due {
        return Ok(RebuildReport::default());
    }
    // A checkpoint alone needs what is not sealed to be sealed.
    let is_unsealed = |step: &Step| match step.action {
        Action::Rewrite { segment, .. } => {
            known.state.segments.get(&segment).is_some_and(|state| state.seal.is_none())
        }
        _ => false,
    };
    let steps: Vec<_> =
        rewrites.into_iter().filter(|step| what.footers || is_unsealed(step)).collect();
    apply::carry_out(options, &known, &survey, &steps)?;
    Ok(RebuildReport { footers: steps.len() as u64, checkpoint: true })
}

const fn is_of_footer(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Footer | Reason::OtherFooter | Reason::NoFooter | Reason::Unsealed | Reason::Torn
    )
}

/// The damage that a step answers, as an error.
fn damage_at(findings: &[crate::check::Finding], step: &Step) -> Error {
    let is_its = |finding: &&crate::check::Finding| {
        finding.severity == Severity::Problem && step.codes.contains(&finding.code)
    };
    let offset = findings.iter().find(is_its).and_then(|finding| finding.offset);
    let damage = match step.action {
        Action::Retire { .. } => Damage::MissingFile,
        _ => Damage::Field("records; repair the store first"),
    };
    Error::Corruption(Corruption { file: step.file.clone(), offset: offset.unwrap_or(0), damage })
}

/// What [`migrate`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// Major and minor version of the store.
    pub from: (u16, u16),
    /// Major and minor version it has now.
    pub to: (u16, u16),
    /// Segments looked at.
    pub segments: u64,
    /// Files written anew.
    pub rewritten: u64,
}

/// Brings the store at `path` to a version of the format: to the newest known here, or to `to`. There is one version so
/// far, so it looks at every header and changes nothing.
///
/// # Errors
/// [`Error::InvalidOptions`] if `to` is not a version known here; [`Error::UnknownFormat`] if the store, or a segment of
/// it, is of a newer one; [`Error::NotAStore`], [`Error::Corruption`] of the manifest, [`Error::Io`].
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk, repair};
/// let options = Options::new().disk(MemoryDisk::new());
/// options.clone().open("store")?.put("key", "value")?;
/// let done = repair::migrate(&options, "store".as_ref(), None)?;
/// assert_eq!((done.from, done.to, done.rewritten), ((1, 0), (1, 0), 0));
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn migrate(options: &Options, path: &Path, to: Option<(u16, u16)>) -> Result<Migration> {
    let newest = (FORMAT_MAJOR, FORMAT_MINOR);
    let to = to.unwrap_or(newest);
    if to != newest {
        let (major, minor) = to;
        let complaint = format!(
            "format {major}.{minor} is not known here; known is {FORMAT_MAJOR}.{FORMAT_MINOR}"
        );
        return Err(Error::InvalidOptions { complaints: vec![complaint] });
    }
    let home = Home::at(&options.disk, path)?;
    let loaded = require(&home)?;
    let manifest = home.path(file_name::MANIFEST);
    let start = |file: &Path| {
        let failed = |source| Error::io("read", file, source);
        let mut start = [0; 16];
        let opened = home.disk.open(file, Access::Read).map_err(failed)?;
        read_up_to_at(opened.as_ref(), &mut start, 0).map_err(failed)?;
        Ok::<_, Error>(start)
    };
    let head = start(&manifest)?;
    let from = (u16::from_le_bytes([head[8], head[9]]), u16::from_le_bytes([head[10], head[11]]));
    let mut segments = 0;
    for id in loaded.state.segments.keys() {
        let file = home.segment(*id);
        let bytes = match start(&file) {
            Ok(bytes) => bytes,
            // A missing segment is for a repair; of its version nothing can be said.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(found) = newer_major(&bytes, SEGMENT_MAGIC) {
            return Err(Error::UnknownFormat { file, found, newest_known: FORMAT_MAJOR });
        }
        segments += 1;
    }
    Ok(Migration { from, to, segments, rewritten: 0 })
}
