//! Locks, condition variables, atomics, channels and threads come through one room of each library, so that a
//! scheduler of tests can stand behind all of them at once.

use crate::{
    assert_none, assert_one,
    source::{Source, is_word, line_of, rust_files, words},
};

/// A library and the room that its locks and threads come through.
const DOORS: &[(&str, &str)] = &[("engine/src/", "sync"), ("api/src/", "sync")];

/// What the standard library's `sync` may be asked for anywhere: none of it waits for another thread while that one
/// may be held back.
const HARMLESS_SYNC: &[&str] = &["Arc", "Weak", "LazyLock"];

/// What the standard library's `thread` may be asked for anywhere.
const HARMLESS_THREAD: &[&str] = &["available_parallelism", "panicking", "Result", "LocalKey"];

/// Crates that wait in ways of their own.
const OTHERS: &[&str] = &["crossbeam", "crossbeam_channel", "parking_lot", "flume"];

/// The leaves of a use tree, each a path with `::` between parts.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().to_owned()];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &group[start..at];
                start = at + 1;
                if !part.trim().is_empty() {
                    found.extend(leaves(part).iter().map(|leaf| format!("{}{leaf}", head.trim())));
                }
            }
            _ => {}
        }
    }
    found
}

/// Paths of the standard library that `code` names, in imports and in place, with the line of each.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "std") {
        let line = line_of(code, at);
        let rest = &code[at..];
        let is_import = code[..at].trim_end().ends_with("use");
        if is_import {
            let tree = rest.split(';').next().unwrap_or_default();
            found.extend(leaves(tree).into_iter().map(|path| (line, path)));
        } else {
            let path: String = rest.chars().take_while(|c| is_word(*c) || *c == ':').collect();
            found.push((line, path));
        }
    }
    found
}

/// Whether this path of the standard library has to come through the door.
fn is_behind_the_door(path: &str) -> bool {
    let mut parts = path.split("::").skip(1);
    let harmless = match parts.next() {
        Some("sync") => HARMLESS_SYNC,
        Some("thread") => HARMLESS_THREAD,
        _ => return false,
    };
    parts.next().is_none_or(|name| !harmless.contains(&name))
}

fn strangers(files: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let door = DOORS.iter().find(|(house, _)| file.path.starts_with(house));
        let Some((house, door)) = door else { continue };
        if file.room_in(house) == Some(door) {
            continue;
        }
        for (line, path) in paths(&file.shipped) {
            if is_behind_the_door(&path) {
                faults.push(format!("{}:{line}: `{path}`: use `crate::{door}`", file.path));
            }
        }
        for other in OTHERS {
            faults.extend(words(&file.shipped, other).map(|at| {
                let line = line_of(&file.shipped, at);
                format!("{}:{line}: `{other}`: use `crate::{door}`", file.path)
            }));
        }
    }
    faults
}

#[test]
fn locks_and_threads_come_through_the_door() {
    assert_none(&strangers(&rust_files()));
}

#[test]
fn a_planted_lock_is_found() {
    let found = |text: &str| strangers(&[Source::new("engine/src/writer/mod.rs", text)]);
    assert_one(&found("use std::sync::Mutex;"), "`std::sync::Mutex`");
    assert_one(&found("use std::{fmt, sync::{Arc, atomic::{AtomicU64}}};"), "AtomicU64");
    assert_one(&found("fn f() { std::thread::sleep(t); }"), "`std::thread::sleep`");
    assert_one(&found("fn f(l: std::sync::RwLock<u8>) {}"), "RwLock");
    assert_one(&found("use std::thread;"), "`std::thread`");
    assert_one(&found("use crossbeam_channel::bounded;"), "crossbeam_channel");
    assert_none(&found("use std::{fmt, sync::{Arc, LazyLock, Weak}, time::Duration};"));
    assert_none(&found("fn f() { if std::thread::panicking() {} }"));
    assert_none(&found("#[cfg(test)]\nmod tests { use std::sync::Mutex; }"));
    for house in ["engine", "api"] {
        let at = |path: &str| {
            strangers(&[Source::new(&format!("{house}/src/{path}"), "use std::sync::Mutex;")])
        };
        assert_one(&at("pool.rs"), "use `crate::sync`");
        assert_none(&at("sync.rs"));
    }
}
