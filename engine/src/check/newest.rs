//! The newest record of each key, a group of hashes at a time: how many keys there are, and whether the checkpoint says
//! the same. Where several records have one hash, their keys are read and compared: equal hashes are never taken for
//! equal keys (I13).

use std::{cmp::Reverse, collections::HashMap, io, path::PathBuf, sync::Arc};

use super::{Store, codes::Code, report::Finding, saved::Saved, sealed::Said};
use crate::{
    format::{
        footer::{FOOTER_ENTRY_BYTES, FooterEntry, decode_entry},
        manifest::AddSegment,
        record::Kind,
        record::{Decoded, claimed_head_bytes, decode_head_within},
    },
    io::{Access, File, Window},
    types::{SegmentId, SequenceNumber},
};

/// A segment, and who says what records it has.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) add: AddSegment,
    pub(super) said: SaidBy<'a>,
}

/// Who says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum SaidBy<'a> {
    /// The footer, whose entries begin here, and begin for each group so many entries later.
    Footer { at: u64, sequence_min: SequenceNumber, starts: &'a [u32] },
    /// The records themselves.
    Records(&'a [FooterEntry]),
}

impl<'a> SaidBy<'a> {
    /// What a sealed segment says whose records end here.
    pub(super) fn of(said: &'a Said, records_end: u64) -> Self {
        match said {
            Said::Nothing => Self::Records(&[]),
            Said::Entries(entries) => Self::Records(entries),
            Said::Footer { sequence_min, starts } => {
                Self::Footer { at: records_end, sequence_min: *sequence_min, starts }
            }
        }
    }
}

/// A checkpoint to compare with.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) saved: &'a Saved,
    pub(super) path: PathBuf,
    /// The store was closed properly after it was written: it has exactly the newest puts. Otherwise its entries point
    /// to puts, where the segment is still there.
    pub(super) is_exact: bool,
}

/// What came of one group.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) entries: u64,
    pub(super) findings: Vec<Finding>,
}

/// A version of a key: a put or a delete.
#[derive(Clone, Copy, Debug)]
struct Claim {
    hash: u64,
    sequence: u64,
    source: u32,
    /// Offset and bytes in units of 8.
    at: u32,
    units: u32,
    is_put: bool,
}

/// Keys that are held in memory at a time.
const KEYS_BYTES_MAX: u64 = 8 << 20;
const KEY_BYTES_MAX: u64 = u16::MAX as u64;
/// Records that follow each other closely are read together.
const WINDOW_BYTES: usize = 4 << 10;

/// All segments, side by side.
pub(super) struct Newest<'a> {
    store: &'a Store<'a>,
    sources: Vec<Source<'a>>,
    places: HashMap<SegmentId, u32>,
    /// The bits of hashes that count.
    mask: u64,
    checkpoint: Option<Judged<'a>>,
}

/// What went wrong while files that were there before were read again.
type Trouble = Box<Finding>;

impl<'a> Newest<'a> {
    pub(super) fn new(
        store: &'a Store<'a>,
        sources: Vec<Source<'a>>,
        mask: u64,
        checkpoint: Option<Judged<'a>>,
    ) -> Self {
        let places = (0..).zip(&sources).map(|(place, source)| (source.add.id, place)).collect();
        Self { store, sources, places, mask, checkpoint }
    }

