//! Texts and archives as other programs write or repack them: marks, line ends, encodings, packings.

use std::fs;

use super::{arguments, place, run, run_with_input};

const MARK: &[u8] = b"\xef\xbb\xbf";

/// Goal: a UTF-8 mark before a text changes nothing, whatever reads it: dumps of every format, JSON, traces, scripts.
#[test]
fn marks() {
    let (root, store) = place();
    run(arguments!["put", &store, "a", "1"]).expect(0);
    run(arguments!["put", &store, "b", "2"]).expect(0);
    for format in ["jsonl", "lmdb", "csv"] {
        let dump = run(arguments!["dump", &store, "--format", format]).expect(0).out;
        let (file, other) = (root.path().join(format), root.path().join(format!("{format}-store")));
        fs::write(&file, [MARK, dump.as_bytes()].concat()).unwrap();
        run(arguments!["load", &other, &file, "--format", format]).expect(0);
        assert_eq!(run(arguments!["scan", &other]).expect(0).out, "a 1\nb 2\n", "{format}");
    }
    let quoted = [MARK, b"\"key\",\"value\"\r\n\"a\",\"1\"\r\n"].concat();
    run_with_input(arguments!["load", root.path().join("q"), "--format", "csv"], &quoted).expect(0);
    let json = [MARK, br#"{"a": 1}"#].concat();
    run_with_input(arguments!["import", "json", "-", root.path().join("j")], &json).expect(0);
    let trace = [MARK, b"a\nb\na\n"].concat();
    let words = arguments!["replay", "-", "--format", "lines", "--json"];
    let replayed = run_with_input(words, &trace).expect(0).out;
    assert!(replayed.contains(r#""unique_keys":2"#), "{replayed}");
    let script = [MARK, b"get a\r\nget b\r\n"].concat();
    assert_eq!(run_with_input(arguments!["shell", &store], &script).expect(0).out, "1\n2\n");
}

/// Goal: a text in another encoding and a packed one are refused with their names, and create no store.
#[test]
fn not_utf8() {
    let (root, store) = place();
    let utf16 = |text: &str| -> Vec<u8> {
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec();
    for (text, name) in [(utf16("{\"a\": 1}\n"), "UTF-16"), (gzip, "gzip -dc")] {
        for words in [
            arguments!["load", &store].to_vec(),
            arguments!["load", &store, "--format", "csv"].to_vec(),
            arguments!["load", &store, "--format", "lmdb"].to_vec(),
            arguments!["import", "json", "-", &store].to_vec(),
            arguments!["replay", "-", "--format", "lines"].to_vec(),
        ] {
            let ran = run_with_input(&words, &text).expect(8);
            assert!(ran.err.contains(name), "{words:?}: {}", ran.err);
            assert!(!store.exists(), "{words:?}");
        }
        let ran = run_with_input(arguments!["shell", root.path().join("s")], &text).expect(8);
        assert!(ran.err.contains(name) && ran.out.is_empty(), "{} {}", ran.err, ran.out);
    }
}

/// Goal: line ends of another system change no key and no value.
#[test]
fn line_ends() {
    let (root, store) = place();
    run(arguments!["put", &store, "a", r"1\x0d"]).expect(0);
    run(arguments!["put", &store, r"b\x0d\x0a", "2"]).expect(0);
    let scan = run(arguments!["scan", &store]).expect(0).out;
    for format in ["jsonl", "lmdb"] {
        let dump = run(arguments!["dump", &store, "--format", format]).expect(0).out;
        let other = root.path().join(format);
        let crlf = dump.replace('\n', "\r\n");
        run_with_input(arguments!["load", &other, "--format", format], crlf.as_bytes()).expect(0);
        assert_eq!(run(arguments!["scan", &other]).expect(0).out, scan, "{format}");
    }
}

/// Goal: of JSON members with the same name the last one is stored, once, and the others are counted.
#[test]
fn repeated_members() {
    let (root, _) = place();
    for (number, text) in
        [r#"{"a": 1, "a": 2}"#, r#"[{"key": "a", "value": 1}, {"key": "a", "value": 2}]"#]
            .into_iter()
            .enumerate()
    {
        let store = root.path().join(number.to_string());
        let words = arguments!["import", "json", "-", &store, "--json"];
        let ran = run_with_input(words, text.as_bytes()).expect(0);
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((&document["stored"], &document["repeated"]), (&1.into(), &1.into()), "{text}");
        assert!(ran.err.contains("1 value"), "{}", ran.err);
        assert_eq!(run(arguments!["get", &store, "a"]).expect(0).out, "2\n");
    }
}

/// Goal: an archive of a backup that another program packed again is restored: with a directory before the names, in
/// another order; one that is packed is refused with the way to unpack it. Method: the system's `tar`, if it is here.
#[cfg(unix)]
#[test]
fn repacked_archives() {
    let (root, store) = place();
    run(arguments!["put", &store, "a", "1"]).expect(0);
    let backup = root.path().join("backup");
    run(arguments!["backup", &store, &backup, "--copy"]).expect(0);
    let tar = |words: &[&str]| {
        let ran = std::process::Command::new("tar").args(words).current_dir(root.path()).status();
        ran.is_ok_and(|status| status.success())
    };
    if !tar(&["-cf", "dot.tar", "-C", "backup", "."]) {
        eprintln!("no `tar` here; repacked archives are not tested");
        return;
    }
    assert!(tar(&["-cf", "dir.tar", "--format=pax", "backup"]));
    for name in ["dot.tar", "dir.tar"] {
        let to = root.path().join(name).with_extension("store");
        run(arguments!["restore", root.path().join(name), &to]).expect(0);
        assert_eq!(run(arguments!["scan", &to]).expect(0).out, "a 1\n", "{name}");
    }
    fs::write(root.path().join("backup/strange"), "x").unwrap();
    assert!(tar(&["-cf", "two.tar", "backup", "store"]));
    run(arguments!["restore", root.path().join("two.tar"), root.path().join("no")]).expect(8);
    fs::write(root.path().join("packed.tar"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03").unwrap();
    let words = arguments!["restore", root.path().join("packed.tar"), root.path().join("no")];
    let ran = run(words).expect(8);
    assert!(ran.err.contains("gzip -dc"), "{}", ran.err);
    assert!(!root.path().join("no").exists());
}
