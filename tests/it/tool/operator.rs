//! An operator who is another user than the service: root works on the store of a service.
#![cfg(unix)]

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
};

use super::{Ran, arguments, command, filled, run, run_with_input};

const SERVICE: u32 = 12_345;

/// Gives everything below `dir` to the service; false if this process may not.
fn give(dir: &Path) -> bool {
    if chown(dir, Some(SERVICE), Some(SERVICE)).is_err() {
        return false;
    }
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => assert!(give(&entry.path())),
            false => chown(entry.path(), Some(SERVICE), Some(SERVICE)).unwrap(),
        }
    }
    true
}

/// Everything below `dir` that is not the service's.
fn others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.metadata().unwrap().uid() != SERVICE {
            found.push(entry.path().display().to_string());
        }
        if entry.path().is_dir() {
            found.extend(others(&entry.path()));
        }
    }
    found
}

/// Goal: what root makes in a store, or in the place of one, belongs to the owner of the directory, and the permissions
/// of a store that is replaced stay: the service opens its store afterwards as before.
/// Method: writes, compaction, a repair with its undo directory, a restore over the store; then the service writes.
#[test]
fn owner() {
    let (root, store) = filled(200);
    let work = root.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&store, work.join("store")).unwrap();
    let store = work.join("store");
    if !give(&work) {
        eprintln!("not root here; another user's store is not tested");
        return;
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o750)).unwrap();
    fs::remove_file(store.join("LOCK")).unwrap();
    let lines: String = (0..200).map(|n| format!("put key-{n:05} other-{n}\n")).collect();
    let shell = arguments!["shell", &store, "--segment-bytes", "8KiB"];
    run_with_input(shell, lines.as_bytes()).expect(0);
    run(arguments!["compact", &store]).expect(0);
    run(arguments!["put", work.join("new/store"), "key", "value"]).expect(0);
    assert_eq!(others(&work), [""; 0]);

    run(arguments!["backup", &store, root.path().join("backup")]).expect(0);
    fs::remove_file(store.join("MANIFEST")).unwrap();
    run(arguments!["repair", &store, "--apply"]).expect(3);
    assert_eq!(others(&work), [""; 0]);
    run(arguments!["restore", root.path().join("backup"), &store, "--replace", "--yes"]).expect(0);
    assert_eq!(others(&work), [""; 0]);
    let found = fs::metadata(&store).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (SERVICE, SERVICE, 0o750));

    // The binary may be where the service cannot go.
    let tool = root.path().join("tierce");
    fs::copy(super::binary(), &tool).unwrap();
    let mut service = std::process::Command::new(&tool);
    service.args(arguments!["put", &store, "mine", "1"]).uid(SERVICE).gid(SERVICE);
    Ran::of(&service.output().expect("it starts")).expect(0);
    let ran = command(arguments!["keys", &store, "--count"]).output().expect("it starts");
    assert_eq!(Ran::of(&ran).expect(0).out, "201\n");
}

/// Goal: a directory that may be entered but not listed is an error with its name, and nothing changes.
#[test]
fn not_listed() {
    let (root, store) = filled(3);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tool = root.path().join("tierce");
    fs::copy(super::binary(), &tool).unwrap();
    if !give(&store) {
        eprintln!("not root here; a directory that cannot be listed is not tested");
        return;
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o311)).unwrap();
    for words in [["keys"].as_slice(), &["check"], &["info"], &["get"]] {
        let mut service = std::process::Command::new(&tool);
        service.args(words).arg(&store).args((words[0] == "get").then_some("key-00000"));
        let output = service.uid(SERVICE).gid(SERVICE).output().expect("it starts");
        let ran = Ran::of(&output).expect(8);
        assert!(ran.err.contains("ermission denied") && ran.err.contains("store"), "{}", ran.err);
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "3\n");
}
