//! File names: one spelling per file, and nothing foreign is taken for ours.

use proptest::prelude::*;
use tierce_engine::{
    SegmentId,
    format::file_name::{
        FileName, LOCK, MANIFEST, MANIFEST_TMP, checkpoint, checkpoint_tmp, quarantine, segment,
        segment_tmp,
    },
};

proptest! {
    /// Goal: every name we spell is read as what it was spelled for.
    #[test]
    fn names_round_trip(number: u64) {
        let id = SegmentId(number);
        prop_assert_eq!(FileName::parse(&segment(id)), Some(FileName::Segment(id)));
        prop_assert_eq!(FileName::parse(&quarantine(id)), Some(FileName::Quarantine(id)));
        prop_assert_eq!(FileName::parse(&checkpoint(number)), Some(FileName::Checkpoint(number)));
        prop_assert_eq!(FileName::parse(&segment_tmp(id)), Some(FileName::Temporary));
        prop_assert_eq!(FileName::parse(&checkpoint_tmp(number)), Some(FileName::Temporary));
    }

    /// Goal: names sort as their numbers do, so a listing shows segments in order.
    #[test]
    fn names_sort_by_number(a: u64, b: u64) {
        prop_assert_eq!(segment(SegmentId(a)).cmp(&segment(SegmentId(b))), a.cmp(&b));
    }

    /// Goal: what is read as ours is spelled exactly so: no second spelling, no case, no blanks.
    #[test]
    fn names_have_one_spelling(name in "[0-9a-fA-F]{14,18}(\\.(seg|ckpt|quarantine|tmp|SEG|seg\\.tmp))?.?") {
        tierce_fuzz::file_name(name.as_bytes());
    }
}

/// Goal: the fixed names are read, and what editors and systems leave in directories is not ours.
#[test]
fn foreign_names_are_left_alone() {
    assert_eq!(FileName::parse(LOCK), Some(FileName::Lock));
    assert_eq!(FileName::parse(MANIFEST), Some(FileName::Manifest));
    assert_eq!(FileName::parse(MANIFEST_TMP), Some(FileName::Temporary));
    let id = segment(SegmentId(7));
    let spoiled = [
        ".DS_Store",
        "._MANIFEST",
        "MANIFEST~",
        "manifest",
        "LOCK.tmp",
        "Thumbs.db",
        "lost+found",
        "seg",
        ".seg",
        "7.seg",
        "+000000000000007.seg",
        "0x00000000000007.seg",
        "00000000000000007.seg",
    ];
    let derived = [
        format!("{id}~"),
        format!(".{id}.swp"),
        format!("{id} "),
        id.to_uppercase(),
        format!("{id}.bak"),
    ];
    for name in spoiled.iter().map(|name| (*name).to_owned()).chain(derived) {
        assert_eq!(FileName::parse(&name), None, "{name:?}");
    }
}
