//! The shell: commands one a line, answers one a line.
//!
//! From a pipe each answer is flushed as soon as the store has acknowledged the command, so that a program at
//! the other end may rely on what it has read. An error is a line too, and the shell goes on.

mod command;
mod line;
mod session;

use tierce_engine::Options;

use crate::{
    args::ShellArgs,
    exit::{Code, Fail, Outcome},
    out::Out,
    store::open,
    talk::say,
};

use command::{Command, HELP, parse};
use line::{LINE_BYTES_MAX, Line, Lines};
pub(crate) use session::stats_fields;
use session::{Refusal, Reply, Session};

/// Runs the shell until the end of its input.
pub(crate) fn run(args: &ShellArgs, json: bool, out: &mut Out) -> Outcome {
    if json {
        return Err(Fail::Usage("the shell has its own answers and no --json".to_owned()));
    }
    let mut lines = Lines::standard()?;
    let engine = open(&args.dir, options(args))?;
    if lines.is_prompt() {
        let (path, entries) = (engine.path().display(), engine.stats().entries);
        say(format_args!("tierce: {path} is open with {entries} entries; help lists the commands"));
    }
    let mut session = Session::new(engine, args.limits.defaults());
    let ended = converse(&mut session, &mut lines, out);
    if session.is_collecting() {
        say("tierce: the batch was not committed; nothing of it was written");
    }
    // Whatever ended the conversation, the store is closed before the process says so.
    let closed = session.close();
    let end = ended?;
    if let Err(error) = closed {
        if matches!(end, End::Quit) {
            out.line(Refusal::Engine(error).line())?;
            return Ok(Code::Operational);
        }
        say(format_args!("tierce: could not close: {error}"));
        return Ok(Code::Operational);
    }
    match end {
        End::Input => Ok(Code::Done),
        End::Interrupted => Ok(Code::Interrupted),
        End::Quit => out.line("OK").map(|()| Code::Done),
    }
}

fn options(args: &ShellArgs) -> Options {
    let mut options = Options::new()
        .durability(args.durability.into())
        .recovery(args.recovery.into())
        .read_only(args.read_only)
        .create(!args.read_only);
    if let Some(bytes) = args.segment_bytes {
        options = options.segment_bytes(bytes);
    }
    if let Some(ms) = args.periodic_ms {
        options = options.periodic_ms(ms);
    }
    args.limits.apply(options)
}

/// How a conversation ends.
enum End {
    Input,
    Interrupted,
    Quit,
}

fn converse(session: &mut Session, lines: &mut Lines, out: &mut Out) -> Outcome<End> {
    loop {
        let prompt = if session.is_collecting() { "batch> " } else { "tierce> " };
        let answer = match lines.next(prompt)? {
            Line::End => return Ok(End::Input),
            Line::Interrupted => return Ok(End::Interrupted),
            Line::TooLong => {
                session.spoil();
                Err(Refusal::Usage(format!("a line has at most {LINE_BYTES_MAX} bytes")))
            }
            Line::Text(text) => match parse(&text) {
                Ok(None) => continue,
                Ok(Some(Command::Quit)) => return Ok(End::Quit),
                Ok(Some(Command::Help)) if !lines.is_prompt() => Ok(help_line()),
                Ok(Some(command)) => session.run(command),
                Err(message) => {
                    session.spoil();
                    Err(Refusal::Usage(message))
                }
            },
        };
        for line in answer.unwrap_or_else(|refusal| vec![refusal.line()]) {
            out.line(line)?;
        }
        out.flush()?;
    }
}

/// All commands on one line, for a program that counts answers.
fn help_line() -> Reply {
    let usages: Vec<&str> = HELP.iter().map(|(usage, _)| *usage).collect();
    vec![usages.join(" | ")]
}
