//! The tool `tierce`: looks into a store, changes it, checks it, and shows what it can do.
//!
//! Data goes to standard output, talk to standard error; what a script has to know is in the exit code.
//! One module a group of commands; none of them knows a byte of the format, they ask the engine.

mod args;
mod entries;
mod escape;
mod exit;
mod lifetime;
mod limits;
mod look;
mod out;
mod place;
mod replay;
mod shell;
mod size;
mod store;
mod talk;
mod text;
mod tour;

use std::{env, process::ExitCode};

use clap::Parser as _;

use args::{Cli, Command};
use exit::{Code, Fail, Outcome};
use out::Out;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let mut out = Out::stdout();
    let code = run(&cli, &mut out).and_then(|code| out.flush().map(|()| code));
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

fn run(cli: &Cli, out: &mut Out) -> Outcome {
    match &cli.command {
        Command::Tour(args) => tour::run(args, cli.json, out),
        Command::Get(args) => entries::get(args, cli.json, out),
        Command::Put(args) => entries::put(args, cli.json, out),
        Command::Del(args) => entries::del(args, cli.json, out),
        Command::Keys(args) => entries::keys(args, cli.json, out),
        Command::Shell(args) => shell::run(args, cli.json, out),
        Command::Replay(args) => replay::run(args, cli.json, out),
        Command::Info(args) => look::info(args, cli.json, out),
        Command::Check(args) => look::check(args, cli.json, out),
        Command::Records(args) => look::records(args, cli.json, out),
        Command::TourWriter(args) => tour::write_until_killed(args, out),
    }
}

/// Help and version are answers; everything else that the parser returns is a usage error.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nobody left to tell is no reason to change the code.
    let _ = error.print();
    if !error.use_stderr() {
        return Code::Done.into();
    }
    if env::args_os().any(|argument| argument == "--json") {
        let message = error.to_string();
        let sentence: Vec<&str> =
            message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let sentence = sentence.join(" ");
        let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
        let usage = Fail::Usage(sentence.to_owned());
        talk::say(usage.json());
    }
    Code::Usage.into()
}
