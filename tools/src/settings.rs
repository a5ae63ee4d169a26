//! What holds for a whole run: given once, before the command begins, and read by whoever talks or waits.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use clap::{Args, ValueEnum};

use crate::lifetime::parse_lifetime_ms;

/// The options that every command has, beside `--json`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct GlobalArgs {
    /// Colours. auto: on a terminal, unless NO_COLOR or TERM=dumb says no; CLICOLOR_FORCE says yes.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: When,
    /// How far a long command is, on standard error. auto: if that is a terminal. With --json as JSON lines.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) progress: When,
    /// Say nothing on standard error but errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on standard error.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Wait so long for a store that another process has open, then give up with exit code 11. Default: not at all.
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_lifetime_ms)]
    pub(crate) timeout: Option<u64>,
}

/// When something is done that is not for everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Where a person looks.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Not at all.
    Silent,
    /// On one line of a terminal that is written again and again.
    Terminal,
    /// Line after line.
    Lines,
    /// As JSON lines.
    Json,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    json: bool,
    global: GlobalArgs,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// To be called once, before the command begins. A second call changes nothing.
pub(crate) fn set(json: bool, global: GlobalArgs) {
    let _ = SETTINGS.set(Settings { json, global });
}

fn get() -> Settings {
    SETTINGS.get().copied().unwrap_or_default()
}

pub(crate) fn is_quiet() -> bool {
    get().global.quiet
}

pub(crate) fn is_verbose() -> bool {
    get().global.verbose
}

/// How long to wait for a lock, in milliseconds.
pub(crate) fn timeout_ms() -> u64 {
    get().global.timeout.unwrap_or(0)
}

/// Whether what goes to standard output may carry colours.
pub(crate) fn has_color() -> bool {
    let variable = |name: &str| env::var_os(name);
    wants_color(get().global.color, &variable, io::stdout().is_terminal())
}

fn wants_color(
    when: When,
    variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
    is_terminal: bool,
) -> bool {
    // An empty variable is as good as none, as its convention says.
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if is_set("NO_COLOR") => false,
        When::Auto if variable("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
        When::Auto => is_terminal && variable("TERM").as_deref() != Some(OsStr::new("dumb")),
    }
}

/// How progress is told in this run.
pub(crate) fn telling() -> Telling {
    let Settings { json, global } = get();
    let when = if global.quiet { When::Never } else { global.progress };
    choose_telling(when, json, io::stderr().is_terminal())
}

const fn choose_telling(when: When, json: bool, is_terminal: bool) -> Telling {
    match when {
        When::Never => Telling::Silent,
        When::Auto if !is_terminal => Telling::Silent,
        _ if json => Telling::Json,
        _ if is_terminal => Telling::Terminal,
        _ => Telling::Lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: colours follow the option first, then the variables of the conventions, then the terminal.
    #[test]
    fn colours() {
        for (when, variables, is_terminal, wanted) in [
            (When::Auto, &[][..], true, true),
            (When::Auto, &[], false, false),
            (When::Auto, &[("NO_COLOR", "1")], true, false),
            (When::Auto, &[("NO_COLOR", "")], true, true),
            (When::Auto, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true, false),
            (When::Auto, &[("CLICOLOR_FORCE", "1")], false, true),
            (When::Auto, &[("CLICOLOR_FORCE", "0")], false, false),
            (When::Auto, &[("TERM", "dumb")], true, false),
            (When::Always, &[("NO_COLOR", "1")], false, true),
            (When::Never, &[("CLICOLOR_FORCE", "1")], true, false),
        ] {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            let case = format!("{when:?} {variables:?} {is_terminal}");
            assert_eq!(wants_color(when, &variable, is_terminal), wanted, "{case}");
        }
        assert!(
            !has_color() || io::stdout().is_terminal() || env::var_os("CLICOLOR_FORCE").is_some()
        );
    }

    /// Goal: without a terminal nobody is told unless they asked, and programs get JSON.
    #[test]
    fn tellings() {
        for (when, json, is_terminal, telling) in [
            (When::Auto, false, false, Telling::Silent),
            (When::Auto, true, false, Telling::Silent),
            (When::Auto, false, true, Telling::Terminal),
            (When::Auto, true, true, Telling::Json),
            (When::Always, false, false, Telling::Lines),
            (When::Always, true, false, Telling::Json),
            (When::Always, false, true, Telling::Terminal),
            (When::Never, true, true, Telling::Silent),
        ] {
            let case = format!("{when:?} {json} {is_terminal}");
            assert_eq!(choose_telling(when, json, is_terminal), telling, "{case}");
        }
    }
}
