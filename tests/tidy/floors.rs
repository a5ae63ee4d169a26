//! Who may import whom, and words that belong to one room.

use std::collections::BTreeSet;

use crate::{
    assert_none, assert_one,
    source::{Source, is_word, line_of, rust_files, words},
};

/// Rooms of the engine, lowest floor first. A room may import lower floors only; rooms on one floor do not know
/// each other. `ARCHITECTURE.md` draws the same; a new arrow changes both, with a decision record.
const FLOORS: &[&[&str]] = &[
    &["types", "sync", "units", "knobs"],
    &["error"],
    &["format", "io", "stats"],
    &["space"],
    &["segment", "index", "options"],
    &["recency", "overrides"],
    &["evictor"],
    &["lookup", "checkpoint"],
    &["writer", "reader", "compactor", "recovery", "check", "inspect", "backup", "background"],
    &["repair"],
    &["engine"],
];

/// The same of the typed face.
const API_FLOORS: &[&[&str]] = &[
    &["error", "version", "sync"],
    &["ttl", "key", "codec", "schedule", "room", "pool_all", "migrations", "waits"],
    &["found", "kv", "pool", "ops"],
    &["work"],
    &["space"],
    &["store"],
    &["typed"],
    &["map", "cache", "state", "remote"],
    &["collections", "config", "coordinator"],
    &["recipes"],
    &["asynchronous", "testing"],
];

/// A crate with floors, and names of ground floors that may be said from the root of the crate.
struct House {
    sources: &'static str,
    floors: &'static [&'static [&'static str]],
    names: &'static [(&'static str, &'static str)],
}

const HOUSES: &[House] = &[
    House { sources: "engine/src/", floors: FLOORS, names: &[] },
    House {
        sources: "api/src/",
        floors: API_FLOORS,
        names: &[
            ("Error", "error"),
            ("Result", "error"),
            ("BoxError", "error"),
            ("Shared", "error"),
            ("Version", "version"),
            ("ParseVersionError", "version"),
            ("Ttl", "ttl"),
            ("Key", "key"),
            ("Migrations", "migrations"),
            ("SpaceOptions", "space"),
            ("Store", "store"),
            // Words of the engine.
            ("Durability", "error"),
            ("Evict", "error"),
            ("Options", "error"),
            ("Timestamp", "error"),
        ],
    },
];

/// Parts of the standard library that a room has no business with.
const FORBIDDEN_STD: &[(&str, &[&str])] = &[
    ("format", &["fs", "io", "time", "sync"]),
    ("index", &["fs", "io", "time"]),
    ("segment", &["fs", "thread"]),
    ("writer", &["fs", "thread"]),
    ("reader", &["fs", "thread"]),
    ("recency", &["fs", "io", "time", "thread"]),
    ("evictor", &["fs", "io", "thread"]),
    ("recovery", &["fs", "thread"]),
    ("check", &["fs"]),
    ("compactor", &["fs", "thread"]),
    ("evictor", &["fs", "thread", "time"]),
];

/// Words that a room must not say.
const FORBIDDEN_WORDS: &[(&str, &[&str])] = &[
    ("segment", &["SystemTime", "Instant"]),
    ("writer", &["SystemTime", "Instant"]),
    ("reader", &["SystemTime", "Instant"]),
    ("evictor", &["SystemTime", "Instant"]),
    ("recovery", &["SystemTime", "Instant"]),
    ("check", &["SystemTime", "Instant"]),
    ("compactor", &["SystemTime", "Instant"]),
];

/// The homes of `unsafe`: one in the engine; and the benches' counting allocator and the peer that is opened so.
const UNSAFE_HOMES: &[&str] = &[
    "engine/src/io/os.rs",
    "benches/src/bin/figures/memory.rs",
    "benches/src/bin/figures/reads.rs",
];
/// The only files of the libraries that start threads.
const THREADS_HOMES: &[&str] =
    &["engine/src/background.rs", "engine/src/check/crew.rs", "api/src/pool.rs"];

impl House {
    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|rooms| rooms.contains(&room))
    }

    /// The room that a first part of a path means.
    fn room_of<'a>(&self, name: &'a str) -> &'a str {
        self.names.iter().find(|(of, _)| *of == name).map_or(name, |(_, room)| *room)
    }
}

