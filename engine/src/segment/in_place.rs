//! In-place sealing of an unsealed segment, for a disk without space for a copy.
//!
//! Every byte of the records is written again from memory before the sync, so that nothing rests on what only the page
//! cache had. The records do not move, and the bytes are those that stand there: a crash in between leaves a segment
//! that is judged as before. What stood behind the records is cut off first.

use std::{io, sync::Arc};

use super::{
    Home, RECORDS_AT, Sealed, Segment,
    seal::{footer_of, seal_edit, sealed_through},
};
use crate::{
    error::{Error, Result, is_disk_full},
    format::{hash::KeyHasher, manifest::SealSegment},
    io::{Access, FailStopFile, write_all_at},
    types::Timestamp,
};

/// What has to be left beside a footer.
const OTHERS_BYTES: u64 = 16 << 10;

/// Seals `segment`, whose image has no holes, with its footer if there is room for that.
pub(crate) fn seal_in_place(
    home: &Home,
    segment: &Segment,
    hasher: KeyHasher,
    maps: bool,
) -> Result<(SealSegment, Sealed)> {
    home.check_lock()?;
    let failed = |operation| {
        let path = segment.path.clone();
        move |source| Error::io(operation, path, source)
    };
    let image = segment.image();
    let (footer, trailer) = footer_of(segment, &image, hasher)?;
    let raw = home.disk.open(&segment.path, Access::Write).map_err(failed("open"))?;
    let file = FailStopFile::new(Arc::clone(&raw));
    let end = trailer.records_end;
    if raw.bytes().map_err(failed("look at"))? > end {
        file.set_bytes(end).map_err(failed("cut"))?;
    }
    file.write(&image, RECORDS_AT).map_err(failed("write"))?;
    drop(image);
    let file_bytes = end + footer.len() as u64;
    let free = home.disk.space(home.dir()).map_or(u64::MAX, |space| space.available);
    // By the raw file: that there is no room for a footer is no failure of the records. What little room there is
    // belongs to the manifest.
    let written = match free < footer.len() as u64 + OTHERS_BYTES {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => write_all_at(raw.as_ref(), &footer, end),
    };
    let seal = match written {
        Ok(()) => seal_edit(&trailer, file_bytes),
        Err(error) if is_disk_full(&error) => {
            file.set_bytes(end).map_err(failed("cut"))?;
            without_footer(&seal_edit(&trailer, end))
        }
        Err(error) => return Err(failed("write")(error)),
    };
    file.sync().map_err(failed("sync"))?;
    let sealed = sealed_through(raw, &seal, maps);
    Ok((seal, sealed))
}

/// A seal that says nothing of the records but where they end: each opening reads them.
fn without_footer(seal: &SealSegment) -> SealSegment {
    SealSegment {
        expiry_min: Timestamp(0),
        expiry_max: Timestamp(u64::MAX),
        tombstones: u32::MAX,
        not_fresh: u32::MAX,
        trailer_checksum: 0,
        ..*seal
    }
}
