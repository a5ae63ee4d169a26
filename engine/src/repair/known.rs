//! Who the store is and which segments belong to it: by its manifest, or, where that is damaged, by what is left of
//! it and what the files say of themselves. Reads heads and ends of files only; changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    credible::keep_credible,
    examine::{head_at, sound_footer},
    identity::{Said, ask},
};
use crate::{
    error::{Corruption, Damage, DecodeError, Error, Result},
    format::{
        FORMAT_MAJOR,
        checksum::checksum,
        file_name::{self, FileName},
        footer::Trailer,
        hash::KeyHasher,
        manifest::{AddSegment, Edit, ManifestHeader, SealSegment},
        segment_header::{Class, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, newer_major},
        wire::{u32_at, u64_at},
    },
    io::{DirectoryEntry, PathKind, TolerantDisk, read_file},
    options::Options,
    recovery::{SEQUENCE_GAP, ours},
    segment::{
        Home, RECORDS_AT,
        manifest_file::proves_lost_edits,
        manifest_state::ManifestState,
        scan::{Item, scan},
        seal::seal_edit,
    },
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// What a segment's file says of itself.
#[derive(Debug)]
pub(super) struct Peek {
    pub(super) bytes: u64,
    pub(super) header: std::result::Result<SegmentHeader, DecodeError>,
    /// The end of a sound footer.
    pub(super) trailer: Option<Trailer>,
    /// A salt under which records stand in it, where no header tells.
    salt: Option<u64>,
    /// Least and greatest sequence number of its sound records; asked for only if it has no footer.
    sequences: Option<(SequenceNumber, SequenceNumber)>,
    /// Where its last sound record ends.
    records_end: u64,
    /// A record and the hash that the footer has for its key.
    pub(super) sample: Option<(Vec<u8>, u64)>,
}

/// A file with a segment's name that belongs to no segment of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    pub(super) id: SegmentId,
    /// The manifest can be relied on not to have named it, and it is nothing but an output or an input of finished
    /// work.
    pub(super) is_needless: bool,
}

/// What is known of a store.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) home: Home,
    /// Says what of it the device cannot read.
    pub(super) disk: Arc<TolerantDisk>,
    pub(super) header: ManifestHeader,
    /// With the segments that were taken in.
    pub(super) state: ManifestState,
    /// Why the manifest cannot be relied on, if so.
    pub(super) fault: Option<Corruption>,
    /// It ends in an unfinished edit.
    pub(super) is_torn: bool,
    /// Edits of it are gone: if a segment is missing too, nobody knows.
    pub(super) lacks_edits: bool,
    pub(super) files: BTreeMap<FileName, u64>,
    /// The names of all files of ours but the lock, with their lengths.
    pub(super) names: Vec<(String, u64)>,
    /// Gives the hashes of the footers that were found, if that is known.
    pub(super) hasher: Option<KeyHasher>,
    /// The file in which each segment stands; those that are missing have none.
    pub(super) sources: BTreeMap<SegmentId, SegmentId>,
    pub(super) strays: Vec<Stray>,
    /// Of segments that were taken in: records that stand in another segment too, as a repair or a job that was cut short
    /// leaves them.
    pub(super) repeated: Repeated,
}

/// Sequence numbers by segment.
pub(super) type Repeated = BTreeMap<SegmentId, HashSet<SequenceNumber>>;