/// First parts of the paths below `root` in `code`: `root::x` and `root::{x::.., y}` give x and y.
fn first_parts(code: &str, root: &str) -> BTreeSet<String> {
    let first =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| is_word(*c)).collect() };
    let mut found = BTreeSet::new();
    for at in words(code, root) {
        let Some(rest) = code[at + root.len()..].strip_prefix("::") else {
            continue;
        };
        let Some(group) = rest.trim_start().strip_prefix('{') else {
            found.insert(first(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    if !group[start..offset].trim().is_empty() {
                        found.insert(first(&group[start..offset]));
                    }
                    start = offset + 1;
                }
                _ => {}
            }
            if c == '}' && depth == 0 && start == offset + 1 {
                break;
            }
        }
    }
    found
}

/// Imports that point up, sideways, or around the rooms.
fn imports(files: &[Source]) -> Vec<String> {
    HOUSES.iter().flat_map(|house| imports_in(house, files)).collect()
}

fn imports_in(house: &House, files: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let Some(room) = file.room_in(house.sources).filter(|room| *room != "lib") else {
            continue;
        };
        let Some(own) = house.floor(room) else {
            faults.push(format!(
                "{}: room `{room}` has no floor: add it to FLOORS and to ARCHITECTURE.md",
                file.path
            ));
            continue;
        };
        let mut others = first_parts(&file.shipped, "crate");
        if file.is_room_door(house.sources) {
            let known = first_parts(&file.shipped, "super");
            others.extend(known.into_iter().filter(|name| house.floor(name).is_some()));
        }
        let others = others.iter().map(|name| house.room_of(name));
        for other in others.filter(|other| *other != room) {
            match house.floor(other) {
                Some(floor) if floor < own => {}
                Some(_) => faults.push(format!("{}: `{room}` may not import `{other}`", file.path)),
                None => faults.push(format!(
                    "{}: `crate::{other}` goes around the rooms: name the room it lives in",
                    file.path
                )),
            }
        }
    }
    faults
}

/// Words in rooms where they do not belong.
fn forbidden(files: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let room = file.room().unwrap_or_default();
        let of_room = |rules: &'static [(&str, &[&'static str])]| {
            rules.iter().filter(move |rule| rule.0 == room).flat_map(|rule| rule.1.iter().copied())
        };
        // Locks and threads of the engine come through its room `sync`.
        let own = |name: &String| name == "sync";
        let mut used: Vec<String> =
            ["std", "core"].iter().flat_map(|root| first_parts(&file.shipped, root)).collect();
        used.extend(first_parts(&file.shipped, "crate").into_iter().filter(own));
        used.extend(first_parts(&file.shipped, "sync"));
        for part in of_room(FORBIDDEN_STD).filter(|part| used.iter().any(|name| name == part)) {
            faults.push(format!("{}: `std::{part}` does not belong in `{room}`", file.path));
        }
        for word in of_room(FORBIDDEN_WORDS) {
            faults.extend(words(&file.shipped, word).map(|at| {
                format!(
                    "{}:{}: `{word}` does not belong in `{room}`",
                    file.path,
                    line_of(&file.shipped, at)
                )
            }));
        }
    }
    faults
}

/// `unsafe` away from its home, threads started away from theirs, and paths that climb two floors at once.
fn homes(files: &[Source]) -> Vec<String> {
    const SPAWNS: &[&str] = &["spawn", "Builder", "scope"];
    let mut faults = Vec::new();
    for file in files {
        let place = |at| format!("{}:{}", file.path, line_of(&file.code, at));
        if !UNSAFE_HOMES.contains(&file.path.as_str()) {
            faults.extend(
                words(&file.code, "unsafe")
                    .map(|at| format!("{}: `unsafe` lives elsewhere", place(at))),
            );
        }
        let is_of_library = HOUSES.iter().any(|house| file.path.starts_with(house.sources));
        // What only tests of users call may start threads as tests do.
        // The scheduler of tests stands in for the standard library's threads.
        let is_double = ["api/src/testing/", "engine/src/sync/"]
            .iter()
            .any(|double| file.path.starts_with(double));
        if is_of_library && !is_double && !THREADS_HOMES.contains(&file.path.as_str()) {
            let used = first_parts(&file.shipped, "thread");
            for name in used.iter().filter(|name| SPAWNS.contains(&name.as_str())) {
                faults.push(format!(
                    "{}: `thread::{name}`: threads are started in {THREADS_HOMES:?} only",
                    file.path
                ));
            }
        }
        faults.extend(
            file.code
                .match_indices("super::super")
                .map(|(at, _)| format!("{}: say `crate::room`, not `super::super`", place(at))),
        );
    }
    faults
}

