//! The command line: what can be asked, and how it is spelled.

mod backup;
mod keep;
mod look;
mod mend;
mod moving;
mod tip;
mod write;

use std::{env, ffi::OsString, path::PathBuf};

use clap::{
    ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    builder::FalseyValueParser,
};
use tierce_engine::{Durability, RecoveryPolicy};

use crate::{
    check::CheckArgs,
    encoding::EncodingArgs,
    lifetime::parse_lifetime_ms,
    limits::{self, LimitArgs},
    replay::{Capacity, parse_capacity},
    settings::GlobalArgs,
    size::{parse_limit, parse_value_bytes},
};

pub(crate) use backup::{BackupArgs, RestoreArgs, VerifyArgs};
pub(crate) use keep::{CompactArgs, EvictArgs, ExpireArgs};
pub(crate) use look::{
    BigArgs, BigBy, ChangesArgs, HistArgs, HistOf, KeysArgs, MapArgs, RecordsArgs, ReportArgs,
    ScanArgs, SelectArgs, StatsArgs,
};
pub(crate) use mend::{MigrateArgs, RebuildArgs, RepairArgs, SalvageArgs};
#[cfg(feature = "sqlite")]
pub(crate) use moving::ImportDiskcacheArgs;
pub(crate) use moving::{
    DumpArgs, ImportArgs, ImportFrom, ImportJsonArgs, LoadArgs, StoringArgs, TextFormat,
};
pub(crate) use write::{BenchArgs, ClearArgs, DelArgs, PutArgs, TouchArgs};

/// The exit codes, as `--help` ends.
const CODES: &str = "\
Exit codes: 0 done; 1 the answer is no (key absent); 2 usage; 3 problems were repaired; 4 problems remain; \
8 operational error; 10 no store there; 11 locked (holder on standard error); 12 unknown format version; \
130 interrupted.

Every option is an environment variable too: TIERCE_JSON, TIERCE_TIMEOUT and so on for those of every command, \
TIERCE_KEYS_PREFIX for --prefix of keys. The option wins.

Keys and values are words: \\xNN stands for any byte (\\x20 is a space, \\x5c or \\\\ a backslash) and \"\" for no \
bytes. What is printed is spelled the same way.";

/// Looks into a tierce store, changes it, checks it, and shows what it can do.
#[derive(Debug, Parser)]
#[command(name = "tierce", version, after_help = CODES)]
pub(crate) struct Cli {
    /// Print JSON: one document, or one line a step; errors also as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(flatten)]
    pub(crate) encodings: EncodingArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What the process was called with.
    ///
    /// # Errors
    /// The parser's; help and version among them.
    pub(crate) fn from_environment() -> Result<Self, clap::Error> {
        Self::parse_words(env::args_os())
    }

    fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let definition = definition();
        let matches = definition.clone().try_get_matches_from(&words).map_err(|error| {
            let words: Vec<_> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
            tip::correct(error, &definition, &words)
        })?;
        Self::from_arg_matches(&matches)
    }
}

