//! Exit codes, and the one failure type that becomes one of them.

use std::{fmt, io, process::ExitCode};

use serde_json::{Value, json};
use tierce_engine::Error;

use crate::{
    escape::one_line,
    talk::{complain, document},
};

/// What the process says when it ends. Scripts depend on these numbers; they grow, they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done, or nothing wrong.
    Done = 0,
    /// The answer is no: the key is absent.
    No = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There were problems; they are repaired.
    Repaired = 3,
    /// The store is damaged, or a step of the tour failed.
    Problems = 4,
    /// The operating system refused something.
    Operational = 8,
    /// There is no store.
    NoStore = 10,
    /// Another process has the store open.
    Locked = 11,
    /// A newer version wrote the store.
    UnknownFormat = 12,
    /// The command line makes no sense, as e2fsck says it; only where its codes were asked for.
    FsckUsage = 16,
    /// Interrupted from the keyboard.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The result of a command.
pub(crate) type Outcome<T = Code> = Result<T, Fail>;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The store said no.
    Engine(Error),
    /// What was asked for makes no sense.
    Usage(String),
    /// Something outside the store did not work.
    Io {
        /// What was being done, as in "read FILE".
        what: String,
        /// The system's own word.
        source: io::Error,
    },
    /// What was given to read is not what it should be; the sentence says where.
    Input(String),
    /// Somebody asked for the end: Ctrl-C, SIGTERM.
    Interrupted,
    /// Nobody reads the output any more. No error: whoever closed it has seen enough.
    PipeGone,
}

impl Fail {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// The exit code that tells a script what to do about it.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Engine(error) => code_of(error),
            Self::Usage(_) => Code::Usage,
            Self::Io { .. } | Self::Input(_) => Code::Operational,
            Self::Interrupted => Code::Interrupted,
            Self::PipeGone => Code::Done,
        }
    }

    /// A short, stable word, the engine's own where it has one.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Usage(_) => "usage",
            Self::Io { .. } => "io",
            Self::Input(_) => "input",
            Self::Interrupted => "interrupted",
            Self::PipeGone => "pipe-gone",
        }
    }

    /// Tells the person at the terminal, and with `json` also the program that reads standard error.
    pub(crate) fn report(&self, json: bool) {
        if matches!(self, Self::PipeGone) {
            return;
        }
        complain(format_args!("tierce: {self}"));
        if json {
            document(&self.json());
        }
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let pid = match self {
            Self::Engine(Error::Locked { pid, .. }) => *pid,
            _ => None,
        };
        let (kind, message, code) = (self.kind(), one_line(&self.to_string()), self.code() as u8);
        json!({"error": {"kind": kind, "message": message, "code": code, "pid": pid}})
    }
}

/// The exit code of an error of the store.
pub(crate) const fn code_of(error: &Error) -> Code {
    match error {
        Error::Corruption(_) => Code::Problems,
        Error::Locked { .. } => Code::Locked,
        Error::UnknownFormat { .. } | Error::Unsupported { .. } => Code::UnknownFormat,
        Error::NotAStore { .. } => Code::NoStore,
        Error::Conflict { .. } => Code::No,
        Error::TooLarge { .. } | Error::InvalidOptions { .. } | Error::ReadOnly => Code::Usage,
        _ => Code::Operational,
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<tierce::Error> for Fail {
    fn from(error: tierce::Error) -> Self {
        match error {
            tierce::Error::Engine(error) => Self::Engine(error),
            other => Self::Input(other.to_string()),
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Usage(message) | Self::Input(message) => f.write_str(message),
            Self::Io { what, source } => write!(f, "could not {what}: {source}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::PipeGone => f.write_str("nobody reads the output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each error that a script can act upon has its own code.
    #[test]
    fn codes() {
        let locked = Error::Locked { path: "store".into(), pid: Some(7) };
        assert_eq!(Fail::from(locked).code() as u8, 11);
        let newer = Error::UnknownFormat { file: "MANIFEST".into(), found: 9, newest_known: 1 };
        assert_eq!(Fail::from(newer).code() as u8, 12);
        let foreign = Error::NotAStore { path: "store".into(), reason: "it is a file".into() };
        assert_eq!(Fail::from(foreign).code() as u8, 10);
        let full = Error::Full { what: "bytes", used: 2, limit: 1 };
        assert_eq!(Fail::from(full).code() as u8, 8);
        let low = Error::LowSpace { free: 1, required: 2 };
        assert_eq!(Fail::from(low).code() as u8, 8);
        assert_eq!(Fail::Usage(String::new()).code() as u8, 2);
        assert_eq!(Fail::Input(String::new()).code() as u8, 8);
        assert_eq!(Fail::Interrupted.code() as u8, 130);
        assert_eq!(Fail::PipeGone.code() as u8, 0);
    }
}
