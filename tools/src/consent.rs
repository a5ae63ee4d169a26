//! The question before something goes that cannot be brought back.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::exit::{Fail, Outcome};

/// Goes on if `--yes` was given, or somebody at a terminal says so.
///
/// # Errors
/// [`Fail::Usage`] if nobody says yes.
pub(crate) fn consent(yes: bool, question: &str) -> Outcome<()> {
    if yes {
        return Ok(());
    }
    let mut talk = io::stderr();
    if !io::stdin().is_terminal() || !talk.is_terminal() {
        return Err(Fail::Usage(format!("{question} Only with --yes, or an answer at a terminal")));
    }
    let asked = write!(talk, "{question} [y/N] ").and_then(|()| talk.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer).map(drop))
        .map_err(|source| Fail::io("ask at the terminal", source))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Fail::Usage("nothing was done".to_owned())),
    }
}
