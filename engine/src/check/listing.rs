//! The directory: what stands under which name, and what of it is nobody's.

use std::{collections::BTreeMap, path::Path};

use super::{Store, report::Finding};
use crate::{
    error::{Error, Result},
    format::file_name::{self, FileName},
    io::{DirectoryEntry, PathKind},
    segment::manifest_file::proves_lost_edits,
    types::SegmentId,
};

/// What stands under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) kind: PathKind,
    pub(super) bytes: u64,
}

/// Our files in the directory, and what was noticed on the way.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: BTreeMap<SegmentId, Listed>,
    pub(super) checkpoints: BTreeMap<u64, Listed>,
    pub(super) findings: Vec<Finding>,
}

/// Lists the directory, once. Names that are not ours are nobody's business.
pub(super) fn list(store: &Store<'_>) -> Result<Listing> {
    let home = store.home;
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let mut ours: Vec<_> = listed.into_iter().filter(|entry| is_like_ours(&entry.name)).collect();
    ours.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut listing = Listing::default();
    for entry in ours {
        listing.take(store, &entry);
    }
    Ok(listing)
}

/// Whether a name is one of ours, or would be if letters had no case.
fn is_like_ours(name: &str) -> bool {
    FileName::parse(name).is_some() || in_our_case(name).is_some()
}

/// The name of ours that `name` is but for the case of its letters.
fn in_our_case(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let known = [file_name::LOCK, file_name::MANIFEST, file_name::MANIFEST_TMP];
    let fixed = known.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    let right = fixed.map_or(lower, str::to_owned);
    (right != name && FileName::parse(&right).is_some()).then_some(right)
}

impl Listing {
    fn take(&mut self, store: &Store<'_>, entry: &DirectoryEntry) {
        let path = store.home.path(&entry.name);
        let Some(name) = FileName::parse(&entry.name) else {
            let right = in_our_case(&entry.name).unwrap_or_default();
            let message = format!("only {right} would be a file of this store");
            return self.findings.push(Finding::new("C043", &path, None, message));
        };
        let listed = Listed { kind: entry.kind, bytes: entry.bytes };
        match name {
            FileName::Segment(id) => drop(self.segments.insert(id, listed)),
            FileName::Checkpoint(number) => drop(self.checkpoints.insert(number, listed)),
            _ => {}
        }
        if let Some(finding) = irregular(&path, listed) {
            return self.findings.push(finding);
        }
        self.left_over(store, name, &path);
    }

    /// Files that nothing refers to.
    fn left_over(&mut self, store: &Store<'_>, name: FileName, path: &Path) {
        let state = &store.loaded.state;
        let mut note = |code, message: &str| {
            self.findings.push(Finding::new(code, path, None, message));
        };
        match name {
            FileName::Segment(id) if !state.segments.contains_key(&id) => {
                note("C040", "not named by the manifest");
                if proves_lost_edits(store.home, &store.loaded.header, state, id) {
                    let manifest = store.home.path(file_name::MANIFEST);
                    let message = format!("it must have named {} once", path.display());
                    self.findings.push(Finding::new("C001", &manifest, None, message));
                }
            }
            FileName::Temporary => note("C041", "unfinished"),
            FileName::Checkpoint(number)
                if state.checkpoint.is_none_or(|(valid, _)| valid != number) =>
            {
                note("C041", "an older or unfinished checkpoint");
            }
            FileName::Quarantine(_) => note("C042", "set aside because of damage"),
            _ => {}
        }
    }
}

/// A name of ours that is a directory, a link, a device: never opened, never followed.
pub(super) fn irregular(path: &Path, listed: Listed) -> Option<Finding> {
    let what = match listed.kind {
        PathKind::File => return None,
        PathKind::Directory => "a directory",
        PathKind::Other => "a link or a special file, which is not followed",
    };
    Some(Finding::new("C014", path, None, format!("it is {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names that only a file system without case would take for ours are told from ours and from foreign ones.
    #[test]
    fn cases_of_letters() {
        let right = |name: &str| in_our_case(name);
        assert_eq!(right("manifest").as_deref(), Some("MANIFEST"));
        assert_eq!(right("Manifest.TMP").as_deref(), Some("MANIFEST.tmp"));
        assert_eq!(right("00000000000000AB.SEG").as_deref(), Some("00000000000000ab.seg"));
        for name in ["MANIFEST", "00000000000000ab.seg", "notes.txt", "AB.SEG", ""] {
            assert_eq!(right(name), None, "{name}");
        }
    }
}
