//! The layout tables stand twice, in the code and in `docs/format.md`, and the numbers a third time, as
//! constants. Here the three are held together.

use crate::{assert_none, assert_one, source::read};

const DOCUMENT: &str = "docs/format.md";

/// Where the tables stand: file, and for each of its tables the constant with its length and that length.
/// The lengths are part of the format: they are told here once more so that a constant cannot drift alone.
const LAYOUTS: &[(&str, &[(&str, u64)])] = &[
    ("engine/src/format/record.rs", &[("HEADER_BYTES", 24)]),
    ("engine/src/format/segment_header.rs", &[("SEGMENT_HEADER_BYTES", 4096)]),
    ("engine/src/format/footer.rs", &[("FOOTER_ENTRY_BYTES", 24), ("FOOTER_TRAILER_BYTES", 128)]),
    ("engine/src/format/manifest.rs", &[("MANIFEST_HEADER_BYTES", 64), ("FRAME_BYTES", 16)]),
    ("engine/src/format/checkpoint.rs", &[("CHECKPOINT_HEADER_BYTES", 96), ("SECTION_BYTES", 16)]),
];

/// A table: rows of cells, the header first.
type Table = Vec<Vec<String>>;

/// The layout tables among `lines`: those whose first two columns are `at` and `bytes`.
fn layout_tables<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Table> {
    let mut tables: Vec<Table> = vec![Vec::new()];
    for line in lines {
        match line.trim().strip_prefix('|') {
            Some(row) => tables.last_mut().expect("never empty").extend(cells(row)),
            None => tables.push(Vec::new()),
        }
    }
    let is_layout = |table: &Table| {
        table
            .first()
            .is_some_and(|header| header.starts_with(&["at".to_owned(), "bytes".to_owned()]))
    };
    tables.retain(is_layout);
    tables
}

/// The cells of a row, or nothing for the line under the header. Spaces and the brackets of links do not count.
fn cells(row: &str) -> Option<Vec<String>> {
    let row = row.trim_end();
    let row = row.strip_suffix('|').unwrap_or(row);
    if row.chars().all(|c| "-:| ".contains(c)) {
        return None;
    }
    let plain = |cell: &str| {
        let words: Vec<&str> = cell.split_whitespace().collect();
        words.join(" ").replace(['[', ']'], "")
    };
    Some(row.split('|').map(plain).collect())
}

/// The tables in the `//!` comment of a file.
fn tables_of_code(text: &str) -> Vec<Table> {
    layout_tables(text.lines().map(|line| line.strip_prefix("//!").unwrap_or_default()))
}

/// The value of `pub const NAME: usize = 123;`.
fn constant(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("pub const {name}: usize = "))?;
    rest.split(';').next()?.replace('_', "").parse().ok()
}

/// Differences between the tables of one file and of the document.
fn differences(place: &str, code: &[Table], document: &[Table]) -> Vec<String> {
    let mut faults = Vec::new();
    for table in code.iter().filter(|table| !document.contains(table)) {
        let score = |other: &&Table| other.iter().filter(|row| table.contains(row)).count();
        let nearest = document.iter().max_by_key(score);
        let missing = table.iter().find(|row| !nearest.is_some_and(|other| other.contains(row)));
        faults.push(format!(
            "{place}: row {:?} differs from {DOCUMENT}",
            missing.unwrap_or(&table[0])
        ));
    }
    faults
}

/// Rows that do not follow each other, and a sum that is not the constant.
fn inconsistencies(place: &str, table: &Table, length: u64) -> Vec<String> {
    let mut next = 0;
    for row in table.iter().skip(1) {
        let (Some(at), Some(bytes)) = (row.first(), row.get(1)) else {
            return vec![format!("{place}: row {row:?} has no offset or length")];
        };
        if at.parse() != Ok(next) {
            return vec![format!("{place}: row {row:?} should begin at {next}")];
        }
        // A dot stands for "as long as it is": what comes after the fixed part.
        if bytes != "." {
            let Ok(bytes) = bytes.parse::<u64>() else {
                return vec![format!("{place}: row {row:?} has no length")];
            };
            next += bytes;
        }
    }
    if next == length {
        Vec::new()
    } else {
        vec![format!("{place}: fields end at {next}, not at {length}")]
    }
}

/// All faults of one file of the format, given its text and the tables of the document.
fn faults_of(path: &str, text: &str, constants: &[(&str, u64)], document: &[Table]) -> Vec<String> {
    let tables = tables_of_code(text);
    if tables.len() != constants.len() {
        return vec![format!("{path}: {} layout tables, not {}", tables.len(), constants.len())];
    }
    let mut faults = differences(path, &tables, document);
    for (table, (name, length)) in tables.iter().zip(constants) {
        match constant(text, name) {
            Some(value) if value == *length => {}
            other => faults.push(format!("{path}: {name} is {other:?}, the format says {length}")),
        }
        faults.extend(inconsistencies(path, table, *length));
    }
    faults
}

#[test]
fn tables_agree() {
    let document = layout_tables(read(DOCUMENT).lines());
    let mut faults = Vec::new();
    for (path, constants) in LAYOUTS {
        faults.extend(faults_of(path, &read(path), constants, &document));
    }
    let of_code: Vec<Table> =
        LAYOUTS.iter().flat_map(|(path, _)| tables_of_code(&read(path))).collect();
    for table in document.iter().filter(|table| !of_code.contains(table)) {
        faults.push(format!("{DOCUMENT}: the table ending in {:?} is in no code", table.last()));
    }
    assert_none(&faults);
}

const PLANTED: &str = "\
//! | at | bytes | field | note |
//! |---:|------:|-------|------|
//! |  0 |     4 | sum   | [`x`] |
//! |  4 |     2 | kind  |      |
pub const A_BYTES: usize = 6;
";

#[test]
fn a_table_that_agrees_passes() {
    let document = layout_tables(
        "| at | bytes | field | note |\n|-:|-|-|-|\n|0|4|sum|`x`|\n|4|2|kind||".lines(),
    );
    assert_none(&faults_of("a.rs", PLANTED, &[("A_BYTES", 6)], &document));
}

#[test]
fn planted_differences_are_found() {
    let document = tables_of_code(PLANTED);
    let found = |text: &str| faults_of("a.rs", text, &[("A_BYTES", 6)], &document);
    assert_none(&found(PLANTED));
    assert_one(&found(&PLANTED.replace("kind", "sort")), "\"sort\"");
    assert_one(&found(&PLANTED.replace("= 6", "= 7")), "A_BYTES is Some(7)");
    assert_one(&found("//! no table\npub const A_BYTES: usize = 6;"), "0 layout tables");
    let gap = tables_of_code(&PLANTED.replace("|  4 |     2", "|  5 |     1"));
    assert_one(&inconsistencies("a.rs", &gap[0], 6), "should begin at 4");
    let short = tables_of_code(&PLANTED.replace("|  4 |     2", "|  4 |     1"));
    assert_one(&inconsistencies("a.rs", &short[0], 6), "end at 5, not at 6");
}
