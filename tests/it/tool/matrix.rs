//! Every command under every condition that its surroundings may be in: streams that are full, closed or left by their
//! reader, variables that are empty, hostile keys, a writer that has the store open.
//!
//! The rows are compared with the tool's own list of commands, and options are read from its help texts, so that a new
//! command or option takes part without being added here.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Dialogue, Ran, arguments, binary, place, run, run_with_input};

/// One way to call a command.
struct Row {
    name: &'static str,
    /// Whether it only looks, so that it runs beside a writer.
    looks: bool,
    arguments: Vec<OsString>,
    input: &'static [u8],
}

/// What rows work on: a store, a backup of it, texts, and places for what they make.
struct Ground {
    root: TempDir,
    store: PathBuf,
}

/// A key that a terminal would act upon: a control of eight bits, changes of direction, invisible tags.
const HOSTILE: &str = "k\u{9b}31m\u{202e}\u{61c}\u{e0041}\u{7f}";

impl Ground {
    fn new() -> Self {
        let (root, store) = place();
        run(arguments!["put", &store, "key", "1", "--ttl", "1h", "--tag", HOSTILE]).expect(0);
        run(arguments!["put", &store, HOSTILE, HOSTILE]).expect(0);
        run(arguments!["put", &store, "gone", "x"]).expect(0);
        run(arguments!["del", &store, "gone"]).expect(0);
        run(arguments!["backup", &store, root.path().join("backup")]).expect(0);
        let dump = run(arguments!["dump", &store]).expect(0).out;
        fs::write(root.path().join("dump"), dump).unwrap();
        fs::write(root.path().join("json"), r#"{"a": 1}"#).unwrap();
        fs::write(root.path().join("trace"), "a\nb\na\n").unwrap();
        Self { root, store }
    }

    /// The same for one row that may change it: a copy.
    fn copy(&self) -> Self {
        fn copy_dir(from: &Path, to: &Path) {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                let to = to.join(entry.file_name());
                match entry.path().is_dir() {
                    true => copy_dir(&entry.path(), &to),
                    false => drop(fs::copy(entry.path(), to).unwrap()),
                }
            }
        }
        let root = tempfile::tempdir().unwrap();
        copy_dir(self.root.path(), root.path());
        let store = root.path().join("store");
        Self { root, store }
    }

    /// The same row on this ground.
    fn same(&self, row: &Row) -> Row {
        let is_same =
            |other: &Row| other.name == row.name && other.arguments.len() == row.arguments.len();
        self.rows().into_iter().find(is_same).expect("the same row")
    }

    /// Runs the row once more, on fresh ground.
    fn again(&self, row: &Row, run: impl Fn(&Row) -> Ran) -> Ran {
        let own = self.copy();
        run(&own.same(row))
    }

    fn rows(&self) -> Vec<Row> {
        let store = &self.store;
        let at = |name: &str| self.root.path().join(name);
        let segment = segment_in(store).unwrap_or_else(|| "1".into());
        let looks = |name, arguments: &[OsString]| Row {
            name,
            looks: true,
            arguments: arguments.to_vec(),
            input: b"",
        };
        let does = |name, arguments: &[OsString]| Row { looks: false, ..looks(name, arguments) };
        vec![
            does("tour", &arguments![at("toured")]),
            looks("info", &arguments![store]),
            looks("stats", &arguments![store]),
            looks("segments", &arguments![store]),
            looks("records", &arguments![store, segment]),
            looks("keys", &arguments![store]),
            looks("get", &arguments![store, "key"]),
            looks("scan", &arguments![store]),
            looks("big", &arguments![store]),
            looks("hist", &arguments!["size", store]),
            looks("changes", &arguments![store]),
            looks("map", &arguments![store]),
            looks("report", &arguments![store, "-"]),
            looks("check", &arguments![store]),
            looks("codes", &arguments![]),
            does("repair", &arguments![store]),
            looks("salvage", &arguments![store, at("salvaged")]),
            does("rebuild", &arguments![store]),
            looks("migrate", &arguments![store]),
            does("compact", &arguments![store]),
            does("compact", &arguments![store, "--dry-run"]),
            does("expire", &arguments![store]),
            does("evict", &arguments![store, "--to", "1MiB", "--yes"]),
            looks("backup", &arguments![store, "-"]),
            does("restore", &arguments![at("backup"), at("restored")]),
            looks("verify", &arguments![at("backup")]),
            looks("dump", &arguments![store]),
            does("load", &arguments![store, at("dump")]),
            does("import", &arguments!["json", at("json"), store]),
            does("put", &arguments![store, "new", "value"]),
            does("del", &arguments![store, "key"]),
            does("touch", &arguments![store, "key", "1h"]),
            does("clear", &arguments![store, "--yes"]),
            Row { input: b"put x 1\nget x\nkeys\n", ..does("shell", &arguments![store]) },
            Row {
                input: b"get key\nkeys\nstats\n",
                ..looks("shell", &arguments![store, "--read-only"])
            },
            does("replay", &arguments![at("trace"), "--format", "lines"]),
            does("bench", &arguments![at("bench"), "--ops", "10"]),
            looks("completions", &arguments!["bash"]),
            does("man", &arguments![at("man")]),
        ]
    }
}

