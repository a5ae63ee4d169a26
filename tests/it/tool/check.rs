//! `check` and `codes`, as scripts see them.

use std::fs;

use serde_json::Value;

use super::{arguments, filled, run};

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Goal: each level has its verdict, its exit code and its fields; nothing in the directory changes; a damaged record is
/// seen by those levels that read it. Method: a store of one segment, then one byte of its record.
#[test]
fn levels() {
    let (_root, store) = filled(3);
    let before = super::files(&store);
    for (option, level) in
        [(None, "full"), (Some("--quick"), "quick"), (Some("--sample=1/2"), "sample 1/2")]
    {
        let plain = run(arguments!["check", &store].into_iter().chain(option.map(Into::into)));
        let plain = plain.expect(0);
        assert!(plain.out.starts_with("ok: 0 problems and 0 notes"), "{}", plain.out);
        let options = ["--json".into()].into_iter().chain(option.map(Into::into));
        let told =
            document(&run(arguments!["check", &store].into_iter().chain(options)).expect(0).out);
        assert_eq!((&told["level"], &told["verdict"]), (&level.into(), &"healthy".into()));
        assert_eq!(told["healthy"], true);
        assert_eq!(told["entries"], if level == "full" { 3 } else { 0 });
    }
    assert_eq!(super::files(&store), before);
    let segment = before.iter().find(|(name, _)| name.to_string_lossy().ends_with(".seg")).unwrap();
    let (path, mut bytes) = (store.join(&segment.0), segment.1.clone());
    bytes[4096 + 30] ^= 1;
    fs::write(&path, bytes).unwrap();
    run(arguments!["check", &store, "--quick"]).expect(0);
    run(arguments!["check", &store, "--sample=2/2"]).expect(0);
    for option in ["--full", "--sample=1/2"] {
        let ran = run(arguments!["check", &store, option]).expect(4);
        assert!(ran.out.starts_with("C021 problem "), "{}", ran.out);
        assert!(ran.out.contains(" at 4096: ") && ran.out.contains("problems remain: "));
        let told = document(&run(arguments!["check", &store, option, "--json"]).expect(4).out);
        assert_eq!(
            (&told["verdict"], &told["findings"][0]["offset"]),
            (&"problems".into(), &4096.into())
        );
    }
    for wrong in [["--quick", "--full"], ["--quick", "--sample=1/2"], ["--sample=3/2", "--json"]] {
        run(arguments!["check", &store, wrong[0], wrong[1]]).expect(2);
    }
}

/// Goal: every code is listed once, with what to do, and the two forms say the same.
#[test]
fn codes() {
    let plain = run(arguments!["codes"]).expect(0).out;
    let told = document(&run(arguments!["codes", "--json"]).expect(0).out);
    let rows = told["findings"].as_array().unwrap();
    assert_eq!(plain.lines().count(), rows.len());
    for (line, row) in plain.lines().zip(rows) {
        for field in ["code", "severity", "meaning", "advice"] {
            assert!(line.contains(row[field].as_str().unwrap()), "{field} in {line}");
        }
    }
    assert!(rows.len() > 20 && rows.iter().all(|row| !row["advice"].as_str().unwrap().is_empty()));
}
