//! A store that is opened to be read: not a byte is written, whatever state it is in.

use std::{fs, path::Path};

use tierce_engine::{Batch, Change, Error, PutOptions, ReadMode};

use super::{assert_keys, closed_store, crashed_store, names, options, tear, tree};

/// Goal: reading a closed store and a crashed one changes no byte and no file's time, and every write is refused.
#[test]
fn nothing_is_written() {
    for make in [closed_store as fn(&Path), crashed_store] {
        for read_mode in [ReadMode::Map, ReadMode::Positioned] {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            fs::write(dir.path().join("MANIFEST.tmp"), "leftover").unwrap();
            fs::write(dir.path().join("00000000000000ee.ckpt"), "leftover").unwrap();
            let before = tree(dir.path());
            let engine = options().read_only(true).read_mode(read_mode).open(dir.path()).unwrap();
            assert_keys(&engine);
            assert_eq!(engine.iter().unwrap().count(), 60);
            assert_eq!(engine.snapshot().unwrap().iter().count(), 60);
            let plain = PutOptions::new();
            let mut batch = Batch::new();
            batch.put("k", "v");
            let refusals = [
                ("put", engine.put("k", "v").err()),
                ("put_with", engine.put_with("k", "v", &plain).err()),
                ("submit", engine.submit("k", "v", &plain).err()),
                ("delete", engine.delete("key 1").err()),
                ("delete absent", engine.delete("k").err()),
                ("touch", engine.touch("key 1", None).err()),
                ("update", engine.update("key 1", |_| Change::Keep).err()),
                ("cut_scope", engine.cut_scope("s").err()),
                ("commit", engine.commit(batch).err()),
                ("sync", engine.sync().err()),
                ("checkpoint", engine.checkpoint().err()),
                ("step", engine.step().err()),
                ("try_recover", engine.try_recover().err()),
            ];
            for (name, refusal) in refusals {
                assert!(matches!(refusal, Some(Error::ReadOnly)), "{name}: {refusal:?}");
            }
            assert_keys(&engine);
            engine.close().unwrap();
            assert_eq!(tree(dir.path()), before);
            // Whoever may write finds everything, and tidies up.
            let engine = options().open(dir.path()).unwrap();
            assert_keys(&engine);
            assert!(!dir.path().join("MANIFEST.tmp").exists());
        }
    }
}

/// Goal: a tail that a crash tore is neither cut nor an error for a reader.
#[test]
fn a_torn_tail_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    crashed_store(dir.path());
    tear(dir.path());
    let before = tree(dir.path());
    for _ in 0..2 {
        let engine = options().read_only(true).open(dir.path()).unwrap();
        assert_keys(&engine);
        let report = engine.recovery_report();
        assert_eq!((report.torn.len(), report.damaged.len()), (1, 0), "{report:?}");
        assert!(!report.clean);
        drop(engine);
        assert_eq!(tree(dir.path()), before);
    }
}

/// Goal: there is nothing to read where there is no store, and none is made.
#[test]
fn a_missing_store() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let refused = options().read_only(true).open(&path).map(drop);
        assert!(matches!(refused, Err(Error::NotAStore { .. })), "{refused:?}");
    }
    assert!(names(dir.path()).is_empty());
}

/// Goal: a store without a lock file, as on a read-only medium, can be read.
#[test]
fn without_a_lock_file() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    let before = tree(dir.path());
    let engine = options().read_only(true).open(dir.path()).unwrap();
    assert_keys(&engine);
    drop(engine);
    assert_eq!(tree(dir.path()), before);
}
