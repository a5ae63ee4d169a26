//! Every exit code, for every reason that leads to it.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tierce_engine::Engine;

use super::{Dialogue, Ran, arguments, command, files, filled, place, run, run_with_input};

/// Commands that want a store which is there.
fn on_a_store(store: &Path) -> Vec<(&'static str, Ran)> {
    vec![
        ("get", run(arguments!["get", store, "key"])),
        ("del", run(arguments!["del", store, "key"])),
        ("keys", run(arguments!["keys", store])),
        ("info", run(arguments!["info", store])),
        ("check", run(arguments!["check", store])),
        ("records", run(arguments!["records", store, "1"])),
        ("shell", run(arguments!["shell", store, "--read-only"])),
        ("stats", run(arguments!["stats", store])),
        ("segments", run(arguments!["segments", store])),
        ("scan", run(arguments!["scan", store])),
        ("big", run(arguments!["big", store])),
        ("hist", run(arguments!["hist", "size", store])),
        ("map", run(arguments!["map", store])),
        ("report", run(arguments!["report", store, "-"])),
        ("changes", run(arguments!["changes", store])),
        ("dump", run(arguments!["dump", store])),
        ("compact", run(arguments!["compact", store])),
        ("dry run", run(arguments!["compact", store, "--dry-run"])),
        ("expire", run(arguments!["expire", store])),
        ("evict", run(arguments!["evict", store, "--to", "1", "--yes"])),
        ("touch", run(arguments!["touch", store, "key", "1h"])),
        ("clear", run(arguments!["clear", store, "--yes"])),
    ]
}

/// Goal: 0 and 1 tell a key that is there from one that is not.
#[test]
fn yes_and_no() {
    let (_root, store) = place();
    let put = run(arguments!["put", &store, "key", "value"]).expect(0);
    assert_eq!((put.out.as_str(), put.err.as_str()), ("", ""));
    assert_eq!(run(arguments!["get", &store, "key"]).expect(0).out, "value\n");
    let absent = run(arguments!["get", &store, "other"]).expect(1);
    assert_eq!((absent.out.as_str(), absent.err.as_str()), ("", "tierce: no entry other\n"));
    assert_eq!(run(arguments!["del", &store, "key"]).expect(0).out, "1\n");
    assert_eq!(run(arguments!["del", &store, "key"]).expect(1).out, "0\n");
    run(arguments!["get", &store, "key"]).expect(1);
    run(arguments!["records", &store, "ffff"]).expect(1);
    assert!(run(arguments!["check", &store]).expect(0).out.starts_with("ok: 0 problems"));
}

/// Goal: what makes no sense is 2, says why, and touches nothing. Help and version are answers.
#[test]
fn usage() {
    let (root, store) = place();
    let long = "k".repeat(65_536);
    for wrong in [
        arguments![].to_vec(),
        arguments!["frobnicate"].to_vec(),
        arguments!["get", &store].to_vec(),
        arguments!["get", &store, r"\q"].to_vec(),
        arguments!["put", &store, "key"].to_vec(),
        arguments!["put", &store, "key", r"\x1"].to_vec(),
        arguments!["put", &store, "key", "value", "--ttl", "0"].to_vec(),
        arguments!["put", &store, "key", "value", "--ttl", "soon"].to_vec(),
        arguments!["put", &store, "key", "value", "--durability", "maybe"].to_vec(),
        arguments!["keys", &store, "-0", "--json"].to_vec(),
        arguments!["records", &store, "first"].to_vec(),
        arguments!["shell", &store, "--json"].to_vec(),
        arguments!["shell", &store, "--segment-bytes", "1"].to_vec(),
        arguments!["shell", &store, "--periodic-ms", "0"].to_vec(),
        arguments!["shell", &store, "--segment-bytes", "-1"].to_vec(),
    ] {
        let ran = run(&wrong).expect(2);
        assert_eq!(ran.out, "", "{wrong:?}");
        assert!(!ran.err.is_empty(), "{wrong:?}");
    }
    assert!(!store.exists(), "a usage error makes no store");
    let too_large = run(arguments!["put", &store, &long, "value"]).expect(2);
    assert!(too_large.err.contains("65536 bytes is over the limit"), "{}", too_large.err);

    assert!(run(arguments!["--help"]).expect(0).out.contains("Exit codes: 0 done"));
    assert!(run(arguments!["--version"]).expect(0).out.starts_with("tierce "));
    drop(root);
}

