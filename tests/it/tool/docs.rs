//! `docs/tool.md` and the tool say the same.

use std::{collections::BTreeSet, fs};

use super::run;

fn document() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tool.md"))
        .expect("it is there")
}

/// The first cells, without their marks, of the table below a heading.
fn table(document: &str, heading: &str) -> Vec<String> {
    let below = document.split_once(&format!("\n## {heading}\n")).expect("the heading is there").1;
    let rows = below
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .filter_map(|row| Some(row.split('|').nth(1)?.trim().trim_matches('`').to_owned()))
        .collect()
}

/// What `help` prints between a heading and the next empty line: first words.
fn listed(help: &str, heading: &str) -> BTreeSet<String> {
    let below = help.split_once(heading).expect("the heading is there").1;
    let rows = below.lines().skip(1).take_while(|line| !line.is_empty());
    // A continued line stands further to the right.
    let names = rows.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Goal: the table of commands is the tool's own list.
#[test]
fn commands() {
    let mut ours = listed(&run(["-h"]).expect(0).out, "Commands:");
    assert!(ours.remove("help"));
    let rows = table(&document(), "Commands");
    let words = rows.iter().filter_map(|row| row.split_whitespace().next());
    assert_eq!(words.map(str::to_owned).collect::<BTreeSet<_>>(), ours);
}

/// Goal: the exit codes in the document are those that `--help` ends with.
#[test]
fn exit_codes() {
    let help = run(["-h"]).expect(0).out;
    let text = help.split_once("Exit codes:").expect("they are told").1;
    let text: String = text
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let ours: Vec<_> = text
        .split("; ")
        .filter_map(|part| part.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert_eq!(table(&document(), "Exit codes"), ours);
}

/// Goal: every option of every command is in the document, so is each command's document.
#[test]
fn options() {
    let document = document();
    for command in table(&document, "Commands") {
        let command = command.split_whitespace().next().expect("a word").to_owned();
        let help = run([&command, "-h"]).expect(0).out;
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        for option in words.filter(|word| word.starts_with("--") && word.len() > 3) {
            assert!(
                document.contains(&format!("`{option}")),
                "{command} {option} is not in docs/tool.md"
            );
        }
        assert!(
            document.contains(&format!("\n| `{command}` | ")),
            "{command} has no row of its output"
        );
    }
}
