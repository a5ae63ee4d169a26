//! `repair`, `salvage`, `rebuild`, `migrate`: what they print, what they leave, every exit code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Dialogue, Ran, arguments, files, filled, run};

fn segments(store: &Path) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let mut paths: Vec<_> = fs::read_dir(store)
        .expect("it is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(is_segment)
        .collect();
    paths.sort();
    paths
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("it is written");
}

/// A closed store of 20 entries, of which one record is damaged.
fn damaged() -> (tempfile::TempDir, PathBuf) {
    let (root, store) = filled(20);
    let path = segments(&store).remove(0);
    change(&path, |bytes| {
        let text = b"key-00007value-7";
        let at = bytes.windows(text.len()).position(|window| window == text).expect("it is there");
        bytes[at + 12] ^= 1;
    });
    (root, store)
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Goal: a plan is printed and nothing changes; applied it repairs; then there is nothing to do; the way back gives the
/// very bytes, and the plan is the same again.
#[test]
fn plan_apply_and_back() {
    let (_root, store) = damaged();
    run(arguments!["check", &store]).expect(4);
    let before = files(&store);
    let plan = run(arguments!["repair", &store]).expect(4);
    assert!(plan.out.contains("rewrite ") && plan.out.contains("[C021]"), "{}", plan.out);
    assert!(plan.out.contains("lost: put ") && plan.out.contains("key key-00007"), "{}", plan.out);
    assert!(plan.out.ends_with("1 records lost; --apply carries them out\n"), "{}", plan.out);
    assert!(files(&store) == before, "a plan changes nothing");

    let applied = run(arguments!["repair", &store, "--apply"]).expect(3);
    assert!(applied.out.ends_with("repaired: 2 steps, 1 records lost\n"), "{}", applied.out);
    assert!(applied.err.contains("undo-1 has what was there before"), "{}", applied.err);
    run(arguments!["check", &store]).expect(0);
    run(arguments!["get", &store, "key-00007"]).expect(1);
    assert_eq!(run(arguments!["get", &store, "key-00008"]).expect(0).out, "value-8\n");
    assert_eq!(run(arguments!["repair", &store]).expect(0).out, "nothing to do\n");
    assert_eq!(run(arguments!["repair", &store, "--apply"]).expect(0).out, "nothing to do\n");

    let undo = store.join("undo-1");
    let undone = run(arguments!["repair", &store, "--undo-from", &undo]).expect(0);
    assert!(undone.err.contains("redo-1 has what was there before"), "{}", undone.err);
    fs::remove_dir_all(&undo).expect("it is removed");
    fs::remove_dir_all(store.join("redo-1")).expect("it is removed");
    assert!(files(&store) == before, "the way back gives the very bytes");
    assert_eq!(run(arguments!["repair", &store]).expect(4).out, plan.out);
}

/// Goal: the same for programs: a line a step and a loss, one at the end.
#[test]
fn as_json() {
    let (root, store) = damaged();
    let plan = lines(&run(arguments!["--json", "repair", &store]).expect(4));
    assert_eq!(plan[0]["type"], "step");
    assert_eq!((&plan[0]["action"], &plan[0]["codes"][0]), (&"rewrite".into(), &"C021".into()));
    assert_eq!((&plan[0]["kept"], &plan[0]["lost"]), (&19.into(), &1.into()));
    let lost = plan.iter().find(|line| line["type"] == "lost").expect("something is lost");
    assert_eq!((&lost["key"], &lost["fate"]), (&"key-00007".into(), &"gone".into()));
    let last = plan.last().expect("a line");
    assert_eq!((&last["type"], &last["needed"]), (&"plan".into(), &true.into()));
    let undo = root.path().join("kept");
    let applied =
        lines(&run(arguments!["--json", "repair", &store, "--apply", "--undo", &undo]).expect(3));
    let last = applied.last().expect("a line");
    assert_eq!((&last["type"], &last["healthy"]), (&"repaired".into(), &true.into()));
    assert_eq!((&last["entries"], &last["undo"]), (&19.into(), &undo.display().to_string().into()));
    let back = lines(&run(arguments!["--json", "repair", &store, "--undo-from", &undo]).expect(0));
    let redo = store.join("redo-1");
    let told = (&"undone".into(), &redo.display().to_string().into());
    assert_eq!((&back[0]["type"], &back[0]["redo"]), told);
    assert!(redo.join("MANIFEST").is_file());
}

/// Goal: every reason has its exit code; nothing is touched or created by a refusal.
#[test]
fn exit_codes() {
    let (root, store) = damaged();
    let nothing = root.path().join("nothing");
    let out = root.path().join("out");
    for none in [
        run(arguments!["repair", &nothing]),
        run(arguments!["repair", &nothing, "--apply"]),
        run(arguments!["salvage", &nothing, &out]),
        run(arguments!["rebuild", &nothing]),
        run(arguments!["migrate", &nothing]),
    ] {
        assert_eq!(none.expect(10).out, "");
    }
    assert!(!nothing.exists() && !out.exists());
    let before = files(&store);
    for usage in [
        run(arguments!["repair", &store, "--undo", &out]),
        run(arguments!["repair", &store, "--apply", "--undo-from", &out]),
        run(arguments!["repair", &store, "--apply", "--undo", &store]),
        run(arguments!["repair", &store, "--undo-from", &out]),
        run(arguments!["salvage", &store]),
        run(arguments!["salvage", &store, root.path()]),
        run(arguments!["salvage", &store, store.join("inside")]),
        run(arguments!["migrate", &store, "--to", "2.0"]),
        run(arguments!["migrate", &store, "--to", "new"]),
    ] {
        assert_eq!(usage.expect(2).out, "");
    }
    run(arguments!["rebuild", &store]).expect(4);
    assert!(files(&store) == before);
    assert_eq!(
        run(arguments!["migrate", &store, "--to", "1.0"]).expect(0).out,
        "format 1.0, which is the newest known: nothing to do in 1 segments\n"
    );

    let mut shell = Dialogue::open(arguments![&store, "--recovery", "skip-record"]);
    assert_eq!(shell.ask("get key-00001"), "value-1");
    for locked in [
        run(arguments!["repair", &store]),
        run(arguments!["repair", &store, "--apply"]),
        run(arguments!["rebuild", &store]),
    ] {
        assert!(locked.expect(11).err.contains(&format!("process {}", shell.pid())));
    }
    shell.end().expect(0);

    change(&store.join("MANIFEST"), |bytes| bytes[8] = 9);
    let before = files(&store);
    for newer in [
        run(arguments!["repair", &store]),
        run(arguments!["repair", &store, "--apply"]),
        run(arguments!["salvage", &store, &out]),
        run(arguments!["rebuild", &store]),
        run(arguments!["migrate", &store]),
    ] {
        newer.expect(12);
    }
    assert!(files(&store) == before && !out.exists());
}

/// Goal: with `--fsck-codes` the exit codes are e2fsck's.
#[test]
fn fsck_codes() {
    let (root, store) = damaged();
    run(arguments!["repair", &store, "--fsck-codes"]).expect(4);
    let mut shell = Dialogue::open(arguments![&store, "--recovery", "skip-record"]);
    assert_eq!(shell.ask("get key-00001"), "value-1");
    run(arguments!["repair", &store, "--fsck-codes", "--apply"]).expect(8);
    shell.end().expect(0);
    run(arguments!["repair", root.path().join("nothing"), "--fsck-codes"]).expect(8);
    run(arguments!["repair", "--fsck-codes"]).expect(16);
    run(arguments!["repair", &store, "--fsck-codes", "--apply", "--undo", &store]).expect(16);
    run(arguments!["repair", &store, "--fsck-codes", "--apply"]).expect(1);
    run(arguments!["repair", &store, "--fsck-codes", "--apply"]).expect(0);
}

/// Goal: what can be read is in the new store with all that is known of it, what cannot is listed; the old store may be
/// damaged, without a manifest, or one file; not a byte of it changes.
#[test]
fn salvage() {
    let (root, store) = damaged();
    let before = files(&store);
    let new = root.path().join("new");
    let ran = run(arguments!["salvage", &store, &new]).expect(4);
    assert!(ran.out.starts_with("lost: put ") && ran.out.contains("key key-00007"), "{}", ran.out);
    assert!(ran.out.ends_with("salvaged, not all of it: 19 records of 1 segments; 19 entries\n"));
    assert!(files(&store) == before);
    run(arguments!["check", &new]).expect(0);
    assert_eq!(run(arguments!["get", &new, "key-00019"]).expect(0).out, "value-19\n");
    run(arguments!["get", &new, "key-00007"]).expect(1);

    // A copy of its one segment, under another name, and nothing else.
    let copies = root.path().join("copies");
    fs::create_dir(&copies).expect("it is made");
    fs::copy(&segments(&store)[0], copies.join("a copy.seg")).expect("it is copied");
    for (number, from) in [copies.clone(), copies.join("a copy.seg")].iter().enumerate() {
        let new = root.path().join(format!("of copies {number}"));
        let ran = run(arguments!["--json", "salvage", from, &new]).expect(4);
        let last = lines(&ran).pop().expect("a line");
        assert_eq!((&last["records"], &last["may_lack_segments"]), (&19.into(), &true.into()));
        let lost = lines(&ran).into_iter().find(|line| line["type"] == "lost").expect("a loss");
        assert_eq!(lost["file"], copies.join("a copy.seg").display().to_string());
        assert_eq!(run(arguments!["get", &new, "key-00003"]).expect(0).out, "value-3\n");
    }
    assert_eq!(files(&copies).len(), 1);
}

/// Goal: a healthy store is salvaged whole, from a directory in which nobody may write.
#[cfg(unix)]
#[test]
fn salvage_of_what_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let (root, store) = filled(20);
    let set = |mode| fs::set_permissions(&store, fs::Permissions::from_mode(mode)).expect("set");
    set(0o500);
    let new = root.path().join("new");
    let ran = run(arguments!["salvage", &store, &new]);
    set(0o700);
    assert!(ran.expect(0).out.starts_with("salvaged, all of it: 20 records"));
}

/// Goal: footers and checkpoint are made anew.
#[test]
fn rebuild() {
    let (_root, store) = filled(20);
    change(&segments(&store)[0], |bytes| {
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
    });
    let only = run(arguments!["rebuild", &store, "--checkpoint"]).expect(0);
    assert_eq!(only.out, "rebuilt: 0 footers, a checkpoint\n");
    let json = lines(&run(arguments!["rebuild", &store, "--footers", "--json"]).expect(0));
    assert_eq!((&json[0]["footers"], &json[0]["checkpoint"]), (&1.into(), &true.into()));
    run(arguments!["check", &store]).expect(0);
    assert_eq!(
        run(arguments!["rebuild", &store, "--footers"]).expect(0).out,
        "rebuilt: 0 footers, no checkpoint\n"
    );
    assert_eq!(run(arguments!["get", &store, "key-00019"]).expect(0).out, "value-19\n");
}
