//! Module docs, and what must not stand in any file.

use crate::{
    assert_none, assert_one,
    source::{Source, line_of, rust_files, text_files},
};

/// Files that do not say in their first line what they are.
fn openings(files: &[Source]) -> Vec<String> {
    let is_silent = |file: &&Source| !file.text.starts_with("//! ");
    let fault =
        |file: &Source| format!("{}: opens without `//!`: say what this file is", file.path);
    files.iter().filter(is_silent).map(fault).collect()
}

/// Public items that hide from the documentation.
fn hidden(files: &[Source]) -> Vec<String> {
    let word = ["doc(", "hidden)"].concat();
    let hits = |file: &Source| -> Vec<String> {
        let place = |(at, _)| {
            format!("{}:{}: nothing is hidden from the docs", file.path, line_of(&file.code, at))
        };
        file.code.match_indices(&word).map(place).collect()
    };
    files.iter().flat_map(hits).collect()
}

/// Starts of paths that exist on one machine only. Split, so that this file does not contain them.
const MACHINE: &[(&str, &str)] = &[
    ("/ho", "me/"),
    ("/Us", "ers/"),
    ("/ro", "ot/"),
    ("/wo", "rk/"),
    ("/tm", "p/"),
    ("C:\\", "Users"),
];

/// What names a package registry or a mirror of one.
const REGISTRY: &[(&str, &str)] = &[
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("spar", "se+"),
    ("replace", "-with"),
    ("[sour", "ce."),
];

/// The one source that packages of the lock file come from.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Paths and hosts that belong to one machine.
fn strangers(files: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{path}:{}", number + 1);
            if path == "Cargo.lock" {
                if line.starts_with("source = ") && line != LOCK_SOURCE {
                    faults.push(format!("{place}: a package from elsewhere: {line}"));
                }
                continue;
            }
            for word in MACHINE.iter().map(|(a, b)| [*a, *b].concat()) {
                let inside_a_path = |c: char| c.is_alphanumeric() || "._-~*}>".contains(c);
                let hit = |(at, _): (usize, &str)| !line[..at].ends_with(inside_a_path);
                if line.match_indices(&word).any(hit) {
                    faults.push(format!("{place}: `{word}` is a path of one machine"));
                }
            }
            for word in REGISTRY.iter().map(|(a, b)| [*a, *b].concat()) {
                if line.contains(&word) {
                    faults.push(format!("{place}: `{word}` names a registry"));
                }
            }
        }
    }
    faults
}

#[test]
fn every_file_says_what_it_is() {
    assert_none(&openings(&rust_files()));
}

#[test]
fn nothing_is_hidden() {
    assert_none(&hidden(&rust_files()));
}

#[test]
fn no_file_knows_a_machine() {
    assert_none(&strangers(&text_files()));
}

#[test]
fn planted_bad_manners_are_found() {
    assert_one(&openings(&[Source::new("a.rs", "use std::fmt;\n//! Late.")]), "opens without");
    let text = format!("#[{}{}]\npub fn f() {{}}", "doc(", "hidden)");
    assert_one(&hidden(&[Source::new("a.rs", &text)]), "nothing is hidden");
    let file = |path: &str, text: String| vec![(path.to_owned(), text)];
    for (a, b) in MACHINE {
        assert_one(&strangers(&file("README.md", format!("see {a}{b}x"))), "one machine");
    }
    for (a, b) in REGISTRY {
        assert_one(&strangers(&file("a.toml", format!("{a}{b}"))), "names a registry");
    }
    assert_one(
        &strangers(&file("Cargo.lock", "source = \"git+https://example.org/x\"".to_owned())),
        "from elsewhere",
    );
    assert_none(&strangers(&file("a.md", format!("tests{}{}x", MACHINE[3].0, MACHINE[3].1))));
}
