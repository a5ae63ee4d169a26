//! The checkpoint as a witness: it says which record of each key was the newest when it was written, and which touches
//! and scope cuts were in force. Where records are lost of which nothing else tells, a put that it does not point to
//! had been replaced or deleted by one of them; and a touch or cut that is not found any more is written again.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    examine::Kept,
    known::Known,
    lost::{Fate, LostRecord, name_of},
    survey::{Ending, newest_lost, visit},
};
use crate::{
    checkpoint,
    error::Result,
    format::file_name::FileName,
    format::record::{Head, Kind},
    index::Entry as IndexEntry,
    overrides::Cuts,
    types::{Location, SegmentId, SequenceNumber, Touch, is_live},
};

/// What a sound checkpoint says, and what was found of the records that it knew.
#[derive(Debug)]
pub(super) struct Witness {
    /// Every record up to this one is in it.
    sequence: SequenceNumber,
    /// The segments that it knew.
    segments: HashSet<SegmentId>,
    /// The records that it points to.
    points: HashSet<(SegmentId, u64)>,
    cuts: Cuts,
    /// Touches by the put they are for.
    touches: HashMap<(SegmentId, u64), Touch>,
    /// Sequence numbers of the touches and cuts that were found.
    heard: HashSet<SequenceNumber>,
    /// Whether there are losses of which nothing else tells.
    suspects: bool,
    /// The newest version found under each hash that is not pointed to, or newer than the checkpoint.
    newest: HashMap<u64, Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    sequence: SequenceNumber,
    segment: SegmentId,
    offset: u64,
    is_suspect: bool,
}

/// What follows from its word.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) endings: Vec<Ending>,
    pub(super) newest: SequenceNumber,
}

impl Witness {
    /// The checkpoint that the manifest names, if it is sound. Where no manifest can say so, the newest that is there:
    /// one gets its name only when it is complete, and what it says was true when it was written.
    pub(super) fn load(known: &Known, suspects: bool) -> Option<Self> {
        known.hasher?;
        let newest = || {
            let number = |name: &FileName| match name {
                FileName::Checkpoint(number) => Some(*number),
                _ => None,
            };
            known.fault.as_ref().and(known.files.keys().filter_map(number).max())
        };
        let named = known.state.checkpoint;
        let number = named.map(|(number, _)| number).or_else(newest)?;
        let (store_id, hash_seed) = (known.header.store_id, known.header.hash_seed);
        let loaded = checkpoint::load(&known.home, number, store_id, hash_seed).ok()?;
        let sequence = loaded.sequence;
        if named.is_some_and(|(_, covers)| covers != sequence) {
            return None;
        }
        let ids: BTreeMap<u32, SegmentId> =
            loaded.segments.iter().map(|row| (row.slot, row.id)).collect();
        let words = loaded.shards().flat_map(|(_, words)| words);
        let location = words.map(|words| IndexEntry::unpack(words).location);
        let points = location.filter_map(|at| Some((*ids.get(&at.slot.0)?, at.offset))).collect();
        let touch =
            |(at, touch): (&Location, &Touch)| Some(((*ids.get(&at.slot.0)?, at.offset), *touch));
        Some(Self {
            touches: loaded.touches.iter().filter_map(touch).collect(),
            heard: HashSet::new(),
            suspects,
            sequence,
            segments: ids.into_values().collect(),
            points,
            cuts: loaded.cuts,
            newest: HashMap::new(),
        })
    }

    /// A version was found. It is a suspect if the checkpoint knew its segment and did not point to it.
    pub(super) fn hear(&mut self, segment: SegmentId, kept: &Kept) {
        if matches!(kept.kind, Kind::Touch | Kind::ScopeCut) {
            self.heard.insert(kept.sequence);
        }
        let (Some(hash), Kind::Put | Kind::Delete) = (kept.hash, kept.kind) else { return };
        let is_known = kept.sequence <= self.sequence && self.segments.contains(&segment);
        let is_suspect =
            kept.kind == Kind::Put && is_known && !self.points.contains(&(segment, kept.offset));
        let found = Found { sequence: kept.sequence, segment, offset: kept.offset, is_suspect };
        let newest = self.newest.entry(hash).or_insert(found);
        if newest.sequence < found.sequence {
            *newest = found;
        }
    }

