//! Directories that are, or may become, a store, and those that must not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tierce_engine::{
    Durability, Error, Options, RecoveryPolicy,
    check::check_store,
    format::{FORMAT_MAJOR, checksum::checksum},
    io::{Disk, OsDisk},
};

use super::{assert_keys, closed_store, copy_files, crashed_store, names, options, tree};

/// Goal: missing parents are created; opening and reading alone writes no data file.
#[test]
fn opening_alone_writes_no_data_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/parents/store");
    for _ in 0..3 {
        let engine = Options::new().open(&path).unwrap();
        assert_eq!(engine.get("k").unwrap(), None);
        assert_eq!(engine.iter().unwrap().count(), 0);
        assert!(!engine.delete("k").unwrap());
        engine.sync().unwrap();
        engine.checkpoint().unwrap();
        assert_eq!(names(&path), ["LOCK"]);
        assert!(engine.recovery_report().clean);
        engine.close().unwrap();
        assert_eq!(names(&path), ["LOCK"]);
    }
    assert_eq!(names(dir.path()), ["missing"]);
    let engine = Options::new().open(&path).unwrap();
    engine.put("k", "v").unwrap();
    assert!(names(&path).len() >= 3, "LOCK, manifest and segment: {:?}", names(&path));
    assert_eq!(engine.path(), path);
}

/// Goal: nobody else may read what is stored: directories 0700, files 0600.
#[cfg(unix)]
#[test]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("a/b/store");
    closed_store(&store);
    let engine = options().open(&store).unwrap();
    engine.put("more", "v").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for made in ["a", "a/b", "a/b/store"] {
        assert_eq!(mode(&dir.path().join(made)), 0o700, "{made}");
    }
    for name in names(&store) {
        assert_eq!(mode(&store.join(&name)), 0o600, "{name}");
    }
    assert!(names(&store).len() > 4);
}

/// Fails unless the path is refused as no store, for a reason that says this.
#[track_caller]
fn assert_no_store(options: Options, path: &Path, reason_says: &str) {
    match options.open(path).map(drop) {
        Err(Error::NotAStore { path: named, reason }) => {
            assert_eq!(named, path);
            assert!(reason.contains(reason_says), "{reason}");
        }
        other => panic!("{} is not refused: {other:?}", path.display()),
    }
}

/// Goal: a path that is a file, leads to one or through one is refused, and the file is as before.
#[test]
fn a_file_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let before = tree(dir.path());
    for policy in [RecoveryPolicy::Strict, RecoveryPolicy::Salvage] {
        assert_no_store(options().recovery(policy), &file, "no directory");
        let below = options().recovery(policy).open(file.join("store")).map(drop);
        assert!(matches!(below, Err(Error::Io { .. } | Error::NotAStore { .. })), "{below:?}");
    }
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_no_store(options(), &link, "no directory");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        let refused = options().open(&link).map(drop);
        assert!(matches!(refused, Err(Error::NotAStore { .. } | Error::Io { .. })), "{refused:?}");
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(tree(dir.path()), before);
}

/// Goal: a directory with other people's files is refused and left alone, whatever the policy.
#[test]
fn foreign_content_is_no_store() {
    for foreign in ["notes.txt", "photo.seg", "0000000000000001.SEG", "Manifest", "sub/file"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(foreign);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "precious").unwrap();
        let before = tree(dir.path());
        let name = foreign.split('/').next().unwrap();
        for policy in [RecoveryPolicy::Strict, RecoveryPolicy::Salvage] {
            assert_no_store(options().recovery(policy), dir.path(), name);
        }
        assert_eq!(tree(dir.path()), before, "{foreign}");
    }
}

/// Goal: without leave to create, a missing or empty directory is no store and stays as it is.
#[test]
fn nothing_is_created_without_leave() {
    let dir = tempfile::tempdir().unwrap();
    assert_no_store(options().create(false), dir.path(), "manifest");
    assert_no_store(options().create(false), &dir.path().join("a/b"), "nothing");
    assert!(names(dir.path()).is_empty());
    closed_store(dir.path());
    assert_keys(&options().create(false).open(dir.path()).unwrap());
}

/// Goal: what mounts and desktops leave in an empty directory is no content.
#[test]
fn empty_enough() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".DS_Store"), "x").unwrap();
    fs::write(dir.path().join(".directory"), "x").unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    closed_store(dir.path());
    assert_keys(&options().open(dir.path()).unwrap());
    assert_eq!(fs::read(dir.path().join(".DS_Store")).unwrap(), b"x");
    assert!(dir.path().join("lost+found").is_dir());
}

/// Goal: files that are not ours in a store are neither read nor touched: foreign names, names close to ours,
/// directories with our names. Method: closed and crashed stores.
#[test]
fn strangers_in_a_store_are_ignored() {
    for make in [closed_store, crashed_store] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let files = [
            "notes.txt",
            ".DS_Store",
            "._0000000000000001.seg",
            "0000000000000001.seg~",
            "0000000000000001.seg.bak",
            "00000000000000FF.seg",
            "1.seg",
            "MANIFEST.old",
            "LOCK.1",
        ];
        for name in files {
            fs::write(dir.path().join(name), "precious").unwrap();
        }
        for name in ["00000000000000aa.seg", "00000000000000ab.ckpt", "00000000000000ac.seg.tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("inside"), "precious").unwrap();
        }
        let strangers = |tree: std::collections::BTreeMap<PathBuf, _>| {
            let precious = |bytes: &Option<(Vec<u8>, _)>| {
                bytes.as_ref().is_some_and(|(bytes, _)| bytes == b"precious")
            };
            tree.into_iter().filter(|(_, file)| precious(file)).collect::<Vec<_>>()
        };
        let before = strangers(tree(dir.path()));
        assert_eq!(before.len(), 12);
        for round in 0..3 {
            let engine = options().open(dir.path()).unwrap();
            assert_keys(&engine);
            engine.put("more", format!("{round}")).unwrap();
            engine.close().unwrap();
        }
        assert_eq!(strangers(tree(dir.path())), before);
        let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(OsDisk);
        let report = check_store(&disk, dir.path()).unwrap();
        assert!(report.is_healthy(), "{:?}", report.findings);
    }
}

