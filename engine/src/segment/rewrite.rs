//! Records of an unsealed segment into a new, sealed one, byte for byte but for their seeds.
//!
//! Written aside, synced, renamed: until the manifest names it, it is an orphan that recovery deletes.

use std::{path::PathBuf, sync::Arc};

use super::{
    Home, RECORDS_AT, Sealed, Segment,
    seal::{sealed_through, write_footer},
};
use crate::{
    error::{Error, Result},
    format::{
        file_name,
        hash::KeyHasher,
        manifest::{AddSegment, SealSegment},
        record::{Flags, flags_of, stamp},
        segment_header::SegmentHeader,
    },
    io::{Access, FailStopFile, remove_if_there},
    types::{SequenceNumber, Slot},
};

/// A record to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) head_bytes: usize,
    pub(crate) sequence: SequenceNumber,
}

/// A segment that is complete on disk and not yet in the manifest.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub(crate) segment: Arc<Segment>,
    pub(crate) seal: SealSegment,
    /// How it is read from now on.
    pub(crate) sealed: Sealed,
    /// Offset of each copied record, in the order of the sources.
    pub(crate) offsets: Vec<u64>,
}

/// Writes `sources` into a new segment with `header`. Its image stays until `Segment::finish`. With an error comes
/// where the file is that may be left.
pub(crate) fn rewrite<'a>(
    home: &Home,
    header: &SegmentHeader,
    slot: Slot,
    (hasher, maps): (KeyHasher, bool),
    sources: impl Iterator<Item = Source<'a>>,
) -> Result<Rewritten, (Error, PathBuf)> {
    let add = AddSegment::from(header);
    let segment = Arc::new(Segment::unsealed(home, add, slot));
    let mut offsets = Vec::new();
    let mut at = RECORDS_AT;
    let mut record = Vec::new();
    for source in sources {
        record.clear();
        record.extend_from_slice(source.bytes);
        // A record that is copied was committed: its batch needs no marker any more.
        let flags = flags_of(&record).without(Flags::BATCH);
        stamp(&mut record, source.head_bytes, source.sequence, flags, header.salt, at);
        segment.extend_image(&record);
        offsets.push(at);
        at += record.len() as u64;
    }
    let tmp = home.path(&file_name::segment_tmp(header.id));
    let failed = |operation| {
        let tmp = tmp.clone();
        move |source| Error::io(operation, tmp, source)
    };
    // Order: the bytes are durable before the name shows them, the name before the manifest says it (I7).
    let written = write_aside(home, &tmp, header, &segment, hasher).and_then(|written| {
        home.disk.rename(&tmp, &segment.path).map_err(failed("rename"))?;
        Ok(written)
    });
    let (seal, file) = match written {
        Ok(written) => written,
        Err(error) => return Err((error, tmp)),
    };
    match home.disk.sync_dir(home.dir()).map_err(failed("sync the directory of")) {
        Ok(()) => {
            let sealed = sealed_through(Arc::clone(file.inner()), &seal, maps);
            Ok(Rewritten { segment, seal, sealed, offsets })
        }
        Err(error) => Err((error, segment.path.clone())),
    }
}

fn write_aside(
    home: &Home,
    tmp: &std::path::Path,
    header: &SegmentHeader,
    segment: &Segment,
    hasher: KeyHasher,
) -> Result<(SealSegment, FailStopFile)> {
    home.check_lock()?;
    let failed = |operation| move |source| Error::io(operation, tmp, source);
    remove_if_there(home.disk.as_ref(), tmp).map_err(failed("remove"))?;
    let raw = home.disk.open(tmp, Access::CreateNew).map_err(failed("create"))?;
    let file = FailStopFile::new(raw);
    file.write(&header.encode(), 0).map_err(failed("write"))?;
    file.write(&segment.image(), RECORDS_AT).map_err(failed("write"))?;
    Ok((write_footer(segment, &file, hasher)?, file))
}
