//! Backup verification: compares the files of a backup with its sheet.

use std::{io, path::Path};

use super::{
    SHEET,
    sheet::{Line, Proof, SHEET_BYTES_MAX, Sheet},
};
use crate::{
    error::{Corruption, Damage, Error, Result},
    format::{checksum::checksum_from, wire::u32_at},
    io::{Access, Disk, File, PathKind, read_exact_at, read_file, read_up_to_at},
};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The sheet of the backup in `dir`.
///
/// # Errors
/// [`Error::NotAStore`] if it has none; [`Error::Corruption`] if that is damaged.
pub(crate) fn sheet_of(disk: &dyn Disk, dir: &Path) -> Result<Sheet> {
    let path = dir.join(SHEET);
    let failed = |source| Error::io("read", &path, source);
    if disk.kind(&path).map_err(failed)? != Some(PathKind::File) {
        let reason = format!("it has no sheet {SHEET}: no backup, or one that was not finished");
        return Err(Error::NotAStore { path: dir.to_owned(), reason });
    }
    let file = disk.open(&path, Access::Read).map_err(failed)?;
    if file.bytes().map_err(failed)? > SHEET_BYTES_MAX {
        let damage = Damage::Length;
        return Err(Error::Corruption(Corruption { file: path, offset: 0, damage }));
    }
    let bytes = read_file(disk, &path).map_err(failed)?;
    Sheet::decode(&bytes).map_err(|fault| fault.in_file(&path, 0))
}

/// Whether the file that `line` names stands in `dir` and is the one that was taken, as far as the sheet tells: its
/// length, and the checksum of all of it or of its trailer.
pub(crate) fn compare(disk: &dyn Disk, dir: &Path, line: &Line) -> Result<(), Corruption> {
    let path = dir.join(&line.name);
    let fault = |offset, damage| Corruption { file: path.clone(), offset, damage };
    if !matches!(disk.kind(&path), Ok(Some(PathKind::File))) {
        return Err(fault(0, Damage::MissingFile));
    }
    let unreadable = |_| fault(0, Damage::Unreadable);
    let file = disk.open(&path, Access::Read).map_err(unreadable)?;
    if file.bytes().map_err(unreadable)? != line.bytes {
        return Err(fault(line.bytes, Damage::Length));
    }
    let found = match line.proof {
        Proof::Own => return Ok(()),
        Proof::Whole(_) => whole_checksum(file.as_ref()).map_err(unreadable)?,
        Proof::Sealed(_) => {
            let mut bytes = [0; 4];
            let at = line.bytes.saturating_sub(4);
            read_exact_at(file.as_ref(), &mut bytes, at).map_err(unreadable)?;
            u32_at(&bytes, 0).unwrap_or_default()
        }
    };
    match line.proof {
        Proof::Sealed(sum) if found != sum => Err(fault(line.bytes - 4, Damage::Checksum)),
        Proof::Whole(sum) if found != sum => Err(fault(0, Damage::Checksum)),
        _ => Ok(()),
    }
}

fn whole_checksum(file: &dyn File) -> io::Result<u32> {
    let (mut chunk, mut at, mut sum) = (vec![0; CHUNK_BYTES], 0, 0);
    loop {
        let read = read_up_to_at(file, &mut chunk, at)?;
        if read == 0 {
            return Ok(sum);
        }
        sum = checksum_from(sum, &chunk[..read]);
        at += read as u64;
    }
}
