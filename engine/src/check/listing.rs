//! The directory: what stands under which name, and what of it is nobody's.

use std::{collections::BTreeMap, path::Path};

use super::{Store, codes::Code, report::Finding};
use crate::{
    error::{Error, Result},
    format::{
        file_name::{self, FileName},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
    },
    io::{Access, DirectoryEntry, PathKind, read_up_to_at},
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
    let known = [file_name::LOCK, file_name::MANIFEST, file_name::MANIFEST_TMP, file_name::BALLAST];
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
            return self.findings.push(Finding::new(Code::NameForeign, &path, None, message));
        };
        let listed = Listed { kind: entry.kind, bytes: entry.bytes };
        match name {
            FileName::Segment(id) => drop(self.segments.insert(id, listed)),
            FileName::Checkpoint(number) => drop(self.checkpoints.insert(number, listed)),
            _ => {}
        }
        match listed.kind {
            PathKind::File => self.left_over(store, name, &path),
            PathKind::Directory if !is_referred_to(store, name) => {
                let message = "a directory that nothing refers to";
                self.findings.push(Finding::new(Code::NameForeign, &path, None, message));
            }
            kind => self.findings.push(irregular(&path, kind)),
        }
    }

    /// Files that nothing refers to.
    fn left_over(&mut self, store: &Store<'_>, name: FileName, path: &Path) {
        let state = &store.loaded.state;
        let mut note = |code, message: &str| {
            self.findings.push(Finding::new(code, path, None, message));
        };
        match name {
            FileName::Segment(id) if !state.segments.contains_key(&id) => {
                note(Code::SegmentUnnamed, "not named by the manifest");
                if is_elsewhere(store, id, path) {
                    note(
                        Code::SegmentMisplaced,
                        "by its header it is another segment, or of another store",
                    );
                }
                if proves_lost_edits(store.home, &store.loaded.header, state, id) {
                    let manifest = store.home.path(file_name::MANIFEST);
                    let message = format!("it must have named {} once", path.display());
                    let end = store.loaded.torn.map(|(offset, _)| offset);
                    self.findings.push(Finding::new(Code::EditsMissing, &manifest, end, message));
                }
            }
            FileName::Temporary => note(Code::FileUnfinished, "unfinished"),
            FileName::Checkpoint(number)
                if state.checkpoint.is_none_or(|(valid, _)| valid != number) =>
            {
                note(Code::FileUnfinished, "an older or unfinished checkpoint");
            }
            FileName::Quarantine(_) => note(Code::FileSetAside, "set aside because of damage"),
            _ => {}
        }
    }
}

/// Whether the store needs a file under this name.
fn is_referred_to(store: &Store<'_>, name: FileName) -> bool {
    let state = &store.loaded.state;
    match name {
        FileName::Lock | FileName::Manifest => true,
        FileName::Segment(id) => state.segments.contains_key(&id),
        FileName::Checkpoint(number) => state.checkpoint.is_some_and(|(valid, _)| valid == number),
        FileName::Quarantine(_) | FileName::Temporary | FileName::Ballast => false,
    }
}

/// A name of ours that is a directory, a link, a device: never opened, never followed.
pub(super) fn irregular(path: &Path, kind: PathKind) -> Finding {
    let what = match kind {
        PathKind::Directory => "it is a directory",
        _ => "it is a link or a special file, which is not followed",
    };
    Finding::new(Code::NoRegularFile, path, None, what)
}

/// Whether a segment that the manifest does not name says in a sound header that it is another one, or of another
/// store. No crash leaves that: a header is written under the name that it tells.
fn is_elsewhere(store: &Store<'_>, id: SegmentId, path: &Path) -> bool {
    let Ok(file) = store.home.disk.open(path, Access::Read) else { return false };
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let read = read_up_to_at(file.as_ref(), &mut bytes, 0).unwrap_or_default();
    SegmentHeader::decode(&bytes[..read])
        .is_ok_and(|header| header.id != id || header.store_id != store.loaded.header.store_id)
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
