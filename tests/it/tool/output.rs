//! What is printed: escapes in both directions, JSON, listings, and a reader who leaves early.

use std::{io::Read as _, process::Stdio};

use serde_json::Value;

use super::{Dialogue, arguments, command, filled, place, run, run_with_input};

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "one document on one line: {text}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Goal: any bytes go in as words and come out as the same words, on the command line as in the shell.
#[test]
fn escapes() {
    let (_root, store) = place();
    for (word, printed) in [
        (r"two\x20words", r"two\x20words"),
        ("two words", r"two\x20words"),
        (r"\x00\x0a\x0d\xff", r"\x00\x0a\x0d\xff"),
        (r"back\\slash", r"back\x5cslash"),
        ("21\u{a0}°C", r"21\xc2\xa0°C"),
        ("", "\"\""),
        ("\"\"", "\"\""),
        (r"\x22\x22", r"\x22\x22"),
        (r"\x2d", "-"),
    ] {
        run(arguments!["put", &store, word, word]).expect(0);
        assert_eq!(
            run(arguments!["get", &store, word]).expect(0).out,
            format!("{printed}\n"),
            "{word}"
        );
        assert_eq!(
            run(arguments!["get", &store, printed]).expect(0).out,
            format!("{printed}\n"),
            "{word}"
        );
        let keys = run(arguments!["keys", &store, "--prefix", word]).expect(0).out;
        assert!(keys.lines().any(|line| line == printed), "{word}: {keys}");
        let mut shell = Dialogue::open(arguments![&store]);
        assert_eq!(shell.ask(&format!("get {printed}")), printed);
        assert_eq!(shell.ask(&format!("put {printed} {printed}!")), "OK");
        assert_eq!(shell.ask(&format!("del {printed}")), "1");
        shell.end().expect(0);
        run(arguments!["get", &store, word]).expect(1);
    }
}

/// Goal: bytes that are no text are taken as they are where a command line can carry them.
#[cfg(unix)]
#[test]
fn raw_arguments() {
    use std::os::unix::ffi::OsStringExt as _;
    let (_root, store) = place();
    let raw = std::ffi::OsString::from_vec(b"key\xfe".to_vec());
    run(arguments!["put", &store, &raw, "-5"]).expect(0);
    assert_eq!(run(arguments!["get", &store, r"key\xfe"]).expect(0).out, "-5\n");
}

/// Goal: a value from standard input is stored byte for byte, a last newline included.
#[test]
fn value_from_standard_input() {
    let (_root, store) = place();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).chain(*b"\n").collect();
    run_with_input(arguments!["put", &store, "key", "-"], &value).expect(0);
    let ran = run(arguments!["get", &store, "key", "--json"]).expect(0);
    let document = json(&ran.out);
    let exact = document["value_b64"].as_str().expect("it is no text");
    assert_eq!(decode_base64(exact), value);
    run_with_input(arguments!["put", &store, "none", "-"], b"").expect(0);
    assert_eq!(run(arguments!["get", &store, "none"]).expect(0).out, "\"\"\n");
}

/// The other direction, written for this test only.
fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no digit: {byte}"),
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let bytes_of = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - chunk.len()));
        let bytes = [16, 8, 0].map(|shift| u8::try_from(bits >> shift & 0xff).expect("a byte"));
        bytes.into_iter().take(chunk.len() - 1)
    };
    digits.chunks(4).flat_map(bytes_of).collect()
}

