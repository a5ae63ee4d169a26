//! Text input: lines with their numbers, a count of the bytes read, and messages that say where a fault is.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    rc::Rc,
};

use super::item::Item;
use crate::{
    exit::{Fail, Outcome},
    text_start::remove_mark,
};

/// Somebody's text as entries, one after the other.
pub(super) trait Source {
    /// The next entry; `None` at the end, which the format must have confirmed.
    ///
    /// # Errors
    /// [`Fail::Input`] with the line of the first fault; [`Fail::Io`].
    fn next(&mut self) -> Outcome<Option<Item>>;
}

/// Bytes that are read and counted.
pub(super) struct Input {
    reader: Box<dyn BufRead>,
    name: String,
    read: Rc<Cell<u64>>,
    /// Number of the line that was read last.
    pub(super) line: u64,
}

impl Input {
    /// A line is at most this long: the longest value, each byte of it as an escape of JSON.
    const LINE_BYTES_MAX: u64 = 6 * (1 << 30) + (1 << 20);

    /// A file, or standard input if it is `-`.
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::of(Box::new(BufReader::new(io::stdin())), "standard input"));
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| Fail::io(format!("open {name}"), source))?;
        Ok(Self::of(Box::new(BufReader::with_capacity(1 << 16, file)), &name))
    }

    pub(super) fn of(reader: Box<dyn BufRead>, name: &str) -> Self {
        Self { reader, name: name.to_owned(), read: Rc::default(), line: 0 }
    }

    /// How many bytes were read, for whoever watches.
    pub(super) fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }

    /// The next line with its end, if it has one; empty at the end.
    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> Outcome<()> {
        line.clear();
        let bytes = (&mut self.reader)
            .take(Self::LINE_BYTES_MAX)
            .read_until(b'\n', line)
            .map_err(|source| Fail::io(format!("read {}", self.name), source))?;
        self.read.set(self.read.get() + bytes as u64);
        self.line += 1;
        if bytes as u64 == Self::LINE_BYTES_MAX {
            return Err(self.fault(self.line, "the line is longer than any entry"));
        }
        if self.line == 1 {
            remove_mark(line).map_err(|what| self.fault(1, what))?;
        }
        Ok(())
    }

    /// A fault in a line.
    pub(super) fn fault(&self, line: u64, what: impl std::fmt::Display) -> Fail {
        Fail::Input(format!("{} line {line}: {what}", self.name))
    }
}

/// A line without its end.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
