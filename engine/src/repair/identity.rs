//! What the manifest says, as far as it can be believed: its header, its frames, and what the segments confirm.

use std::collections::{BTreeMap, BTreeSet};

use super::known::Peek;
use crate::{
    error::{Corruption, Error, Result},
    format::{
        checkpoint::CheckpointHeader,
        file_name::{self, FileName},
        hash::KeyHasher,
        manifest::{Edit, MANIFEST_HEADER_BYTES, ManifestHeader},
        wire::u64_at,
    },
    io::read_file,
    options::Options,
    segment::{
        Home,
        manifest_file::{require, sound_frames},
        manifest_state::ManifestState,
    },
    types::{SegmentId, Timestamp},
};

/// What is left of what the manifest said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) header: ManifestHeader,
    pub(super) state: ManifestState,
    pub(super) fault: Option<Corruption>,
    pub(super) is_torn: bool,
    /// Edits are gone, and with them perhaps the names of segments that are gone too.
    pub(super) lacks_edits: bool,
    /// Segments that some edit retired.
    pub(super) retired: BTreeSet<SegmentId>,
    /// Gives the hashes of the footers, if the seed is known.
    pub(super) hasher: Option<KeyHasher>,
}

/// Asks the manifest, and the other files where it does not answer.
pub(super) fn ask(
    home: &Home,
    options: &Options,
    files: &BTreeMap<FileName, u64>,
    peeks: &BTreeMap<SegmentId, Peek>,
) -> Result<Said> {
    let path = home.path(file_name::MANIFEST);
    let (header, fault) = match require(home) {
        Ok(loaded) => {
            let Some(fault) = loaded.damaged else {
                return Ok(Said {
                    hasher: Some(hasher(options, loaded.header.hash_seed)),
                    header: loaded.header,
                    state: loaded.state,
                    fault: None,
                    is_torn: loaded.torn.is_some(),
                    lacks_edits: false,
                    retired: BTreeSet::new(),
                });
            };
            let fault = Corruption { file: path.clone(), offset: fault.at, damage: fault.damage };
            (Some(loaded.header), fault)
        }
        Err(Error::Corruption(fault)) => (None, fault),
        Err(error) => return Err(error),
    };
    let bytes = read_file(home.disk.as_ref(), &path).unwrap_or_default();
    let is_certain = header.is_some();
    let header = header.or_else(|| raw_header(&bytes));
    let frames = header.map_or_else(Vec::new, |header| sound_frames(&bytes, header.generation));
    // Frames that stand under the generation of a damaged header confirm it.
    let header = header.filter(|_| is_certain || !frames.is_empty());
    let (mut state, mut retired) = (ManifestState::default(), BTreeSet::new());
    for edit in frames.iter().flat_map(|frame| &frame.edits) {
        fold(&mut state, &mut retired, edit);
    }
    state.clean = false;
    let read: u64 = frames.iter().map(|frame| frame.bytes).sum();
    let is_all = MANIFEST_HEADER_BYTES as u64 + read == bytes.len() as u64 && !frames.is_empty();
    let seed = match header {
        Some(header) if is_certain => Some(header.hash_seed),
        header => {
            let raw = header.map(|header| header.hash_seed).or_else(|| u64_at(&bytes, 32));
            seed(home, options, files, peeks, raw)
        }
    };
    let header = settle(options, header.unwrap_or_else(|| made_up(options, peeks)), peeks, seed);
    state.high_water = state.high_water.max(last_created(peeks));
    let hasher = seed.map(|seed| hasher(options, seed));
    let lacks_edits = !is_all;
    Ok(Said { header, state, fault: Some(fault), is_torn: false, lacks_edits, retired, hasher })
}

pub(super) fn hasher(options: &Options, seed: u64) -> KeyHasher {
    let hasher = KeyHasher::new(seed);
    #[cfg(feature = "testing")]
    let hasher = hasher.weakened(options.hash_bits);
    #[cfg(not(feature = "testing"))]
    let _ = options;
    hasher
}

