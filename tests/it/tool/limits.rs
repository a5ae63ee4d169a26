//! Limits and default lifetimes, as `put` and `shell` take them.

use std::{path::Path, thread, time::Duration};

use tierce_engine::{Engine, Entry};

use super::{Dialogue, arguments, place, run, run_with_input};

fn entry(store: &Path, key: &str) -> Entry {
    let engine = Engine::open(store).expect("it opens");
    let entry = engine.entry(key).expect("it reads").expect("it is there");
    engine.close().expect("it closes");
    entry
}

/// Goal: limits that make no sense are 2 and make no store.
#[test]
fn refusals() {
    let (_root, store) = place();
    for (option, value) in [
        ("--max-bytes", "0"),
        ("--max-bytes", "-1"),
        ("--max-bytes", "64X"),
        ("--max-entries", "0"),
        ("--max-entries", "10%"),
        ("--evict", "random"),
        ("--default-ttl", "never"),
        ("--default-ttl", "0s"),
        ("--min-free-bytes", "much"),
    ] {
        run(arguments!["put", &store, "key", "value", option, value]).expect(2);
        run(arguments!["shell", &store, option, value]).expect(2);
    }
    assert!(!store.exists());
}

/// Goal: an entry is evictable if there is a limit and a policy, else never.
#[test]
fn evictable() {
    let (_root, store) = place();
    for (options, evictable) in [
        (&[][..], false),
        (&["--max-entries", "1000"], true),
        (&["--max-bytes", "64MiB", "--evict", "s3-fifo"], true),
        (&["--max-bytes", "64MiB", "--evict", "none"], false),
        (&["--evict", "fifo", "--min-free-bytes", "1"], false),
    ] {
        let with = |mut words: Vec<_>| {
            words.extend(options.iter().map(Into::into));
            words
        };
        run(with(arguments!["put", &store, "put", "value"].to_vec())).expect(0);
        let lines = b"put typed 1\nincr count\nbatch\nput batched 1\ncommit\n";
        run_with_input(with(arguments!["shell", &store].to_vec()), lines).expect(0);
        for key in ["put", "typed", "batched"] {
            assert_eq!(entry(&store, key).evictable, evictable, "{key} {options:?}");
        }
    }
    // A number that is there keeps what it was stored as.
    assert!(!entry(&store, "count").evictable);
}

/// Goal: the default lifetime is for entries stored without one; `ttl=never` and `--ttl` win; 0 is none.
#[test]
fn default_lifetime() {
    let (_root, store) = place();
    let day = Duration::from_secs(86_400);
    for (options, lifetime) in [
        (&[][..], None),
        (&["--default-ttl", "0"], None),
        (&["--default-ttl", "1d"], Some(day)),
        (&["--default-ttl", "1d", "--ttl", "2d"], Some(2 * day)),
    ] {
        let mut words = arguments!["put", &store, "key", "value"].to_vec();
        words.extend(options.iter().map(Into::into));
        run(words).expect(0);
        let entry = entry(&store, "key");
        let engine = Engine::open(&store).unwrap();
        let left = entry.expires_at.map(|at| at.0.saturating_sub(engine.now().0));
        engine.close().unwrap();
        let most = lifetime.map(|lifetime| lifetime.as_millis() as u64);
        assert!(left <= most && left.is_some() == most.is_some(), "{options:?}: {left:?}");
        assert!(left.unwrap_or(u64::MAX) > most.unwrap_or(0) / 10 * 9, "{options:?}: {left:?}");
    }

    let mut shell = Dialogue::open(arguments![&store, "--default-ttl", "50ms"]);
    for line in ["put a 1", "put b 1 ttl=never", "put c 1 ttl=1d"] {
        assert_eq!(shell.ask(line), "OK");
    }
    assert_eq!(shell.ask("incr n"), "1");
    thread::sleep(Duration::from_millis(100));
    for (line, answer) in
        [("get a", "(nil)"), ("get b", "1"), ("get c", "1"), ("incr n", "1"), ("get key", "value")]
    {
        assert_eq!(shell.ask(line), answer, "{line}");
    }
    shell.end().expect(0);
}

/// Goal: a write that finds no room is 8 with the engine's own word, and the store stays as it was.
#[test]
fn full() {
    let (_root, store) = place();
    let put = |key: &str, option: &str, value: &str| {
        let words = ["put", key, "value", "--evict", "none", "--json", option, value];
        let mut words: Vec<_> = words.map(Into::into).to_vec();
        words.insert(1, store.clone().into_os_string());
        run(words)
    };
    put("one", "--max-entries", "2").expect(0);
    put("two", "--max-entries", "2").expect(0);
    for (option, value, kind) in
        [("--max-entries", "2", "full"), ("--min-free-bytes", "1000000TiB", "low-space")]
    {
        let ran = put("three", option, value).expect(8);
        let error: serde_json::Value =
            serde_json::from_str(ran.err.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&error["error"]["kind"], &error["error"]["code"]), (&kind.into(), &8.into()));
        run(arguments!["get", &store, "three"]).expect(1);
    }
    let ran = run_with_input(
        arguments!["shell", &store, "--max-entries", "2", "--evict", "none"],
        b"put three 3\nput two 2\n",
    );
    let lines: Vec<String> = ran.expect(0).out.lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("ERR full ") && lines[1] == "OK", "{lines:?}");
    // With a policy, what was stored without a limit still never goes: it is not evictable.
    run(arguments!["put", &store, "three", "3", "--max-entries", "2"]).expect(8);
}
