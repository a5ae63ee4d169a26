//! The checkpoint as a witness: it says which record of each key was the newest when it was written. Where records
//! are lost of which nothing else tells, a put that it does not point to had been replaced or deleted by one of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    examine::Kept,
    known::Known,
    lost::{Fate, LostRecord, name_of},
    survey::{Ending, visit},
};
use crate::{
    checkpoint,
    error::Result,
    format::record::{Head, Kind},
    index::Entry as IndexEntry,
    overrides::Cuts,
    types::{SegmentId, SequenceNumber, is_live},
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
    /// The checkpoint that the manifest names, if it is sound.
    pub(super) fn load(known: &Known) -> Option<Self> {
        let (number, sequence) = known.state.checkpoint?;
        let hasher_is_known = known.hasher.is_some();
        let loaded =
            checkpoint::load(&known.home, number, known.header.store_id, known.header.hash_seed);
        let loaded = loaded.ok().filter(|loaded| hasher_is_known && loaded.sequence == sequence)?;
        let ids: BTreeMap<u32, SegmentId> =
            loaded.segments.iter().map(|row| (row.slot, row.id)).collect();
        let words = loaded.shards().flat_map(|(_, words)| words);
        let location = words.map(|words| IndexEntry::unpack(words).location);
        let points = location.filter_map(|at| Some((*ids.get(&at.slot.0)?, at.offset))).collect();
        Some(Self {
            sequence,
            segments: ids.into_values().collect(),
            points,
            cuts: loaded.cuts,
            newest: HashMap::new(),
        })
    }

    /// A version was found. It is a suspect if the checkpoint knew its segment and did not point to it.
    pub(super) fn hear(&mut self, segment: SegmentId, kept: &Kept) {
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

    /// The suspects that nothing newer was found for: each gets a tombstone above everything.
    pub(super) fn settle(
        self,
        known: &Known,
        next: SequenceNumber,
        lost: &mut Vec<LostRecord>,
    ) -> Result<Spoken> {
        let mut suspects: BTreeMap<SegmentId, HashSet<u64>> = BTreeMap::new();
        for found in self.newest.values().filter(|found| found.is_suspect) {
            suspects.entry(found.segment).or_default().insert(found.offset);
        }
        let told: HashSet<u64> = lost.iter().filter_map(|lost| lost.hash).collect();
        let mut spoken = Spoken { endings: Vec::new(), newest: next };
        let only = suspects.keys().copied().collect();
        visit(known, Some(&only), &mut |visited| {
            let Some(offsets) = suspects.get(&visited.id) else { return Ok(()) };
            for kept in visited.examined.kept.iter().filter(|kept| offsets.contains(&kept.offset)) {
                let Some(head) = visited.head(kept) else { continue };
                // What a footer told of already is hidden, and named; what has ended does not show.
                let is_told = kept.hash.is_some_and(|hash| told.contains(&hash));
                if is_told || has_ended(known, &self.cuts, &head) {
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
                spoken.endings.push(Ending { sequence, kind: Kind::Delete, key });
            }
            Ok(())
        })?;
        Ok(spoken)
    }
}

/// Whether an entry would not show anyway: it has expired, or its scope was cut.
fn has_ended(known: &Known, cuts: &Cuts, head: &Head<'_>) -> bool {
    let scopes = || head.extension.into_iter().flat_map(|extension| extension.scopes());
    !is_live(head.expires_at, known.state.high_water)
        || scopes().any(|scope| cuts.get(scope).is_some_and(|cut| *cut > head.sequence))
}
