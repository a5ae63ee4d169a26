//! Signals at the shell: seen before the next command, whatever it waits for, with the store closed properly.
#![cfg(unix)]

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Dialogue, arguments, command, place, run, whole_lines};

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name} works");
}

/// A shell whose writes are staged for ten minutes.
fn staging(store: &Path, mode: &str) -> Child {
    command(arguments!["shell", store, "--durability", mode, "--periodic-ms", "600000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the shell starts")
}

fn keys(store: &Path) -> u64 {
    let count = run(arguments!["keys", store, "--count"]).expect(0).out;
    count.trim().parse().expect("a count")
}

/// Goal: a signal ends a shell whose input never ends, before the next command, with exit code 130; exactly what it has
/// acknowledged is there, staged writes included.
#[test]
fn under_a_flood() {
    for (name, mode) in [("-TERM", "periodic"), ("-INT", "periodic"), ("-TERM", "os")] {
        let (_root, store) = place();
        let mut child = staging(&store, mode);
        let mut input = child.stdin.take().expect("a pipe");
        let feeder = thread::spawn(move || {
            let mut number = 0_u64;
            while input.write_all(format!("put key-{number} value\n").as_bytes()).is_ok() {
                number += 1;
            }
        });
        let answers = whole_lines(child.stdout.take().expect("a pipe"));
        let mut acknowledged = 0;
        while acknowledged < 200 {
            assert_eq!(answers.recv().expect("an answer"), "OK");
            acknowledged += 1;
        }
        let start = Instant::now();
        signal(name, child.id());
        acknowledged += answers.iter().count() as u64;
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{name} {mode}");
        assert!(start.elapsed() < Duration::from_millis(1_900), "{name} {mode}: ended by force");
        feeder.join().expect("the feeder ends");
        assert_eq!(keys(&store), acknowledged, "{name} {mode}");
    }
}

/// Goal: a signal is seen while no input comes, and staged writes are not lost; a batch that was not committed is.
#[test]
fn without_input() {
    for name in ["-TERM", "-INT"] {
        let (_root, store) = place();
        let mut shell = Dialogue::open(arguments![
            &store,
            "--durability",
            "periodic",
            "--periodic-ms",
            "600000"
        ]);
        assert_eq!(shell.ask("put key value"), "OK");
        assert_eq!(shell.ask("batch"), "OK");
        assert_eq!(shell.ask("put other value"), "QUEUED");
        let start = Instant::now();
        signal(name, shell.pid());
        assert_eq!(shell.child.wait().expect("it ends").code(), Some(130));
        assert!(start.elapsed() < Duration::from_millis(1_900), "{name}: ended by force");
        assert_eq!(run(arguments!["keys", &store]).expect(0).out, "key\n");
    }
}

/// Goal: a shell that is stuck at an answer that is not read is ended by force after two seconds, and staged writes
/// are made durable before.
#[test]
fn without_a_reader() {
    let (_root, store) = place();
    let mut child = staging(&store, "periodic");
    let mut input = child.stdin.take().expect("a pipe");
    let stays_open = child.stdout.take();
    input.write_all(b"put key value\n").expect("a line goes in");
    let feeder = thread::spawn(move || while input.write_all(b"help\nstats\n").is_ok() {});
    // The answers fill the pipe within that time, or the shell still answers: either way it has to end.
    thread::sleep(Duration::from_millis(300));
    signal("-TERM", child.id());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    drop(stays_open);
    feeder.join().expect("the feeder ends");
    assert_eq!(run(arguments!["get", &store, "key"]).expect(0).out, "value\n");
}