    /// Judges one group.
    pub(super) fn judge(&self, group: usize) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(trouble) = self.judge_or_fail(group, &mut outcome) {
            outcome.findings.push(*trouble);
        }
        outcome
    }

    fn judge_or_fail(&self, group: usize, outcome: &mut Outcome) -> Result<(), Trouble> {
        let mut claims = Vec::new();
        for place in 0..self.sources.len() {
            self.claims_of(place, group, &mut claims)?;
        }
        claims.sort_unstable_by_key(|claim| claim.hash);
        let mut winners = Winners::default();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let is_exact = self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.is_exact);
        for same in claims.chunk_by_mut(|a, b| a.hash == b.hash) {
            if let [only] = same {
                outcome.entries += u64::from(only.is_put);
                let put = (is_exact && only.is_put).then(|| located(only.source, only.at));
                winners.puts.extend(put);
                continue;
            }
            same.sort_unstable_by_key(|claim| Reverse(claim.sequence));
            for claim in same {
                bytes += (u64::from(claim.units) * 8).min(KEY_BYTES_MAX);
                batch.push(*claim);
                if bytes >= KEYS_BYTES_MAX {
                    self.resolve(&batch, &mut winners)?;
                    batch.clear();
                    bytes = 0;
                }
            }
            if self.store.meter.is_stopped() {
                return Ok(());
            }
        }
        self.resolve(&batch, &mut winners)?;
        outcome.entries += winners.count;
        match &self.checkpoint {
            Some(judged) if judged.is_exact => self.compare(judged, group, winners.puts, outcome),
            Some(judged) => {
                let puts = claims.iter().filter(|claim| claim.is_put);
                let puts = puts.map(|claim| located(claim.source, claim.at)).collect();
                self.compare(judged, group, puts, outcome)
            }
            None => Ok(()),
        }
    }

    fn path(&self, place: usize) -> PathBuf {
        self.sources
            .get(place)
            .map(|source| self.store.home.segment(source.add.id))
            .unwrap_or_default()
    }

    fn open(&self, place: usize) -> Result<Arc<dyn File>, Trouble> {
        let path = self.path(place);
        self.store.home.disk.open(&path, Access::Read).map_err(|error| trouble(&path, error))
    }

    /// The versions of keys that a segment has in a group.
    fn claims_of(
        &self,
        place: usize,
        group: usize,
        claims: &mut Vec<Claim>,
    ) -> Result<(), Trouble> {
        let Some(source) = self.sources.get(place) else { return Ok(()) };
        match source.said {
            SaidBy::Records(entries) => {
                let groups = self.store.groups;
                let scanned = entries
                    .iter()
                    .map(|entry| FooterEntry { hash: entry.hash & self.mask, ..*entry });
                let mine = scanned.filter(|entry| groups.of_hash(entry.hash) == group);
                claims.extend(mine.filter_map(|entry| claim(place, &entry)));
                Ok(())
            }
            SaidBy::Footer { at, sequence_min, starts } => {
                let bound = |group: usize| starts.get(group).copied().unwrap_or_default();
                let (from, to) = (bound(group), bound(group + 1));
                if from >= to {
                    return Ok(());
                }
                let (path, file) = (self.path(place), self.open(place)?);
                let row_at = |index: u32| at + u64::from(index) * FOOTER_ENTRY_BYTES as u64;
                let mut window = Window::new(file.as_ref(), 256 << 10, row_at(to));
                for index in from..to {
                    let row = window.bytes(row_at(index), FOOTER_ENTRY_BYTES);
                    let row = row.map_err(|error| trouble(&path, error))?;
                    let entry = decode_entry(row, sequence_min);
                    claims.extend(entry.and_then(|entry| claim(place, &entry)));
                }
                Ok(())
            }
        }
    }

    /// Finds the newest version of each key among claims whose hashes are not theirs alone. A key may go on in the next
    /// batch.
    fn resolve(&self, batch: &[Claim], winners: &mut Winners) -> Result<(), Trouble> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_unstable_by_key(|index| (batch[*index].source, batch[*index].at));
        let mut keys: Vec<Option<Vec<u8>>> = vec![None; batch.len()];
        for same in order.chunk_by(|a, b| batch[*a].source == batch[*b].source) {
            let place = same.first().map_or(0, |index| batch[*index].source as usize);
            let Some(source) = self.sources.get(place) else { continue };
            let (path, file) = (self.path(place), self.open(place)?);
            let mut window = Window::new(file.as_ref(), WINDOW_BYTES, u64::MAX);
            for index in same {
                let key = key_of(&mut window, source.add.salt, &batch[*index]);
                keys[*index] = key.map_err(|error| trouble(&path, error))?;
            }
        }
        for (claim, key) in batch.iter().zip(keys) {
            winners.take(claim, key);
        }
        Ok(())
    }

    /// Compares a group of the checkpoint with what it may, or must, point to.
    fn compare(
        &self,
        judged: &Judged<'_>,
        group: usize,
        mut puts: Vec<u64>,
        outcome: &mut Outcome,
    ) -> Result<(), Trouble> {
        let failed = |error| trouble(&judged.path, error);
        let file = self.store.home.disk.open(&judged.path, Access::Read).map_err(failed)?;
        let groups = self.store.groups;
        let is_wanted = |shard| groups.of_shard(shard) == group;
        let mut find = |message: String| {
            outcome.findings.push(Finding::new(Code::CheckpointWrong, &judged.path, None, message));
        };
        let mut found = Vec::with_capacity(puts.len());
        let locations = judged.saved.locations(file.as_ref(), is_wanted, |slot, offset| {
            let id = judged.saved.segments.get(&slot).copied();
            match id.and_then(|id| self.places.get(&id)) {
                Some(place) => {
                    found.push(located(*place, u32::try_from(offset / 8).unwrap_or(u32::MAX)))
                }
                None if judged.is_exact => {
                    find(format!("an entry points to {offset} of a segment that is not there"));
                }
                None => {}
            }
        });
        locations.map_err(failed)?;
        puts.sort_unstable();
        found.sort_unstable();
        let where_is = |at: u64| {
            let path = self.path(usize::try_from(at >> 32).unwrap_or(usize::MAX));
            format!("{} of {}", (at & u64::from(u32::MAX)) * 8, path.display())
        };
        let (mut puts, mut last) = (puts.into_iter().peekable(), None);
        for at in found {
            while let Some(put) = puts.next_if(|put| *put < at).filter(|_| judged.is_exact) {
                find(format!("the put at {} has no entry", where_is(put)));
            }
            while puts.next_if(|put| *put < at).is_some() {}
            if last == Some(at) {
                find(format!("two entries point to {}", where_is(at)));
            } else if puts.next_if_eq(&at).is_none() {
                find(format!("an entry points to {}, where no such put is", where_is(at)));
            }
            last = Some(at);
        }
        for put in puts.filter(|_| judged.is_exact) {
            find(format!("the put at {} has no entry", where_is(put)));
        }
        Ok(())
    }
}