/// Learns what can be known of the store in `home`.
pub(super) fn learn(home: &Home, options: &Options, disk: Arc<TolerantDisk>) -> Result<Known> {
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    refuse_odd(home, &listed)?;
    let files = ours(&listed);
    let peeks = peeks(home, &files)?;
    let said = ask(home, options, &files, &peeks)?;
    let Said { header, mut state, mut fault, is_torn, mut lacks_edits, retired, hasher } = said;
    let is_credible = !keep_credible(&mut state, &peeks);
    let is_unlisted = |id: &SegmentId| !state.segments.contains_key(id);
    let unlisted: Vec<_> = peeks.keys().copied().filter(is_unlisted).collect();
    if fault.is_none() {
        let proves = |id: &SegmentId| {
            proves_lost_edits(home, &header, &state, *id) || is_newer(&peeks[id], &state)
        };
        fault = unlisted.iter().any(proves).then(|| Corruption {
            file: home.path(file_name::MANIFEST),
            offset: 0,
            damage: Damage::MissingEdits,
        });
        lacks_edits = fault.is_some();
    }
    let lacks_files = state.segments.keys().any(|id| !peeks.contains_key(id));
    let mut sources = sources(&state, &peeks, header.store_id);
    let in_use: BTreeSet<_> = sources.values().copied().collect();
    let is_alien = |id: &&SegmentId| state.segments.contains_key(id) && !in_use.contains(id);
    let alien = |id: &SegmentId| Stray { id: *id, is_needless: false };
    let mut strays: Vec<_> = peeks.keys().filter(is_alien).map(alien).collect();
    let parents = superseded(&peeks, header.store_id);
    let is_doubtful = fault.is_some() || lacks_files;
    let mut adopted = Vec::new();
    for id in unlisted.into_iter().filter(|id| !in_use.contains(id)) {
        let peek = &peeks[&id];
        let is_spent = retired.contains(&id) || parents.contains(&id);
        let add = (is_doubtful && !is_spent).then(|| identify(id, peek, header.store_id)).flatten();
        match add {
            Some(add) => adopted.push(add),
            None => {
                let is_ours = is_own(id, peek, header.store_id);
                strays.push(Stray { id, is_needless: is_ours && (!is_doubtful || is_spent) });
            }
        }
    }
    if fault.is_some() {
        seal_by_footer(&mut state, &peeks);
    }
    if fault.is_none() && !is_credible {
        // Nothing of it is gone, so this raises no doubt about what it does not name.
        let (file, damage) = (home.path(file_name::MANIFEST), Damage::Field("number"));
        fault = Some(Corruption { file, offset: 0, damage });
    }
    adopt(&mut state, &adopted, &peeks, hasher);
    sources.extend(adopted.iter().map(|add| (add.id, add.id)));
    let repeated = repeated(home, &state, &sources, &adopted)?;
    let (home, names) = (home.clone(), names_of(&listed));
    Ok(Known {
        home,
        disk,
        header,
        state,
        fault,
        is_torn,
        lacks_edits,
        files,
        names,
        hasher,
        sources,
        strays,
        repeated,
    })
}

/// Whether a file without a header holds records that are newer than everything the manifest knows: it must have named
/// that segment once.
fn is_newer(peek: &Peek, state: &ManifestState) -> bool {
    let newest = peek.sequences.map(|(_, high)| high);
    peek.header.is_err() && newest.is_some_and(|newest| newest >= state.next_sequence)
}

/// Which records of segments that were taken in stand elsewhere too. A sequence number is that of one record (I5).
fn repeated(
    home: &Home,
    state: &ManifestState,
    sources: &BTreeMap<SegmentId, SegmentId>,
    adopted: &[AddSegment],
) -> Result<Repeated> {
    let mut repeated = Repeated::new();
    if adopted.is_empty() {
        return Ok(repeated);
    }
    let mut owners: HashMap<SequenceNumber, SegmentId> = HashMap::new();
    for add in adopted {
        for sequence in sound_sequences(home, add, add.id)? {
            if *owners.entry(sequence).or_insert(add.id) != add.id {
                repeated.entry(add.id).or_default().insert(sequence);
            }
        }
    }
    for (id, source) in sources.iter().filter(|(id, _)| !adopted.iter().any(|a| a.id == **id)) {
        let Some(segment) = state.segments.get(id) else { continue };
        for sequence in sound_sequences(home, &segment.add, *source)? {
            if let Some(owner) = owners.get(&sequence) {
                repeated.entry(*owner).or_default().insert(sequence);
            }
        }
    }
    Ok(repeated)
}

