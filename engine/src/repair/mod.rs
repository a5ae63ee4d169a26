//! Mends a damaged store: finds out what can be had, says what it would do, and does it when asked to.
//!
//! The rules: nothing that is the only copy of anything is deleted; what was deleted stays deleted, and an older
//! value does not come back for a key whose newest record is damaged, wherever a footer, a head or the checkpoint
//! tells of that record; what is lost is named; a crash in between leaves the old damage or the repaired store.
//!
//! Life of a repair: `known` says who the store is and which segments belong to it, and `credible` drops numbers that
//! nobody gave; `survey` reads them all, with `examine` for each and `witness` for what no file tells any more; `plan`
//! decides; `undo` keeps the way back; `apply` carries out. It knows no open store: it holds the lock, and works on
//! files.

mod apply;
mod credible;
mod examine;
mod identity;
mod known;
mod lost;
mod outputs;
mod plan;
mod rebuild;
mod salvage;
mod survey;
mod undo;
mod view;
mod witness;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    known::{Known, learn},
    plan::{Facts, decide},
    survey::{Survey, survey},
};
use crate::{
    backup::MOVING,
    check::{CheckReport, Code, check_store},
    error::{Damage, Error, Result},
    format::{
        file_name::{self, FileName},
        record::Kind,
    },
    io::{DirectoryEntry, Disk, LockMode, LockOutcome, PathKind, TolerantDisk},
    options::Options,
    segment::Home,
};

pub use lost::{Fate, LostRange, LostRecord};
pub use plan::{Action, Step};
pub use rebuild::{Migration, Rebuild, RebuildReport, migrate, rebuild};
pub use salvage::{SalvageReport, salvage};
pub use undo::{UndoReport, undo};

/// What a repair would do, and what is lost whether it is done or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What a check finds now.
    pub before: CheckReport,
    /// The steps, in order. None: there is nothing to do.
    pub steps: Vec<Step>,
    /// Records that cannot be read, and what becomes of their keys.
    pub lost: Vec<LostRecord>,
    /// Ranges of which nobody knows what they held.
    pub unknown: Vec<LostRange>,
    /// Edits of the manifest are gone. All segments that are there are taken in; if one is missing too, nothing tells,
    /// and older values of keys that were written in it may show.
    pub may_lack_segments: bool,
}

impl RepairPlan {
    /// Whether a problem is to be repaired. If not, its steps (if any) only tidy up what a crash left, as the next
    /// opening would.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.steps.iter().any(|step| step.is_needed)
    }

    /// Whether something that had been stored cannot be had any more.
    #[must_use]
    pub fn loses(&self) -> bool {
        !self.unknown.is_empty() || self.lost.iter().any(|lost| lost.fate.is_loss())
    }
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was planned, all of which was done.
    pub plan: RepairPlan,
    /// Where the way back is kept; `None` if nothing was to be done.
    pub undo: Option<PathBuf>,
    /// What a check finds now.
    pub after: CheckReport,
}

/// Says what [`repair`] would do with the store at `path`. Changes nothing. Cost: reads every byte of the store two
/// or three times; memory for one segment, for what is lost, and for what a check needs.
///
/// Of `options` only disk and clock count.
///
/// # Errors
/// [`Error::NotAStore`]; [`Error::Locked`] while another has it open for writing: its files are about to change;
/// [`Error::UnknownFormat`]; [`Error::Io`], also for a link or a directory that stands under the name of a file.
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk, repair};
/// let options = Options::new().disk(MemoryDisk::new());
/// let engine = options.clone().open("store")?;
/// engine.put("key", "value")?;
/// engine.close()?;
/// assert!(repair::plan(&options, "store".as_ref())?.steps.is_empty());
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn plan(options: &Options, path: &Path) -> Result<RepairPlan> {
    let (home, disk) = read_around(options, path)?;
    let _lock = lock_shared(&home)?;
    let before = check_store(&home.disk, path)?;
    Ok(investigate(options, (&home, disk), before)?.plan)
}

