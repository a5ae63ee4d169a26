//! Proofs of backups, and putting one in the place of a store.

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use tierce_engine::{
    Error, Restore, Restored,
    backup::{BackupOptions, SHEET},
    restore, verify_backup,
};
use tierce_kit::rng::Rng;

use super::{contents, disk, entries, fill, names, options, take};

fn restored(from: &Path, to: &Path, replaces: bool) -> tierce_engine::Result<Option<Restored>> {
    restore(&disk(), from, to, replaces, &mut |_, _| ControlFlow::Continue(()))
}

/// A store and a backup of it, both with copies of their bytes.
fn store_and_backup(root: &Path) -> (PathBuf, PathBuf) {
    let (store, backup) = (root.join("store"), root.join("backup"));
    let engine = options().open(&store).unwrap();
    fill(&engine);
    take(&store, &backup, &BackupOptions::new().copies(true)).unwrap();
    engine.close().unwrap();
    (store, backup)
}

/// Goal: a backup is restored where nothing is, where an empty directory is, and, if asked, in the place of a store, which
/// is kept beside it.
#[test]
fn places() {
    let root = tempfile::tempdir().unwrap();
    let (store, backup) = store_and_backup(root.path());
    let expected = contents(&backup);
    let (fresh, empty) = (root.path().join("fresh"), root.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    for to in [&fresh, &empty] {
        assert_eq!(restored(&backup, to, false).unwrap().unwrap().replaced, None);
        assert!(!names(to).contains(&SHEET.to_owned()));
        assert_eq!(contents(to), expected);
    }
    let engine = options().open(&store).unwrap();
    engine.put("newer", "than the backup").unwrap();
    let newer = entries(&engine);
    let locked = restored(&backup, &store, true);
    // One process has one lock: the same process is let in only after it has closed the store.
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    engine.close().unwrap();
    let refused = restored(&backup, &store, false);
    let is_there = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists);
    assert!(refused.as_ref().is_err_and(is_there), "{refused:?}");
    for number in 1..3 {
        let aside = root.path().join(format!("store.replaced-{number}"));
        let done = restored(&backup, &store, true).unwrap().unwrap();
        assert_eq!(done.replaced.as_ref(), Some(&aside));
        assert_eq!(contents(&store), expected);
    }
    assert_eq!(contents(&root.path().join("store.replaced-1")), newer);
    let mine = root.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("file"), "mine").unwrap();
    let refused = restored(&backup, &mine, true);
    assert!(refused.as_ref().is_err_and(is_there), "no store: {refused:?}");
    assert_eq!(names(&mine), ["file"]);
    assert!(!names(root.path()).iter().any(|name| name.ends_with(".restoring")));
}

/// Goal: any fault in a backup is found before anything takes its place. Method: every file missing and cut, and random
/// single bits of all of them.
#[test]
fn faults_are_found() {
    let root = tempfile::tempdir().unwrap();
    let (store, backup) = store_and_backup(root.path());
    let expected = contents(&store);
    let expect_fault = |what: &str| {
        let verified = verify_backup(&disk(), &backup);
        assert!(!matches!(&verified, Ok(verified) if verified.is_sound()), "{what}: {verified:?}");
        let done = restored(&backup, &store, true);
        assert!(
            matches!(
                done,
                Err(Error::Corruption(_) | Error::NotAStore { .. } | Error::UnknownFormat { .. })
            ),
            "{what}: {done:?}"
        );
        if let Err(Error::Corruption(found)) = &done {
            assert!(found.file.starts_with(&backup), "{what}: {found}");
        }
        assert_eq!(contents(&store), expected, "{what}");
        assert!(!root.path().join("store.restoring").exists(), "{what}");
    };
    for name in names(&backup) {
        let path = backup.join(&name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        expect_fault(&format!("{name} missing"));
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        expect_fault(&format!("{name} cut"));
        fs::write(&path, &bytes).unwrap();
    }
    tierce_kit::seed::cases("faults of a backup", 150, |seed| {
        let mut rng = Rng::new(seed);
        let all = names(&backup);
        let name = &all[usize::try_from(rng.below(all.len() as u64)).unwrap()];
        let path = backup.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
        let bit = 1 << rng.below(8);
        bytes[at] ^= bit;
        fs::write(&path, &bytes).unwrap();
        expect_fault(&format!("{name} bit {bit} of byte {at}"));
        bytes[at] ^= bit;
        fs::write(&path, &bytes).unwrap();
    });
    assert!(verify_backup(&disk(), &backup).unwrap().is_sound());
    assert!(restored(&backup, &store, true).unwrap().is_some());
}

/// Goal: a stream brings no file that a backup has not, and a stage that holds something else is left alone.
#[test]
fn strangers() {
    let root = tempfile::tempdir().unwrap();
    let to = root.path().join("to");
    let coming = Restore::begin(&disk(), &to, false).unwrap();
    for name in ["../escape", "/escape", "LOCK", "a/MANIFEST", "", "MANIFEST.tmp"] {
        assert!(coming.take(name, &mut &b"x"[..]).is_err(), "{name:?}");
    }
    assert!(!root.path().join("escape").exists());
    let unfinished = coming.finish(None);
    assert!(matches!(unfinished, Err(Error::NotAStore { .. })), "{unfinished:?}");
    assert!(!to.exists());
    assert!(!root.path().join("to.restoring").exists());
    fs::create_dir(root.path().join("to.restoring")).unwrap();
    fs::write(root.path().join("to.restoring").join("mine"), "mine").unwrap();
    assert!(Restore::begin(&disk(), &to, false).is_err());
    assert!(root.path().join("to.restoring").join("mine").exists());
}

/// Goal: a restore that is told to stop leaves the store, and nothing of its own.
#[test]
fn cancelled() {
    let root = tempfile::tempdir().unwrap();
    let (store, backup) = store_and_backup(root.path());
    let before = contents(&store);
    let done = restore(&disk(), &backup, &store, true, &mut |_, _| ControlFlow::Break(())).unwrap();
    assert_eq!(done, None);
    assert_eq!(contents(&store), before);
    assert_eq!(names(root.path()), ["backup", "store"]);
}
