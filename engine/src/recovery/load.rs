//! The index from what the segments say: every record of every segment by hash; for each key, the record with the
//! highest sequence number (I4). One shard of the index at a time, so that memory stays small.
//! A checkpoint with what came after it, the footers, and a scan of all records must give the same index (I15).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    error::{Corruption, Error, Result},
    format::{
        footer::{FooterEntries, FooterEntry, Trailer},
        record::{Flags, Head, Kind},
        wire::u64_at,
    },
    index::{Entry as IndexEntry, Index, SHARDS, Size},
    options::OnOpening,
    overrides::{Cuts, Touches},
    segment::{Segment, read::Depth},
    types::{Location, SequenceNumber, Slot, Touch},
};

/// What a segment says of its records.
#[derive(Debug)]
pub(super) enum Entries {
    /// A checked footer: its trailer and the bytes of its entries.
    Footer(Box<Trailer>, Vec<u8>),
    /// The records themselves, sorted by hash.
    Scanned(Vec<FooterEntry>),
}

/// A segment and what it says.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) segment: Arc<Segment>,
    pub(super) entries: Entries,
    /// Records up to this one are in the checkpoint already.
    pub(super) after: SequenceNumber,
}

impl Source {
    /// Entries whose hash begins with `shard`.
    fn of_shard(&self, shard: usize) -> Vec<FooterEntry> {
        let from = (shard as u64) << 56;
        let is_in = |entry: &FooterEntry| entry.hash >> 56 == shard as u64;
        let found: Vec<_> = match &self.entries {
            Entries::Footer(trailer, body) => {
                let Ok(view) = FooterEntries::decode_again(body, trailer) else {
                    return Vec::new();
                };
                let start = view.lower_bound(from);
                (start..view.len()).map_while(|at| view.get(at).filter(is_in)).collect()
            }
            Entries::Scanned(entries) => {
                let start = entries.partition_point(|entry| entry.hash < from);
                entries[start..].iter().take_while(|entry| is_in(entry)).copied().collect()
            }
        };
        found.into_iter().filter(|entry| entry.sequence > self.after).collect()
    }
}

/// A record that may be the newest of its key.
#[derive(Clone, Debug)]
struct Claim {
    source: usize,
    entry: FooterEntry,
}

/// What loading found out besides the index.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) cuts: Cuts,
    pub(super) touches: Touches,
    pub(super) damaged: Vec<Corruption>,
}

/// Fills an empty index from `sources`. `epoch_of` says what is known of the last use of
/// a record.
pub(super) fn load_all(
    index: &Index,
    sources: &[Source],
    epoch_of: &dyn Fn(u64, SequenceNumber) -> Option<u16>,
    on: &OnOpening,
) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    for shard in 0..SHARDS {
        on.tell(shard, SHARDS);
        let mut entries = Vec::new();
        for group in groups(sources, shard) {
            for winner in resolve(sources, group, &mut loaded)? {
                let mut entry = index_entry(sources, &winner, &loaded);
                let (hash, sequence) = (winner.entry.hash, winner.entry.sequence);
                entry.epoch = epoch_of(hash, sequence).unwrap_or(entry.epoch);
                entries.push((hash, entry));
            }
        }
        index.load_shard(shard, entries);
    }
    Ok(loaded)
}

/// Claims of one shard, grouped by hash, each group newest first. Scope cuts stand apart: their hash is not a key's.
fn groups(sources: &[Source], shard: usize) -> Vec<Vec<Claim>> {
    let mut claims = Vec::new();
    for (source, from) in sources.iter().enumerate() {
        claims.extend(from.of_shard(shard).into_iter().map(|entry| Claim { source, entry }));
    }
    claims.sort_unstable_by_key(|claim| {
        let newest_first = std::cmp::Reverse(claim.entry.sequence);
        (claim.entry.hash, claim.entry.kind == Kind::ScopeCut, newest_first)
    });
    let is_same = |a: &Claim, b: &Claim| {
        let cut = |claim: &Claim| claim.entry.kind == Kind::ScopeCut;
        a.entry.hash == b.entry.hash && cut(a) == cut(b)
    };
    claims.chunk_by(is_same).map(<[Claim]>::to_vec).collect()
}