/// What a header says whose checksum does not match.
fn raw_header(bytes: &[u8]) -> Option<ManifestHeader> {
    let store_id = bytes.get(16..32)?.try_into().ok()?;
    bytes.get(..MANIFEST_HEADER_BYTES)?;
    Some(ManifestHeader {
        store_id,
        hash_seed: u64_at(bytes, 32)?,
        created: Timestamp(u64_at(bytes, 40)?),
        generation: u64_at(bytes, 48)?,
    })
}

/// Applies an edit although others before it may be gone.
fn fold(state: &mut ManifestState, retired: &mut BTreeSet<SegmentId>, edit: &Edit) {
    match edit {
        Edit::Replace { inputs, .. } => {
            retired.extend(inputs);
            state.segments.retain(|id, _| !inputs.contains(id));
        }
        Edit::Retire(id) => {
            retired.insert(*id);
            state.segments.remove(id);
        }
        // One that makes no sense without what is gone is left out; what it speaks of is found on the disk.
        edit => state.apply(edit).unwrap_or_default(),
    }
}

/// The hash seed, if what is found confirms it: by hashes that footers have, or by a checkpoint's own checksum.
fn seed(
    home: &Home,
    options: &Options,
    files: &BTreeMap<FileName, u64>,
    peeks: &BTreeMap<SegmentId, Peek>,
    raw: Option<u64>,
) -> Option<u64> {
    let checkpoints = files.keys().rev().filter_map(|name| match name {
        FileName::Checkpoint(number) => Some(*number),
        _ => None,
    });
    let in_checkpoints: Vec<_> = checkpoints
        .filter_map(|number| {
            let path = home.path(&file_name::checkpoint(number));
            let bytes = read_file(home.disk.as_ref(), &path).ok()?;
            Some(CheckpointHeader::decode(&bytes).ok()?.hash_seed)
        })
        .collect();
    let samples: Vec<_> = peeks.values().filter_map(|peek| peek.sample.as_ref()).collect();
    if samples.is_empty() {
        return in_checkpoints.first().copied();
    }
    in_checkpoints.into_iter().chain(raw).find(|seed| {
        let hasher = hasher(options, *seed);
        samples.iter().any(|(key, hash)| hasher.hash(key) == *hash)
    })
}

/// The header as it is to be written: the store's id is what most segments say, and a seed that is not known is made
/// up anew.
fn settle(
    options: &Options,
    header: ManifestHeader,
    peeks: &BTreeMap<SegmentId, Peek>,
    seed: Option<u64>,
) -> ManifestHeader {
    let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    for peek in peeks.values().filter_map(|peek| peek.header.as_ref().ok()) {
        *votes.entry(peek.store_id).or_default() += 1;
    }
    let elected = votes.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id);
    ManifestHeader {
        store_id: elected.unwrap_or(header.store_id),
        hash_seed: seed.unwrap_or_else(|| options.clock.random()),
        ..header
    }
}

/// A header where nothing of the old one is left.
fn made_up(options: &Options, peeks: &BTreeMap<SegmentId, Peek>) -> ManifestHeader {
    let clock = options.clock.as_ref();
    let headers = peeks.values().filter_map(|peek| peek.header.as_ref().ok());
    ManifestHeader {
        store_id: (u128::from(clock.random()) << 64 | u128::from(clock.random())).to_le_bytes(),
        hash_seed: clock.random(),
        created: headers.map(|header| header.created).min().unwrap_or(Timestamp(clock.wall_ms())),
        generation: clock.random() >> 16,
    }
}

fn last_created(peeks: &BTreeMap<SegmentId, Peek>) -> Timestamp {
    let headers = peeks.values().filter_map(|peek| peek.header.as_ref().ok());
    headers.map(|header| header.created).max().unwrap_or_default()
}
