//! Commands that look: what they print is what is there, to the byte, and looking changes nothing.

use std::{collections::BTreeMap, io::Read as _, process::Stdio};

use serde_json::Value;
use tierce_engine::{Options, PutOptions};

use super::{Dialogue, arguments, command, files, filled, place, run, run_with_input, whole_lines};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// Goal: patterns choose keys by bytes, and so do prefix, count, range and limit, in `keys` as in `scan`.
#[test]
fn selections() {
    let (_root, store) = filled(30);
    run(arguments!["put", &store, r"raw\xff\x00", "binary"]).expect(0);
    for (options, count) in [
        (&["--glob", "key-0000?"][..], 10),
        (&["--glob", "key-000[12]*"], 20),
        (&["--glob", "*9"], 3),
        (&["--glob", r"raw\xff?"], 1),
        (&["--glob", r"key-\*"], 0),
        (&["--glob", "[!k]*"], 1),
        (&["--prefix", "key-0002"], 10),
    ] {
        let with = |mut words: Vec<std::ffi::OsString>| {
            words.extend(options.iter().map(Into::into));
            words
        };
        let counted = run(with(arguments!["keys", &store, "--count"].to_vec())).expect(0).out;
        assert_eq!(counted, format!("{count}\n"), "{options:?}");
        let listed = run(with(arguments!["keys", &store].to_vec())).expect(0).out;
        assert_eq!(listed.lines().count(), count, "{options:?}");
        let scanned = run(with(arguments!["scan", &store].to_vec())).expect(0).out;
        assert_eq!(scanned.lines().count(), count, "{options:?}");
    }
    let some =
        run(arguments!["scan", &store, "--from", "key-00003", "--to", "key-00009", "--limit", "4"])
            .expect(0)
            .out;
    assert_eq!(
        some,
        "key-00003 value-3\nkey-00004 value-4\nkey-00005 value-5\nkey-00006 value-6\n"
    );
    let upto =
        run(arguments!["scan", &store, "--from", "key-00003", "--to", "key-00005"]).expect(0).out;
    assert_eq!(upto, "key-00003 value-3\nkey-00004 value-4\n");
    let none = run(arguments!["scan", &store, "--limit", "1", "--value-enc", "none"]).expect(0).out;
    assert_eq!(none, "key-00000\n");
    run(arguments!["keys", &store, "--glob", "[a"]).expect(2);
    run(arguments!["keys", &store, "--glob", "a", "--prefix", "a"]).expect(2);
}

/// Goal: a key of all 256 bytes survives put, get, keys, scan and del in every spelling.
#[test]
fn every_byte() {
    let (_root, store) = place();
    let hex: String = (0..=255).map(|byte| format!("{byte:02x}")).collect();
    run(arguments!["put", &store, &hex, "00ff", "--key-enc", "hex", "--value-enc", "hex"])
        .expect(0);
    for encoding in ["auto", "hex", "base64"] {
        let word = run(arguments!["keys", &store, "--key-enc", encoding]).expect(0).out;
        let get = run(arguments![
            "get",
            &store,
            word.trim_end(),
            "--key-enc",
            encoding,
            "--value-enc",
            "hex"
        ]);
        assert_eq!(get.expect(0).out, "00ff\n", "{encoding}");
    }
    let raw = command(["keys", "-0"]).arg(&store).output().unwrap().stdout;
    assert_eq!(raw, (0..=255).chain([0]).collect::<Vec<u8>>());
    let value = command(["get", "--key-enc", "hex", "--value-enc", "raw"])
        .arg(&store)
        .arg(&hex)
        .output()
        .unwrap();
    assert_eq!(value.stdout, [0, 0xff]);
    let listed = json(&run(arguments!["keys", &store, "--json", "--key-enc", "hex"]).expect(0).out);
    assert_eq!(listed["keys"][0]["key_hex"], hex.as_str());
    let exact = listed["keys"][0]["key_b64"].as_str().expect("it is no text").to_owned();
    run(arguments!["keys", &store, "--key-enc", "utf8"]).expect(8);
    run(arguments!["get", &store, "zz", "--key-enc", "hex"]).expect(2);
    run(arguments!["get", &store, &hex, "--key-enc", "hex", "--value-enc", "json"]).expect(8);
    run(arguments!["put", &store, "k", "no json", "--value-enc", "json"]).expect(2);
    run(arguments!["del", &store, &exact, "--key-enc", "base64"]).expect(0);
}

