//! A file that is there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
};

use crate::exit::{Fail, Outcome};

/// Refuses to write into the directory that is looked at.
pub(super) fn refuse_in_store(out: &Path, store: &Path) -> Outcome<()> {
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The target of a link counts; what is not there yet, by its directory.
    let place = fs::canonicalize(out).or_else(|_| fs::canonicalize(parent));
    match (place, fs::canonicalize(store)) {
        (Ok(place), Ok(store)) if place.starts_with(&store) => {
            Err(Fail::Usage(format!("{} is in the store: write elsewhere", out.display())))
        }
        _ => Ok(()),
    }
}

/// Puts `bytes` in the place of `path`: written beside it, synced, renamed. What is no regular file (a device, a
/// pipe) is written to as it is.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Outcome<()> {
    // Through links: the link stays, its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |source| Fail::io(format!("write {}", path.display()), source);
    if fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        let written =
            File::options().write(true).open(&target).and_then(|mut f| f.write_all(bytes));
        return written.map_err(failed);
    }
    let beside = beside(&target);
    let mut file = create(&beside).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&beside, &target)).map_err(|source| {
        // Nothing is left of what failed.
        let _ = fs::remove_file(&beside);
        failed(source)
    })
}

fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tierce-{}", process::id()));
    target.with_file_name(name)
}

/// Creates a file. One that is there, or a link of its name, is not ours to write to.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}