/// The sequence numbers of the sound records of a segment that stands in the file of `source`.
fn sound_sequences(
    home: &Home,
    add: &AddSegment,
    source: SegmentId,
) -> Result<Vec<SequenceNumber>> {
    let path = home.segment(source);
    let bytes =
        read_file(home.disk.as_ref(), &path).map_err(|source| Error::io("read", &path, source))?;
    let items = scan(&bytes, bytes.len() as u64, add.salt, SequenceNumber(0));
    let sound = items.into_iter().filter_map(|item| match item {
        Item::Record(record) if record.sound => Some(record.sequence),
        Item::Record(_) | Item::Gap(_) => None,
    });
    Ok(sound.collect())
}

/// A link or a directory under a name of ours is not what is missing there: nobody is to take it for that.
fn refuse_odd(home: &Home, listed: &[DirectoryEntry]) -> Result<()> {
    let is_odd = |entry: &&DirectoryEntry| {
        entry.kind != PathKind::File && FileName::parse(&entry.name).is_some()
    };
    match listed.iter().find(is_odd) {
        Some(odd) => {
            let source = std::io::Error::other("it is no regular file; put the file in its place");
            Err(Error::io("read", home.path(&odd.name), source))
        }
        None => Ok(()),
    }
}

/// The names of our files but the lock and the ballast, with their lengths.
pub(super) fn names_of(listed: &[DirectoryEntry]) -> Vec<(String, u64)> {
    let is_ours = |entry: &&DirectoryEntry| {
        let name = FileName::parse(&entry.name);
        entry.kind == PathKind::File
            && name.is_some_and(|name| !matches!(name, FileName::Lock | FileName::Ballast))
    };
    let names = listed.iter().filter(is_ours).map(|entry| (entry.name.clone(), entry.bytes));
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// What the files of all segments say.
fn peeks(home: &Home, files: &BTreeMap<FileName, u64>) -> Result<BTreeMap<SegmentId, Peek>> {
    let ids = files.keys().filter_map(|name| match name {
        FileName::Segment(id) => Some(*id),
        _ => None,
    });
    ids.map(|id| Ok((id, peek(home, id)?))).collect()
}

/// Reads what a segment's file says of itself.
fn peek(home: &Home, id: SegmentId) -> Result<Peek> {
    let path = home.segment(id);
    let bytes =
        read_file(home.disk.as_ref(), &path).map_err(|source| Error::io("read", &path, source))?;
    peek_at(&bytes).map_err(|found| Error::UnknownFormat {
        file: path,
        found,
        newest_known: FORMAT_MAJOR,
    })
}

/// What the bytes of a segment's file say; `Err` is the version of a sound header that is newer than known here.
pub(super) fn peek_at(bytes: &[u8]) -> std::result::Result<Peek, u16> {
    if let Some(found) = newer_major(bytes, SEGMENT_MAGIC) {
        // A version field that was changed by damage has no checksum to go with it.
        let split = SEGMENT_HEADER_BYTES - 4;
        if bytes.get(..split).map(checksum) == u32_at(bytes, split) {
            return Err(found);
        }
    }
    let header = SegmentHeader::decode(bytes);
    let footer = sound_footer(bytes);
    let salt = match (&header, &footer, u64_at(bytes, 40)) {
        (Ok(header), ..) => Some(header.salt),
        (Err(_), Some((trailer, _)), _) => Some(trailer.salt),
        (Err(_), None, raw) => raw,
    };
    let mut peek = Peek {
        bytes: bytes.len() as u64,
        header,
        trailer: None,
        salt: None,
        sequences: None,
        records_end: RECORDS_AT,
        sample: None,
    };
    match (footer, salt) {
        (Some((trailer, entries)), Some(salt)) => {
            peek.sample = entries.iter().find_map(|entry| {
                let head = head_at(bytes, salt, entry.offset)?;
                (head.sequence == entry.sequence).then(|| (head.key.to_vec(), entry.hash))
            });
            peek.salt = Some(salt);
            peek.sequences = Some((trailer.sequence_min, trailer.sequence_max));
            peek.records_end = trailer.records_end;
            peek.trailer = Some(trailer);
        }
        (None, Some(salt)) => {
            for item in scan(bytes, bytes.len() as u64, salt, SequenceNumber(0)) {
                let Item::Record(record) = item else { continue };
                let (low, high) = peek.sequences.unwrap_or((record.sequence, record.sequence));
                peek.sequences = Some((low.min(record.sequence), high.max(record.sequence)));
                peek.records_end = peek.records_end.max(record.offset + record.bytes);
                peek.salt = Some(salt);
            }
        }
        _ => {}
    }
    Ok(peek)
}

/// The file in which each listed segment stands: the one of its name, or one whose header says that it is it.
fn sources(
    state: &ManifestState,
    peeks: &BTreeMap<SegmentId, Peek>,
    store_id: [u8; 16],
) -> BTreeMap<SegmentId, SegmentId> {
    let is_it = |add: &AddSegment, peek: &Peek| {
        let says = |header: &SegmentHeader| {
            header.store_id == store_id && header.id == add.id && header.salt == add.salt
        };
        peek.header.as_ref().is_ok_and(says)
    };
    let mut sources = BTreeMap::new();
    for (id, segment) in &state.segments {
        let own = peeks.get(id).filter(|peek| is_it(&segment.add, peek) || peek.header.is_err());
        let elsewhere = || peeks.iter().find(|(_, p)| is_it(&segment.add, p)).map(|(id, _)| *id);
        // A file of this name that is another of our segments is not this one with a wrong header.
        let is_other = |peek: &Peek| state.segments.values().any(|s| is_it(&s.add, peek));
        let wrong = || peeks.get(id).filter(|peek| !is_other(peek)).map(|_| *id);
        let source = match own {
            Some(_) => Some(*id),
            None => elsewhere().or_else(wrong),
        };
        sources.extend(source.map(|source| (*id, source)));
    }
    sources
}

/// Segments that recovery wrote anew into others that are there and whole.
fn superseded(peeks: &BTreeMap<SegmentId, Peek>, store_id: [u8; 16]) -> BTreeSet<SegmentId> {
    let whole = peeks.values().filter(|peek| peek.trailer.is_some());
    let headers = whole.filter_map(|peek| peek.header.as_ref().ok());
    headers
        .filter(|header| header.store_id == store_id)
        .flat_map(|header| header.parents.iter().copied())
        .collect()
}

fn is_own(id: SegmentId, peek: &Peek, store_id: [u8; 16]) -> bool {
    peek.header.as_ref().is_ok_and(|header| header.store_id == store_id && header.id == id)
}

/// Who an unlisted segment is, if it can be read and is one of this store.
fn identify(id: SegmentId, peek: &Peek, store_id: [u8; 16]) -> Option<AddSegment> {
    match (&peek.header, &peek.trailer) {
        (Ok(_), _) if !is_own(id, peek, store_id) => None,
        (Ok(header), _) => Some(AddSegment::from(header)),
        (Err(_), Some(trailer)) if trailer.id == id => Some(AddSegment {
            id,
            class: Class::REWRITTEN,
            salt: trailer.salt,
            horizon: trailer.horizon,
            first_sequence: trailer.sequence_min,
        }),
        (Err(_), Some(_)) => None,
        // Its salt proves itself: records were found under it.
        (Err(_), None) => peek.sequences.and(peek.salt).map(|salt| AddSegment {
            id,
            class: Class::REWRITTEN,
            salt,
            horizon: SequenceNumber(0),
            first_sequence: SequenceNumber(0),
        }),
    }
}

/// Takes segments in that no manifest names.
fn adopt(
    state: &mut ManifestState,
    adopted: &[AddSegment],
    peeks: &BTreeMap<SegmentId, Peek>,
    hasher: Option<KeyHasher>,
) {
    let open = unsealed_end(state, adopted, peeks);
    if hasher.is_none() {
        // Hashes of a seed that is not known are of no use: these are read by their records.
        for seal in state.segments.values_mut().filter_map(|segment| segment.seal.as_mut()) {
            seal.trailer_checksum = 0;
        }
    }
    for add in adopted {
        let peek = &peeks[&add.id];
        // Neither can fail: the segment is not listed yet, and is a line later.
        let _ = state.apply(&Edit::Add(*add));
        let seal = match &peek.trailer {
            Some(trailer) if hasher.is_some() => seal_edit(trailer, peek.bytes),
            _ if open.contains(&add.id) => continue,
            _ => seal_without_footer(add.id, peek),
        };
        let _ = state.apply(&Edit::Seal(seal));
    }
}

/// The edit that sealed a segment may be gone; its footer says the same.
fn seal_by_footer(state: &mut ManifestState, peeks: &BTreeMap<SegmentId, Peek>) {
    let seal_of = |id: &SegmentId, add: &AddSegment| {
        let peek = peeks.get(id)?;
        let trailer = peek.trailer.filter(|t| t.id == *id && t.salt == add.salt)?;
        Some(seal_edit(&trailer, peek.bytes))
    };
    let open = state.segments.iter().filter(|(_, segment)| segment.seal.is_none());
    let seals: Vec<_> = open.filter_map(|(id, segment)| seal_of(id, &segment.add)).collect();
    // None can fail: the segments are listed.
    seals.into_iter().for_each(|seal| state.apply(&Edit::Seal(seal)).unwrap_or_default());
}

/// What is said of a sealed segment whose footer does not count.
pub(super) fn seal_without_footer(id: SegmentId, peek: &Peek) -> SealSegment {
    SealSegment {
        id,
        file_bytes: peek.bytes.max(peek.records_end),
        records_end: peek.records_end,
        sequence_max: peek.sequences.map(|(_, high)| high).unwrap_or_default(),
        expiry_min: Timestamp(0),
        expiry_max: Timestamp(u64::MAX),
        entries: 0,
        tombstones: u32::MAX,
        not_fresh: u32::MAX,
        trailer_checksum: 0,
    }
}

/// Sequence numbers that a session leaves out after a crash are more than this: so far apart are two sessions.
const SESSION_GAP: u64 = SEQUENCE_GAP / 2;

/// Which of the segments that were taken in are the unsealed end of the log: those without a footer that came after
/// all that have one, and in one session.
fn unsealed_end(
    state: &ManifestState,
    adopted: &[AddSegment],
    peeks: &BTreeMap<SegmentId, Peek>,
) -> BTreeSet<SegmentId> {
    let is_foreground = |add: &&AddSegment| {
        let has_header = peeks.get(&add.id).is_some_and(|peek| peek.header.is_ok());
        add.class == Class::FOREGROUND && has_header
    };
    let has_footer = |add: &AddSegment| peeks.get(&add.id).is_some_and(|p| p.trailer.is_some());
    let listed = state.segments.values().filter(|s| s.seal.is_some()).map(|s| &s.add);
    let sealed = listed.chain(adopted.iter().filter(|add| has_footer(add))).filter(is_foreground);
    let last_sealed = sealed.map(|add| add.first_sequence).max().unwrap_or_default();
    let mut open: Vec<_> = adopted
        .iter()
        .filter(is_foreground)
        .filter(|add| !has_footer(add) && add.first_sequence > last_sealed)
        .collect();
    open.sort_by_key(|add| add.first_sequence);
    let end_of = |add: &AddSegment| {
        let seen = peeks[&add.id].sequences.map(|(_, high)| high);
        seen.unwrap_or(add.first_sequence).max(add.first_sequence)
    };
    let mut start = 0;
    for at in 1..open.len() {
        if open[at].first_sequence.0 > end_of(open[at - 1]).0.saturating_add(SESSION_GAP) {
            start = at;
        }
    }
    open.split_off(start.min(open.len())).into_iter().map(|add| add.id).collect()
}