/// The newest puts of the keys in a group of claims with one hash, if the keys are still there.
fn resolve(sources: &[Source], group: Vec<Claim>, loaded: &mut Loaded) -> Result<Vec<Claim>> {
    match group.as_slice() {
        [only] if only.entry.kind == Kind::Put => return Ok(group),
        [only] if matches!(only.entry.kind, Kind::Delete | Kind::Touch) => return Ok(Vec::new()),
        _ => {}
    }
    let mut newest: BTreeMap<Vec<u8>, Option<(Claim, SequenceNumber)>> = BTreeMap::new();
    let mut touches: Vec<(SequenceNumber, Touch)> = Vec::new();
    for claim in group {
        let Said { key, value, folded } = match read(sources, &claim) {
            Ok(said) => said,
            Err(Error::Corruption(corruption)) => {
                loaded.damaged.push(corruption);
                let is_version = matches!(claim.entry.kind, Kind::Put | Kind::Delete);
                if is_version && newest.is_empty() {
                    // The newest version of a key with this hash cannot be read. Whatever is older stays hidden
                    // behind it: a damaged put is an error to whoever asks, not an older value.
                    return Ok(if claim.entry.kind == Kind::Put {
                        vec![claim]
                    } else {
                        Vec::new()
                    });
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        match claim.entry.kind {
            Kind::ScopeCut => {
                let cut = loaded.cuts.entry(key.into()).or_default();
                *cut = claim.entry.sequence.max(*cut);
            }
            Kind::Touch => {
                let target = u64_at(&value, 0).unwrap_or_default();
                let touch = touch_of(sources, &claim)?;
                touches.push((SequenceNumber(target), touch));
            }
            Kind::Put | Kind::Delete => {
                let is_put = claim.entry.kind == Kind::Put;
                newest.entry(key).or_insert_with(|| is_put.then_some((claim, folded)));
            }
            Kind::Commit | Kind::Note => {}
        }
    }
    let winners: Vec<_> = newest.into_values().flatten().collect();
    for (winner, folded) in &winners {
        // Newest first: the first touch of the winning put is the one in force, unless its head has it already.
        let touch = touches
            .iter()
            .find(|(target, touch)| *target == winner.entry.sequence && touch.sequence > *folded);
        if let Some((_, touch)) = touch {
            loaded.touches.insert(location(sources, winner), *touch);
        }
    }
    Ok(winners.into_iter().map(|(winner, _)| winner).collect())
}

fn location(sources: &[Source], claim: &Claim) -> Location {
    Location { slot: sources[claim.source].segment.slot, offset: claim.entry.offset }
}

/// What the record behind a claim says.
struct Said {
    key: Vec<u8>,
    /// Only of records that are short by nature.
    value: Vec<u8>,
    /// The touch whose expiry is in its head already; 0 if there is none.
    folded: SequenceNumber,
}

fn read(sources: &[Source], claim: &Claim) -> Result<Said> {
    let segment = &sources[claim.source].segment;
    let at = claim.entry.offset;
    let damaged = || {
        let damage = crate::error::Damage::Truncated;
        Error::Corruption(Corruption { file: segment.path.clone(), offset: at, damage })
    };
    let depth = if claim.entry.kind == Kind::Touch { Depth::Whole } else { Depth::Head };
    let record = segment.record(at, claim.entry.bytes, depth)?.ok_or_else(damaged)?;
    let bytes = record.of(segment);
    let head = segment.head(bytes, at)?;
    let mut value = Vec::new();
    if claim.entry.kind == Kind::Touch {
        segment.check_value(bytes, &head, at)?;
        let end = head.head_bytes + head.value_bytes as usize;
        value.extend_from_slice(bytes.get(head.head_bytes..end).unwrap_or_default());
    }
    Ok(Said { key: head.key.to_vec(), value, folded: folded(&head) })
}

fn folded(head: &Head<'_>) -> SequenceNumber {
    head.extension.and_then(|extension| extension.touched()).unwrap_or_default()
}

fn touch_of(sources: &[Source], claim: &Claim) -> Result<Touch> {
    let segment = &sources[claim.source].segment;
    let record = segment.record(claim.entry.offset, claim.entry.bytes, Depth::Head)?;
    let expires_at = match &record {
        Some(record) => segment.head(record.of(segment), claim.entry.offset)?.expires_at,
        None => None,
    };
    Ok(Touch::logged(expires_at, claim.entry.sequence))
}

fn index_entry(sources: &[Source], claim: &Claim, loaded: &Loaded) -> IndexEntry {
    let at = location(sources, claim);
    let mut flags = 0;
    for (is_set, mark) in [
        (claim.entry.flags.has(Flags::EXPIRES), IndexEntry::EXPIRES),
        (claim.entry.flags.has(Flags::EVICTABLE), IndexEntry::EVICTABLE),
        (claim.entry.flags.has(Flags::EXTENDED), IndexEntry::SCOPED),
        (loaded.touches.contains_key(&at), IndexEntry::TOUCHED),
    ] {
        flags |= if is_set { mark } else { 0 };
    }
    // Of the last use nothing is known: the coldest epoch.
    IndexEntry { location: at, size: Size::of(claim.entry.bytes), flags, epoch: 1 }
}

/// The newest version of a key with this hash cannot be read: whatever is older is hidden behind it, as `resolve`
/// does. A damaged put is an error to whoever asks.
fn hide_older(
    index: &Index,
    sources: &[Source],
    by_slot: &HashMap<Slot, &Arc<Segment>>,
    claim: &Claim,
) {
    if !matches!(claim.entry.kind, Kind::Put | Kind::Delete) {
        return;
    }
    for entry in index.peek(claim.entry.hash).iter() {
        let at = entry.location;
        let Some(segment) = by_slot.get(&at.slot) else { continue };
        let Ok(Some(record)) = segment.record(at.offset, 256, Depth::Head) else { continue };
        let Ok(head) = segment.head(record.of(segment), at.offset) else { continue };
        if head.sequence < claim.entry.sequence {
            let _ = index.remove(claim.entry.hash, at);
        }
    }
    if claim.entry.kind == Kind::Put {
        let entry = index_entry(sources, claim, &Loaded::default());
        let _ = index.insert(claim.entry.hash, entry, None);
    }
}

/// Replays what came after a checkpoint, in order, over an index that has what came before.
pub(super) fn replay(index: &Index, sources: &[Source], loaded: &mut Loaded) -> Result<()> {
    let mut claims: Vec<_> =
        (0..SHARDS).flat_map(|shard| groups(sources, shard)).flatten().collect();
    claims.sort_unstable_by_key(|claim| claim.entry.sequence);
    let by_slot: HashMap<_, _> = sources.iter().map(|s| (s.segment.slot, &s.segment)).collect();
    for claim in claims {
        let Said { key, value, .. } = match read(sources, &claim) {
            Ok(said) => said,
            Err(Error::Corruption(corruption)) => {
                loaded.damaged.push(corruption);
                hide_older(index, sources, &by_slot, &claim);
                continue;
            }
            Err(error) => return Err(error),
        };
        let hash = claim.entry.hash;
        if claim.entry.kind == Kind::ScopeCut {
            let cut = loaded.cuts.entry(key.into()).or_default();
            *cut = claim.entry.sequence.max(*cut);
            continue;
        }
        let mut current = None;
        for entry in index.peek(hash).iter() {
            let Some(segment) = by_slot.get(&entry.location.slot) else { continue };
            // A record that cannot be read has no key to compare; whoever asks for it is told so.
            let Ok(Some(record)) = segment.record(entry.location.offset, 256, Depth::Head) else {
                continue;
            };
            let Ok(head) = segment.head(record.of(segment), entry.location.offset) else {
                continue;
            };
            if head.key == key {
                current = Some((entry, head.sequence, folded(&head)));
            }
        }
        let is_newer = current.as_ref().is_none_or(|c| claim.entry.sequence > c.1);
        match claim.entry.kind {
            Kind::Put if is_newer => {
                let entry = index_entry(sources, &claim, &Loaded::default());
                let entry = IndexEntry { epoch: IndexEntry::JUST_USED, ..entry };
                let displaced = current.as_ref().map(|c| c.0.location);
                let _ = index.insert(hash, entry, displaced);
            }
            Kind::Delete if is_newer => {
                if let Some((entry, ..)) = &current {
                    let _ = index.remove(hash, entry.location);
                }
            }
            Kind::Touch => {
                let target = SequenceNumber(u64_at(&value, 0).unwrap_or_default());
                if let Some((entry, sequence, folded)) = &current
                    && *sequence == target
                    && claim.entry.sequence > *folded
                {
                    loaded.touches.insert(entry.location, touch_of(sources, &claim)?);
                    let _ = index.mark(hash, entry.location, IndexEntry::TOUCHED);
                }
                continue;
            }
            _ => continue,
        }
        if let Some((entry, ..)) = current {
            loaded.touches.remove(&entry.location);
        }
    }
    Ok(())
}
