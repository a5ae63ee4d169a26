//! Things that must be listed where people look for them, and lists that must not promise what is not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    assert_none, assert_one,
    source::{Source, is_word, read, rust_files, text_files},
};

/// The words of an invariant that nothing can break yet, because the room it binds does not exist.
const NOT_YET: &str = "not built yet";

/// Numbers of the invariants in the table of `docs/invariants.md`, each with its row.
fn listed_invariants(document: &str) -> BTreeMap<u32, String> {
    let number = |line: &str| -> Option<u32> {
        line.strip_prefix("| I")?.split([' ', '|']).next()?.parse().ok()
    };
    document.lines().filter_map(|line| Some((number(line)?, line.to_owned()))).collect()
}

/// Invariants that a text speaks of: `I` and one or two digits, as a word.
fn used_invariants(text: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('I') {
        let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let after = text[at + 1 + digits.len()..].chars().next();
        let before = text[..at].chars().next_back();
        let is_whole = !before.is_some_and(is_word) && !after.is_some_and(is_word);
        if is_whole && (1..=2).contains(&digits.len()) {
            found.extend(digits.parse::<u32>());
        }
    }
    found
}

/// Invariants used but not listed, and listed but used nowhere.
fn invariants(document: &str, files: &[Source]) -> Vec<String> {
    let listed = listed_invariants(document);
    let mut used = BTreeMap::new();
    let speaks = |file: &&Source| !file.path.starts_with("tests/tidy/");
    for file in files.iter().filter(speaks) {
        for number in used_invariants(&file.text) {
            used.entry(number).or_insert(&file.path);
        }
    }
    let mut faults = Vec::new();
    for (number, path) in &used {
        match listed.get(number) {
            None => faults.push(format!("{path}: I{number} is not in docs/invariants.md")),
            Some(row) if row.contains(NOT_YET) => {
                faults.push(format!(
                    "docs/invariants.md: I{number} is built by now: {path} speaks of it"
                ));
            }
            Some(_) => {}
        }
    }
    for (number, row) in &listed {
        if !used.contains_key(number) && !row.contains(NOT_YET) {
            faults.push(format!("docs/invariants.md: I{number} is asserted nowhere"));
        }
    }
    faults
}

/// Fuzz targets that are no binary of the package or not described for people.
fn fuzz_targets(targets: &[String], manifest: &str, document: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for target in targets {
        if !manifest.contains(&format!("name = \"{target}\"")) {
            faults.push(format!("fuzz/Cargo.toml: no binary for {target}"));
        }
        if !document.contains(&format!("`{target}`")) {
            faults.push(format!("docs/testing.md: fuzz target `{target}` is not listed"));
        }
    }
    faults
}

/// Modules of the one test binary that its main file does not name with a line about each.
fn test_modules(modules: &[String], main: &str) -> Vec<String> {
    let lines: Vec<&str> = main.lines().map(str::trim).collect();
    let mut faults = Vec::new();
    for module in modules {
        let declaration = format!("mod {module};");
        let Some(at) = lines.iter().position(|line| line.starts_with(&declaration)) else {
            faults.push(format!("tests/it/main.rs: does not declare `{module}`"));
            continue;
        };
        let name = format!("`{module}`");
        let behind = lines[at][declaration.len()..].trim().starts_with("// ");
        let above = at > 0 && lines[at - 1].starts_with("/// ");
        let in_head = lines.iter().any(|line| line.starts_with("//!") && line.contains(&name));
        if !(behind || above || in_head) {
            faults.push(format!("tests/it/main.rs: `{module}` has no line that says what it is"));
        }
    }
    faults
}