/// Goal: with `--json` every short command prints one document that says what the text says.
#[test]
fn documents() {
    let (_root, store) = place();
    let put = json(&run(arguments!["put", &store, r"a\xff", "1", "--json"]).expect(0).out);
    assert_eq!((&put["key"], &put["key_b64"]), (&"a\u{fffd}".into(), &"Yf8=".into()));
    run(arguments!["put", &store, "b", "two words", "--ttl", "1h"]).expect(0);

    let get = json(&run(arguments!["--json", "get", &store, "b"]).expect(0).out);
    assert_eq!((&get["found"], &get["value"]), (&true.into(), &"two words".into()));
    assert!(get["expires_at_ms"].as_u64().is_some_and(|at| at > 1_600_000_000_000), "{get}");
    assert!(get.get("key_b64").is_none() && get.get("value_b64").is_none(), "{get}");
    let absent = json(&run(arguments!["get", &store, "c", "--json"]).expect(1).out);
    assert_eq!((&absent["found"], absent.get("value")), (&false.into(), None));

    let keys = json(&run(arguments!["keys", &store, "--json"]).expect(0).out);
    assert_eq!(keys["count"], 2);
    assert_eq!(
        (&keys["keys"][0]["key_b64"], &keys["keys"][1]["key"]),
        (&"Yf8=".into(), &"b".into())
    );
    let count = json(&run(arguments!["keys", &store, "--count", "--json"]).expect(0).out);
    assert_eq!(count["count"], 2);

    let info = json(&run(arguments!["info", &store, "--json"]).expect(0).out);
    assert_eq!((&info["format"]["major"], &info["clean"]), (&1.into(), &true.into()));
    let segments = info["segments"].as_array().expect("a list");
    let mut found = Vec::new();
    for segment in segments {
        let id = segment["id"].as_str().expect("an id");
        let records = json(&run(arguments!["records", &store, id, "--json"]).expect(0).out);
        assert_eq!(records["segment"], id);
        for record in records["records"].as_array().expect("a list") {
            assert_eq!(record["verdict"], "ok", "{record}");
            if record["kind"] == "put" {
                found.push((record["key"].clone(), record["value_bytes"].clone()));
            }
        }
    }
    found.sort_by_key(|(key, _)| key.to_string());
    assert_eq!(found, [("a\u{fffd}".into(), 1.into()), ("b".into(), 9.into())]);

    let check = json(&run(arguments!["check", &store, "--json"]).expect(0).out);
    assert_eq!((&check["healthy"], &check["entries"]), (&true.into(), &2.into()));
    let del = json(&run(arguments!["del", &store, "b", "--json"]).expect(0).out);
    assert_eq!((&del["key"], &del["deleted"]), (&"b".into(), &true.into()));
    assert_eq!(
        json(&run(arguments!["del", &store, "b", "--json"]).expect(1).out)["deleted"],
        false
    );
}

/// Goal: errors are documents too, as the last line on standard error.
#[test]
fn error_documents() {
    let (_root, store) = place();
    for (arguments, kind, code) in [
        (arguments!["get", &store, "key", "--json"].to_vec(), "not-a-store", 10),
        (arguments!["get", &store, "--json"].to_vec(), "usage", 2),
        (arguments!["put", &store, r"\x", "v", "--json"].to_vec(), "usage", 2),
    ] {
        let ran = run(&arguments).expect(code);
        let document = json(ran.err.lines().last().expect("a line"));
        assert_eq!(document["error"]["kind"], kind, "{arguments:?}");
        assert_eq!(document["error"]["code"], code, "{arguments:?}");
        assert!(
            document["error"]["message"].as_str().is_some_and(|text| text.len() > 5),
            "{document}"
        );
    }
}

/// Goal: keys come in order of their bytes, chosen by prefix, counted, or as raw bytes.
#[test]
fn listings() {
    let (_root, store) = filled(120);
    let all = run(arguments!["keys", &store]).expect(0).out;
    let expected: String = (0..120).map(|n| format!("key-{n:05}\n")).collect();
    assert_eq!(all, expected);
    let some = run(arguments!["keys", &store, "--prefix", "key-0011"]).expect(0).out;
    assert_eq!(some.lines().count(), 10);
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "120\n");
    assert_eq!(run(arguments!["keys", &store, "--count", "--prefix", "x"]).expect(0).out, "0\n");
    run(arguments!["put", &store, r"new\x0aline", "v"]).expect(0);
    let raw = run(arguments!["keys", &store, "-0", "--prefix", "new"]).expect(0).out;
    assert_eq!(raw, "new\nline\0");

    let info = run(arguments!["info", &store]).expect(0).out;
    let segment = info.lines().find_map(|line| line.strip_prefix("segment ")).expect("a segment");
    let id = segment.split(' ').next().expect("an id");
    let records = run(arguments!["records", &store, format!("{id}.seg")]).expect(0).out;
    assert!(records.starts_with("offset bytes kind "), "{records}");
    assert!(records.contains(" put ") && records.contains(" key-00000 "), "{records}");
    assert!(records.lines().skip(1).all(|line| line.ends_with(" ok")), "{records}");
}

/// Goal: a reader who has seen enough is no error and no noise.
/// Method: more keys than a pipe holds, a reader of one line.
#[test]
fn reader_leaves_early() {
    let (_root, store) = filled(9_000);
    for arguments in [
        arguments!["keys", &store].to_vec(),
        arguments!["keys", &store, "--json"].to_vec(),
        arguments!["keys", &store, "-0"].to_vec(),
    ] {
        let mut child = command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut pipe = child.stdout.take().expect("a pipe");
        pipe.read_exact(&mut [0; 8]).expect("eight bytes come");
        drop(pipe);
        let output = child.wait_with_output().expect("the tool ends");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}
