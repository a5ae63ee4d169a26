//! The index at one moment, on disk, so that opening need not read the segments. Written from a frozen copy while
//! writers go on; published only when everything in it is durable (I7). Any damage means it is not used.

use std::{collections::HashSet, path::Path, sync::Arc};

use crate::{
    error::{Error, Result},
    format::{
        checkpoint::{
            CHECKPOINT_HEADER_BYTES, CheckpointHeader, CheckpointSegment, CheckpointTouch,
            LAYOUT_SHARDED, SECTION_CUTS, SECTION_END, SECTION_ENTRIES, SECTION_SEGMENTS,
            SECTION_TOUCHES, decode_cuts, decode_sections, encode_cut, encode_section,
        },
        file_name,
        manifest::Edit,
        wire::{Reader, u64_at},
    },
    index::{Frozen, SHARDS},
    io::{Access, FILE_BYTES_MAX, read_file_of, read_up_to_at, remove_if_there, write_all_at},
    overrides::{Cuts, FrozenOverrides, Touches},
    segment::{
        Home, Segment,
        catalog::{SLOTS_MAX, Table},
        manifest_file::ManifestFile,
    },
    sync::{Mutex, PoisonError},
    types::{Location, SegmentId, SequenceNumber, Slot, Timestamp, Touch},
};

/// Bytes of one entry of the index.
const ENTRY_BYTES: u64 = 16;

/// What a checkpoint is written from: the store at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) index: Frozen,
    pub(crate) accounts: Vec<CheckpointSegment>,
    pub(crate) overrides: FrozenOverrides,
    /// Every record up to this one is in.
    pub(crate) sequence: SequenceNumber,
    pub(crate) now: Timestamp,
}

/// The segments and their accounts as they are now.
pub(crate) fn accounts(table: &Table) -> Vec<CheckpointSegment> {
    let row = |segment: &Arc<Segment>| {
        let (live_bytes, live_records) = segment.live();
        CheckpointSegment { slot: segment.slot.0, id: segment.id(), live_bytes, live_records }
    };
    table.iter().map(row).collect()
}

/// Writes a checkpoint and publishes it with `edits` besides. Everything in `moment` is durable already.
pub(crate) fn write(
    home: &Home,
    manifest: &Mutex<ManifestFile>,
    number: u64,
    moment: &Moment,
    edits: Vec<Edit>,
) -> Result<()> {
    let (header, previous) = {
        let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let header = CheckpointHeader {
            store_id: manifest.header().store_id,
            number,
            sequence: moment.sequence,
            created: moment.now,
            hash_seed: manifest.header().hash_seed,
            layout: LAYOUT_SHARDED,
            entries: moment.index.len() as u64,
        };
        (header, manifest.state().checkpoint)
    };
    let path = home.path(&file_name::checkpoint(number));
    let tmp = home.path(&file_name::checkpoint_tmp(number));
    if let Err(error) = write_file(home, &tmp, &path, &header, moment) {
        let _ = home.disk.remove(&tmp);
        return Err(error);
    }
    let mut all = vec![Edit::Checkpoint { number, sequence: moment.sequence }];
    all.extend(edits);
    // Order: the file is durable before the manifest names it, the old one goes after it is no longer named.
    let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
    // A store that is closed has a manifest of one frame.
    let is_last = all.contains(&Edit::Clean);
    let named = if is_last { manifest.apply_whole(&all) } else { manifest.apply(&all) };
    if let Err(error) = named {
        // Order: the manifest surely does not name the file before that goes. Its size would never be charged.
        if manifest.disown().is_ok() {
            let _ = home.disk.remove(&path);
        }
        return Err(error);
    }
    drop(manifest);
    if let Some((old, _)) = previous {
        let _ = home.disk.remove(&home.path(&file_name::checkpoint(old)));
    }
    Ok(())
}

fn write_file(
    home: &Home,
    tmp: &Path,
    path: &Path,
    header: &CheckpointHeader,
    moment: &Moment,
) -> Result<()> {
    let failed = |operation| move |source| Error::io(operation, tmp, source);
    remove_if_there(home.disk.as_ref(), tmp).map_err(failed("remove"))?;
    let file = home.disk.open(tmp, Access::CreateNew).map_err(failed("create"))?;
    let mut out = header.encode().to_vec();
    let mut at = 0;
    let mut flush = |out: &mut Vec<u8>, least: usize| {
        if out.len() >= least {
            write_all_at(file.as_ref(), out, at).map_err(failed("write"))?;
            at += out.len() as u64;
            out.clear();
        }
        Ok::<(), Error>(())
    };
    marks(moment, &mut out);
    for shard in 0..SHARDS {
        let mut content = Vec::new();
        content.extend_from_slice(&(shard as u32).to_le_bytes());
        content.extend_from_slice(&(SHARDS as u32).to_le_bytes());
        for word in moment.index.shard_words(shard).flatten() {
            content.extend_from_slice(&word.to_le_bytes());
        }
        if content.len() > 8 {
            encode_section(SECTION_ENTRIES, &content, &mut out);
        }
        flush(&mut out, 1 << 20)?;
    }
    encode_section(SECTION_END, &[], &mut out);
    flush(&mut out, 0)?;
    file.sync().map_err(failed("sync"))?;
    home.disk.rename(tmp, path).map_err(failed("rename"))?;
    home.disk.sync_dir(home.dir()).map_err(failed("sync the directory of"))
}

