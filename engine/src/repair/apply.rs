//! The plan carried out. Everything new is written aside and durable before one edit of the manifest names it; until
//! then the store is what it was, and from then on it is repaired. Old files are renamed or removed after that.
//!
//! 1. A manifest that cannot be relied on is written anew: it names what is there, damaged or not.
//! 2. Sound records go into new segments, and so do deletes and scope cuts in the place of lost records.
//! 3. One manifest in the place of another: new segments in, old ones out, no checkpoint.
//! 4. Old files get their quarantine names, or go.
//! 5. The checkpoint, from footers alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    credible::greatest_credible,
    known::Known,
    outputs::Outputs,
    plan::{Action, Step},
    survey::{Survey, visit},
};
use crate::{
    checkpoint::{self, Moment},
    error::{Error, Result},
    format::{
        file_name::{self, FileName},
        manifest::{Edit, ManifestHeader},
    },
    io::{PathKind, remove_if_there},
    options::{Options, ReadMode, RecoveryPolicy},
    recovery::{SEQUENCE_GAP, recover},
    segment::{
        Home,
        manifest_file::ManifestFile,
        manifest_state::{ManifestState, ROW},
    },
    sync::PoisonError,
    types::{SegmentId, SequenceNumber},
};

/// What becomes of a file that left the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leaves {
    Removed,
    SetAside,
}

/// Carries out `steps`. The way back is kept already.
pub(super) fn carry_out(
    options: &Options,
    known: &Known,
    survey: &Survey,
    steps: &[Step],
) -> Result<()> {
    let mut state = raised(known, survey);
    let leaving = leaving(known, steps);
    let aside = |(id, leaves): (&SegmentId, &Leaves)| (*leaves == Leaves::SetAside).then_some(*id);
    let set_aside: Vec<_> = leaving.iter().filter_map(aside).collect();
    let mut header = known.header;
    if known.fault.is_some() {
        // Order: strays are quarantined by name before a sound manifest would make orphans of them.
        let strays = known.strays.iter().map(|stray| stray.id);
        for id in strays.filter(|id| set_aside.contains(id)) {
            apply(&mut state, &Edit::Quarantine(id), &known.home)?;
        }
        header = replace(&known.home, header, state.clone(), &[])?;
    }
    let edits = write_outputs(options, known, survey, steps, &mut state)?;
    state.properties.remove(EPOCHS);
    state.properties.remove(ROW);
    let none = Edit::Checkpoint { number: 0, sequence: SequenceNumber(0) };
    let quarantined = set_aside.into_iter().map(Edit::Quarantine);
    let all: Vec<_> = edits.into_iter().chain(quarantined).chain([none, Edit::Clean]).collect();
    replace(&known.home, header, state, &all)?;
    let_go(&known.home, &leaving, steps)?;
    write_checkpoint(options, &known.home)
}

/// Says what the epochs of a checkpoint mean; the one that is written here has none.
pub(super) const EPOCHS: &[u8] = b"epochs";

/// The state with ids and sequence numbers that are free for certain (I5).
pub(super) fn raised(known: &Known, survey: &Survey) -> ManifestState {
    let mut state = known.state.clone();
    let number = |name: &FileName| match name {
        FileName::Segment(id) | FileName::Quarantine(id) => id.0.saturating_add(1),
        FileName::Checkpoint(number) => number.saturating_add(1),
        _ => 0,
    };
    state.next_id = known.files.keys().map(number).chain([state.next_id, 1]).max().unwrap_or(1);
    let gap = if state.clean && known.fault.is_none() { 0 } else { SEQUENCE_GAP };
    let seen = [state.next_sequence, survey.newest.next()];
    let next = greatest_credible(seen.into_iter()).0.saturating_add(gap);
    // Where nothing was ever written, nothing was given out.
    if survey.newest.0 > 0 || known.fault.is_some() {
        state.next_sequence = SequenceNumber(next);
    }
    state
}

fn apply(state: &mut ManifestState, edit: &Edit, home: &Home) -> Result<()> {
    state.apply(edit).map_err(|reason| {
        let fault = crate::error::DecodeError::new(0, crate::error::Damage::Field(reason));
        fault.in_file(home.path(file_name::MANIFEST), 0)
    })
}

/// Writes a manifest in the place of the one that is there; gives back its header.
pub(super) fn replace(
    home: &Home,
    header: ManifestHeader,
    state: ManifestState,
    edits: &[Edit],
) -> Result<ManifestHeader> {
    let mut manifest = ManifestFile::found(home.clone(), header, state);
    manifest.apply(edits)?;
    Ok(*manifest.header())
}

