//! Words for the person at the terminal; data goes another way.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// A line for the person at the terminal. Nobody there is no error.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How far something has come, in place of what was said of it before; nothing clears it. For terminals only.
pub(crate) fn progress(text: impl Display) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
}