/// What was found out about keys whose hashes are not theirs alone.
#[derive(Debug, Default)]
struct Winners {
    /// Keys whose newest version is a put.
    count: u64,
    /// Where those stand, see [`located`].
    puts: Vec<u64>,
    /// The keys of the current hash that were met.
    hash: u64,
    met: Vec<Vec<u8>>,
}

impl Winners {
    /// The next claim, newest first for each hash. One that cannot be read says nothing.
    fn take(&mut self, claim: &Claim, key: Option<Vec<u8>>) {
        let Some(key) = key else { return };
        if self.hash != claim.hash {
            self.hash = claim.hash;
            self.met.clear();
        }
        if self.met.contains(&key) {
            return;
        }
        self.met.push(key);
        if claim.is_put {
            self.count += 1;
            self.puts.push(located(claim.source, claim.at));
        }
    }
}

/// A source, and an offset in it in units of 8, as one number.
fn located(source: u32, at: u32) -> u64 {
    u64::from(source) << 32 | u64::from(at)
}

fn claim(place: usize, entry: &FooterEntry) -> Option<Claim> {
    let is_put = match entry.kind {
        Kind::Put => true,
        Kind::Delete => false,
        _ => return None,
    };
    Some(Claim {
        hash: entry.hash,
        sequence: entry.sequence.0,
        source: u32::try_from(place).ok()?,
        at: u32::try_from(entry.offset / 8).ok()?,
        units: u32::try_from(entry.bytes / 8).ok()?,
        is_put,
    })
}

/// The key of a record, if its head is sound.
fn key_of(window: &mut Window<'_>, salt: u64, claim: &Claim) -> io::Result<Option<Vec<u8>>> {
    const START_BYTES: usize = 64;
    let (at, room) = (u64::from(claim.at) * 8, u64::from(claim.units) * 8);
    let Some(head_bytes) = claimed_head_bytes(window.bytes(at, START_BYTES)?) else {
        return Ok(None);
    };
    let wanted = usize::try_from(head_bytes.min(room)).unwrap_or(usize::MAX);
    let bytes = window.bytes(at, wanted)?;
    Ok(match decode_head_within(bytes, room, salt, at) {
        Ok(Decoded::Head(head)) => Some(head.key.to_vec()),
        Ok(Decoded::Unwritten) | Err(_) => None,
    })
}

fn trouble(path: &std::path::Path, error: io::Error) -> Trouble {
    Box::new(match error.kind() {
        io::ErrorKind::NotFound => Finding::new(Code::SegmentMissing, path, None, "missing"),
        _ => Finding::new(Code::Unreadable, path, None, error),
    })
}