/// Writes what is kept into new segments; gives back the edits that put them in the place of the old ones.
fn write_outputs(
    options: &Options,
    known: &Known,
    survey: &Survey,
    steps: &[Step],
    state: &mut ManifestState,
) -> Result<Vec<Edit>> {
    let rewritten: BTreeSet<_> = steps
        .iter()
        .filter_map(|step| match step.action {
            Action::Rewrite { segment, .. } => Some(segment),
            _ => None,
        })
        .collect();
    let mut outputs = Outputs::new(options, known.home.clone(), known.header, state);
    visit(known, Some(&rewritten), &mut |visited| outputs.copy(known, &visited))?;
    outputs.write_endings(&survey.endings)?;
    let mut edits = outputs.finish(state);
    edits.extend(steps.iter().filter_map(|step| match step.action {
        Action::Rewrite { segment, .. } | Action::Retire { segment } => Some(Edit::Retire(segment)),
        _ => None,
    }));
    Ok(edits)
}

/// The segments' files that leave the store, by their names. What one step sets aside no other removes.
fn leaving(known: &Known, steps: &[Step]) -> BTreeMap<SegmentId, Leaves> {
    let mut leaving = BTreeMap::new();
    for step in steps {
        let (id, leaves) = match &step.action {
            Action::Rewrite { segment, sets_aside, .. } => {
                let Some(source) = known.sources.get(segment) else { continue };
                (*source, if *sets_aside { Leaves::SetAside } else { Leaves::Removed })
            }
            action @ (Action::SetAside | Action::Remove) => {
                let name = step.file.file_name().and_then(|name| name.to_str());
                let Some(FileName::Segment(id)) = name.and_then(FileName::parse) else { continue };
                (id, if *action == Action::SetAside { Leaves::SetAside } else { Leaves::Removed })
            }
            _ => continue,
        };
        let so_far = leaving.entry(id).or_insert(leaves);
        *so_far = leaves.max(*so_far);
    }
    leaving
}

/// Renames and removes what left the store, and what was never finished.
fn let_go(home: &Home, leaving: &BTreeMap<SegmentId, Leaves>, steps: &[Step]) -> Result<()> {
    let disk = home.disk.as_ref();
    let remove = |path: &std::path::Path| {
        remove_if_there(disk, path).map_err(|source| Error::io("remove", path, source))
    };
    for (id, leaves) in leaving {
        let (path, aside) = (home.segment(*id), home.path(&file_name::quarantine(*id)));
        // What was set aside before stays; then the way back is the only other place for this one.
        let is_taken = disk.kind(&aside).map_err(|e| Error::io("look at", &aside, e))?.is_some();
        if *leaves == Leaves::SetAside && !is_taken {
            disk.rename(&path, &aside).map_err(|source| Error::io("rename", &path, source))?;
        } else {
            remove(&path)?;
        }
    }
    for step in steps.iter().filter(|step| step.action == Action::Remove) {
        remove(&step.file)?;
    }
    let listed = disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    for entry in listed.iter().filter(|entry| entry.kind == PathKind::File) {
        if let Some(FileName::Checkpoint(_)) = FileName::parse(&entry.name) {
            remove(&home.path(&entry.name))?;
        }
    }
    disk.sync_dir(home.dir()).map_err(|e| Error::io("sync the directory of", home.dir(), e))
}

/// Opens the store as it is now, under the strictest policy and from its footers, and writes a checkpoint of it. A
/// store that does not come up so is left without one: the check that follows says why.
pub(super) fn write_checkpoint(options: &Options, home: &Home) -> Result<()> {
    let options = Options {
        recovery: RecoveryPolicy::Strict,
        read_mode: ReadMode::Positioned,
        read_only: false,
        ..options.clone()
    };
    let recovered = match recover(home, &options) {
        Ok(recovered) => recovered,
        Err(Error::Corruption(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let sequence = SequenceNumber(recovered.next_sequence.0.saturating_sub(1));
    if sequence.0 == 0 {
        return Ok(());
    }
    let number = {
        let manifest = recovered.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        manifest.state().next_id.max(1)
    };
    let moment = Moment {
        index: recovered.index.snapshot(),
        accounts: checkpoint::accounts(&recovered.catalog.table()),
        overrides: recovered.overrides.freeze(),
        sequence,
        now: recovered.high_water,
    };
    let next_id = SegmentId(number.saturating_add(1));
    let floors = Edit::Floors { segment: next_id, sequence: sequence.next() };
    checkpoint::write(home, &recovered.manifest, number, &moment, vec![floors, Edit::Clean])
}
