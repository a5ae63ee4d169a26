//! `dump`, `load` and `import`: what goes out comes in again, exactly, and what is no dump comes not in at all.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tierce_engine::{Engine, Entry, Options, PutOptions, Timestamp};
use tierce_kit::{rng::Rng, seed};

use super::{Ran, arguments, command, filled, place, run, run_with_input};

/// Everything of every entry, by key.
fn contents(store: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let engine = Options::new().create(false).open(store).expect("it opens");
    let entries = engine.iter().expect("a snapshot").map(|entry| entry.expect("it reads"));
    let numbered = |(key, entry): (Vec<u8>, Entry)| {
        // The order of writes is the only thing that a dump does not keep.
        let mut options =
            PutOptions::new().evictable(entry.evictable).codec(entry.codec, entry.schema);
        if let Some(at) = entry.expires_at {
            options = options.expires_at(at);
        }
        options = entry.scopes.iter().fold(options, |options, scope| options.scope(scope.clone()));
        options = entry
            .items
            .iter()
            .fold(options, |options, (kind, bytes)| options.item(*kind, bytes.clone()));
        (key, Entry::new(entry.value.to_vec(), options))
    };
    let contents = entries.map(numbered).collect();
    engine.close().expect("it closes");
    contents
}

fn random_bytes(rng: &mut Rng, most: u64) -> Vec<u8> {
    let length = rng.below(most + 1);
    // Half of it is text, with what is special somewhere.
    if rng.below(2) == 0 {
        let special: Vec<char> = "ab\\\",\n\r\0 °\u{feff}=x\u{7f}".chars().collect();
        (0..length)
            .map(|_| special[rng.below(special.len() as u64) as usize])
            .collect::<String>()
            .into_bytes()
    } else {
        (0..length).map(|_| rng.below(256) as u8).collect()
    }
}

fn fill_randomly(store: &Path, rng: &mut Rng) {
    let engine = Engine::open(store).expect("it opens");
    for _ in 0..rng.below(200) {
        let mut options = PutOptions::new().evictable(rng.below(2) == 0);
        if rng.below(3) == 0 {
            options = options.codec(rng.below(256) as u8, rng.below(1 << 32) as u32);
        }
        if rng.below(3) == 0 {
            options = options.expires_at(Timestamp(4_000_000_000_000 + rng.below(1 << 40)));
        }
        for _ in 0..rng.below(3) {
            let mut scope = random_bytes(rng, 60);
            scope.push(b's');
            options = options.scope(scope);
        }
        for _ in 0..rng.below(3) {
            options = options.item(0x20 + rng.below(0x60) as u8, random_bytes(rng, 60));
        }
        let (key, value) = (random_bytes(rng, 40), random_bytes(rng, 3_000));
        engine.put_with(key, value, &options).expect("it is stored");
    }
    engine.put((0..=255).collect::<Vec<u8>>(), "every byte").expect("it is stored");
    engine.close().expect("it closes");
}

