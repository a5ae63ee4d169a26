//! Commands that keep a store small or change entries, and the frame that all commands share.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tierce_engine::{Options, PutOptions, Timestamp};

use super::{Dialogue, arguments, command, files, filled, place, run, run_with_input};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A store whose segments are small and mostly dead, with entries that may be evicted.
fn mostly_dead(store: &Path) {
    let engine = Options::new().segment_bytes(8 << 10).background(false).open(store).unwrap();
    for n in 0..400 {
        let options = PutOptions::new().evictable(true);
        engine.put_with(format!("{}", n % 40), [0; 200], &options).unwrap();
    }
    engine.close().unwrap();
}

/// Goal: a dry run names what a real one then does, and does nothing; a share of dead bytes that is not reached is no
/// reason to work.
#[test]
fn compact() {
    let (_root, store) = place();
    mostly_dead(&store);
    let before = files(&store);
    let plan = json(&run(arguments!["compact", &store, "--dry-run", "--json"]).expect(0).out);
    let planned = plan["won_bytes"].as_u64().unwrap();
    let named: usize = plan["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["segments"].as_array().unwrap().len())
        .sum();
    assert!(planned > 40_000 && named > 5, "{plan}");
    assert!(
        run(arguments!["compact", &store, "--dry-run"]).expect(0).out.contains("would come back")
    );
    assert!(files(&store) == before, "a dry run changed a file");
    let report =
        json(&run(arguments!["compact", &store, "--json", "--max-rate", "1GiB"]).expect(0).out);
    assert_eq!(report["segments"], named);
    let won = report["bytes_reclaimed"].as_u64().unwrap();
    assert!(won <= planned && won > planned / 2, "{won} of {planned}");
    let again = json(
        &run(arguments!["compact", &store, "--dry-run", "--json", "--min-dead", "90%"])
            .expect(0)
            .out,
    );
    assert_eq!(again["won_bytes"], 0, "{again}");
    assert!(run(arguments!["check", &store]).expect(0).out.starts_with("ok: 0 problems"));
    run(arguments!["compact", &store, "--min-dead", "0%"]).expect(2);
}

/// Goal: what expired goes, and nothing else.
#[test]
fn expire() {
    let (_root, store) = filled(10);
    let engine = Options::new().background(false).open(&store).unwrap();
    let now = engine.now();
    for n in 0..20 {
        engine
            .put_with(format!("gone {n}"), "x", &PutOptions::new().expires_at(Timestamp(now.0 - 1)))
            .unwrap();
    }
    engine.close().unwrap();
    let swept = json(&run(arguments!["expire", &store, "--json"]).expect(0).out);
    assert_eq!(swept["entries"], 20, "{swept}");
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "10\n");
    assert!(run(arguments!["expire", &store]).expect(0).out.starts_with("0 expired entries"));
}

/// Goal: what destroys wants to be told so; without `--yes` and a terminal nothing happens.
#[test]
fn consent() {
    let (_root, store) = place();
    mostly_dead(&store);
    for words in
        [arguments!["evict", &store, "--to", "2KiB"].to_vec(), arguments!["clear", &store].to_vec()]
    {
        let refused = run(&words).expect(2);
        assert!(refused.err.contains("--yes"), "{}", refused.err);
        assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "40\n");
    }
    let evicted =
        json(&run(arguments!["evict", &store, "--to", "2KiB", "--yes", "--json"]).expect(0).out);
    assert!(
        evicted["live_bytes"].as_u64().unwrap() <= 2_048
            && evicted["evicted"].as_u64().unwrap() > 20,
        "{evicted}"
    );
    run(arguments!["put", &store, "state", "stays"]).expect(0);
    run(arguments!["evict", &store, "--to", "0", "--yes"]).expect(1);
    assert_eq!(run(arguments!["get", &store, "state"]).expect(0).out, "stays\n");
    assert_eq!(
        json(&run(arguments!["clear", &store, "--yes", "--json"]).expect(0).out)["deleted"],
        1
    );
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "0\n");
}

/// Goal: lifetimes are changed and taken away, several keys go at once, and conditions hold.
#[test]
fn writes() {
    let (_root, store) = filled(3);
    run(arguments!["touch", &store, "key-00000", "1h"]).expect(0);
    let get = || json(&run(arguments!["get", &store, "key-00000", "--json"]).expect(0).out);
    assert!(get()["expires_at_ms"].is_u64());
    run(arguments!["touch", &store, "key-00000", "never"]).expect(0);
    assert!(get()["expires_at_ms"].is_null());
    run(arguments!["touch", &store, "none", "1h"]).expect(1);
    run(arguments!["touch", &store, "key-00000", "0"]).expect(2);
    run(arguments!["put", &store, "key-00000", "other", "--if-absent"]).expect(1);
    assert_eq!(get()["value"], "value-0");
    run(arguments!["put", &store, "tagged", "v", "--tag", "a", "--tag", "b", "--if-absent"])
        .expect(0);
    let tagged = json(&run(arguments!["get", &store, "tagged", "--json"]).expect(0).out);
    assert_eq!(tagged["scopes"].as_array().unwrap().len(), 2);
    assert_eq!(
        run(arguments!["del", &store, "key-00000", "none", "key-00001"]).expect(1).out,
        "2\n"
    );
    let last = json(&run(arguments!["del", &store, "key-00002", "tagged", "--json"]).expect(0).out);
    assert_eq!((&last["deleted"], &last["keys"][1]["deleted"]), (&2.into(), &true.into()));
}

