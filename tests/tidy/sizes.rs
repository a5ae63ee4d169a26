//! Length of files and functions. What is over the limit is listed here with its length, and may only shrink.

use crate::{
    assert_none, assert_one,
    source::{Source, close_of, is_word, line_of, rust_files, words},
};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the limit, with their length.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions over the limit, as file and name, with their length.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Compares lengths with a limit and the list of what is allowed to be over it.
fn ratchet(
    lengths: &[(String, usize)],
    limit: usize,
    listed: &[(&str, usize)],
    what: &str,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, lines) in lengths {
        let allowed = listed.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
        match allowed {
            None if *lines > limit => {
                faults.push(format!("{name}: {lines} lines; a {what} has at most {limit}"));
            }
            Some(allowed) if *lines > allowed => {
                faults.push(format!(
                    "{name}: grew to {lines} lines; it is listed with {allowed} and may only shrink"
                ));
            }
            Some(allowed) if *lines < allowed => {
                faults.push(format!(
                    "{name}: shrank to {lines} lines; lower its entry from {allowed} (or drop it)"
                ));
            }
            _ => {}
        }
    }
    for (name, _) in listed {
        if !lengths.iter().any(|entry| entry.0 == *name) {
            faults.push(format!("{name}: listed as too long, but not there any more"));
        }
    }
    faults
}

fn file_lengths(files: &[Source]) -> Vec<(String, usize)> {
    files.iter().map(|file| (file.path.clone(), file.text.lines().count())).collect()
}

/// Lines of every function, from the line of `fn` to the brace that closes its body.
fn function_lengths(files: &[Source]) -> Vec<(String, usize)> {
    let mut lengths = Vec::new();
    for file in files {
        for at in words(&file.code, "fn") {
            let rest = file.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            let Some(open) = body_of(&file.code, at).filter(|_| !name.is_empty()) else {
                continue;
            };
            let lines =
                line_of(&file.code, close_of(&file.code, open)) - line_of(&file.code, at) + 1;
            lengths.push((format!("{}::{name}", file.path), lines));
        }
    }
    lengths
}

/// Byte offset of the brace that opens the body of the function at `at`, if it has one.
fn body_of(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at + offset),
            _ => {}
        }
    }
    None
}

#[test]
fn files_are_short() {
    assert_none(&ratchet(&file_lengths(&rust_files()), FILE_LINES_MAX, LONG_FILES, "file"));
}

#[test]
fn functions_are_short() {
    let lengths = function_lengths(&rust_files());
    assert!(lengths.len() > 100, "found only {} functions", lengths.len());
    assert_none(&ratchet(&lengths, FUNCTION_LINES_MAX, LONG_FUNCTIONS, "function"));
}

#[test]
fn a_planted_length_is_found() {
    let long = Source::new("a.rs", &"// line\n".repeat(FILE_LINES_MAX + 1));
    assert_one(&ratchet(&file_lengths(&[long]), FILE_LINES_MAX, &[], "file"), "at most 600");
    let body = "    let x = \"}\"; // }\n".repeat(FUNCTION_LINES_MAX - 1);
    let source = Source::new(
        "a.rs",
        &format!("trait T {{ fn a(); }}\nfn b(x: [u8; 3]) -> fn(u8) {{\n{body}}}\n"),
    );
    let found = function_lengths(&[source]);
    assert_eq!(found, [("a.rs::b".to_owned(), FUNCTION_LINES_MAX + 1)]);
    assert_one(&ratchet(&found, FUNCTION_LINES_MAX, &[], "function"), "at most 70");
}

#[test]
fn the_ratchet_only_turns_one_way() {
    let lines = |count| vec![("a.rs".to_owned(), count)];
    let listed: &[(&str, usize)] = &[("a.rs", 80)];
    assert_none(&ratchet(&lines(80), 70, listed, "file"));
    assert_one(&ratchet(&lines(81), 70, listed, "file"), "may only shrink");
    assert_one(&ratchet(&lines(79), 70, listed, "file"), "lower its entry");
    assert_one(&ratchet(&[], 70, listed, "file"), "not there any more");
}