fn dump(store: &Path, options: &[&str]) -> Vec<u8> {
    let output = command(["dump"]).arg(store).args(options).output().expect("the tool starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Goal: random entries with everything that an entry can have survive dump and load bit for bit, in any order.
#[test]
fn everything_survives() {
    seed::cases("tool::moving::everything_survives", 6, |seed| {
        let mut rng = Rng::new(seed);
        let (root, store) = place();
        fill_randomly(&store, &mut rng);
        let before = contents(&store);
        for options in [&[][..], &["--sort"]] {
            let text = dump(&store, options);
            let copy = root.path().join(format!("copy{}", options.len()));
            run_with_input(arguments!["load", &copy], &text).expect(0);
            assert_eq!(contents(&copy), before);
            let file = root.path().join("dump");
            fs::write(&file, &text).unwrap();
            let ran = run(arguments!["load", &copy, &file, "--if-absent", "--json"]).expect(0);
            let document: Value = serde_json::from_str(&ran.out).unwrap();
            assert_eq!((&document["stored"], &document["kept"]), (&0.into(), &before.len().into()));
        }
        let sorted = dump(&store, &["--sort"]);
        assert_eq!(sorted.split(|byte| *byte == b'\n').count() - 1, before.len() + 2);
    });
}

/// Goal: CSV keeps keys, values, expiries and evictability of any entry.
#[test]
fn csv() {
    seed::cases("tool::moving::csv", 4, |seed| {
        let (root, store) = place();
        fill_randomly(&store, &mut Rng::new(seed));
        let copy = root.path().join("copy");
        run_with_input(
            arguments!["load", &copy, "--format", "csv"],
            &dump(&store, &["--format", "csv"]),
        )
        .expect(0);
        let (before, after) = (contents(&store), contents(&copy));
        assert_eq!(before.len(), after.len());
        for (key, entry) in before {
            let copied = &after[&key];
            assert_eq!(*copied.value, *entry.value);
            assert_eq!((copied.expires_at, copied.evictable), (entry.expires_at, entry.evictable));
        }
    });
    let (_root, store) = place();
    let text = "\u{feff}value,key\r\n\"two\nlines\",\"a \"\"b\"\"\"\nplain,c";
    run_with_input(arguments!["load", &store, "--format", "csv", "-"], text.as_bytes()).expect(0);
    assert_eq!(run(arguments!["get", &store, "a \"b\""]).expect(0).out, "two\\x0alines\n");
}

/// Goal: LMDB's own tools take our text, and we take theirs; it is skipped, aloud, where they are not installed.
#[test]
fn lmdb() {
    let (root, store) = place();
    for key in 1..200_u64 {
        let value = "v".repeat((key * 37 % 9_000) as usize);
        let engine = Engine::open(&store).expect("it opens");
        engine.put(format!("key {key}\\\n\u{b0}"), value).unwrap();
        engine.put([key as u8, 0, 255], [0, 255, b'\\', key as u8]).unwrap();
        engine.close().unwrap();
    }
    let text = dump(&store, &["--format", "lmdb"]);
    let copy = root.path().join("ours");
    run_with_input(arguments!["load", &copy, "--format", "lmdb"], &text).expect(0);
    assert_eq!(contents(&copy), contents(&store));

    let (file, database) = (root.path().join("text"), root.path().join("lmdb"));
    fs::write(&file, &text).unwrap();
    fs::create_dir(&database).unwrap();
    let Ok(loaded) = Command::new("mdb_load").arg("-f").args([&file, &database]).output() else {
        eprintln!("no mdb_load here; only our own halves were tested against each other");
        return;
    };
    let complaints = String::from_utf8_lossy(&loaded.stderr);
    assert!(loaded.status.success() && complaints.is_empty(), "{complaints}");
    let theirs =
        Command::new("mdb_dump").arg(&database).output().expect("mdb_dump is where mdb_load is");
    let copy = root.path().join("theirs");
    run_with_input(arguments!["load", &copy, "--format", "lmdb"], &theirs.stdout).expect(0);
    assert_eq!(contents(&copy), contents(&store));
}

/// Goal: what is no dump, or one that was cut or changed, is 8 with its line; a file stores nothing then, and what was
/// there before stays in any case.
#[test]
fn garbage() {
    let (root, store) = filled(50);
    let whole = dump(&store, &[]);
    let (file, target) = (root.path().join("dump"), root.path().join("target"));
    run(arguments!["put", &target, "mine", "stays"]).expect(0);
    let before = contents(&target);
    let changed =
        String::from_utf8(whole.clone()).unwrap().replace("value-7\"", "value-8\"").into_bytes();
    let cut = whole[..whole.len() - 30].to_vec();
    let newer = String::from_utf8(whole.clone())
        .unwrap()
        .replace("\"version\":1", "\"version\":2")
        .into_bytes();
    for (name, text, format) in [
        ("changed", changed.clone(), "jsonl"),
        ("cut", cut, "jsonl"),
        ("newer", newer, "jsonl"),
        ("empty", Vec::new(), "jsonl"),
        ("noise", vec![0xa5; 5_000], "jsonl"),
        ("noise", vec![0xa5; 5_000], "lmdb"),
        ("no end", b"VERSION=3\nformat=print\nHEADER=END\n a\n b\n".to_vec(), "lmdb"),
        ("noise", vec![0xa5; 5_000], "csv"),
        ("no header", b"a,b\n1,2\n".to_vec(), "csv"),
        ("short", b"key,value\n1\n".to_vec(), "csv"),
        ("open quote", b"key,value\n1,\"\n".to_vec(), "csv"),
    ] {
        fs::write(&file, &text).unwrap();
        let ran = run(arguments!["load", &target, &file, "--format", format]).expect(8);
        assert!(ran.err.contains(" line ") && ran.err.lines().count() == 1, "{name}: {}", ran.err);
        assert_eq!(contents(&target), before, "{name}");
        let fresh = root.path().join("fresh");
        run(arguments!["load", &fresh, &file, "--format", format]).expect(8);
        assert!(!fresh.exists(), "{name} made a store");
    }
    let ran = run_with_input(arguments!["load", &target], &changed).expect(8);
    assert!(ran.err.contains("checksum"), "{}", ran.err);
    assert_eq!(run(arguments!["get", &target, "mine"]).expect(0).out, "stays\n");
    let lost = run(arguments!["load", &target, root.path().join("none")]).expect(8);
    assert!(lost.err.contains("none"), "{}", lost.err);
}

/// Goal: entries that have expired meanwhile are counted and left out; `--replace` and its absence replace.
#[test]
fn expired_and_replaced() {
    let (_root, store) = place();
    let text = "key,value,expires_at_ms\na,new,\nb,gone,1000\n";
    run(arguments!["put", &store, "a", "old"]).expect(0);
    let load = |options: &[&str]| {
        let mut arguments = arguments!["load", &store, "--format", "csv", "--json"].to_vec();
        arguments.extend(options.iter().map(Into::into));
        let ran = run_with_input(arguments, text.as_bytes()).expect(0);
        serde_json::from_str::<Value>(&ran.out).unwrap()
    };
    let kept = load(&["--if-absent"]);
    assert_eq!(
        (&kept["stored"], &kept["kept"], &kept["expired"]),
        (&0.into(), &1.into(), &1.into())
    );
    assert_eq!(run(arguments!["get", &store, "a"]).expect(0).out, "old\n");
    assert_eq!(load(&["--replace"])["stored"], 1);
    assert_eq!(run(arguments!["get", &store, "a"]).expect(0).out, "new\n");
    run(arguments!["get", &store, "b"]).expect(1);
    run(arguments!["load", &store, "--if-absent", "--replace"]).expect(2);
}

/// Goal: a disk that is full behind the redirection is 8, not success.
#[cfg(target_os = "linux")]
#[test]
fn full_output() {
    let (_root, store) = filled(20);
    for arguments in [arguments!["dump", &store].to_vec(), arguments!["keys", &store].to_vec()] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("linux has it");
        let output = command(&arguments).stdout(full).output().expect("the tool starts");
        assert_eq!(output.status.code(), Some(8), "{arguments:?}");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("could not write to standard output"), "{err}");
    }
}

