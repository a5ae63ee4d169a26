//! One line of the shell: from bytes to a command.

use crate::{
    escape::unescape,
    lifetime::{Ttl, parse_lifetime_ms},
};

/// What can be typed, one row a command.
pub(super) const HELP: [(&str, &str); 15] = [
    ("put KEY VALUE [ttl=30s]", "OK"),
    ("get KEY", "the value or (nil)"),
    ("del KEY", "1 if it was there, else 0"),
    ("touch KEY ttl=30s|never", "1 if it was there, else 0"),
    ("incr KEY [N]", "the new number"),
    ("keys [PREFIX]", "how many, then the keys, one a line"),
    ("sync", "OK once everything so far is on the device"),
    ("batch", "OK; put and del then answer QUEUED"),
    ("commit", "OK once all of the batch is in, or an error and nothing is"),
    ("abort", "OK; the batch is forgotten"),
    ("stats", "name=value ..."),
    ("recover", "OK once writes go on after a failure whose cause is gone"),
    ("help", "this"),
    ("quit", "OK once the store is closed"),
    ("# anything", "no answer, as for an empty line"),
];

/// A command with its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        ttl: Ttl,
    },
    Get {
        key: Vec<u8>,
    },
    Del {
        key: Vec<u8>,
    },
    /// Without a lifetime: never expire.
    Touch {
        key: Vec<u8>,
        ttl_ms: Option<u64>,
    },
    Incr {
        key: Vec<u8>,
        by: i64,
    },
    Keys {
        prefix: Vec<u8>,
    },
    Sync,
    Batch,
    Commit,
    Abort,
    Stats,
    Recover,
    Help,
    Quit,
}

/// The command on `line`; `None` on an empty line and after `#`.
///
/// # Errors
/// A sentence that says what would be right.
pub(super) fn parse(line: &[u8]) -> Result<Option<Command>, String> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(verb) = words.next().filter(|verb| !verb.starts_with(b"#")) else {
        return Ok(None);
    };
    let operands: Vec<&[u8]> = words.collect();
    let command = match (verb, operands.as_slice()) {
        (b"put", [key, value]) => put(key, value, Ttl::Default)?,
        (b"put", [key, value, ttl]) => {
            let ttl_ms = lifetime(ttl, "put KEY VALUE [ttl=30s]")?;
            put(key, value, ttl_ms.map_or(Ttl::Never, Ttl::Ms))?
        }
        (b"get", [key]) => Command::Get { key: unescape(key)? },
        (b"del", [key]) => Command::Del { key: unescape(key)? },
        (b"touch", [key, ttl]) => {
            let ttl_ms = lifetime(ttl, "touch KEY ttl=30s, or ttl=never")?;
            Command::Touch { key: unescape(key)?, ttl_ms }
        }
        (b"incr", [key]) => Command::Incr { key: unescape(key)?, by: 1 },
        (b"incr", [key, by]) => Command::Incr { key: unescape(key)?, by: number(by)? },
        (b"keys", []) => Command::Keys { prefix: Vec::new() },
        (b"keys", [prefix]) => Command::Keys { prefix: unescape(prefix)? },
        (b"sync", []) => Command::Sync,
        (b"batch", []) => Command::Batch,
        (b"commit", []) => Command::Commit,
        (b"abort", []) => Command::Abort,
        (b"stats", []) => Command::Stats,
        (b"recover", []) => Command::Recover,
        (b"help", []) => Command::Help,
        (b"quit", []) => Command::Quit,
        _ => return Err(usage(verb)),
    };
    Ok(Some(command))
}

fn put(key: &[u8], value: &[u8], ttl: Ttl) -> Result<Command, String> {
    Ok(Command::Put { key: unescape(key)?, value: unescape(value)?, ttl })
}

/// `ttl=30s`, or `ttl=never` for none.
fn lifetime(word: &[u8], usage: &str) -> Result<Option<u64>, String> {
    let text = word.strip_prefix(b"ttl=").and_then(|text| str::from_utf8(text).ok());
    match text {
        Some("never") => Ok(None),
        Some(text) => parse_lifetime_ms(text).map(Some),
        None => Err(format!("write {usage}")),
    }
}

fn number(word: &[u8]) -> Result<i64, String> {
    let text = str::from_utf8(word).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        format!("incr KEY [N] wants a whole number from {} to {}", i64::MIN, i64::MAX)
    })
}

/// How the verb is used, if it is one.
fn usage(verb: &[u8]) -> String {
    let known =
        HELP.iter().find(|(usage, _)| usage.split(' ').next().map(str::as_bytes) == Some(verb));
    match known {
        Some((usage, _)) => format!("write {usage}"),
        None => "no such command; help lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Command> {
        parse(line.as_bytes()).unwrap_or_else(|message| panic!("{line}: {message}"))
    }

    /// Goal: every command is understood in every form, escapes included.
    #[test]
    fn every_command() {
        let key = || b"k".to_vec();
        let put = |value: &[u8], ttl| Command::Put { key: key(), value: value.to_vec(), ttl };
        for (line, command) in [
            ("put k v", put(b"v", Ttl::Default)),
            ("  put\tk   v  ", put(b"v", Ttl::Default)),
            (r"put k a\x20b ttl=250ms", put(b"a b", Ttl::Ms(250))),
            ("put k v ttl=never", put(b"v", Ttl::Never)),
            ("put k ttl=30s", put(b"ttl=30s", Ttl::Default)),
            ("put k \"\"", put(b"", Ttl::Default)),
            ("get k", Command::Get { key: key() }),
            ("get \"\"", Command::Get { key: Vec::new() }),
            ("del k", Command::Del { key: key() }),
            ("touch k ttl=2", Command::Touch { key: key(), ttl_ms: Some(2_000) }),
            ("touch k ttl=never", Command::Touch { key: key(), ttl_ms: None }),
            ("incr k", Command::Incr { key: key(), by: 1 }),
            ("incr k -9223372036854775808", Command::Incr { key: key(), by: i64::MIN }),
            ("keys", Command::Keys { prefix: Vec::new() }),
            ("keys k", Command::Keys { prefix: key() }),
            ("sync", Command::Sync),
            ("batch", Command::Batch),
            ("commit", Command::Commit),
            ("abort", Command::Abort),
            ("stats", Command::Stats),
            ("recover", Command::Recover),
            ("help", Command::Help),
            ("quit", Command::Quit),
        ] {
            assert_eq!(parsed(line), Some(command), "{line}");
        }
        for line in ["", "   ", "\t", "# put k v", "#"] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }

    /// Goal: what is not exactly a command is refused with the right usage, never half understood.
    #[test]
    fn refusals() {
        for line in [
            "put",
            "put k",
            "put k v w",
            "put k v ttl=0",
            "put k v ttl=",
            "put k v ttl=1x",
            "put k v TTL=1s",
            "put k v ttl=1s more",
            r"put \x2 v",
            r"get \q",
            "get",
            "get a b",
            "del",
            "touch k",
            "touch k 30s",
            "incr",
            "incr k x",
            "incr k 9223372036854775808",
            "incr k 1 2",
            "keys a b",
            "sync now",
            "batch 1",
            "commit x",
            "quit now",
            "PUT k v",
            "frobnicate",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(parse(b"touch k"), Err("write touch KEY ttl=30s|never".to_owned()));
        assert_eq!(parse(b"sy"), Err("no such command; help lists them".to_owned()));
        assert!(parse(b"\xff\xfe").is_err());
        assert!(parse(b"put k v \xff").is_err());
    }
}
