//! The text that LMDB's own tools exchange: `mdb_dump -p` writes it, `mdb_load` reads it. Keys and values only.
//!
//! A header of `name=value` lines up to `HEADER=END`, then two lines for each entry, each after one blank, up to
//! `DATA=END`. In `format=print` a byte that would not show is a backslash and two hexadecimal digits; in
//! `format=bytevalue` every byte is two digits. LMDB up to 0.9.24 writes a backslash of the data as it is in
//! `format=print`, which cannot be told from an escape; `mdb_dump` without `-p` is exact in every version.

use super::{
    input::{Input, Source, trimmed},
    item::Item,
};
use crate::{exit::Outcome, text::parse_hex};

/// Longer keys do not go into an LMDB of the usual build; nor does an empty one.
pub(super) const KEY_BYTES_MAX: usize = 511;

/// The lines before the first entry. LMDB takes no more than `map_bytes`, so that must be enough for all of it.
pub(super) fn header(map_bytes: u64) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let map_bytes = map_bytes.div_ceil(PAGE) * PAGE;
    format!(
        "VERSION=3\nformat=print\ntype=btree\nmapsize={map_bytes}\nmaxreaders=126\nHEADER=END\n"
    )
    .into_bytes()
}

/// The lines of an entry.
pub(super) fn entry(item: &Item) -> Vec<u8> {
    let mut lines = Vec::with_capacity(item.key.len() + item.value.len() + 4);
    for bytes in [&item.key, &item.value] {
        lines.push(b' ');
        for byte in bytes {
            match byte {
                b' '..=b'~' if *byte != b'\\' => lines.push(*byte),
                _ => lines.extend_from_slice(format!("\\{byte:02x}").as_bytes()),
            }
        }
        lines.push(b'\n');
    }
    lines
}

/// The line after the last entry.
pub(super) const END: &[u8] = b"DATA=END\n";

/// Reads one database of such a text.
pub(super) struct Reader {
    input: Input,
    line: Vec<u8>,
    /// Whether every byte is two digits. `None`: the header was not read yet.
    is_bytevalue: Option<bool>,
    is_over: bool,
}

impl Reader {
    pub(super) fn new(input: Input) -> Self {
        Self { input, line: Vec::new(), is_bytevalue: None, is_over: false }
    }

    fn fault(&self, what: impl std::fmt::Display) -> crate::exit::Fail {
        self.input.fault(self.input.line, what)
    }

    fn header(&mut self) -> Outcome<bool> {
        let mut is_bytevalue = None;
        loop {
            self.input.line(&mut self.line)?;
            let text = String::from_utf8_lossy(trimmed(&self.line)).into_owned();
            if self.line.is_empty() {
                return Err(self.fault("the text ends within its header"));
            }
            let Some((name, value)) = text.split_once('=') else {
                return Err(self.fault("this is no line of a header: mdb_dump writes NAME=VALUE"));
            };
            match (name, value) {
                ("HEADER", "END") => break,
                ("VERSION", "3") => {}
                ("VERSION", _) => {
                    return Err(self.fault(format_args!("version {value} is not known; 3 is")));
                }
                ("format", "print") => is_bytevalue = Some(false),
                ("format", "bytevalue") => is_bytevalue = Some(true),
                ("format", _) => {
                    return Err(self.fault("the format is neither print nor bytevalue"));
                }
                ("type", "btree") => {}
                ("type", _) => return Err(self.fault("the type is not btree")),
                ("duplicates" | "dupsort", "1") => {
                    return Err(
                        self.fault("a key may have several values here, and in a store it has one")
                    );
                }
                // Sizes and flags of that database say nothing of its entries.
                _ => {}
            }
        }
        is_bytevalue.ok_or_else(|| self.fault("the header names no format"))
    }

    /// The bytes of the line that was read last.
    fn bytes(&self, is_bytevalue: bool) -> Outcome<Vec<u8>> {
        // LMDB escapes a carriage return of the data: one that is here came with the line ends of another system.
        let Some(text) = trimmed(&self.line).strip_prefix(b" ") else {
            let what = if self.line.is_empty() {
                "the text ends without DATA=END: it was cut"
            } else {
                "a line of data begins with a blank"
            };
            return Err(self.fault(what));
        };
        let bytes = if is_bytevalue { parse_hex(text) } else { unescape(text) };
        bytes.ok_or_else(|| {
            self.fault(
                "this is not spelled as the header says; some versions of mdb_dump -p write a backslash so that nobody \
                 can read it back: leave -p out",
            )
        })
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [high, low, after @ ..]) => {
                bytes.extend(parse_hex(&[*high, *low])?);
                after
            }
            (b'\\', _) => return None,
            (plain, after) => {
                bytes.push(plain);
                after
            }
        };
    }
    Some(bytes)
}

impl Source for Reader {
    fn next(&mut self) -> Outcome<Option<Item>> {
        if self.is_over {
            return Ok(None);
        }
        let is_bytevalue = match self.is_bytevalue {
            Some(known) => known,
            None => {
                let is_bytevalue = self.header()?;
                *self.is_bytevalue.insert(is_bytevalue)
            }
        };
        self.input.line(&mut self.line)?;
        if trimmed(&self.line) == b"DATA=END" {
            self.is_over = true;
            self.input.line(&mut self.line)?;
            return match self.line.is_empty() {
                true => Ok(None),
                false => {
                    Err(self.fault("another database follows; dump one with mdb_dump -s NAME"))
                }
            };
        }
        let key = self.bytes(is_bytevalue)?;
        self.input.line(&mut self.line)?;
        let value = self.bytes(is_bytevalue)?;
        let item = Item { key, value, ..Item::default() };
        match item.fault() {
            Some(fault) => Err(self.fault(fault)),
            None => Ok(Some(item)),
        }
    }
}
