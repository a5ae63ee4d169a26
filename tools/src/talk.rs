//! Words for the person at the terminal; data goes another way.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// A line for the person at the terminal. Nobody there is no error.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
