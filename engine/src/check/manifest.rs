//! The manifest as the check sees it: read once, remembered by a stamp, doubted where a store would forgive.

use std::path::Path;

use super::{codes::Code, listing::irregular, report::Finding};
use crate::{
    error::{Corruption, Error, Result},
    format::{
        checksum::checksum,
        file_name::{self, FileName},
        manifest::{Frame, decode_frame},
    },
    io::{Access, DirectoryEntry, PathKind, Window, read_up_to_at},
    segment::{
        FILE_BYTES_MAX, Home, RECORDS_AT,
        manifest_file::{Loaded, decode, require},
    },
};

/// Which manifest was seen: two readings of one that did not change in between have the same stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    checksum: u32,
}

/// A manifest, or the finding that there is none that can be read.
pub(super) type Reading = std::result::Result<(Stamp, Loaded, Vec<Finding>), Finding>;

/// No manifest is as long: it is replaced by its sum when it has grown, and a store has at most a million segments.
const BYTES_MAX: u64 = 1 << 30;
/// Ids count up from 1: a number like this was not given by us.
const ID_MAX: u64 = 1 << 56;

/// Reads the manifest.
pub(super) fn read(home: &Home) -> Result<Reading> {
    let path = home.path(file_name::MANIFEST);
    let failed = |operation| {
        let path = path.clone();
        move |source| Error::io(operation, path, source)
    };
    let dir = home.disk.kind(home.dir()).map_err(|e| Error::io("look at", home.dir(), e))?;
    if dir != Some(PathKind::Directory) {
        return damage_or_error(require(home).map(drop));
    }
    match home.disk.kind(&path).map_err(failed("look at"))? {
        Some(PathKind::File) => {}
        Some(kind) => {
            return Ok(Err(irregular(&path, kind)));
        }
        None if !has_records(home)? => {
            let reason = "there is no manifest".to_owned();
            return Err(Error::NotAStore { path: home.dir.clone(), reason });
        }
        None => return damage_or_error(require(home).map(drop)),
    }
    let file = home.disk.open(&path, Access::Read).map_err(failed("open"))?;
    let length = file.bytes().map_err(failed("read"))?;
    if length > BYTES_MAX {
        let message = format!("{length} bytes, more than a manifest ever has");
        return Ok(Err(Finding::new(Code::ManifestDamaged, &path, Some(BYTES_MAX), message)));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = read_up_to_at(file.as_ref(), &mut bytes, 0).map_err(failed("read"))?;
    bytes.truncate(read);
    let stamp = Stamp { bytes: read as u64, checksum: checksum(&bytes) };
    match decode(home, &bytes) {
        Ok(loaded) => {
            let findings = judge(home, &bytes, &loaded);
            Ok(Ok((stamp, loaded, findings)))
        }
        Err(error) => damage_or_error(Err(error)),
    }
}

/// Whether any segment holds something. Without a manifest that is damage; if none does, nothing was acknowledged here
/// yet: the manifest is durable before the first record.
fn has_records(home: &Home) -> Result<bool> {
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let is_segment = |entry: &DirectoryEntry| {
        entry.kind == PathKind::File
            && matches!(FileName::parse(&entry.name), Some(FileName::Segment(_)))
    };
    for entry in listed.iter().filter(|entry| is_segment(entry)) {
        let path = home.path(&entry.name);
        let holds = || {
            let file = home.disk.open(&path, Access::Read)?;
            let mut window =
                Window::new(file.as_ref(), 256 << 10, file.bytes()?.min(FILE_BYTES_MAX));
            let mut at = RECORDS_AT;
            loop {
                let bytes = window.bytes(at, 1)?;
                if bytes.is_empty() || bytes.iter().any(|&byte| byte != 0) {
                    return Ok(!bytes.is_empty());
                }
                at += bytes.len() as u64;
            }
        };
        if holds().map_err(|source| Error::io("read", &path, source))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn damage_or_error(outcome: Result<()>) -> Result<Reading> {
    match outcome {
        Err(Error::Corruption(Corruption { file, offset, damage })) => {
            Ok(Err(Finding::new(Code::ManifestDamaged, &file, Some(offset), damage)))
        }
        Err(error) => Err(error),
        // It was not there a moment ago: it is looked at again.
        Ok(()) => {
            let path = Path::new(file_name::MANIFEST);
            Ok(Err(Finding::new(Code::ManifestDamaged, path, None, "it came and went")))
        }
    }
}

/// What is wrong with it.
fn judge(home: &Home, bytes: &[u8], loaded: &Loaded) -> Vec<Finding> {
    let path = home.path(file_name::MANIFEST);
    let mut findings = Vec::new();
    let mut find = |code, offset, message: &dyn std::fmt::Display| {
        findings.push(Finding::new(code, &path, offset, message));
    };
    if let Some(fault) = &loaded.damaged {
        find(Code::ManifestDamaged, Some(fault.at), &fault.damage);
    }
    if let Some((offset, length)) = loaded.torn {
        match flipped_bit(bytes, offset, loaded.header.generation) {
            Some(at) => find(
                Code::ManifestDamaged,
                Some(at),
                &"one bit of its last frame is not what was written",
            ),
            None => find(
                Code::ManifestUnfinished,
                Some(offset),
                &format!("{length} bytes of an unfinished edit"),
            ),
        }
    }
    for id in loaded.state.segments.keys().filter(|id| id.0 >= ID_MAX) {
        find(
            Code::ManifestDamaged,
            None,
            &format!("it names segment {id}, an id that is never given"),
        );
    }
    findings
}

/// Bytes that a device writes as one.
const SECTOR_BYTES: usize = 512;

/// Where the one byte is that keeps the last frame from being sound, if a single bit of it is all that is wrong and a
/// write that was cut short cannot have left that: what such a write lost is zeros from some byte on, or whole
/// sectors of zeros. A bit that should be 0, or one with something written behind it in its sector, is no such loss.
fn flipped_bit(bytes: &[u8], offset: u64, generation: u64) -> Option<u64> {
    /// Longer frames are not tried: it takes time that grows with the square.
    const BYTES_MAX: usize = 16 << 10;
    let start = usize::try_from(offset).ok()?;
    let mut frame = bytes.get(start..).filter(|frame| frame.len() <= BYTES_MAX)?.to_vec();
    for place in 0..frame.len() * 8 {
        let (at, bit) = (place / 8, 1 << (place % 8));
        frame[at] ^= bit;
        let is_sound = decode_frame(&frame, generation, offset)
            .is_ok_and(|Frame { bytes, .. }| bytes == frame.len() as u64);
        if is_sound {
            let sector_end = (start + at + 1).next_multiple_of(SECTOR_BYTES) - start;
            let behind = frame.get(at + 1..sector_end.min(frame.len())).unwrap_or_default();
            let is_lost_write = frame[at] & bit != 0 && behind.iter().all(|&byte| byte == 0);
            return (!is_lost_write).then_some(offset + at as u64);
        }
        frame[at] ^= bit;
    }
    None
}