/// Repairs the store at `path`. What is replaced, renamed or removed is kept in the directory `undo` first, which must
/// be new or empty; by default in `undo-N` in the store itself. [`undo()`] goes back.
///
/// When it returns `Ok`, everything planned was done and is durable. A crash before that leaves the old damage or the
/// repaired store, and nothing more lost than the plan says. New segments take at most the room of those that they
/// replace, beside them; limits of bytes do not count.
///
/// Of `options` only disk and clock count.
///
/// # Errors
/// As [`plan()`]; [`Error::InvalidOptions`] if `undo` is not empty; and [`Error::Io`] for what could not be written: call again when the cause is gone.
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk, repair};
/// let options = Options::new().disk(MemoryDisk::new());
/// let engine = options.clone().open("store")?;
/// engine.put("key", "value")?;
/// engine.close()?;
/// let report = repair::repair(&options, "store".as_ref(), None)?;
/// assert!(report.after.is_healthy() && report.undo.is_none());
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn repair(options: &Options, path: &Path, undo: Option<&Path>) -> Result<RepairReport> {
    let (home, disk) = read_around(options, path)?;
    let _lock = lock_store(&home)?;
    let before = check_store(&home.disk, path)?;
    let Investigated { known, survey, plan } = investigate(options, (&home, disk), before)?;
    if plan.steps.is_empty() {
        let after = plan.before.clone();
        return Ok(RepairReport { plan, undo: None, after });
    }
    let undo = undo::keep(&known, undo, &touched(&known, &plan.steps), &lines(&plan))?;
    apply::carry_out(options, &known, &survey, &plan.steps)?;
    let after = check_store(&home.disk, path)?;
    Ok(RepairReport { plan, undo: Some(undo), after })
}

/// Everything that a repair goes by.
struct Investigated {
    known: Known,
    survey: Survey,
    plan: RepairPlan,
}

/// The directory of a damaged store, on a disk that reads around what the device cannot read.
fn read_around(options: &Options, path: &Path) -> Result<(Home, Arc<TolerantDisk>)> {
    let home = Home::at(&options.disk, path)?;
    let disk = Arc::new(TolerantDisk::new(home.disk));
    Ok((Home::new(Arc::clone(&disk) as Arc<dyn Disk>, home.dir), disk))
}

fn investigate(
    options: &Options,
    (home, disk): (&Home, Arc<TolerantDisk>),
    before: CheckReport,
) -> Result<Investigated> {
    let known = learn(home, options, disk)?;
    let mut survey = survey(&known)?;
    let steps = decide(&facts(&known, &survey, &before));
    let (lost, unknown) = (std::mem::take(&mut survey.lost), std::mem::take(&mut survey.unknown));
    let may_lack_segments = known.lacks_edits;
    let plan = RepairPlan { before, steps, lost, unknown, may_lack_segments };
    Ok(Investigated { known, survey, plan })
}

fn facts<'a>(known: &Known, survey: &Survey, before: &'a CheckReport) -> Facts<'a> {
    let home = &known.home;
    let segments = survey.segments.iter();
    let named = known.state.checkpoint.map(|(number, _)| number);
    let is_old = |name: &str| match FileName::parse(name) {
        Some(FileName::Checkpoint(number)) => Some(number) != named,
        _ => false,
    };
    let is_temporary = |name: &str| FileName::parse(name) == Some(FileName::Temporary);
    let files = |is: &dyn Fn(&str) -> bool| {
        let names = known.names.iter().filter(|(name, _)| is(name));
        names.map(|(name, _)| home.path(name)).collect::<Vec<_>>()
    };
    let count = |kind| survey.endings.iter().filter(|ending| ending.kind == kind).count() as u64;
    Facts {
        findings: &before.findings,
        manifest: home.path(file_name::MANIFEST),
        manifest_fault: known.fault.as_ref().map(|fault| match fault.damage {
            Damage::MissingEdits => (Code::EditsMissing, fault.damage.to_string()),
            _ => (Code::ManifestDamaged, fault.damage.to_string()),
        }),
        manifest_is_torn: known.is_torn,
        segments: segments.map(|(id, facts)| (*id, home.segment(*id), facts.clone())).collect(),
        strays: known.strays.iter().map(|s| (home.segment(s.id), s.is_needless)).collect(),
        temporaries: files(&is_temporary),
        old_checkpoints: files(&is_old),
        checkpoint: named.map_or_else(
            || home.dir().to_owned(),
            |number| home.path(&file_name::checkpoint(number)),
        ),
        endings: [Kind::Delete, Kind::ScopeCut, Kind::Touch].map(count),
        has_loss: !survey.lost.is_empty() || !survey.unknown.is_empty(),
    }
}