/// The name of a segment that the store has.
fn segment_in(store: &Path) -> Option<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(store).ok()?.flatten().map(|file| file.file_name()).collect();
    names.sort();
    names.into_iter().find(|name| name.to_string_lossy().ends_with(".seg"))
}

impl Row {
    fn words(&self) -> Vec<OsString> {
        [OsString::from(self.name)].into_iter().chain(self.arguments.iter().cloned()).collect()
    }

    fn what(&self) -> String {
        self.words().iter().map(|word| word.to_string_lossy().into_owned() + " ").collect()
    }

    fn run(&self) -> Ran {
        run_with_input(self.words(), self.input)
    }

    /// Runs it from a shell of the system, which redirects its streams.
    fn run_redirected(&self, redirections: &str) -> Ran {
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("exec \"$@\" {redirections}"), "sh"])
            .arg(binary())
            .args(self.words());
        let mut child = sh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut pipe = child.stdin.take().expect("a pipe");
        let _ = std::io::Write::write_all(&mut pipe, self.input);
        drop(pipe);
        Ran::of(&child.wait_with_output().expect("it ends"))
    }
}

/// Runs `each` for every row, on ground of its own, together with ground that no row has used. The tour, which takes a
/// second, has tests of its own.
fn for_each_row(mut each: impl FnMut(&Row, &Ground)) {
    let ground = Ground::new();
    for number in 1..ground.rows().len() {
        let own = ground.copy();
        each(&own.rows()[number], &ground);
    }
}

fn is_sound(ground: &Ground) {
    assert!(run(arguments!["check", &ground.store]).expect(0).out.starts_with("ok: "));
}

/// Goal: there is a row for every command.
#[test]
fn every_command() {
    let help = run(["-h"]).expect(0).out;
    let below = help.split_once("Commands:").expect("a list").1;
    let lines = below.lines().skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let theirs: BTreeSet<String> = names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    let ground = Ground { root: tempfile::tempdir().unwrap(), store: "store".into() };
    let ours: BTreeSet<String> = ground.rows().iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(ours, theirs);
}

/// Goal: output that cannot be written is exit code 8 with a message, for every command and for every help text;
/// messages that cannot be written change no exit code.
#[cfg(target_os = "linux")]
#[test]
fn full_streams() {
    for_each_row(|row, ground| {
        let what = row.what();
        let normal = row.run();
        let muted = ground.again(row, |row| row.run_redirected("2>/dev/full"));
        assert_eq!(muted.code, normal.code, "{what}: standard error is full: {}", muted.out);
        let full = ground.again(row, |row| row.run_redirected(">/dev/full"));
        if !normal.out.is_empty() {
            assert_eq!(full.code, Some(8), "{what}: standard output is full: {}", full.err);
            assert!(full.err.contains("could not write"), "{what}: {}", full.err);
        }
    });
    let help = |words: &[&str]| Row {
        name: "help",
        looks: true,
        arguments: words.iter().map(OsString::from).collect(),
        input: b"",
    };
    for words in [&[][..], &["get"], &["import", "json"]] {
        let full = help(words).run_redirected(">/dev/full").expect(8);
        assert!(full.err.contains("could not write"), "{words:?}: {}", full.err);
    }
    for option in ["--help", "--version", "-V"] {
        let full = Row { name: option, ..help(&[]) }.run_redirected(">/dev/full").expect(8);
        assert!(full.err.contains("could not write"), "{option}: {}", full.err);
    }
}

/// Goal: a stream that is closed is as one that leads nowhere: the command does its work with the usual exit code, and
/// nothing of its output ends up in a file of the store.
#[cfg(unix)]
#[test]
fn closed_streams() {
    for_each_row(|row, ground| {
        let what = row.what();
        let normal = row.run();
        for redirections in [">&- 2>&-", "<&- >&- 2>&-"] {
            let own = ground.copy();
            let ran = own.same(row).run_redirected(redirections);
            assert_eq!(ran.code, normal.code, "{what}{redirections}: {}", ran.err);
            if !row.looks {
                is_sound(&own);
            }
        }
    });
}