/// Goal: a path without a store is 10 for every command that wants one, and looking creates nothing.
#[test]
fn no_store() {
    let (root, store) = place();
    let file = root.path().join("file");
    fs::write(&file, "somebody's").unwrap();
    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "somebody's").unwrap();
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();

    for path in [&store, &empty, &file, &foreign] {
        for (name, ran) in on_a_store(path) {
            assert_eq!(ran.code, Some(10), "{name} {}: {}", path.display(), ran.err);
            assert_eq!(ran.out, "", "{name} {}", path.display());
            let lines = ran.err.lines().count();
            assert_eq!(lines, 1, "{name} {}: {}", path.display(), ran.err);
        }
    }
    // Those that would create a store refuse what is somebody else's.
    for path in [&file, &foreign] {
        run(arguments!["put", path, "key", "value"]).expect(10);
        run(arguments!["shell", path]).expect(10);
        run(arguments!["tour", path]).expect(10);
    }
    assert!(!store.exists());
    assert!(files(&empty).is_empty());
    assert_eq!(fs::read(&file).unwrap(), b"somebody's");
    assert_eq!(files(&foreign), [("letter.txt".into(), b"somebody's".to_vec())]);

    run(arguments!["put", &empty, "key", "value"]).expect(0);
    assert_eq!(run(arguments!["get", &empty, "key"]).expect(0).out, "value\n");
}

/// Goal: who writes while a shell has the store is told so, with the shell's process id, and changes nothing.
#[test]
fn locked() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put key first"), "OK");
    let pid = shell.pid();
    for writer in [
        arguments!["put", &store, "key", "second"].to_vec(),
        arguments!["del", &store, "key"].to_vec(),
        arguments!["shell", &store].to_vec(),
        arguments!["tour", &store].to_vec(),
    ] {
        let ran = run(&writer).expect(11);
        assert!(ran.err.contains(&format!("process {pid}")), "{writer:?}: {}", ran.err);
        assert_eq!(ran.out, "");
    }
    let ran = run(arguments!["--json", "put", &store, "key", "second"]).expect(11);
    let json: serde_json::Value =
        serde_json::from_str(ran.err.lines().last().expect("a line")).expect("JSON");
    assert_eq!(json["error"]["kind"], "locked");
    assert_eq!(json["error"]["code"], 11);
    assert_eq!(json["error"]["pid"], pid);
    assert_eq!(shell.ask("get key"), "first");
    shell.end().expect(0);
    run(arguments!["put", &store, "key", "third"]).expect(0);
}

/// Goal: a lock file that a killed process left behind blocks nobody.
#[test]
fn the_lock_dies_with_its_holder() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put key value"), "OK");
    assert!(!shell.kill().success());
    assert!(fs::read(store.join("LOCK")).is_ok(), "the file is still there");
    assert_eq!(run(arguments!["get", &store, "key"]).expect(0).out, "value\n");
    run(arguments!["put", &store, "key", "next"]).expect(0);
}

/// Goal: closing frees the directory at once, though another thread is starting a process just then, which for a
/// moment has a copy of every open file.
#[test]
fn a_child_being_started_holds_no_lock() {
    let (_root, store) = place();
    let (done, start) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                run(arguments!["--version"]).expect(0);
            }
        });
        let mut in_time = (0..300).take_while(|_| start.elapsed() < Duration::from_secs(5));
        let opened = in_time.find_map(|number| {
            let closed = Engine::open(&store).and_then(Engine::close);
            closed.err().map(|error| format!("opening {number}: {error}"))
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(opened, None);
    });
}

/// Goal: a store of a newer format is 12 for every command, and no byte of it changes.
#[test]
fn newer_format() {
    let (_root, store) = filled(3);
    let manifest = store.join("MANIFEST");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[8..10].copy_from_slice(&7_u16.to_le_bytes());
    fs::write(&manifest, bytes).unwrap();
    let before = files(&store);
    let mut all = on_a_store(&store);
    all.push(("put", run(arguments!["put", &store, "key", "value"])));
    all.push(("shell", run_with_input(arguments!["shell", &store], b"put key value\n")));
    for (name, ran) in all {
        assert_eq!(ran.code, Some(12), "{name}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains('7'), "{name} names the version: {}", ran.err);
    }
    let without_lock = |files: Vec<(_, _)>| -> Vec<_> {
        files.into_iter().filter(|(name, _)| name != "LOCK").collect()
    };
    assert_eq!(without_lock(files(&store)), without_lock(before));
}

/// Goal: a flipped bit in a value is 4: `check` finds it, and nobody is served the value.
#[test]
fn damaged() {
    let (_root, store) = filled(50);
    let needle = b"value-33";
    let (name, mut bytes, at) = files(&store)
        .into_iter()
        .filter(|(name, _)| name.to_string_lossy().ends_with(".seg"))
        .find_map(|(name, bytes)| {
            let at = bytes.windows(needle.len()).position(|window| window == needle)?;
            Some((name, bytes, at))
        })
        .expect("the value stands in a segment");
    bytes[at + 6] ^= 0x10;
    fs::write(store.join(&name), bytes).unwrap();

    let check = run(arguments!["check", &store]).expect(4);
    let lines: Vec<&str> = check.out.lines().collect();
    assert!(
        lines.last().is_some_and(|line| line.starts_with("problems remain: ")),
        "{}",
        check.out
    );
    let finding = lines.iter().find(|line| line.contains(" problem ")).expect("a finding");
    assert!(finding.contains(name.to_str().expect("text")), "{finding}");
    assert!(finding.split(' ').next().is_some_and(|code| code.starts_with('C')), "{finding}");

    let json = run(arguments!["check", &store, "--json"]).expect(4).out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!(json["healthy"], false);
    assert!(json["findings"].as_array().is_some_and(|findings| !findings.is_empty()), "{json}");

    let get = run(arguments!["get", &store, "key-00033"]);
    assert_eq!((get.code, get.out.as_str()), (Some(4), ""), "{}", get.err);
}

/// Goal: a manifest that lost its end is damage, not an older store: the segments that it no longer names hold
/// acknowledged data, so nobody is served less, and no file is removed.
#[test]
fn cut_manifest() {
    let (_root, store) = place();
    let lines: String = (0..200).map(|n| format!("put key-{} {n:0>200}\n", n % 20)).collect();
    let options = arguments!["shell", &store, "--segment-bytes", "8192"];
    run_with_input(options, lines.as_bytes()).expect(0);
    let manifest = store.join("MANIFEST");
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, &bytes[..bytes.len() / 2]).unwrap();
    let before = files(&store);
    assert!(run(arguments!["check", &store]).expect(4).out.contains("MANIFEST"));
    assert_eq!(run(arguments!["get", &store, "key-1"]).expect(4).out, "");
    assert_eq!(run_with_input(arguments!["shell", &store], b"get key-1\n").expect(4).out, "");
    let names = |files: Vec<(_, Vec<u8>)>| -> Vec<OsString> {
        files.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(files(&store)), names(before));
}

