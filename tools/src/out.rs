//! Where words go: data to standard output, talk to standard error.

use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
};

use serde_json::Value;

use crate::{
    escape::json_text,
    exit::{Fail, Outcome},
};

/// Standard output, locked and buffered. A reader who went away ends the command quietly; any other failure to
/// write is an error, so that a full disk behind a redirection is not taken for success.
pub(crate) struct Out {
    writer: BufWriter<Box<dyn Write>>,
}

impl Out {
    pub(crate) fn stdout() -> Self {
        Self::to(Box::new(io::stdout().lock()))
    }

    pub(crate) fn to(writer: Box<dyn Write>) -> Self {
        Self { writer: BufWriter::new(writer) }
    }

    /// One line.
    pub(crate) fn line(&mut self, text: impl Display) -> Outcome<()> {
        outcome(writeln!(self.writer, "{text}"))
    }

    /// Writes one JSON document on a line.
    pub(crate) fn json(&mut self, value: &Value) -> Outcome<()> {
        self.line(json_text(value))
    }

    /// Bytes as they are, and nothing after them.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        outcome(self.writer.write_all(bytes))
    }

    /// As something that takes bytes.
    pub(crate) fn stream(&mut self) -> Stream<'_> {
        Stream { out: self, failed: None }
    }

    /// Hands everything to whoever reads.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        outcome(self.writer.flush())
    }
}

/// Standard output for whoever writes to anything that takes bytes. Keeps why a write failed.
pub(crate) struct Stream<'a> {
    out: &'a mut Out,
    failed: Option<Fail>,
}

impl Stream<'_> {
    /// # Errors
    /// What the first write failed with that did.
    pub(crate) fn end(self) -> Outcome<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(fail) => {
                self.failed = Some(fail);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a write to standard output came to.
pub(crate) fn outcome(written: io::Result<()>) -> Outcome<()> {
    written.map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => Fail::PipeGone,
        _ => Fail::io("write to standard output", source),
    })
}

/// Bytes in memory that several owners write to.
#[cfg(feature = "fuzzing")]
#[derive(Clone, Default)]
pub(crate) struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

#[cfg(feature = "fuzzing")]
impl Shared {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

#[cfg(feature = "fuzzing")]
impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(io::ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Goal: a reader who left is told apart from a disk that is full.
    #[test]
    fn gone_or_failed() {
        let mut out = Out::to(Box::new(Refuses(io::ErrorKind::BrokenPipe)));
        out.line("x").unwrap();
        assert!(matches!(out.flush(), Err(Fail::PipeGone)));
        let mut out = Out::to(Box::new(Refuses(io::ErrorKind::StorageFull)));
        out.line("x").unwrap();
        assert!(matches!(out.flush(), Err(Fail::Io { .. })));
    }
}