/// Goal: the wait for a lock ends when the lock is free, and when the time is over with 11 and the holder.
#[test]
fn timeout() {
    let (_root, store) = filled(1);
    let mut holder = Dialogue::open(arguments![&store]);
    // An answer shows that it has the store.
    assert_eq!(holder.ask("get key-00000"), "value-0");
    let pid = holder.pid();
    let mut waiting = command(arguments!["put", &store, "k", "v", "--timeout", "60s", "--verbose"]);
    let mut waiting = waiting.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut err = std::io::BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut err, &mut line).unwrap();
    assert!(line.contains("waiting for"), "{line}");
    let refused =
        run(arguments!["put", &store, "k", "v", "--timeout", "100ms", "--json"]).expect(11);
    let document = json(refused.err.lines().last().unwrap());
    assert_eq!((&document["error"]["pid"], &document["error"]["code"]), (&pid.into(), &11.into()));
    holder.end().expect(0);
    std::io::Read::read_to_string(&mut err, &mut line).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(0), "{line}");
}

/// Goal: options come from variables too, and weigh less than what stands on the command line.
#[test]
fn variables() {
    let (_root, store) = filled(12);
    let keys = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = command(["keys"]);
        let output =
            command.arg(&store).args(options).envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(keys(&[("TIERCE_KEYS_COUNT", "1")], &[]).1, "12\n");
    assert_eq!(keys(&[("TIERCE_KEYS_COUNT", "0")], &[]).1.lines().count(), 12);
    assert!(json(&keys(&[("TIERCE_JSON", "true")], &["--count"]).1)["count"].is_u64());
    let prefix = [("TIERCE_KEYS_PREFIX", "key-0001"), ("TIERCE_KEYS_COUNT", "yes")];
    assert_eq!(keys(&prefix, &[]).1, "2\n");
    assert_eq!(keys(&prefix, &["--prefix", "key-00000"]).1, "1\n");
    assert_eq!(keys(&[("TIERCE_KEY_ENC", "morse")], &[]).0, Some(2));
    let help = run(arguments!["keys", "--help"]).expect(0).out;
    assert!(
        help.contains("[env: TIERCE_KEYS_GLOB") && help.contains("[env: TIERCE_TIMEOUT"),
        "{help}"
    );
}

/// Goal: quiet says nothing but errors; progress is told where it was asked for, as JSON lines to programs.
#[test]
fn talk() {
    let (root, store) = filled(50);
    let absent = run(arguments!["get", &store, "none", "--quiet"]).expect(1);
    assert_eq!(absent.err, "");
    assert!(!run(arguments!["get", &store, r"\q", "--quiet"]).expect(2).err.is_empty());
    run(arguments!["get", &store, "none", "--quiet", "--verbose"]).expect(2);
    let dump = run(arguments!["dump", &store]).expect(0);
    assert_eq!(dump.err, "", "nobody looks at a pipe");
    let copy = root.path().join("copy");
    let load = run_with_input(
        arguments!["load", &copy, "--json", "--progress", "always"],
        dump.out.as_bytes(),
    )
    .expect(0);
    let last = json(load.err.lines().last().expect("a line"));
    assert_eq!(
        (&last["type"], &last["finished"], &last["done"]),
        (&"progress".into(), &true.into(), &dump.out.len().into())
    );
    let words = run(arguments!["dump", &store, "--progress", "always"]).expect(0).err;
    assert!(words.starts_with("dump: 50 entries"), "{words}");
    let never = run(arguments!["dump", &store, "--progress", "always", "--quiet"]).expect(0).err;
    assert_eq!(never, "");
}

/// Goal: completions and pages are made for every shell and every command.
#[test]
fn papers() {
    let (root, _) = place();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(arguments!["completions", shell]).expect(0).out.contains("compact"), "{shell}");
    }
    let script = root.path().join("completions.bash");
    fs::write(&script, run(arguments!["completions", "bash"]).expect(0).out).unwrap();
    if let Ok(status) = Command::new("bash").arg("-n").arg(&script).status() {
        assert!(status.success(), "bash does not understand it");
    }
    let pages = root.path().join("man");
    let made = json(&run(arguments!["man", &pages, "--json"]).expect(0).out);
    assert!(made["files"].as_array().unwrap().len() > 20);
    let page = fs::read_to_string(pages.join("tierce-compact.1")).unwrap();
    assert!(
        page.contains(".TH") && page.contains("min") && page.contains("TIERCE_COMPACT_MIN_DEAD"),
        "{page}"
    );
}

/// Goal: the small measurement says what it did, leaves nothing behind, and claims nothing.
#[test]
fn bench() {
    let ran = json(&run(arguments!["bench", "--ops", "500", "--json"]).expect(0).out);
    assert_eq!((ran["steps"].as_array().unwrap().len(), &ran["ops"]), (3, &500.into()));
    assert!(ran["written_bytes"].as_u64().unwrap() > 500 * 100);
    assert!(run(arguments!["bench", "--ops", "10"]).expect(0).out.contains("no comparison"));
    let (_root, store) = filled(1);
    run(arguments!["bench", &store, "--ops", "1"]).expect(2);
}
