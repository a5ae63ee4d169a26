//! The one place that spells and parses the names of a store's files.

use crate::types::SegmentId;

/// Name of the lock file.
pub const LOCK: &str = "LOCK";
/// Name of the manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Name of a manifest that is being written.
pub const MANIFEST_TMP: &str = "MANIFEST.tmp";

/// Name of the file that a store gives up when the disk is full.
pub const BALLAST: &str = "BALLAST";

/// A file of a store, known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// The lock file.
    Lock,
    /// The manifest.
    Manifest,
    /// Room kept for a full disk; holds nothing.
    Ballast,
    /// A segment.
    Segment(SegmentId),
    /// The index at one moment, numbered.
    Checkpoint(u64),
    /// A damaged segment that recovery set aside.
    Quarantine(SegmentId),
    /// Unfinished, of any kind.
    Temporary,
}

impl FileName {
    /// What `name` is; `None` if it is not ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            LOCK => return Some(Self::Lock),
            MANIFEST => return Some(Self::Manifest),
            BALLAST => return Some(Self::Ballast),
            MANIFEST_TMP => return Some(Self::Temporary),
            _ => {}
        }
        let (stem, suffix) = name.split_once('.')?;
        let number = parse_number(stem)?;
        match suffix {
            "seg" => Some(Self::Segment(SegmentId(number))),
            "ckpt" => Some(Self::Checkpoint(number)),
            "quarantine" => Some(Self::Quarantine(SegmentId(number))),
            "seg.tmp" | "ckpt.tmp" => Some(Self::Temporary),
            _ => None,
        }
    }
}

/// Exactly 16 lower-case hexadecimal digits: one spelling per number.
fn parse_number(stem: &str) -> Option<u64> {
    let digits = stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if stem.len() != 16 || !digits {
        return None;
    }
    u64::from_str_radix(stem, 16).ok()
}

/// Name of a segment.
#[must_use]
pub fn segment(id: SegmentId) -> String {
    format!("{:016x}.seg", id.0)
}

/// Name of a segment that is being written by compaction or recovery.
#[must_use]
pub fn segment_tmp(id: SegmentId) -> String {
    format!("{:016x}.seg.tmp", id.0)
}

/// Name of a segment set aside.
#[must_use]
pub fn quarantine(id: SegmentId) -> String {
    format!("{:016x}.quarantine", id.0)
}

/// Name of a checkpoint.
#[must_use]
pub fn checkpoint(number: u64) -> String {
    format!("{number:016x}.ckpt")
}

/// Name of a checkpoint that is being written.
#[must_use]
pub fn checkpoint_tmp(number: u64) -> String {
    format!("{number:016x}.ckpt.tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every name spelled here parses back to what it was spelled for, and nothing else parses.
    #[test]
    fn names_round_trip() {
        let id = SegmentId(0x00ab_cdef_0123_4567);
        assert_eq!(FileName::parse(&segment(id)), Some(FileName::Segment(id)));
        assert_eq!(FileName::parse(&quarantine(id)), Some(FileName::Quarantine(id)));
        assert_eq!(FileName::parse(&checkpoint(9)), Some(FileName::Checkpoint(9)));
        for tmp in [segment_tmp(id), checkpoint_tmp(9), MANIFEST_TMP.to_owned()] {
            assert_eq!(FileName::parse(&tmp), Some(FileName::Temporary));
        }
        assert_eq!(FileName::parse(BALLAST), Some(FileName::Ballast));
        for foreign in [
            "",
            ".",
            "seg",
            "1.seg",
            "00ABCDEF01234567.seg",
            "00abcdef01234567.seg.bak",
            "MANIFEST~",
        ] {
            assert_eq!(FileName::parse(foreign), None, "{foreign:?}");
        }
    }
}
