//! What `docs/seeds.md` says that it is shown by is there: examples are files, tests are functions, files exist.

use std::collections::BTreeSet;

use crate::{
    assert_none, assert_one,
    source::{read, rust_files},
};

const DOCUMENT: &str = "docs/seeds.md";

/// What a row may name.
#[derive(Default)]
struct Shown {
    /// Names of functions.
    functions: BTreeSet<String>,
    /// Names of examples, without `.rs`.
    examples: BTreeSet<String>,
    /// Paths of files.
    files: BTreeSet<String>,
}

impl Shown {
    fn of(files: impl Iterator<Item = (String, String)>) -> Self {
        let mut shown = Self::default();
        for (path, code) in files {
            for (at, _) in code.match_indices("fn ") {
                let name = code[at + 3..].chars();
                let name: String = name.take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                shown.functions.insert(name);
            }
            if let Some(name) = path.strip_prefix("api/examples/") {
                shown.examples.insert(name.trim_end_matches(".rs").to_owned());
            }
            shown.files.insert(path);
        }
        shown
    }

    /// Whether a file has this end.
    fn has_file(&self, end: &str) -> bool {
        self.files.iter().any(|path| path.strip_suffix(end).is_some_and(|rest| rest.ends_with('/')))
    }

    /// Whether a module of this name is a file.
    fn has_module(&self, name: &str) -> bool {
        self.has_file(&format!("{name}.rs")) || self.has_file(&format!("{name}/mod.rs"))
    }

    /// What is wrong with one word of a row; `before` is the word before it.
    fn fault(&self, word: &str, before: &str) -> Option<String> {
        let missing = |what: &str| Some(format!("{word:?} is no {what}"));
        let is_name =
            |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
        if word.ends_with(".rs") || word.ends_with(".md") {
            return if self.has_file(word) { None } else { missing("file") };
        }
        if let Some((modules, name)) = word.rsplit_once("::") {
            let modules: Vec<_> = modules.split("::").filter(|part| !part.is_empty()).collect();
            // A module inside a file of tests is a word of its file.
            let is_there = modules.first().is_none_or(|first| self.has_module(first))
                || modules.len() == 1 && self.functions.contains(name);
            if !is_there {
                return missing("module of tests");
            }
            let is_shown = name.is_empty() || name == "*" || self.functions.contains(name);
            return if is_shown || !is_name(name) { None } else { missing("test") };
        }
        if (before == "example" || before == "examples") && word != "above" {
            return if self.examples.contains(word) || !is_name(word) {
                None
            } else {
                missing("example")
            };
        }
        let is_shown = self.examples.contains(word) || self.functions.contains(word);
        if is_shown || !word.contains('_') || !is_name(word) {
            None
        } else {
            missing("example or test")
        }
    }
}

/// The last cells of the rows, each with its number.
fn rows(document: &str) -> Vec<(&str, &str)> {
    document.lines().filter_map(cells).filter(|(number, _)| is_number(number)).collect()
}

fn cells(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| ")?.splitn(3, " | ");
    let number = cells.next()?;
    Some((number, cells.nth(1).unwrap_or_default().trim_matches([' ', '|'])))
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn faults(document: &str, shown: &Shown) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, text) in rows(document) {
        if text.is_empty() {
            faults.push(format!("{DOCUMENT}: row {number} is empty"));
        }
        // Items of the library stand between backticks: the compiler's documentation knows them.
        let plain = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let is_part = |c: char| c.is_alphanumeric() || "_:/.*-".contains(c);
        let words =
            plain.split(|c: char| !is_part(c)).map(|word| word.trim_end_matches(['.', ':']));
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        for (at, word) in words.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| words.get(at)).unwrap_or(&"");
            let fault = shown.fault(word, before);
            faults.extend(fault.map(|fault| format!("{DOCUMENT}: row {number}: {fault}")));
        }
    }
    faults
}

#[test]
fn what_shows_a_promise_is_there() {
    let document = read(DOCUMENT);
    assert!(rows(&document).len() > 150, "the tables were not found");
    let ours = |path: &str| path.starts_with("api/");
    let sources = rust_files().into_iter().map(|file| (file.path, file.code));
    let mut shown = Shown::of(sources.filter(|(path, _)| ours(path)));
    let texts = crate::source::text_files().into_iter().map(|(path, _)| path);
    shown.files.extend(texts.filter(|path| path.ends_with(".md")).map(|path| format!("/{path}")));
    assert_none(&faults(&document, &shown));
}

#[test]
fn planted_promises_are_found() {
    let file = |path: &str, code: &str| (path.to_owned(), code.to_owned());
    let shown = Shown::of(
        [
            file("api/tests/it/cache.rs", "fn one_entry() {}"),
            file("api/examples/tour.rs", "fn main() {}"),
        ]
        .into_iter(),
    );
    let found = |text: &str| faults(&format!("| 0.1 | a promise | {text} |"), &shown);
    assert_none(&found("example tour; test cache::one_entry, ::one_entry, cache::*; cache.rs"));
    assert_none(&found("`not_of_ours::at_all`; a word"));
    assert_one(&found("example tours"), "\"tours\" is no example");
    assert_one(&found("test cache::two_entries"), "is no test");
    assert_one(&found("cash::one_entries"), "is no module of tests");
    assert_one(&found("example tour, gone_example"), "gone_example");
    assert_one(&found("cash.rs"), "is no file");
    assert_one(&found(""), "is empty");
}