/// Numbers that stand on disk, as (name, number), told by an `enum` with explicit numbers.
fn numbers_of(code: &str, start: &str) -> Vec<(String, u32)> {
    let body =
        code.split_once(start).map_or("", |(_, rest)| rest.split('}').next().unwrap_or_default());
    let pair = |line: &str| -> Option<(String, u32)> {
        let (name, number) = line.trim().trim_end_matches(',').split_once(" = ")?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    body.lines().filter_map(pair).collect()
}

/// Kinds whose number and name are not a row of the document.
fn kinds(kinds: &[(String, u32)], document: &str) -> Vec<String> {
    let rows: Vec<String> = document
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
        .collect();
    let is_missing = |(name, number): &&(String, u32)| {
        let row = format!("| {number} | {} |", spaced(name));
        !rows.iter().any(|line| line.starts_with(&row))
    };
    kinds
        .iter()
        .filter(is_missing)
        .map(|(name, number)| {
            format!("docs/format.md: no row for record kind {number}, {}", spaced(name))
        })
        .collect()
}

/// `ScopeCut` as `scope cut`.
fn spaced(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Names of the files directly in `folder`, without `.rs`, and of folders there that are modules.
fn stems(folder: &str) -> Vec<String> {
    let mut stems: Vec<String> = text_files()
        .iter()
        .filter_map(|(path, _)| {
            path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs").map(str::to_owned)
        })
        .map(|path| path.strip_suffix("/mod").map_or(path.clone(), str::to_owned))
        .filter(|stem| !stem.contains('/') && stem != "main")
        .collect();
    stems.sort();
    stems
}

#[test]
fn invariants_are_listed_and_asserted() {
    let document = read("docs/invariants.md");
    assert!(listed_invariants(&document).len() >= 12, "the table of invariants was not found");
    assert_none(&invariants(&document, &rust_files()));
}

#[test]
fn fuzz_targets_are_listed() {
    let targets = stems("fuzz/fuzz_targets");
    assert!(targets.len() >= 6, "found only {targets:?}");
    assert_none(&fuzz_targets(&targets, &read("fuzz/Cargo.toml"), &read("docs/testing.md")));
}

#[test]
fn test_modules_have_a_line() {
    let modules = stems("tests/it");
    assert!(!modules.is_empty(), "no modules found");
    assert_none(&test_modules(&modules, &read("tests/it/main.rs")));
}

#[test]
fn record_kinds_are_documented() {
    let found = numbers_of(&read("engine/src/format/record.rs"), "pub enum Kind {");
    assert!(found.len() >= 6, "found only {found:?}");
    assert_none(&kinds(&found, &read("docs/format.md")));
}

#[test]
fn planted_invariants_are_found() {
    let document = "| I1 | one | writer |\n| I2 | two | not built yet |\n";
    let found = |text: &str| invariants(document, &[Source::new("engine/src/a.rs", text)]);
    assert_none(&found("// holds (I1)\nlet x: I128 = I3x::II;"));
    assert_one(&found("// nothing"), "I1 is asserted nowhere");
    assert_one(&found("// I1: yes, (I9)"), "I9 is not in");
    assert_one(&found("// I1, I2"), "I2 is built by now");
}

#[test]
fn planted_omissions_are_found() {
    let names = |name: &str| vec![name.to_owned()];
    assert_none(&fuzz_targets(&names("a"), "name = \"a\"", "`a`"));
    assert_one(&fuzz_targets(&names("a"), "name = \"ab\"", "`a`"), "no binary for a");
    assert_one(&fuzz_targets(&names("a"), "name = \"a\"", "`ab`"), "`a` is not listed");
    assert_none(&test_modules(&names("a"), "//! - `a`: this\nmod b;\nmod a;\n"));
    assert_none(&test_modules(&names("a"), "/// This.\nmod a;\n"));
    assert_none(&test_modules(&names("a"), "mod a; // this\n"));
    assert_one(&test_modules(&names("a"), "mod b;\nmod a;\n"), "no line");
    assert_one(&test_modules(&names("a"), "//! - `a`\nmod ab;\n"), "does not declare");
    let found =
        numbers_of("pub enum Kind {\n /// x\n Put = 1,\n ScopeCut = 5,\n}", "pub enum Kind {");
    assert_one(&kinds(&found, "| 1 | put | a value |\n| 5 | cut | x |"), "5, scope cut");
}