/// Names of the files that these steps replace, rename or remove.
fn touched(known: &Known, steps: &[Step]) -> Vec<String> {
    let mut names: Vec<String> = known
        .names
        .iter()
        .map(|(name, _)| name)
        .filter(|name| {
            matches!(
                FileName::parse(name),
                Some(FileName::Manifest | FileName::Checkpoint(_) | FileName::Temporary)
            )
        })
        .cloned()
        .collect();
    for step in steps {
        let name = match &step.action {
            Action::Rewrite { segment, .. } => {
                known.sources.get(segment).map(|source| file_name::segment(*source))
            }
            Action::SetAside | Action::Remove => {
                step.file.file_name().map(|name| name.to_string_lossy().into_owned())
            }
            _ => None,
        };
        names.extend(name);
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The plan as lines, for whoever reads the list of the way back.
fn lines(plan: &RepairPlan) -> Vec<String> {
    let steps = plan.steps.iter().map(ToString::to_string);
    let lost = plan.lost.iter().map(|lost| format!("lost: {lost}"));
    let unknown = plan.unknown.iter().map(|range| format!("lost: {range}"));
    steps.chain(lost).chain(unknown).collect()
}

/// As [`lock`], if it is a store by the names in it: a path that is none is not to get a lock file.
///
/// Order: what is to be relied on is read after this, when nobody changes it any more.
fn lock_store(home: &Home) -> Result<Box<dyn Send + Sync>> {
    let not_a_store =
        |reason: &str| Err(Error::NotAStore { path: home.dir.clone(), reason: reason.to_owned() });
    match home.disk.kind(home.dir()).map_err(|e| Error::io("look at", home.dir(), e))? {
        Some(PathKind::Directory) => {}
        Some(_) => return not_a_store("it is no directory"),
        None => return not_a_store("there is nothing"),
    }
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    if listed.iter().any(|entry| entry.name == MOVING) {
        return not_a_store("a restore into it was cut off; restore again");
    }
    let is_of_store = |entry: &DirectoryEntry| {
        let name = FileName::parse(&entry.name);
        matches!(name, Some(FileName::Manifest | FileName::Segment(_)))
    };
    match listed.iter().any(is_of_store) {
        true => lock(home),
        false => not_a_store("there is no manifest"),
    }
}

/// Locks the store for this process alone.
fn lock(home: &Home) -> Result<Box<dyn Send + Sync>> {
    let path = home.path(file_name::LOCK);
    match home.disk.lock(&path, LockMode::Exclusive) {
        Ok(LockOutcome::Held(held)) => Ok(held),
        Ok(LockOutcome::Busy { pid }) => Err(Error::Locked { path: home.dir.clone(), pid }),
        Err(source) => Err(Error::io("lock", path, source)),
    }
}

/// Makes sure that nobody writes meanwhile, without a byte of its own. Where there is no lock file, or where it cannot
/// be locked, as on a medium that cannot be written, nobody does.
fn lock_shared(home: &Home) -> Result<Option<Box<dyn Send + Sync>>> {
    match home.disk.lock(&home.path(file_name::LOCK), LockMode::Shared) {
        Ok(LockOutcome::Held(held)) => Ok(Some(held)),
        Ok(LockOutcome::Busy { pid }) => Err(Error::Locked { path: home.dir.clone(), pid }),
        Err(_) => Ok(None),
    }
}