/// Says in a file's header that it has the next format version, with a good or an old checksum.
fn make_newer(path: &Path, header: usize, good_checksum: bool) {
    let mut bytes = fs::read(path).unwrap();
    bytes[8..10].copy_from_slice(&(FORMAT_MAJOR + 1).to_le_bytes());
    if good_checksum {
        let sum = checksum(&bytes[..header - 4]);
        bytes[header - 4..header].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// Fails unless every policy refuses the store as too new and leaves every byte alone.
#[track_caller]
fn assert_too_new(dir: &Path, file: &Path) {
    let before = tree(dir);
    for policy in [RecoveryPolicy::Strict, RecoveryPolicy::SkipRecord, RecoveryPolicy::Salvage] {
        for read_only in [true, false] {
            match options().recovery(policy).read_only(read_only).open(dir).map(drop) {
                Err(Error::UnknownFormat { file: named, found, newest_known }) => {
                    assert_eq!((named, found), (file.to_owned(), FORMAT_MAJOR + 1));
                    assert_eq!(newest_known, FORMAT_MAJOR);
                }
                other => panic!("{policy:?}, read only {read_only}: {other:?}"),
            }
        }
    }
    let mut after = tree(dir);
    // The lock file holds the id of the last process that tried: it is no data.
    after.insert(dir.join("LOCK"), before[&dir.join("LOCK")].clone());
    assert_eq!(after, before);
}

/// Goal: a manifest of a newer version is refused and nothing is touched.
#[test]
fn a_newer_manifest() {
    for good_checksum in [true, false] {
        for make in [closed_store, crashed_store] {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            let manifest = dir.path().join("MANIFEST");
            make_newer(&manifest, 64, good_checksum);
            assert_too_new(dir.path(), &manifest);
        }
    }
}

/// The last segment in a directory.
fn last_segment(dir: &Path) -> PathBuf {
    let name = names(dir).into_iter().rfind(|name| name.ends_with(".seg"));
    dir.join(name.expect("there is a segment"))
}

/// Goal: an unsealed segment of a newer version is refused, and so is one that the manifest does not name.
#[test]
fn a_newer_segment() {
    let dir = tempfile::tempdir().unwrap();
    crashed_store(dir.path());
    make_newer(&last_segment(dir.path()), 4096, true);
    assert_too_new(dir.path(), &last_segment(dir.path()));

    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let orphan = dir.path().join("0000000000000fff.seg");
    fs::copy(last_segment(dir.path()), &orphan).unwrap();
    make_newer(&orphan, 4096, true);
    assert_too_new(dir.path(), &orphan);
}

/// Goal: without a manifest, a segment of a newer version is a newer store, not a damaged one: salvaging it with
/// this version would leave out what the newer one knows.
#[test]
fn a_newer_segment_without_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    fs::remove_file(dir.path().join("MANIFEST")).unwrap();
    make_newer(&last_segment(dir.path()), 4096, true);
    let before = tree(dir.path());
    let opened = options().recovery(RecoveryPolicy::Salvage).open(dir.path()).map(drop);
    assert!(matches!(opened, Err(Error::UnknownFormat { .. })), "{opened:?}");
    let mut after = tree(dir.path());
    after.insert(dir.path().join("LOCK"), before[&dir.path().join("LOCK")].clone());
    assert_eq!(after, before);
}

/// Goal: a directory that cannot be written is a clear error, and nothing of it is lost.
/// Method: permissions, where they mean something to this process.
#[cfg(unix)]
#[test]
fn an_unwritable_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    closed_store(&store);
    let set = |mode| fs::set_permissions(&store, fs::Permissions::from_mode(mode)).unwrap();
    set(0o500);
    if fs::write(store.join("probe"), "x").is_ok() {
        set(0o700);
        eprintln!("skipped: this process writes where permissions forbid it (root)");
        return;
    }
    let engine = options().durability(Durability::Sync).open(&store).unwrap();
    assert_keys(&engine);
    assert!(matches!(engine.put("k", "v"), Err(Error::Io { .. } | Error::Stopped { .. })));
    drop(engine);
    set(0o000);
    assert!(matches!(options().open(&store), Err(Error::Io { .. })));
    set(0o700);
    let engine = options().open(&store).unwrap();
    assert_keys(&engine);
    engine.put("k", "v").unwrap();
}

/// Goal: a store that is copied elsewhere, or moved, is the same store.
#[test]
fn a_moved_store() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(&dir.path().join("here"));
    copy_files(&dir.path().join("here"), &dir.path().join("copy"));
    fs::rename(dir.path().join("here"), dir.path().join("there")).unwrap();
    let moved = options().open(dir.path().join("there")).unwrap();
    let copied = options().open(dir.path().join("copy")).unwrap();
    moved.put("key 1", "changed").unwrap();
    assert_keys(&copied);
    assert_eq!(moved.get("key 1").unwrap().as_deref(), Some(&b"changed"[..]));
}
