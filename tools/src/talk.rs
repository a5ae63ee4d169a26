//! Words for the person at the terminal; data goes another way.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use serde_json::Value;

use crate::{
    escape::{json_text, one_line},
    settings,
};

/// A line for the person at the terminal, unless they want quiet. Nobody there is no error.
pub(crate) fn say(text: impl Display) {
    if !settings::is_quiet() {
        complain(text);
    }
}

/// A line for whoever asked for more words.
pub(crate) fn detail(text: impl Display) {
    if settings::is_verbose() {
        complain(text);
    }
}

/// Prints a line that `--quiet` does not suppress: why a command failed. Names in it may come from anywhere, so what a
/// terminal would act upon is escaped.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", one_line(&text.to_string()));
}

/// Prints a JSON document on a line that `--quiet` does not suppress.
pub(crate) fn document(document: &Value) {
    let _ = writeln!(io::stderr().lock(), "{}", json_text(document));
}

/// Text in place of what stood on this line of the terminal before; nothing clears it.
pub(crate) fn overwrite(text: impl Display) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
}
