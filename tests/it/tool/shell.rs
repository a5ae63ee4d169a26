//! The shell at a pipe: one command a line, one answer a command, when it is acknowledged.

use std::{process::Stdio, thread, time::Duration};

use super::{Dialogue, arguments, command, files, filled, place, run, run_with_input};

/// Goal: every command answers as documented. Method: each answer is awaited with the pipe still open, so a
/// shell that does not flush hangs here.
#[test]
fn dialogue() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    for (question, answer) in [
        ("get door", "(nil)"),
        ("put door open", "OK"),
        ("get door", "open"),
        ("put door closed ttl=1h", "OK"),
        ("get door", "closed"),
        ("touch door ttl=never", "1"),
        ("touch window ttl=5m", "0"),
        ("del door", "1"),
        ("del door", "0"),
        ("get door", "(nil)"),
        ("put literal (nil)", "OK"),
        ("get literal", r"\x28\x6e\x69\x6c\x29"),
        ("put \"\" \"\"", "OK"),
        ("get \"\"", "\"\""),
        ("incr n", "1"),
        ("incr n 41", "42"),
        ("incr n -50", "-8"),
        ("incr n 9223372036854775807", "9223372036854775799"),
        ("get n", "9223372036854775799"),
        ("sync", "OK"),
    ] {
        assert_eq!(shell.ask(question), answer, "{question}");
    }
    assert_eq!(shell.keys(""), ["\"\"", "literal", "n"]);
    assert_eq!(shell.keys("l"), ["literal"]);
    assert_eq!(shell.keys("none"), [""; 0]);
    let stats = shell.ask("stats");
    for word in ["entries=3", "health=good"] {
        assert!(stats.split(' ').any(|field| field == word), "{stats}");
    }
    assert!(stats.split(' ').all(|field| field.contains('=')), "{stats}");
    assert!(shell.ask("help").contains("put KEY VALUE [ttl=30s]"));
    assert_eq!(shell.ask("quit"), "OK");
    let rest = shell.end().expect(0);
    assert_eq!((rest.out.as_str(), rest.err.as_str()), ("", ""));
    assert_eq!(run(arguments!["get", &store, "n"]).expect(0).out, "9223372036854775799\n");
}

/// Goal: an error is one line with its kind, nothing is written for it, and the shell goes on.
#[test]
fn errors() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put word seven"), "OK");
    assert_eq!(shell.ask("put most 9223372036854775807"), "OK");
    let long = "k".repeat(65_536);
    for (question, kind) in [
        ("put k".to_owned(), "usage"),
        ("put k v ttl=0".to_owned(), "usage"),
        (r"get \xg1".to_owned(), "usage"),
        ("incr word".to_owned(), "usage"),
        ("incr most".to_owned(), "usage"),
        ("incr k 1.5".to_owned(), "usage"),
        ("frobnicate".to_owned(), "usage"),
        ("commit".to_owned(), "usage"),
        ("abort".to_owned(), "usage"),
        (format!("put {long} v"), "too-large"),
    ] {
        let answer = shell.ask(&question);
        let start = &question[..question.len().min(40)];
        assert!(answer.starts_with(&format!("ERR {kind} ")), "{start}: {answer}");
    }
    assert_eq!(shell.ask("get word"), "seven");
    assert_eq!(shell.ask("get most"), "9223372036854775807");
    assert_eq!(shell.keys(""), ["most", "word"]);
    shell.end().expect(0);
}

/// Goal: lines without a command have no answer, whatever ends them; the last line needs no end.
#[test]
fn lines() {
    let (_root, store) = place();
    let input = b"\n# a comment\r\n   \nput a 1\r\n\tget  a\t\n\n#put a 2\nget a";
    let ran = run_with_input(arguments!["shell", &store], input).expect(0);
    assert_eq!(ran.out, "OK\n1\n1\n");
    assert_eq!(run_with_input(arguments!["shell", &store], b"").expect(0).out, "");
}

