//! Words for the person at the terminal; data goes another way.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::settings;

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

/// A line that quiet does not keep back: why a command failed.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Text in place of what stood on this line of the terminal before; nothing clears it.
pub(crate) fn overwrite(text: impl Display) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
}
