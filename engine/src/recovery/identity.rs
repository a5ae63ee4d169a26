//! Who the store is: its manifest, or what can be said without one.

use std::{collections::BTreeMap, io, path::Path};

use super::report::{RecoveryReport, TornTail};
use crate::{
    error::{Corruption, Damage, Error, Result},
    format::{
        FORMAT_MAJOR,
        checkpoint::CheckpointHeader,
        file_name::{self, FileName},
        manifest::ManifestHeader,
        segment_header::{SEGMENT_MAGIC, SegmentHeader, newer_major},
    },
    io::{Access, read_file, read_up_to_at},
    options::{Options, RecoveryPolicy},
    segment::{Home, RECORDS_AT, manifest_file, manifest_state::ManifestState},
    types::{SegmentId, Timestamp},
};

/// Header, folded state, what was noticed, and whether it can be trusted to name every segment.
pub(super) type Manifest = (ManifestHeader, ManifestState, RecoveryReport, bool);

/// Reads the manifest, or makes one up for a new store.
pub(super) fn read_manifest(
    home: &Home,
    options: &Options,
    files: &BTreeMap<FileName, u64>,
) -> Result<Manifest> {
    let mut report = RecoveryReport::default();
    let path = home.path(file_name::MANIFEST);
    let damage = match manifest_file::load(home) {
        Ok(Some(loaded)) => {
            let Some(fault) = loaded.damaged else {
                if let Some((offset, bytes)) = loaded.torn {
                    report.torn.push(TornTail { file: path, offset, bytes });
                }
                report.clean = loaded.state.clean && loaded.torn.is_none();
                return Ok((loaded.header, loaded.state, report, true));
            };
            let corruption = Corruption { file: path, offset: fault.at, damage: fault.damage };
            report.damage(options.recovery, RecoveryPolicy::Salvage, corruption)?;
            return Ok((loaded.header, loaded.state, report, false));
        }
        Ok(None) => {
            refuse_newer(home, files)?;
            let segments = files.keys().filter(|name| matches!(name, FileName::Segment(_)));
            if segments.map(|name| has_records(home, *name)).all(|has| !has) {
                // Nothing was ever acknowledged here: a new store, or one whose creation was cut short.
                report.clean = true;
                let header = fresh_header(home, options, files);
                return Ok((header, ManifestState::default(), report, true));
            }
            Corruption { file: path, offset: 0, damage: Damage::MissingManifest }
        }
        Err(Error::Corruption(corruption)) => corruption,
        Err(error) => return Err(error),
    };
    report.damage(options.recovery, RecoveryPolicy::Salvage, damage)?;
    Ok((fresh_header(home, options, files), ManifestState::default(), report, false))
}

/// A segment of a newer version means a newer store, whatever became of its manifest.
fn refuse_newer(home: &Home, files: &BTreeMap<FileName, u64>) -> Result<()> {
    for name in files.keys() {
        let FileName::Segment(id) = name else { continue };
        let file = home.segment(*id);
        let bytes = read_start(home, &file).map_err(|source| Error::io("read", &file, source))?;
        if let Some(found) = newer_major(&bytes, SEGMENT_MAGIC) {
            return Err(Error::UnknownFormat { file, found, newest_known: FORMAT_MAJOR });
        }
    }
    Ok(())
}

/// The first bytes of a file: enough for its magic number and version.
pub(super) fn read_start(home: &Home, path: &Path) -> io::Result<[u8; 16]> {
    let mut start = [0; 16];
    let file = home.disk.open(path, Access::Read)?;
    read_up_to_at(file.as_ref(), &mut start, 0)?;
    Ok(start)
}

/// Who the store is when no manifest says so: what a segment says, or something new.
fn fresh_header(home: &Home, options: &Options, files: &BTreeMap<FileName, u64>) -> ManifestHeader {
    let clock = options.clock.as_ref();
    let random = || u128::from(clock.random()) << 64 | u128::from(clock.random());
    let mut header = ManifestHeader {
        store_id: random().to_le_bytes(),
        hash_seed: clock.random(),
        created: Timestamp(clock.wall_ms()),
        generation: clock.random() >> 16,
    };
    for name in files.keys() {
        match name {
            FileName::Segment(id) => {
                if let Some((segment, _)) = read_segment(home, *id) {
                    header.store_id = segment.store_id;
                }
            }
            FileName::Checkpoint(number) => {
                let bytes =
                    read_file(home.disk.as_ref(), &home.path(&file_name::checkpoint(*number)));
                if let Ok(found) = CheckpointHeader::decode(&bytes.unwrap_or_default()) {
                    header.hash_seed = found.hash_seed;
                }
            }
            _ => {}
        }
    }
    header
}

/// A segment's header and bytes, if it has a sound header.
fn read_segment(home: &Home, id: SegmentId) -> Option<(SegmentHeader, Vec<u8>)> {
    let bytes = read_file(home.disk.as_ref(), &home.segment(id)).ok()?;
    Some((SegmentHeader::decode(&bytes).ok()?, bytes))
}

/// Whether a segment that no manifest names holds anything.
fn has_records(home: &Home, name: FileName) -> bool {
    let FileName::Segment(id) = name else { return false };
    let Ok(bytes) = read_file(home.disk.as_ref(), &home.segment(id)) else { return true };
    // The manifest is durable before the first record is written: not one byte stands here before it.
    bytes.iter().skip(RECORDS_AT as usize).any(|&byte| byte != 0)
}
