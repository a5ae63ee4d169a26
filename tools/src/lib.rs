//! Command-line tool `tierce`: inspects, changes, checks and repairs a store.
//!
//! Data goes to standard output, messages to standard error; scripts read the exit code. There is one module for each
//! group of commands; none of them knows a byte of the format, they ask the engine. The library exists so that the
//! parsers can be fuzzed; its only public functions are [`run`] and those in `fuzzing`.

mod args;
mod backup;
mod bench;
mod buckets;
mod check;
mod consent;
mod encoding;
mod entries;
mod escape;
mod exit;
mod figures;
mod follow;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod glob;
mod interrupt;
mod keep;
mod lifetime;
mod limits;
mod listing;
mod look;
mod mend;
mod moving;
mod out;
mod papers;
mod picture;
mod place;
mod progress;
mod replay;
mod select;
mod settings;
mod shell;
mod size;
mod store;
mod talk;
mod text;
mod text_start;
mod tour;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use args::{Cli, Command};
use encoding::Face;
use exit::{Code, Fail, Outcome};
use out::Out;

/// Runs the tool with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::from_environment() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    settings::set(cli.json, cli.global);
    if let Err(error) = interrupt::install() {
        talk::say(format_args!("tierce: signals end this process at once: {error}"));
    }
    let mut out = Out::stdout();
    let code = dispatch(&cli, &mut out).and_then(|code| out.flush().map(|()| code));
    match code {
        Ok(code) => code.into(),
        Err(fail) => {
            // What was said before the failure is still worth reading.
            let _ = out.flush();
            fail.report(cli.json);
            fail.code().into()
        }
    }
}

fn dispatch(cli: &Cli, out: &mut Out) -> Outcome {
    let face = Face { json: cli.json, encodings: cli.encodings };
    match &cli.command {
        Command::Tour(args) => tour::run(args, cli.json, out),
        Command::Info(args) => look::info(args, cli.json, out),
        Command::Stats(args) => figures::stats(args, cli.json, out),
        Command::Segments(args) => look::segments(args, cli.json, out),
        Command::Records(args) => look::records(args, face, out),
        Command::Keys(args) => listing::keys(args, face, out),
        Command::Get(args) => entries::get(args, face, out),
        Command::Scan(args) => listing::scan(args, face, out),
        Command::Big(args) => figures::big(args, face, out),
        Command::Hist(args) => figures::hist(args, cli.json, out),
        Command::Changes(args) => follow::changes(args, face, out),
        Command::Map(args) => picture::map(args, cli.json, out),
        Command::Report(args) => picture::report(args, face, out),
        Command::Check(args) => check::check(args, cli.json, out),
        Command::Codes => check::codes(cli.json, out),
        Command::Repair(args) => mend::repair(args, face, out),
        Command::Salvage(args) => mend::salvage(args, face, out),
        Command::Rebuild(args) => mend::rebuild(args, cli.json, out),
        Command::Migrate(args) => mend::migrate(args, cli.json, out),
        Command::Compact(args) => keep::compact(args, cli.json, out),
        Command::Expire(args) => keep::expire(args, cli.json, out),
        Command::Evict(args) => keep::evict(args, cli.json, out),
        Command::Backup(args) => backup::backup(args, cli.json, out),
        Command::Restore(args) => backup::restore(args, cli.json, out),
        Command::Verify(args) => backup::verify(args, cli.json, out),
        Command::Dump(args) => moving::dump(args, out),
        Command::Load(args) => moving::load(args, cli.json, out),
        Command::Import(args) => moving::import(args, cli.json, out),
        Command::Put(args) => entries::put(args, face, out),
        Command::Del(args) => entries::del(args, face, out),
        Command::Touch(args) => entries::touch(args, face, out),
        Command::Clear(args) => entries::clear(args, cli.json, out),
        Command::Shell(args) => shell::run(args, cli.json, out),
        Command::Replay(args) => replay::run(args, cli.json, out),
        Command::Bench(args) => bench::bench(args, cli.json, out),
        Command::Completions(args) => papers::completions(args.shell, out),
        Command::Man(args) => papers::man(&args.dir, cli.json, out),
        Command::TourWriter(args) => tour::write_until_killed(args, out),
    }
}

/// Prints help and version as answers, everything else that the parser returns as a usage error.
fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if !error.use_stderr() {
        return match out::outcome(printed) {
            Ok(()) | Err(Fail::PipeGone) => Code::Done.into(),
            Err(fail) => {
                fail.report(false);
                fail.code().into()
            }
        };
    }
    // A message that cannot be written does not change the exit code.
    if env::args_os().any(|argument| argument == "--json") {
        let message = error.to_string();
        let sentence: Vec<&str> =
            message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let sentence = sentence.join(" ");
        let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
        let usage = Fail::Usage(sentence.to_owned());
        talk::document(&usage.json());
    }
    // These codes hold even if the rest of the line is wrong.
    let is_fsck = env::args_os().any(|argument| argument == "--fsck-codes");
    if is_fsck { Code::FsckUsage.into() } else { Code::Usage.into() }
}