#[test]
fn rooms_import_lower_floors_only() {
    assert_none(&imports(&rust_files()));
}

#[test]
fn words_stay_in_their_rooms() {
    assert_none(&forbidden(&rust_files()));
}

#[test]
fn unsafe_and_threads_have_one_home() {
    assert_none(&homes(&rust_files()));
}

#[test]
fn a_planted_import_is_found() {
    let found = |path: &str, text: &str| imports(&[Source::new(path, text)]);
    assert_one(
        &found("engine/src/format/record.rs", "use crate::index::Index;"),
        "`format` may not import `index`",
    );
    assert_one(
        &found(
            "engine/src/segment/read.rs",
            "use crate::{\n    error::Error,\n    index::{A, B},\n};",
        ),
        "import `index`",
    );
    assert_one(
        &found("engine/src/index/mod.rs", "use super::io;\nuse crate::engine;"),
        "import `engine`",
    );
    assert_one(&found("engine/src/reader.rs", "use super::writer;"), "import `writer`");
    assert_one(&found("engine/src/reader.rs", "use crate::Engine;"), "goes around the rooms");
    assert_one(&found("engine/src/attic.rs", ""), "has no floor");
    assert_none(&found(
        "engine/src/reader.rs",
        "use crate::{index::Index, segment::Catalog}; // crate::engine",
    ));
    assert_none(&found(
        "engine/src/reader.rs",
        "#[cfg(test)]\nmod tests { use crate::engine::Engine; }",
    ));
    assert_none(&found("engine/src/lib.rs", "pub use crate::engine::Engine;"));
}

#[test]
fn a_planted_word_is_found() {
    let found = |path: &str, text: &str| forbidden(&[Source::new(path, text)]);
    assert_one(&found("engine/src/format/record.rs", "use std::{fmt, sync::Arc};"), "`std::sync`");
    assert_one(&found("engine/src/index/mod.rs", "fn f() { std::fs::read(p); }"), "`std::fs`");
    assert_one(&found("engine/src/recovery/mod.rs", "fn f(t: Instant) {}"), "`Instant`");
    assert_one(&found("engine/src/writer/mod.rs", "use std::thread;"), "`std::thread`");
    assert_one(&found("engine/src/format/names.rs", "use crate::sync::Mutex;"), "`std::sync`");
    assert_one(&found("engine/src/writer/mod.rs", "use crate::sync::thread;"), "`std::thread`");
    assert_none(&found(
        "engine/src/writer/mod.rs",
        "// std::fs\nuse std::sync::Arc; struct Instantly;",
    ));
}

#[test]
fn a_planted_stranger_is_found() {
    let found = |path: &str, text: &str| homes(&[Source::new(path, text)]);
    assert_one(&found("api/src/lib.rs", "fn f() { unsafe { g() } }"), "`unsafe` lives");
    for text in ["fn f() { std::thread::spawn(g); }", "use std::{fs, thread::{self, Builder}};"] {
        assert_one(&found("engine/src/engine.rs", text), "threads are started");
        assert_one(&found("api/src/store.rs", text), "threads are started");
    }
    assert_none(&found("api/src/store.rs", "use std::thread::{self, ThreadId};"));
    assert_one(
        &found("engine/src/index/shard.rs", "use super::super::types;"),
        "say `crate::room`",
    );
    assert_none(&found(UNSAFE_HOMES[0], "fn f() { unsafe { g() } }"));
    assert_none(&found(THREADS_HOMES[0], "fn f() { std::thread::Builder::new(); }"));
    assert_none(&found("engine/src/format/mod.rs", "#![forbid(unsafe_code)] // unsafe"));
}