/// The command line with an environment variable for every option: `TIERCE_` and the option's name for those that
/// every command has, `TIERCE_COMMAND_` and the name for the others. A variable weighs less than the option itself.
pub(crate) fn definition() -> clap::Command {
    let with_variables = |command: clap::Command, prefix: &str| {
        command.mut_args(|argument| match argument.get_long() {
            Some("help" | "version") | None => argument,
            Some(_) if argument.is_global_set() && prefix != "TIERCE" => argument,
            Some(long) => {
                let variable = format!("{prefix}_{long}").to_uppercase().replace('-', "_");
                let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
                // An empty variable is one that is not set, as in the library's configuration.
                let is_empty = env::var_os(&variable).is_some_and(|value| value.is_empty());
                let argument = if is_empty { argument } else { argument.env(variable) };
                match is_flag {
                    true => argument.value_parser(FalseyValueParser::new()),
                    // `--limit -1` is a wrong number, not an unknown option.
                    false => argument.allow_negative_numbers(true),
                }
            }
        })
    };
    let definition = Cli::command().mut_subcommands(|command| {
        let prefix = format!("TIERCE_{}", command.get_name());
        let command = with_variables(command, &prefix);
        command.mut_subcommands(|below| {
            let prefix = format!("{prefix}_{}", below.get_name());
            with_variables(below, &prefix)
        })
    });
    with_variables(definition, "TIERCE")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job on real input: write, read back, expire, restart, crash, recover, check.
    Tour(TourArgs),
    /// Describe the store: format, files, segments, what is alive, who has it open.
    Info(DirArgs),
    /// Print what the store holds and how much of it is dead.
    Stats(StatsArgs),
    /// List the segments.
    Segments(DirArgs),
    /// List the records of one segment.
    Records(RecordsArgs),
    /// List the keys, in order of their bytes.
    Keys(KeysArgs),
    /// Print the value of a key.
    Get(KeyArgs),
    /// List keys with their values, in order of the keys.
    Scan(ScanArgs),
    /// List the greatest entries.
    Big(BigArgs),
    /// Count entries by how great they are, in powers of two.
    Hist(HistArgs),
    /// Print what was written, as JSON lines.
    Changes(ChangesArgs),
    /// Show what every byte of the segments is good for: as an SVG, or as characters.
    Map(MapArgs),
    /// Draw up a page about the store: verdict of a check, map, histograms, compaction, findings.
    Report(ReportArgs),
    /// Check every invariant that can be checked, without writing; exits 4 if there are problems.
    Check(CheckArgs),
    /// List what a check can find: code, how bad it is, what it means, and what to do.
    Codes,
    /// Print what a repair would do, or do it; exits 4 if there is something to repair, 3 if it was repaired.
    Repair(RepairArgs),
    /// Read what can be read into a new store; exits 4 if that is not everything.
    Salvage(SalvageArgs),
    /// Make footers and the checkpoint anew from sound records.
    Rebuild(RebuildArgs),
    /// Bring the store to another version of the format.
    Migrate(MigrateArgs),
    /// Give the room of dead records back.
    Compact(CompactArgs),
    /// Remove what has expired.
    Expire(ExpireArgs),
    /// Evict the coldest entries until the rest is small enough.
    Evict(EvictArgs),
    /// Copy the store as it is at one moment, whoever writes to it.
    Backup(BackupArgs),
    /// Prove a backup, and put it in the place of a store.
    Restore(RestoreArgs),
    /// Prove a backup: reads every byte; exits 4 if it is damaged.
    Verify(VerifyArgs),
    /// Print every entry as text that `load` takes.
    Dump(DumpArgs),
    /// Store the entries of a dump.
    Load(LoadArgs),
    /// Store the entries of another program.
    Import(ImportArgs),
    /// Store a value; creates the store if there is none.
    Put(PutArgs),
    /// Delete keys: prints how many were there; exits 1 unless all were.
    Del(DelArgs),
    /// Give an entry another lifetime; exits 1 if the key is absent.
    Touch(TouchArgs),
    /// Delete every entry.
    Clear(ClearArgs),
    /// Take commands, one a line, from a terminal or a pipe. `help` lists them.
    Shell(ShellArgs),
    /// Replay a trace of requests through a store with limits, and print what it hit and what it cost.
    Replay(ReplayArgs),
    /// Put, get and delete so many entries, and print how fast that was. No comparison with anything.
    Bench(BenchArgs),
    /// Print the completions of the command line for a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory.
    Man(ManArgs),
    /// Write numbered records until killed.
    #[command(hide = true)]
    TourWriter(WriterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory; created if there is none.
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// The store.
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    /// Where the store goes. Default: a temporary directory, removed at the end.
    pub(crate) dir: Option<PathBuf>,
    /// Device states as JSON lines with last_updated, entity_id, state and attributes. Default: generated ones.
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WriterArgs {
    pub(crate) dir: PathBuf,
    pub(crate) run: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The store; created if there is none.
    pub(crate) dir: PathBuf,
    /// What is behind an acknowledgement.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: Mode,
    /// Target size of a segment file: 8KiB, 64MiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) segment_bytes: Option<u64>,
    /// How often writes with --durability periodic go to the device.
    #[arg(long, value_name = "N")]
    pub(crate) periodic_ms: Option<u64>,
    /// What to do about damage found when opening.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) recovery: Policy,
    /// Read beside a writer, without a lock: every command sees what is on disk by then, and writes are refused.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// End at the first command that is refused, with the exit code of its error. Default: go on, and exit with 0.
    #[arg(long, short = 'e')]
    pub(crate) stop_on_error: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The trace; `-` takes standard input. One packed by xz or zstd is unpacked on the way.
    pub(crate) trace: PathBuf,
    /// How the trace is written.
    #[arg(long, value_enum)]
    pub(crate) format: TraceFormat,
    /// What the store may hold: N entries, a share of the trace's keys as N% (with --format sized, of their bytes),
    /// or the bytes of the live records as 512B, 64MiB, 500MB. Default: no limit.
    #[arg(long, value_name = "N|N%|SIZE", value_parser = parse_capacity)]
    pub(crate) capacity: Option<Capacity>,
    /// Which entry goes first at a limit.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub(crate) evict: limits::Policy,
    /// Most bytes of all files of the store. Default: no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) max_bytes: Option<u64>,
    /// How long an entry lives of which the trace does not tell. Default: for ever.
    #[arg(long, value_name = "LIFETIME", value_parser = parse_lifetime_ms)]
    pub(crate) ttl: Option<u64>,
    /// Size of the value of an entry of which the trace tells no size.
    #[arg(long, value_name = "SIZE", default_value_t = 8, value_parser = parse_value_bytes)]
    pub(crate) value_bytes: u64,
    /// Stop after so many requests.
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// What is behind an acknowledgement.
    #[arg(long, value_enum, default_value = "buffered")]
    pub(crate) durability: Mode,
    /// Where the store goes, new or empty; it is kept. Default: a temporary directory, removed at the end.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

/// How a trace of requests is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFormat {
    /// Lines `START COUNT ..`: COUNT keys from START.
    Arc,
    /// Lines `KEY [SIZE [TTL [OP]]]`: bytes of the value, lifetime or -, and get (a miss is stored), put or del.
    Lines,
    /// Keys of 4 bytes, big-endian.
    U32be,
    /// Keys of 8 bytes, big-endian.
    U64be,
    /// Lines `TIME ID SIZE`: SIZE is what the entry takes in the store, its header and key included.
    Sized,
}

impl TraceFormat {
    /// The word for it on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::Lines => "lines",
            Self::U32be => "u32be",
            Self::U64be => "u64be",
            Self::Sized => "sized",
        }
    }
}