/// Goal: a reader who leaves is no error and no noise, whatever the command.
#[test]
fn reader_leaves() {
    for_each_row(|row, _| {
        let mut child = super::command(row.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        drop(child.stdout.take());
        let mut pipe = child.stdin.take().expect("a pipe");
        let _ = std::io::Write::write_all(&mut pipe, row.input);
        drop(pipe);
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(ran.code, Some(0), "{}: {}", row.what(), ran.err);
    });
}

/// The variables of a command, and what its options take, from its help: name, value name.
fn options(name: &str) -> Vec<(String, String)> {
    let help = run([name, "--help"]).expect(0).out;
    let lines = help.lines().map(str::trim);
    let options = lines.filter_map(|line| {
        let long = line.split_once("--")?.1;
        let (long, rest) = long.split_at(long.find([' ', ']']).unwrap_or(long.len()));
        let value = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        (line.starts_with('-'))
            .then(|| (long.to_owned(), value.map_or("", |value| value.0).to_owned()))
    });
    options.collect()
}

/// Goal: a variable that is empty is one that is not set, for every option of every command.
#[test]
fn empty_variables() {
    for_each_row(|row, ground| {
        let normal = ground.again(row, Row::run);
        let mut command = super::command(row.words());
        let options = options(row.name);
        assert!(options.len() > 5, "{}: {options:?}", row.name);
        for (long, _) in &options {
            let variable = long.to_uppercase().replace('-', "_");
            command.env(format!("TIERCE_{variable}"), "");
            let prefix = row.name.to_uppercase();
            command.env(format!("TIERCE_{prefix}_{variable}"), "");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut pipe, row.input).unwrap();
        drop(pipe);
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(ran.code, normal.code, "{}: {}", row.what(), ran.err);
    });
}

/// Goal: every option that takes a size or a duration takes every spelling of one.
/// Method: options by their value names in the help texts, and by names that end in `bytes`.
#[test]
fn one_grammar() {
    let mut found = 0;
    for_each_row(|row, ground| {
        for (long, value) in options(row.name) {
            let words: &[&str] = match value.as_str() {
                "SIZE" => &["1.5 mib", "2097152", "3MB", "1024 KiB"],
                "N" if long.ends_with("bytes") => &["1MiB", "1 mb"],
                "DURATION" | "LIFETIME" => &["1h30m", "1w", "7 days", "P1D", "1.5h", "9000"],
                _ => continue,
            };
            if (row.name, long.as_str()) == ("stats", "watch") {
                continue;
            }
            // Over all options each spelling has its turn.
            for word in [words[found % words.len()], words[(found + 1) % words.len()]] {
                let own = ground.copy();
                let row = own.same(row);
                let is_other =
                    |word: &OsString| !word.to_string_lossy().starts_with(&format!("--{long}"));
                let mut others = row.words();
                if let Some(at) = others.iter().position(|word| !is_other(word)) {
                    others.drain(at..at + 2);
                }
                others.push(format!("--{long}={word}").into());
                let ran = run_with_input(others, row.input);
                assert_ne!(ran.code, Some(2), "{} --{long}={word}: {}", row.name, ran.err);
            }
            found += 1;
        }
    });
    assert!(found > 10, "{found} options");
}

/// Goal: whatever a key holds, no command prints what a terminal would act upon, as text or as JSON, on either stream.
/// Method: a key and a scope of such characters; an archive is nothing for a terminal.
#[test]
fn hostile_keys() {
    let is_shown = |text: &str, what: &str| {
        let acting = |char: &char| {
            (char.is_control() && *char != '\n')
                || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
                || matches!(char, '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
        };
        let found = text.chars().find(acting);
        assert_eq!(found, None, "{what}: {}", text.escape_debug());
    };
    for_each_row(|row, ground| {
        if matches!(row.name, "backup" | "completions") {
            return;
        }
        let plain = row.run();
        is_shown(&plain.out, &row.what());
        is_shown(&plain.err, &row.what());
        if matches!(row.name, "shell" | "report") {
            return;
        }
        let json = ground.again(row, |row| {
            run_with_input(row.words().into_iter().chain(["--json".into()]), row.input)
        });
        is_shown(&json.out, &format!("{}--json", row.what()));
        is_shown(&json.err, &format!("{}--json", row.what()));
    });
}

/// Goal: a command that looks runs beside a writer, and keeps none out.
#[test]
fn beside_a_writer() {
    let ground = Ground::new();
    let mut writer = Dialogue::open(arguments![&ground.store]);
    assert_eq!(writer.ask("put key 2"), "OK");
    for row in ground.rows().iter().filter(|row| row.looks) {
        row.run().expect(0);
    }
    writer.end().expect(0);
    let mut reader = Dialogue::open(arguments![&ground.store, "--read-only"]);
    assert_eq!(reader.ask("get key"), "2");
    run(arguments!["put", &ground.store, "key", "3"]).expect(0);
    assert_eq!(reader.ask("get key"), "3");
    reader.end().expect(0);
}

/// Goal: processes that start at the same time over one store wait for each other if told to, and lose nothing.
#[test]
fn at_the_same_time() {
    let (_root, store) = place();
    let spawn = |number: u32| {
        super::command(arguments!["put", &store, format!("key-{number}"), "v", "--timeout", "20s"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts")
    };
    let children: Vec<_> = (0..8).map(spawn).collect();
    for child in children {
        Ran::of(&child.wait_with_output().expect("it ends")).expect(0);
    }
    assert_eq!(run(arguments!["keys", &store, "--count"]).expect(0).out, "8\n");
}