    /// Scope cuts that were in force and are not found any more.
    fn lost_cuts(&self) -> impl Iterator<Item = Ending> {
        let lost = self.cuts.iter().filter(|cut| !self.heard.contains(cut.1));
        lost.map(|(scope, sequence)| Ending {
            sequence: *sequence,
            kind: Kind::ScopeCut,
            key: scope.to_vec(),
            touch: None,
        })
    }

    /// The touch of the put at this place, if it is not found any more. One that slid in memory alone has the sequence
    /// number of the put.
    fn lost_touch(&self, at: (SegmentId, u64), head: &Head<'_>) -> Option<Ending> {
        let touch = self.touches.get(&at)?;
        let is_lost = touch.sequence > head.sequence && !self.heard.contains(&touch.sequence);
        is_lost.then(|| Ending {
            sequence: touch.sequence,
            kind: Kind::Touch,
            key: head.key.to_vec(),
            touch: Some((head.sequence, touch.expires_at)),
        })
    }

    /// What has to be written: touches and cuts as they were, and a tombstone above everything for each suspect that
    /// nothing newer was found for.
    pub(super) fn settle(
        self,
        known: &Known,
        next: SequenceNumber,
        lost: &mut Vec<LostRecord>,
    ) -> Result<Spoken> {
        let mut asked: BTreeMap<SegmentId, HashSet<u64>> = BTreeMap::new();
        let suspects = self.newest.values().filter(|found| self.suspects && found.is_suspect);
        let suspects: HashSet<_> = suspects.map(|found| (found.segment, found.offset)).collect();
        for (segment, offset) in suspects.iter().chain(self.touches.keys()) {
            asked.entry(*segment).or_default().insert(*offset);
        }
        let told = newest_lost(lost);
        let mut spoken = Spoken { endings: self.lost_cuts().collect(), newest: next };
        let only = asked.keys().copied().collect();
        visit(known, Some(&only), &mut |visited| {
            let Some(offsets) = asked.get(&visited.id) else { return Ok(()) };
            for kept in visited.examined.kept.iter().filter(|kept| offsets.contains(&kept.offset)) {
                let Some(head) = visited.head(kept) else { continue };
                let at = (visited.id, kept.offset);
                spoken.endings.extend(self.lost_touch(at, &head));
                // What a footer told of already is hidden, and named; what has ended does not show.
                let is_told = kept.hash.and_then(|hash| told.get(&hash)) > Some(&kept.sequence);
                if !suspects.contains(&at) || is_told || has_ended(known, &self.cuts, &head) {
                    continue;
                }
                spoken.newest = spoken.newest.next();
                let (sequence, key) = (spoken.newest, head.key.to_vec());
                lost.push(LostRecord {
                    file: known.home.segment(visited.id),
                    offset: kept.offset,
                    bytes: kept.bytes,
                    kind: name_of(Kind::Put),
                    sequence: kept.sequence,
                    hash: kept.hash,
                    key: Some(key.clone()),
                    fate: Fate::Outdated,
                });
                spoken.endings.push(Ending { sequence, kind: Kind::Delete, key, touch: None });
            }
            Ok(())
        })?;
        for ending in spoken.endings.iter().filter(|ending| ending.kind == Kind::Touch) {
            for lost in lost.iter_mut().filter(|lost| lost.sequence == ending.sequence) {
                (lost.fate, lost.key) = (Fate::Restored, Some(ending.key.clone()));
            }
        }
        Ok(spoken)
    }
}

/// Whether an entry would not show anyway: it has expired, or its scope was cut.
fn has_ended(known: &Known, cuts: &Cuts, head: &Head<'_>) -> bool {
    let scopes = || head.extension.into_iter().flat_map(|extension| extension.scopes());
    !is_live(head.expires_at, known.state.high_water)
        || scopes().any(|scope| cuts.get(scope).is_some_and(|cut| *cut > head.sequence))
}
