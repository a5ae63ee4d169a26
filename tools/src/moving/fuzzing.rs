//! What must hold of any text that is read as a dump or as an import.

use std::io::Cursor;

use super::{
    csv, import,
    input::{Input, Source},
    item::Item,
    jsonl, lmdb,
};
use crate::{args::TextFormat, exit::Outcome};

/// Reads `text` in one of four ways.
pub(crate) fn check_text(choice: u8, text: &[u8]) {
    match choice % 4 {
        0 => {
            check_dump(TextFormat::Jsonl, text);
            check_dump(TextFormat::Jsonl, &ended(text));
        }
        1 => check_dump(TextFormat::Lmdb, text),
        2 => check_dump(TextFormat::Csv, text),
        _ => {
            if let Ok(pairs) = import::pairs(text) {
                let bytes: usize = pairs.iter().map(import::Pair::bytes).sum();
                assert!(bytes <= text.len(), "{bytes} bytes of {}", text.len());
            }
        }
    }
}

/// The lines of a dump but for the last, with a last line that is right.
fn ended(text: &[u8]) -> Vec<u8> {
    let last = text.trim_ascii_end().iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut jsonl = jsonl::Writer::default();
    let mut out = Vec::new();
    for line in text[..last].split_inclusive(|byte| *byte == b'\n') {
        out.extend(jsonl.copy(line));
    }
    out.extend(jsonl.end());
    out
}

fn check_dump(format: TextFormat, text: &[u8]) {
    let Ok(items) = read(format, text) else { return };
    assert!(items.iter().all(|item| item.fault().is_none()), "an entry that no store takes");
    let mut jsonl = jsonl::Writer::default();
    let mut written = match format {
        TextFormat::Jsonl => jsonl.header(0, false),
        TextFormat::Lmdb => lmdb::header(0),
        TextFormat::Csv => csv::header(),
    };
    for item in &items {
        written.extend(match format {
            TextFormat::Jsonl => jsonl.entry(item),
            TextFormat::Lmdb => lmdb::entry(item),
            TextFormat::Csv => csv::entry(item),
        });
    }
    written.extend(match format {
        TextFormat::Jsonl => jsonl.end(),
        TextFormat::Lmdb => lmdb::END.to_vec(),
        TextFormat::Csv => Vec::new(),
    });
    let again = read(format, &written);
    assert_eq!(again.ok(), Some(items), "{}", String::from_utf8_lossy(&written));
}

fn read(format: TextFormat, text: &[u8]) -> Outcome<Vec<Item>> {
    let input = Input::of(Box::new(Cursor::new(text.to_vec())), "text");
    let mut source: Box<dyn Source> = match format {
        TextFormat::Jsonl => Box::new(jsonl::Reader::new(input)),
        TextFormat::Lmdb => Box::new(lmdb::Reader::new(input)),
        TextFormat::Csv => Box::new(csv::Reader::new(input)),
    };
    let mut items = Vec::new();
    while let Some(item) = source.next()? {
        items.push(item);
    }
    Ok(items)
}