/// [`Durability`], as spelled on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Mode {
    /// This process has it.
    Buffered,
    /// The operating system has it.
    #[default]
    Os,
    /// The device has it.
    Sync,
    /// It is staged; everything staged goes to the device together, now and then.
    Periodic,
}

impl Mode {
    /// The word for it on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Os => "os",
            Self::Sync => "sync",
            Self::Periodic => "periodic",
        }
    }
}

impl From<Mode> for Durability {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Buffered => Self::Buffered,
            Mode::Os => Self::Os,
            Mode::Sync => Self::Sync,
            Mode::Periodic => Self::Periodic,
        }
    }
}

/// [`RecoveryPolicy`], as spelled on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Policy {
    /// Refuse to open.
    #[default]
    Strict,
    /// Leave damaged records out and set their file aside.
    SkipRecord,
    /// Serve whatever can be read.
    Salvage,
}

impl From<Policy> for RecoveryPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Strict => Self::Strict,
            Policy::SkipRecord => Self::SkipRecord,
            Policy::Salvage => Self::Salvage,
        }
    }
}

fn parse_segment(text: &str) -> Result<u64, String> {
    let digits = text.strip_suffix(".seg").unwrap_or(text);
    let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    id.ok_or_else(|| "a segment id is 1 to 16 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the definitions contradict nothing in themselves.
    #[test]
    fn definitions() {
        definition().debug_assert();
    }

    /// Goal: a segment id is what `info` prints, with or without the file's ending, and nothing else.
    #[test]
    fn segment_ids() {
        assert_eq!(parse_segment("00000000000000af.seg"), Ok(0xaf));
        assert_eq!(parse_segment("AF"), Ok(0xaf));
        for wrong in ["", ".seg", "+1", "-1", "g", "0x1", "00000000000000000"] {
            let parsed = parse_segment(wrong);
            assert!(parsed.is_err() || wrong == "00000000000000000", "{wrong}: {parsed:?}");
        }
        assert!(parse_segment("10000000000000000").is_err(), "17 digits");
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse_words(line.split(' ').map(OsString::from))
    }

    /// Goal: what begins with a hyphen is a key where a key is wanted, and where it is refused, the advice works.
    #[test]
    fn hyphens() {
        let cli = parse("tierce keys dir --prefix -1").unwrap();
        let Command::Keys(keys) = cli.command else { panic!("{cli:?}") };
        assert_eq!(keys.select.prefix, Some("-1".into()));
        for line in
            ["tierce get dir -1", "tierce del dir -1 -2", "tierce scan dir --from -a --to -b"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
        for (line, advice) in [
            ("tierce get dir -x", "-- -x"),
            ("tierce scan dir --limit -x", "--limit=-x"),
            ("tierce put dir k v --ttl -x", "--ttl=-x"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(&format!("use '{advice}'")), "{line}: {message}");
        }
        let message = parse("tierce scan dir --limit -1").unwrap_err().to_string();
        assert!(message.contains("invalid value '-1'"), "{message}");
    }

    /// Goal: values that look like numbers below zero are values, not options.
    #[test]
    fn negative_values() {
        let cli =
            Cli::try_parse_from(["tierce", "put", "dir", "key", "-5", "--ttl", "30s"]).unwrap();
        let Command::Put(put) = cli.command else { panic!("{cli:?}") };
        assert_eq!((put.value, put.ttl), ("-5".into(), Some(30_000)));
    }
}