/// Goal: a batch goes in whole at its commit, and not at all without one.
#[test]
fn batches() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put old 1"), "OK");
    for (question, answer) in [
        ("batch", "OK"),
        ("put a 1", "QUEUED"),
        ("put b 2 ttl=1h", "QUEUED"),
        ("del old", "QUEUED"),
        ("get a", "(nil)"),
        ("get old", "1"),
        ("commit", "OK"),
        ("get a", "1"),
        ("get old", "(nil)"),
        ("batch", "OK"),
        ("put a 9", "QUEUED"),
        ("abort", "OK"),
        ("get a", "1"),
        ("batch", "OK"),
        ("commit", "OK"),
    ] {
        assert_eq!(shell.ask(question), answer, "{question}");
    }
    // A line that does not go into the batch spoils it: half of what was meant is not meant.
    let long = format!("put {} v", "k".repeat(65_536));
    for spoiler in ["incr n", "touch a ttl=1s", "batch", "pt c 3", "put c", long.as_str()] {
        assert_eq!(shell.ask("batch"), "OK");
        assert_eq!(shell.ask("put a 9"), "QUEUED");
        let start = &spoiler[..spoiler.len().min(20)];
        let answer = shell.ask(spoiler);
        assert!(answer.starts_with("ERR usage ") || answer == "QUEUED", "{start}: {answer}");
        let commit = shell.ask("commit");
        assert!(commit.starts_with("ERR "), "{start}: {commit}");
        assert_eq!(shell.ask("get a"), "1", "{start}");
        assert!(shell.ask("commit").starts_with("ERR usage "), "the batch is over");
    }
    assert_eq!(shell.keys(""), ["a", "b"]);
    assert_eq!(shell.ask("batch"), "OK");
    assert_eq!(shell.ask("put late 1"), "QUEUED");
    let end = shell.end().expect(0);
    assert!(end.err.contains("not committed"), "{}", end.err);
    run(arguments!["get", &store, "late"]).expect(1);
}

/// Goal: a lifetime ends when it says, is cleared by a plain put, kept by `incr`, and lifted by `touch`.
#[test]
fn lifetimes() {
    let (_root, store) = place();
    let mut shell = Dialogue::open(arguments![&store]);
    assert_eq!(shell.ask("put short 1 ttl=1200ms"), "OK");
    assert_eq!(shell.ask("put counted 1 ttl=1200ms"), "OK");
    assert_eq!(shell.ask("incr counted"), "2");
    assert_eq!(shell.ask("put again 1 ttl=1200ms"), "OK");
    assert_eq!(shell.ask("put again 2"), "OK");
    assert_eq!(shell.ask("put lifted 1 ttl=1200ms"), "OK");
    assert_eq!(shell.ask("touch lifted ttl=never"), "1");
    assert_eq!(shell.ask("put ended 1"), "OK");
    assert_eq!(shell.ask("touch ended ttl=1200ms"), "1");
    assert_eq!(shell.ask("get ended"), "1");
    thread::sleep(Duration::from_millis(1_250));
    for (key, value) in [
        ("short", "(nil)"),
        ("counted", "(nil)"),
        ("again", "2"),
        ("lifted", "1"),
        ("ended", "(nil)"),
    ] {
        assert_eq!(shell.ask(&format!("get {key}")), value, "{key}");
    }
    assert_eq!(shell.keys(""), ["again", "lifted"]);
    assert_eq!(shell.ask("touch short ttl=1h"), "0");
    assert_eq!(shell.ask("del ended"), "0");
    assert_eq!(shell.ask("incr counted"), "1");
    shell.end().expect(0);
    run(arguments!["get", &store, "short"]).expect(1);
}

/// Goal: a read-only shell reads, refuses every write, and changes no file.
#[test]
fn read_only() {
    let (_root, store) = filled(5);
    let before = files(&store);
    let mut shell = Dialogue::open(arguments![&store, "--read-only"]);
    assert_eq!(shell.ask("get key-00003"), "value-3");
    assert_eq!(shell.keys("").len(), 5);
    for write in ["put a 1", "del key-00003", "incr n", "touch key-00003 ttl=1h"] {
        let answer = shell.ask(write);
        assert!(answer.starts_with("ERR read-only "), "{write}: {answer}");
    }
    assert_eq!(shell.ask("batch"), "OK");
    assert_eq!(shell.ask("put a 1"), "QUEUED");
    assert!(shell.ask("commit").starts_with("ERR read-only "));
    assert_eq!(shell.ask("get key-00003"), "value-3");
    shell.end().expect(0);
    assert_eq!(files(&store), before);
}

/// Goal: after `sync`, staged writes survive a kill; every mode survives a proper end.
#[test]
fn modes() {
    for mode in ["buffered", "os", "sync", "periodic"] {
        let (_root, store) = place();
        let options = arguments![&store, "--durability", mode, "--periodic-ms", "60000"];
        let mut shell = Dialogue::open(&options);
        assert_eq!(shell.ask("put synced 1"), "OK");
        assert_eq!(shell.ask("get synced"), "1", "{mode}: one's own write is visible");
        assert_eq!(shell.ask("sync"), "OK");
        assert!(!shell.kill().success());
        let mut shell = Dialogue::open(&options);
        assert_eq!(shell.ask("get synced"), "1", "{mode}");
        assert_eq!(shell.ask("put closed 2"), "OK");
        shell.end().expect(0);
        assert_eq!(run(arguments!["get", &store, "closed"]).expect(0).out, "2\n", "{mode}");
    }
}

