//! Forged files: lengths that would make reading too expensive or overflow.

use std::fs;

use tierce_engine::{Error, repair};

use crate::opening::{closed_store, crashed_store, names, options};

/// Goal: a file that claims terabytes is refused, whatever part it plays, before room for its length is asked for.
#[test]
fn files_without_end() {
    const LENGTH: u64 = 8 << 40;
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let stray = fs::File::create(dir.path().join("00000000000000ee.seg")).unwrap();
    stray.set_len(LENGTH).unwrap();
    let planned = repair::plan(&options(), dir.path());
    assert!(matches!(planned, Err(Error::Io { .. })), "{planned:?}");
    let dir = tempfile::tempdir().unwrap();
    crashed_store(dir.path());
    let last = names(dir.path()).into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let file = fs::OpenOptions::new().write(true).open(dir.path().join(last)).unwrap();
    file.set_len(LENGTH).unwrap();
    let opened = options().open(dir.path());
    assert!(matches!(opened, Err(Error::Io { .. })), "{opened:?}");
    let read = options().open_reader(dir.path());
    assert!(matches!(read, Err(Error::Io { .. })), "{read:?}");
}

/// Goal: lengths behind the last frame of a manifest that make every look costly are damage, not the end that a crash
/// tore; garbage that claims nothing which is there is that end.
#[test]
fn frames_without_end() {
    for (claimed, is_forged) in [(4_096_u32, true), (u32::MAX, false), (0, false)] {
        let dir = tempfile::tempdir().unwrap();
        crashed_store(dir.path());
        let path = dir.path().join("MANIFEST");
        let mut bytes = fs::read(&path).unwrap();
        for number in 0..1_u32 << 15 {
            bytes.extend(number.wrapping_mul(0x9e37_79b9).to_le_bytes());
            bytes.extend(claimed.to_le_bytes());
        }
        fs::write(&path, bytes).unwrap();
        let opened = options().open(dir.path());
        assert_eq!(matches!(opened, Err(Error::Corruption(_))), is_forged, "{claimed}: {opened:?}");
        assert_eq!(opened.is_ok(), !is_forged, "{claimed}");
    }
}
