//! `backup`, `restore`, `verify`: from the command line to the same entries.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;

use super::{arguments, command, files, filled, run, run_with_input};

fn keys(dir: &Path) -> String {
    run(arguments!["scan", dir]).expect(0).out
}

/// Goal: a directory, an archive through a pipe, and an archive in a file lead to the same entries; `verify` tells a
/// sound backup from a damaged one, and `restore` takes no damaged one.
#[test]
fn there_and_back() {
    let (root, store) = filled(500);
    let before = files(&store);
    let (dir, file) = (root.path().join("backup"), root.path().join("backup.tar"));
    let taken = run(arguments!["backup", &store, &dir, "--copy", "--json"]).expect(0).out;
    let taken: Value = serde_json::from_str(&taken).unwrap();
    assert!(taken["linked_bytes"] == 0 && taken["copied_bytes"] == taken["bytes"], "{taken}");
    let archive =
        command(arguments!["backup", &store, "-"]).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(archive.status.code(), Some(0));
    fs::write(&file, &archive.stdout).unwrap();
    assert_eq!(files(&store), before, "not a byte of the store is changed");
    let expected = keys(&store);
    let verified = run(arguments!["verify", &dir, "--json"]).expect(0).out;
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert!(verified["sound"] == true && verified["check"]["entries"] == 500, "{verified}");
    assert!(run(arguments!["verify", &dir]).expect(0).out.starts_with("sound: "));
    let [one, two, three] = ["one", "two", "three"].map(|name| root.path().join(name));
    run(arguments!["restore", &dir, &one]).expect(0);
    run(arguments!["restore", &file, &two]).expect(0);
    run_with_input(arguments!["restore", "-", &three], &archive.stdout).expect(0);
    for place in [&one, &two, &three] {
        assert_eq!(keys(place), expected);
        run(arguments!["check", place]).expect(0);
    }
    // In the place of a store only when told so, and then it is kept.
    run(arguments!["put", &one, "later", "value"]).expect(0);
    run(arguments!["restore", &dir, &one]).expect(8);
    run(arguments!["restore", &dir, &one, "--replace"]).expect(2);
    let said = run(arguments!["restore", &dir, &one, "--replace", "--yes", "--json"]).expect(0).out;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(keys(&one), expected);
    let aside = said["replaced"].as_str().unwrap();
    assert_eq!(run(arguments!["get", aside, "later"]).expect(0).out, "value\n");
    // A damaged one.
    let segment = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg"));
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4_200] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert!(run(arguments!["verify", &dir]).expect(4).out.contains("damaged: "));
    run(arguments!["restore", &dir, root.path().join("four")]).expect(4);
    assert!(!root.path().join("four").exists());
}

/// Goal: what is no backup, no store, or in the way has its exit code, and nothing is changed.
#[test]
fn refusals() {
    let (root, store) = filled(3);
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    run(arguments!["backup", &empty, root.path().join("x")]).expect(10);
    run(arguments!["verify", &store]).expect(10);
    run(arguments!["restore", &store, root.path().join("x")]).expect(10);
    run(arguments!["backup", &store, &store]).expect(8);
    run(arguments!["restore", root.path().join("missing"), root.path().join("x")]).expect(8);
    let garbage = run_with_input(arguments!["restore", "-", root.path().join("x")], &[7; 4_000]);
    garbage.expect(8);
    run_with_input(arguments!["restore", "-", root.path().join("x")], b"").expect(10);
    assert!(!root.path().join("x").exists());
    let full = command(arguments!["backup", &store, "-"])
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(8), "{full:?}");
}

/// Goal: a store whose name is no text is replaced, and set aside under its very name; nothing of the name acts on a
/// terminal. A file that is given to `verify` is told as a file.
#[cfg(unix)]
#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let (root, store) = filled(3);
    let named = |name: &[u8]| root.path().join(std::ffi::OsStr::from_bytes(name));
    let (dir, place) = (root.path().join("backup"), named(b"s\xff\x1b[31m"));
    run(arguments!["backup", &store, &dir, "--copy"]).expect(0);
    run(arguments!["restore", &dir, &place]).expect(0);
    run(arguments!["put", &place, "later", "value"]).expect(0);
    let said = run(arguments!["restore", &dir, &place, "--replace", "--yes"]).expect(0);
    assert!(!said.out.contains('\x1b') && !said.err.contains('\x1b'), "{said:?}");
    let aside = named(b"s\xff\x1b[31m.replaced-1");
    assert_eq!(run(arguments!["get", &aside, "later"]).expect(0).out, "value\n");
    let file = root.path().join("backup.tar");
    fs::write(&file, "an archive").unwrap();
    assert!(run(arguments!["verify", &file]).expect(8).err.contains("is a file"));
}
