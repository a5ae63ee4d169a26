//! The shell: commands one a line, answers one a line.
//!
//! From a pipe each answer is flushed as soon as the store has acknowledged the command, so that a program at
//! the other end may rely on what it has read. An error is a line too, and the shell goes on unless told otherwise.

mod command;
mod line;
mod session;

use tierce_engine::Options;

use crate::{
    args::ShellArgs,
    exit::{Code, Fail, Outcome},
    interrupt,
    out::Out,
    store::{open, open_beside},
    talk::say,
};

use command::{Command, HELP, parse};
use line::{LINE_BYTES_MAX, Line, Lines};
pub(crate) use session::stats_fields;
use session::{Refusal, Reply, Session, Store};

/// Runs the shell until the end of its input.
pub(crate) fn run(args: &ShellArgs, json: bool, out: &mut Out) -> Outcome {
    if json {
        return Err(Fail::Usage("the shell has its own answers and no --json".to_owned()));
    }
    let store = match args.read_only {
        true => Store::Beside(Box::new(open_beside(&args.dir, args.recovery.into())?)),
        false => Store::Open(open(&args.dir, options(args))?),
    };
    if let Store::Open(engine) = &store {
        let engine = engine.clone();
        interrupt::before_hard_end(move || {
            // The process ends in any case; what could not be made durable was not promised to be.
            let _ = engine.sync();
        });
    }
    let mut lines = Lines::standard()?;
    if lines.is_prompt() {
        let (path, entries) = (args.dir.display(), store.stats().entries);
        say(format_args!("tierce: {path} is open with {entries} entries; help lists the commands"));
    }
    let mut session = Session::new(store, args.limits.defaults());
    let ended = converse(&mut session, &mut lines, args.stop_on_error, out);
    if session.is_collecting() {
        say("tierce: the batch was not committed; nothing of it was written");
    }
    // Order: the last handle to the store is the one that closes it.
    interrupt::forget_hard_end();
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
        End::Refused(code) => {
            say(format_args!("tierce: line {} was refused; the shell ends there", lines.taken));
            Ok(code)
        }
        End::Quit => out.line("OK").map(|()| Code::Done),
    }
}

fn options(args: &ShellArgs) -> Options {
    let mut options =
        Options::new().durability(args.durability.into()).recovery(args.recovery.into());
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
    /// By `--stop-on-error`, with the exit code of the refusal.
    Refused(Code),
    Quit,
}

fn converse(
    session: &mut Session,
    lines: &mut Lines,
    stops_on_error: bool,
    out: &mut Out,
) -> Outcome<End> {
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
        let refused = answer.as_ref().err().map(Refusal::code);
        for line in answer.unwrap_or_else(|refusal| vec![refusal.line()]) {
            out.line(line)?;
        }
        out.flush()?;
        if let Some(code) = refused.filter(|_| stops_on_error) {
            return Ok(End::Refused(code));
        }
    }
}

/// All commands on one line, for a program that counts answers.
fn help_line() -> Reply {
    let usages: Vec<&str> = HELP.iter().map(|(usage, _)| *usage).collect();
    vec![usages.join(" | ")]
}

/// Runs a script against a store in memory; returns what it answers.
#[cfg(feature = "fuzzing")]
pub(crate) fn run_in_memory(script: &[u8]) -> Outcome<Vec<u8>> {
    let options = Options::new().disk(tierce_engine::io::MemoryDisk::new()).background(false);
    let engine = options.segment_bytes(8 << 10).open("store")?;
    let mut session = Session::new(Store::Open(engine), crate::limits::Defaults::default());
    let mut lines = Lines::of(script)?;
    let answers = crate::out::Shared::default();
    let ended = converse(&mut session, &mut lines, false, &mut Out::to(Box::new(answers.clone())));
    session.close()?;
    ended?;
    Ok(answers.take())
}
