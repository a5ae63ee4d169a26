//! The tour, run as a newcomer runs it: it must pass, and it must be able to fail.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Ran, arguments, command, files, place, run};

/// The steps, in order.
const STEPS: [&str; 9] =
    ["feed", "read-back", "expiry", "batch", "counter", "crash", "after", "check", "statistics"];

/// Runs the tour with its temporary directories in `root`.
fn tour(root: &Path, more: &[std::ffi::OsString]) -> Ran {
    let mut tour = command(["tour"]);
    tour.args(more);
    for variable in ["TMPDIR", "TEMP", "TMP"] {
        tour.env(variable, root);
    }
    Ran::of(&tour.output().expect("the tool starts"))
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

/// Goal: on a fresh machine, without any argument, every step passes and nothing stays behind.
#[test]
fn passes_and_cleans_up() {
    let (root, _) = place();
    let ran = tour(root.path(), &[]).expect(0);
    let words: Vec<Vec<&str>> =
        ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let (last, steps) = words.split_last().expect("lines");
    for (step, name) in steps.iter().zip(STEPS) {
        assert_eq!(step[..2], ["PASS", name], "{}", ran.out);
    }
    assert_eq!(steps.len(), STEPS.len(), "{}", ran.out);
    assert_eq!(last.join(" "), "PASS 9 of 9 steps passed");
    assert!(ran.err.contains("generated"), "{}", ran.err);
    assert_eq!(files(root.path()), [], "the temporary store is gone");
}

/// Goal: the same with real data; the figures of each step are there for programs.
#[test]
fn real_states() {
    let input =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/home-assistant-states.jsonl");
    if !Path::new(input).exists() {
        eprintln!("no real device states here; the tour is only tested with generated ones");
        return;
    }
    let (root, _) = place();
    let ran = tour(root.path(), &arguments!["--json", "--input", input]).expect(0);
    let lines = lines(&ran);
    let (verdict, steps) = lines.split_last().expect("lines");
    assert_eq!((&verdict["type"], &verdict["passed"]), (&"verdict".into(), &true.into()));
    let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(names, STEPS);
    assert!(steps.iter().all(|step| step["passed"] == true), "{}", ran.out);
    assert_eq!((&steps[0]["states"], &steps[0]["skipped"]), (&160.into(), &0.into()));
    assert_eq!(steps[0]["source"], input);
    assert_eq!((&steps[1]["entities"], &steps[1]["equal"]), (&105.into(), &105.into()));
    assert!(steps[2]["waited_ms"].as_u64().is_some_and(|ms| ms >= 300), "{}", steps[2]);
    let acknowledged = steps[5]["acknowledged"].as_u64().expect("a number");
    assert!(acknowledged > 0 && steps[5]["found"] == acknowledged, "{}", steps[5]);
}

/// Goal: bad lines are named by number and reason, the good ones are used, and the last state of an entity wins.
#[test]
fn bad_lines() {
    let (root, store) = place();
    let input = root.path().join("states.jsonl");
    let good = |entity: &str, state: &str| {
        format!(
            r#"{{"last_updated": 1.5, "entity_id": "{entity}", "state": "{state}", "attributes": {{}}}}"#
        )
    };
    let text = [
        good("sun.sun", "up"),
        "not json".to_owned(),
        String::new(),
        r#"{"entity_id": "x"}"#.to_owned(),
        good("sun.sun", "down"),
        good("two words", "on"),
        good("", "on"),
    ];
    fs::write(&input, text.join("\n").as_bytes()).unwrap();
    let ran = tour(root.path(), &arguments![&store, "--json", "--input", &input]).expect(0);
    let steps = lines(&ran);
    assert_eq!((&steps[0]["states"], &steps[0]["skipped"]), (&3.into(), &3.into()));
    assert_eq!((&steps[1]["entities"], &steps[1]["equal"]), (&2.into(), &2.into()));
    for number in
        ["line 2 skipped: no JSON", "line 4 skipped: no state", "line 7 skipped: entity_id"]
    {
        assert!(ran.err.contains(number), "{number}: {}", ran.err);
    }
    let state = run(arguments!["get", &store, r"tour/state/sun.sun", "--json"]).expect(0).out;
    assert!(state.contains("down") && !state.contains("up\\"), "{state}");
    run(arguments!["get", &store, r"tour/state/two\x20words"]).expect(0);
}

/// Goal: the tour goes into a store that is in use, disturbs nothing in it, and can be taken again.
#[test]
fn again_in_the_same_store() {
    let (root, store) = place();
    run(arguments!["put", &store, "mine", "untouched"]).expect(0);
    for counter in [7, 14] {
        let ran = tour(root.path(), &arguments!["--json", &store]).expect(0);
        assert_eq!(lines(&ran)[4]["counter"], counter);
    }
    assert_eq!(run(arguments!["get", &store, "mine"]).expect(0).out, "untouched\n");
    assert!(run(arguments!["check", &store]).expect(0).out.starts_with("ok: "));
    assert_eq!(files(root.path()).len(), 1, "only the store is left");
}

/// Goal: a step that fails makes the whole tour fail. Method: an input without a single state.
#[test]
fn a_failing_step_is_four() {
    let (root, _) = place();
    let input = root.path().join("states.jsonl");
    fs::write(&input, "[]\n".repeat(9)).unwrap();
    let ran = tour(root.path(), &arguments!["--input", &input]).expect(4);
    assert!(ran.out.starts_with("FAIL  feed "), "{}", ran.out);
    assert!(ran.out.lines().last().is_some_and(|line| line.starts_with("FAIL  ")), "{}", ran.out);
    assert!(
        ran.err.contains("line 5 skipped") && ran.err.contains(": 4 more bad lines skipped"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("line 6 skipped"), "{}", ran.err);
    assert_eq!(files(root.path()).len(), 1, "only the input is left");
}