/// Goal: Ctrl-C in the middle of a load ends it with 130 and a store that checks clean and is closed.
/// Method: a pipe that never ends, and a signal once there is something in the store. A pipe that is silent as well:
/// there the process ends by itself after its two seconds, and the store is as after a crash.
#[cfg(unix)]
#[test]
fn interrupted() {
    for is_silent in [false, true] {
        let (root, source) = filled(40);
        let store = root.path().join("target");
        let text = dump(&source, &[]);
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let mut child = command(arguments!["load", &store])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let pid = child.id().to_string();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(lines[0]).unwrap();
        let is_begun = || store.join("MANIFEST").exists();
        while !is_begun() {
            pipe.write_all(lines[1]).unwrap();
        }
        for line in lines[1..40].iter().cycle().take(5_000) {
            pipe.write_all(line).unwrap();
        }
        let signal = Command::new("kill").args(["-INT", &pid]).status();
        assert!(signal.is_ok_and(|status| status.success()), "kill -INT works");
        if !is_silent {
            // Until nobody reads any more.
            while pipe.write_all(lines[1]).is_ok() {}
        }
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        drop(pipe);
        assert_eq!(ran.code, Some(130), "{}", ran.err);
        let check = run(arguments!["check", &store]).expect(0);
        assert!(check.out.starts_with("ok: 0 problems"), "{}", check.out);
        if !is_silent {
            assert!(
                ran.err.contains("entries stored") && ran.err.ends_with("tierce: interrupted\n"),
                "{}",
                ran.err
            );
            let info: Value =
                serde_json::from_str(&run(arguments!["info", &store, "--json"]).expect(0).out)
                    .unwrap();
            assert_eq!(info["clean"], true);
        }
    }
}

/// Goal: both forms of JSON are taken, values as their text, and a fault anywhere stores nothing.
#[test]
fn import_json() {
    let (root, store) = place();
    let file = root.path().join("in.json");
    fs::write(&file, r#"{"a": 1.50, "b": {"c": "°"}}"#).unwrap();
    run(arguments!["import", "json", &file, &store]).expect(0);
    assert_eq!(run(arguments!["get", &store, "a"]).expect(0).out, "1.50\n");
    let array = r#"[{"key": "t", "value": [true], "ttl": 3600}, {"key": "u", "value": null}]"#;
    let ran = run_with_input(arguments!["import", "json", "-", &store, "--json"], array.as_bytes())
        .expect(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["stored"], 2);
    let contents = contents(&store);
    assert!(contents[&b"t"[..]].expires_at.is_some() && contents[&b"u"[..]].expires_at.is_none());
    fs::write(&file, r#"[{"key": "x", "value": 1}, {"key": "y"}]"#).unwrap();
    run(arguments!["import", "json", &file, &store]).expect(8);
    run(arguments!["get", &store, "x"]).expect(1);
}
