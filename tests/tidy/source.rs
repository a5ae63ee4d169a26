//! The workspace as text. Rules look at `text` for what people read, and at `code` for what the compiler reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of Rust.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the root of the workspace, with `/` between parts.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// The same with comments and the insides of literals replaced by spaces; lines stay lines.
    pub(crate) code: String,
    /// `code` without what only tests compile; empty for a file of tests.
    pub(crate) shipped: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank_literals(text);
        let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
        let shipped = if is_test { String::new() } else { blank_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The room of a file of the engine.
    pub(crate) fn room(&self) -> Option<&str> {
        self.room_in("engine/src/")
    }

    /// The room of a file of the crate whose sources are in `house`: the first part of its path there.
    pub(crate) fn room_in(&self, house: &str) -> Option<&str> {
        let first = self.path.strip_prefix(house)?.split(['/', '.']).next()?;
        Some(first.strip_suffix("_tests").unwrap_or(first))
    }

    /// Whether `super` means the root of the crate here.
    pub(crate) fn is_room_door(&self, house: &str) -> bool {
        let inside = self.path.strip_prefix(house).unwrap_or_default();
        !inside.contains('/') || inside.ends_with("/mod.rs") && inside.matches('/').count() == 1
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package stands in the workspace").to_owned()
}

/// The text of a file that must be there, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of Rust in the workspace, in order of path.
pub(crate) fn rust_files() -> Vec<Source> {
    let is_rust = |path: &str| path.ends_with(".rs");
    text_files()
        .iter()
        .filter(|(path, _)| is_rust(path))
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

/// Every text file that belongs to the project, as (path, text), in order of path.
pub(crate) fn text_files() -> Vec<(String, String)> {
    let (root, mut paths) = (root(), Vec::new());
    collect(&root, &mut paths);
    paths.sort();
    let named = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let inside = path.strip_prefix(&root).ok()?.to_str()?.replace('\\', "/");
        Some((inside, text))
    };
    paths.into_iter().filter_map(named).collect()
}

/// What `.gitignore` names, version control's own, and stores that tests read.
const STRANGERS: &[&str] =
    &["target", ".git", "corpus", "artifacts", "fixtures", "proptest-regressions"];

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if STRANGERS.iter().any(|stranger| name == *stranger) {
            continue;
        }
        if path.is_dir() {
            collect(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// Whether `c` can stand inside a word.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte offsets at which `word` stands in `text` with no word character on either side.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The number of the line that holds byte `at`, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Byte offset just after the brace that closes the one at `open`.
pub(crate) fn close_of(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// A kind of text that is not code.
enum Literal {
    Line,
    Block(usize),
    Text,
    /// Ends at a quote followed by so many `#`.
    Raw(usize),
}

/// `text` with comments and the insides of literals as spaces.
pub(crate) fn blank_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = chars.clone();
    let (mut at, mut inside) = (0, None);
    while at < chars.len() {
        let next = match inside.take() {
            None => {
                let (literal, length) = opening(&chars, at);
                inside = literal;
                length
            }
            Some(literal) => {
                let (still, length) = continuing(&chars, at, literal);
                for cell in &mut out[at..at + length] {
                    *cell = if *cell == '\n' { '\n' } else { ' ' };
                }
                inside = still;
                length
            }
        };
        at += next;
    }
    out.into_iter().collect()
}

/// What begins at `at`, and how many characters of code to pass over.
fn opening(chars: &[char], at: usize) -> (Option<Literal>, usize) {
    let char_at = |offset: usize| chars.get(at + offset).copied().unwrap_or('\n');
    let before = at.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
    match (char_at(0), char_at(1)) {
        ('/', '/') => (Some(Literal::Line), 0),
        ('/', '*') => (Some(Literal::Block(0)), 0),
        ('"', _) => (Some(Literal::Text), 1),
        ('r', '"' | '#') if !is_word(before) || "bc".contains(before) => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if char_at(1 + hashes) == '"' {
                (Some(Literal::Raw(hashes)), 2 + hashes)
            } else {
                (None, 1)
            }
        }
        ('\'', '\\') => {
            let rest =
                chars[(at + 3).min(chars.len())..].iter().take_while(|&&c| c != '\'').count();
            (None, (4 + rest).min(chars.len() - at))
        }
        ('\'', _) if char_at(2) == '\'' => (None, 3),
        _ => (None, 1),
    }
}

/// Whether the literal goes on, and how many of its characters to blank.
fn continuing(chars: &[char], at: usize, literal: Literal) -> (Option<Literal>, usize) {
    let (c, next) = (chars[at], chars.get(at + 1).copied().unwrap_or('\n'));
    match literal {
        Literal::Line if c == '\n' => (None, 1),
        Literal::Block(depth) if (c, next) == ('/', '*') => (Some(Literal::Block(depth + 1)), 2),
        Literal::Block(1) if (c, next) == ('*', '/') => (None, 2),
        Literal::Block(depth) if (c, next) == ('*', '/') => (Some(Literal::Block(depth - 1)), 2),
        Literal::Text if c == '\\' => (Some(Literal::Text), 2.min(chars.len() - at)),
        Literal::Text if c == '"' => (None, 1),
        Literal::Raw(hashes)
            if c == '"' && chars[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes =>
        {
            (None, 1 + hashes)
        }
        other => (Some(other), 1),
    }
}

/// `code` without the items marked `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let after = start + MARK.len();
        let stop = out[after..].find(['{', ';']).map_or(out.len(), |at| after + at);
        let end = if out[stop..].starts_with('{') { close_of(&out, stop) } else { stop };
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

#[test]
fn literals_are_told_from_code() {
    let text = "let a = \"un{safe\"; // unsafe }\nlet b = r#\"un\"safe\"#; /* { /* } */ unsafe */ let c = '{';\n";
    let code = blank_literals(text);
    assert!(!code.contains("safe"), "{code}");
    assert_eq!(code.len(), text.len());
    assert!(code.contains("let c = "), "{code}");
    assert_eq!(blank_literals("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
}

#[test]
fn tests_do_not_count_as_shipped() {
    let source = Source::new(
        "engine/src/a.rs",
        "fn one() {}\n#[cfg(test)]\nmod tests {\n fn two() {}\n}\nfn three() {}\n",
    );
    assert!(source.shipped.contains("one") && source.shipped.contains("three"));
    assert!(!source.shipped.contains("two"));
    assert!(Source::new("engine/src/a_tests.rs", "fn one() {}").shipped.is_empty());
}