/// Goal: every command that looks has its documents, they agree with each other, and no file changes.
#[test]
fn documents() {
    let (_root, store) = filled(200);
    run(arguments!["put", &store, "soon", "over", "--ttl", "1h", "--tag", "room"]).expect(0);
    run_with_input(arguments!["put", &store, "great", "-"], &[7; 40_000]).expect(0);
    let before = files(&store);
    let look = |words: &[&str]| {
        let output =
            command(&words[..1]).arg(&store).args(&words[1..]).arg("--json").output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let info = json(&look(&["info"]));
    assert_eq!((&info["entries"], &info["holder_pid"]), (&202.into(), &Value::Null));
    assert_eq!((&info["oldest_sequence"], &info["newest_sequence"]), (&1.into(), &202.into()));
    assert!(info["disk_free_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let stats = json(&look(&["stats"]));
    assert_eq!((&stats["entries"], &stats["live_bytes"]), (&info["entries"], &info["live_bytes"]));
    let segments = json(&look(&["segments"]));
    let rows = segments["segments"].as_array().unwrap();
    let live: u64 = rows.iter().map(|row| row["live_records"].as_u64().unwrap()).sum();
    assert_eq!((rows.len(), live), (info["segments"].as_array().unwrap().len(), 202));
    let big = json(&look(&["big", "--top", "3"]));
    assert_eq!(
        (&big["entries"][0]["key"], big["entries"].as_array().unwrap().len()),
        (&"great".into(), 3)
    );
    let old = json(&look(&["big", "--top", "1", "--by", "age"]));
    assert_eq!(
        (&old["entries"][0]["key"], &old["entries"][0]["age"]),
        (&"key-00000".into(), &201.into())
    );
    let scan = json_lines(&look(&["scan", "--prefix", "soon"]));
    assert_eq!((&scan[0]["type"], &scan[0]["value"]), (&"entry".into(), &"over".into()));
    let get = json(&run(arguments!["get", &store, "soon", "--json"]).expect(0).out);
    assert_eq!(get["scopes"][0]["scope"], "room");
    for of in ["size", "ttl", "age", "keylen"] {
        let hist = json(&run(arguments!["hist", of, &store, "--json"]).expect(0).out);
        let counted: u64 = hist["buckets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["count"].as_u64().unwrap())
            .sum();
        assert_eq!(counted + hist["never"].as_u64().unwrap_or(0), 202, "{of}");
        assert!(run(arguments!["hist", of, &store]).expect(0).out.contains('█'), "{of}");
    }
    assert_eq!(json_lines(&look(&["changes"])).len(), 203);
    for words in [&["info"][..], &["stats"], &["segments"], &["big"], &["scan"]] {
        let output = command(words).arg(&store).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{words:?}");
    }
    assert!(files(&store) == before, "looking changed a file");
}

/// Goal: one record, chosen by its offset, with its bytes; an offset at which none begins is 1.
#[test]
fn one_record() {
    let (_root, store) = filled(5);
    let info = json(&run(arguments!["info", &store, "--json"]).expect(0).out);
    let id = info["segments"][0]["id"].as_str().unwrap();
    let all = json(&run(arguments!["records", &store, id, "--json", "--hex"]).expect(0).out);
    let third = &all["records"][2];
    let at = third["offset"].to_string();
    let one =
        json(&run(arguments!["records", &store, id, "--at", &at, "--json", "--hex"]).expect(0).out);
    assert_eq!((one["records"].as_array().unwrap().len(), &one["records"][0]), (1, third));
    assert_eq!(third["hex"].as_str().unwrap().len() as u64, 2 * third["bytes"].as_u64().unwrap());
    let shown = run(arguments!["records", &store, id, "--at", &at, "--hex"]).expect(0).out;
    assert!(
        shown.contains("|")
            && shown.contains(&format!("{:010x}", third["offset"].as_u64().unwrap())),
        "{shown}"
    );
    let none = run(arguments!["records", &store, id, "--at", "4097"]).expect(1);
    assert!(none.err.contains("no record begins at 4097"), "{}", none.err);
}

/// A number with its labels, as the text format of Prometheus has it: a parser of what its document describes.
fn metrics(text: &str) -> BTreeMap<String, (String, f64)> {
    let (mut types, mut found) = (BTreeMap::new(), BTreeMap::new());
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty()
    };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(is_name(name) && ["gauge", "counter"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(
                rest.split_once(' ').is_some_and(|(name, help)| is_name(name) && !help.is_empty()),
                "{line}"
            );
        } else {
            let (name, rest) = line.split_once("{").expect("labels");
            let (labels, value) = rest.rsplit_once("} ").expect("a value");
            let label = labels
                .strip_prefix("store=\"")
                .and_then(|l| l.strip_suffix('"'))
                .expect("the label store");
            let mut plain = String::new();
            let mut chars = label.chars();
            while let Some(char) = chars.next() {
                assert!(char != '"', "an open quote: {line}");
                plain.push(match char {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => panic!("no escape: {other:?}"),
                    },
                    char => char,
                });
            }
            assert_eq!(
                types.get(name).map(String::as_str) == Some("counter"),
                name.ends_with("_total"),
                "{line}"
            );
            found.insert(name.to_owned(), (plain, value.parse().expect("a number")));
        }
    }
    assert!(text.ends_with('\n'));
    found
}

/// Goal: the figures for a collector follow the text format, whatever the path is called.
#[test]
fn prometheus() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("a \"store\"\\\nof mine");
    run(arguments!["put", &store, "k", "v"]).expect(0);
    let found = metrics(&run(arguments!["stats", &store, "--prometheus"]).expect(0).out);
    assert_eq!(found["tierce_entries"], (store.display().to_string(), 1.0));
    assert!(found["tierce_writes_total"].1 >= 1.0 && found.contains_key("tierce_disk_free_bytes"));
    run(arguments!["stats", &store, "--prometheus", "--json"]).expect(2);
}

/// Goal: what is asked again and again sees the writer's news, beside it, and ends by Ctrl-C with 130.
#[cfg(unix)]
#[test]
fn beside_a_writer() {
    let (_root, store) = filled(3);
    let mut writer = Dialogue::open(arguments![&store]);
    assert_eq!(writer.ask("put fresh value"), "OK");
    let info = json(&run(arguments!["info", &store, "--json"]).expect(0).out);
    if cfg!(target_os = "linux") {
        assert_eq!(info["holder_pid"], writer.pid());
    }
    for (words, is_news) in [
        (
            vec!["changes", "--since", "3", "--follow"],
            &(|line: &Value| line["key"] == "later") as &dyn Fn(&Value) -> bool,
        ),
        (vec!["stats", "--watch", "50ms", "--json"], &|line: &Value| line["entries"] == 6),
    ] {
        let mut child = command(&words[..1])
            .arg(&store)
            .args(&words[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = whole_lines(child.stdout.take().unwrap());
        assert!(lines.recv().is_ok(), "{words:?}");
        assert_eq!(
            writer.ask(&format!("put {} 1", if words[0] == "stats" { "last" } else { "later" })),
            "OK"
        );
        while !is_news(&json(&lines.recv().expect("the news comes"))) {}
        let killed =
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{words:?}: {err}");
    }
    writer.end().expect(0);
}

/// Goal: who follows is told when the log has lost something that a copy would need.
#[test]
fn incomplete_changes() {
    let (_root, store) = place();
    let engine = Options::new().segment_bytes(8 << 10).background(false).open(&store).unwrap();
    for n in 0..300 {
        engine.put_with(format!("{}", n % 7), [0; 300], &PutOptions::new()).unwrap();
    }
    engine.close().unwrap();
    let whole = json_lines(&run(arguments!["changes", &store]).expect(0).out);
    assert_eq!((whole.len(), &whole[300]["complete"]), (301, &true.into()));
    run(arguments!["compact", &store]).expect(0);
    let ran = run(arguments!["changes", &store]).expect(0);
    let lines = json_lines(&ran.out);
    assert_eq!(
        (&lines[0]["type"], &lines.last().unwrap()["complete"]),
        (&"incomplete".into(), &false.into())
    );
    assert!(ran.err.contains("a copy has to be made anew"), "{}", ran.err);
}