/// Goal: options of the store arrive there. Method: small segments make many files.
#[test]
fn segment_size() {
    let (_root, store) = place();
    let value = "v".repeat(1_000);
    let lines: String = (0..60).map(|n| format!("put k{n} {value}\n")).collect();
    let options = arguments!["shell", &store, "--segment-bytes", "8192"];
    run_with_input(options, lines.as_bytes()).expect(0);
    let segments =
        files(&store).iter().filter(|(name, _)| name.to_string_lossy().ends_with(".seg")).count();
    assert!(segments > 5, "{segments} segments");
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "60\n");
}

/// Goal: when nobody reads the answers any more, the shell closes the store and ends without noise.
#[test]
fn nobody_listens() {
    let (_root, store) = place();
    let mut child = command(arguments!["shell", &store])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell starts");
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, b"put key value\n").expect("a line goes in");
    // The input stays open: it is the missing reader that ends the shell.
    let output = child.wait_with_output().expect("the shell ends");
    drop(input);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(run(arguments!["get", &store, "key"]).expect(0).out, "value\n");
}

/// Goal: a write that the system refuses is an error, nothing acknowledged is lost, reads go on, and when the cause
/// is gone the same shell can write again.
/// Method: a limit on the size of files that is lifted from outside, where there are the programs for it.
#[cfg(target_os = "linux")]
#[test]
fn refused_write() {
    let (_root, store) = place();
    if std::process::Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("no `prlimit` here; a refused write is not tested from outside");
        return;
    }
    // Exceeding the limit is a signal that kills, unless it is ignored.
    let script = r#"trap "" XFSZ; exec prlimit --fsize=40000:unlimited "$@""#;
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", script, "sh"])
        .arg(super::binary())
        .args(["shell", "--segment-bytes", "65536"])
        .arg(&store);
    let mut shell = Dialogue::start(sh);
    let value = "v".repeat(500);
    let mut acknowledged = 0;
    let refusal = loop {
        match shell.ask(&format!("put key-{acknowledged} {value}")).as_str() {
            "OK" => acknowledged += 1,
            refusal => break refusal.to_owned(),
        }
        assert!(acknowledged < 1_000, "the limit is felt");
    };
    assert!(refusal.starts_with("ERR io "), "{refusal}");
    assert!(acknowledged > 10, "{acknowledged}: {refusal}");
    assert!(
        shell.ask("put key-x 1").starts_with("ERR stopped "),
        "nothing goes on as if nothing was"
    );
    assert!(shell.ask("stats").ends_with("health=stopped"));
    assert_eq!(shell.ask("get key-0"), value);

    let pid = shell.pid().to_string();
    let lifted =
        std::process::Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status();
    assert!(lifted.is_ok_and(|status| status.success()), "the limit is lifted");
    assert_eq!(shell.ask("recover"), "OK");
    assert!(shell.ask("stats").ends_with("health=good"));
    assert_eq!(shell.ask("put last 1"), "OK");
    let keys = shell.keys("").len();
    assert!(
        (acknowledged + 1..=acknowledged + 2).contains(&keys),
        "{keys} of {acknowledged} and one"
    );
    for number in 0..acknowledged {
        assert_eq!(shell.ask(&format!("get key-{number}")), value, "{number} of {acknowledged}");
    }
    shell.end().expect(0);
    assert_eq!(run(arguments!["get", &store, "last"]).expect(0).out, "1\n");
    assert!(run(arguments!["check", &store]).expect(0).out.starts_with("ok: "));
}

/// Goal: a file that is cut under an open store is an error of the command that reads it, not the end of the process.
/// Method: the largest segment is cut to its header while a shell has the store, with and without `--read-only`.
#[test]
fn a_file_is_cut() {
    for options in [&[][..], &["--read-only"]] {
        let (_root, store) = place();
        let value = "v".repeat(3_000);
        let lines: String = (0..40).map(|n| format!("put key-{n} {value}\n")).collect();
        let words = arguments!["shell", &store, "--segment-bytes", "64KiB"];
        run_with_input(words, lines.as_bytes()).expect(0);
        let mut shell = Dialogue::open(
            [std::ffi::OsString::from(&store)].into_iter().chain(options.iter().map(Into::into)),
        );
        assert_eq!(shell.ask("get key-0"), value);
        let segments = std::fs::read_dir(&store).unwrap().map(Result::unwrap);
        let segments = segments.filter(|file| file.path().extension().is_some_and(|e| e == "seg"));
        for file in segments {
            let file = std::fs::File::options().write(true).open(file.path()).unwrap();
            file.set_len(4_096).unwrap();
        }
        let answer = shell.ask("get key-1");
        assert!(answer.starts_with("ERR "), "{options:?}: {answer}");
        assert!(shell.ask("stats").contains("entries="), "{options:?}");
        shell.say("quit");
        let ended = shell.end();
        assert!(ended.code.is_some(), "{options:?}: ended by a signal");
    }
}