/// The sections that are not entries.
fn marks(moment: &Moment, out: &mut Vec<u8>) {
    let mut content = Vec::new();
    moment.accounts.iter().for_each(|row| row.encode(&mut content));
    encode_section(SECTION_SEGMENTS, &content, out);
    content.clear();
    for (scope, sequence) in moment.overrides.cuts() {
        encode_cut(sequence, scope, &mut content);
    }
    encode_section(SECTION_CUTS, &content, out);
    content.clear();
    for (at, touch) in moment.overrides.touches() {
        CheckpointTouch {
            slot: at.slot.0,
            offset: at.offset,
            expires_at: touch.expires_at,
            sequence: touch.sequence,
        }
        .encode(&mut content);
    }
    encode_section(SECTION_TOUCHES, &content, out);
}

/// A checkpoint as read from disk.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) sequence: SequenceNumber,
    pub(crate) segments: Vec<CheckpointSegment>,
    pub(crate) cuts: Cuts,
    pub(crate) touches: Touches,
    bytes: Vec<u8>,
    /// Where each shard's words stand in `bytes`.
    shards: Vec<(usize, std::ops::Range<usize>)>,
}

impl Loaded {
    /// Each shard with its packed entries.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = [u64; 2]>)> {
        self.shards.iter().map(|(shard, range)| {
            let words = self.bytes[range.clone()].chunks_exact(16);
            let pair = |row: &[u8]| Some([u64_at(row, 0)?, u64_at(row, 8)?]);
            (*shard, words.filter_map(pair))
        })
    }

    /// The slot that each segment had.
    pub(crate) fn slot_of(&self, id: SegmentId) -> Option<Slot> {
        self.segments.iter().find(|row| row.id == id).map(|row| Slot(row.slot))
    }
}

/// Reads checkpoint `number`; `Err` says why it is of no use.
pub(crate) fn load(
    home: &Home,
    number: u64,
    store_id: [u8; 16],
    hash_seed: u64,
) -> std::result::Result<Loaded, String> {
    let path = home.path(&file_name::checkpoint(number));
    let text = |error: std::io::Error| error.to_string();
    let mut start = vec![0; CHECKPOINT_HEADER_BYTES];
    let file = home.disk.open(&path, Access::Read).map_err(text)?;
    read_up_to_at(file.as_ref(), &mut start, 0).map_err(text)?;
    // A sparse file may claim any length: one that is very long has a header that says why.
    let entries = CheckpointHeader::decode(&start).map_or(0, |header| header.entries);
    let bytes_max = FILE_BYTES_MAX.saturating_add(entries.saturating_mul(ENTRY_BYTES));
    let bytes = read_file_of(home.disk.as_ref(), &path, bytes_max).map_err(text)?;
    decode(bytes, number, store_id, hash_seed)
}

/// Whether each segment has a slot of its own, in the range that entries can name.
pub(crate) fn slots_are_sound(rows: &[CheckpointSegment]) -> bool {
    let slots: HashSet<_> = rows.iter().map(|row| row.slot).collect();
    let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
    slots.len() == rows.len()
        && ids.len() == rows.len()
        && slots.iter().all(|slot| *slot < SLOTS_MAX)
}

/// A checkpoint's bytes as a checkpoint.
pub(crate) fn decode(
    bytes: Vec<u8>,
    number: u64,
    store_id: [u8; 16],
    hash_seed: u64,
) -> std::result::Result<Loaded, String> {
    let text = |fault: crate::error::DecodeError| format!("at byte {}: {}", fault.at, fault.damage);
    let header = CheckpointHeader::decode(&bytes).map_err(text)?;
    let is_ours = header.store_id == store_id
        && header.number == number
        && header.hash_seed == hash_seed
        && header.layout == LAYOUT_SHARDED;
    if !is_ours {
        return Err("it belongs elsewhere".to_owned());
    }
    let body = bytes.get(CHECKPOINT_HEADER_BYTES..).unwrap_or_default();
    let mut loaded = Loaded {
        sequence: header.sequence,
        segments: Vec::new(),
        cuts: Cuts::new(),
        touches: Touches::new(),
        bytes: Vec::new(),
        shards: Vec::new(),
    };
    let mut entries = 0;
    for (kind, content) in decode_sections(body).map_err(text)? {
        match kind {
            SECTION_SEGMENTS => {
                loaded.segments = CheckpointSegment::decode_all(content).map_err(text)?;
            }
            SECTION_CUTS => {
                let cuts = decode_cuts(content).map_err(text)?;
                loaded.cuts = cuts.into_iter().map(|(s, name)| (name.into(), s)).collect();
            }
            SECTION_TOUCHES => {
                let rows = CheckpointTouch::decode_all(content).map_err(text)?;
                let touch = |row: CheckpointTouch| {
                    let at = Location { slot: Slot(row.slot), offset: row.offset };
                    // The expiry may be ahead of the log's, which is not told: the next slide is written down, or a crash
                    // without this file would take back more than it may.
                    let CheckpointTouch { expires_at, sequence, .. } = row;
                    (at, Touch { expires_at, sequence, logged: None })
                };
                loaded.touches = rows.into_iter().map(touch).collect();
            }
            _ => {
                let mut reader = Reader::new(content);
                let shard = reader.u32().map_err(text)? as usize;
                let count = reader.u32().map_err(text)? as usize;
                let words = reader.remaining();
                if count != SHARDS || shard >= SHARDS || !words.is_multiple_of(16) {
                    return Err("its entries have another layout".to_owned());
                }
                entries += (words / 16) as u64;
                let end = content.as_ptr_range().end as usize - bytes.as_ptr() as usize;
                loaded.shards.push((shard, end - words..end));
            }
        }
    }
    if !slots_are_sound(&loaded.segments) {
        return Err("its segments share slots".to_owned());
    }
    if entries != header.entries {
        return Err(format!("it holds {entries} of {} entries", header.entries));
    }
    loaded.bytes = bytes;
    Ok(loaded)
}