/// Goal: what the operating system refuses is 8.
#[test]
fn operational() {
    let (root, store) = place();
    let ran =
        run(arguments!["tour", &store, "--input", root.path().join("missing.jsonl")]).expect(8);
    assert!(ran.err.contains("missing.jsonl"), "{}", ran.err);
    assert!(!store.exists(), "nothing is created for an input that is not there");
    run(arguments!["tour", &store, "--input", root.path()]).expect(8);

    if cfg!(target_os = "linux") {
        // Nobody can create a directory there, not even the administrator.
        run(arguments!["put", "/proc/tierce-store", "key", "value"]).expect(8);
        run(arguments!["shell", "/proc/tierce-store"]).expect(8);
        run(arguments!["put", &store, "key", "value"]).expect(0);
        let full = || {
            Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there"))
        };
        let output = command(arguments!["get", &store, "key"]).stdout(full()).output().unwrap();
        let ran = Ran::of(&output).expect(8);
        assert!(ran.err.contains("standard output"), "{}", ran.err);
    }
}

/// Goal: a directory that may not be written refuses the write with 8 and keeps what it has.
#[cfg(unix)]
#[test]
fn unwritable_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let (root, store) = place();
    let mode = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    if fs::write(root.path().join("probe"), "").is_ok() {
        eprintln!(
            "this user may write everywhere; the case of an unwritable directory is not tested"
        );
        mode(0o700);
        return;
    }
    run(arguments!["put", &store, "key", "value"]).expect(8);
    mode(0o700);
    run(arguments!["put", &store, "key", "value"]).expect(0);
}

/// Goal: an interrupt ends the shell, and the store opens again with everything acknowledged.
/// Method: SIGINT to a shell at a pipe; Ctrl-C at a prompt on a terminal that `script` provides, if it is here.
#[cfg(unix)]
#[test]
fn interrupted() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put key value"), "OK");
    let signal = Command::new("kill").args(["-INT", &shell.pid().to_string()]).status();
    assert!(signal.is_ok_and(|status| status.success()), "kill -INT works");
    assert_eq!(shell.child.wait().unwrap().code(), Some(130));
    assert_eq!(run(arguments!["get", &store, "key"]).expect(0).out, "value\n");

    let line = format!("'{}' shell '{}'; echo code=$?", super::binary().display(), store.display());
    let script = Command::new("script")
        .args(["--quiet", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut script) = script else {
        eprintln!("no `script` here; the prompt is not tested");
        return;
    };
    let mut input = script.stdin.take().unwrap();
    let mut output = script.stdout.take().unwrap();
    let mut seen = String::new();
    // Ctrl-C is for whoever reads then, so each key waits for what shows that the prompt is back.
    for (shown, keys) in [
        ("tierce> ", &b"put typed here\r"[..]),
        ("OK\r\n", b"get typed\r"),
        ("\nhere\r\n", b"\x03"),
    ] {
        let is_back =
            |seen: &str| seen.rfind(shown).is_some_and(|at| seen[at..].contains("tierce> "));
        while !is_back(&seen) {
            let mut bytes = [0; 4096];
            let count = output.read(&mut bytes).expect("the terminal can be read");
            assert!(count > 0, "the terminal ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        input.write_all(keys).unwrap();
    }
    output.read_to_string(&mut seen).expect("the rest is text");
    drop(input);
    script.wait().unwrap();
    assert!(seen.contains("code=130"), "{seen}");
    assert_eq!(run(arguments!["get", &store, "typed"]).expect(0).out, "here\n");
}
