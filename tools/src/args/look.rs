//! How the commands are spelled that look into a store.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use super::parse_segment;
use crate::{lifetime::parse_lifetime_ms, size::parse_size};

/// Which keys.
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// Only keys that begin with this.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) prefix: Option<OsString>,
    /// Only keys that match all of this pattern: * any bytes, ? one, [a-z] one of these, [!a-z] one of the others; a
    /// backslash takes the next as it is, and \xNN is that byte.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true, conflicts_with = "prefix")]
    pub(crate) glob: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Print how many there are, not which.
    #[arg(long)]
    pub(crate) count: bool,
    /// Print the bytes of the keys as they are, each followed by a zero byte.
    #[arg(short = '0', long, conflicts_with_all = ["count", "json"])]
    pub(crate) null: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// The first key, in order of bytes.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) from: Option<OsString>,
    /// The first key that is not shown any more.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) to: Option<OsString>,
    /// So many entries at most.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordsArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The segment's id in hexadecimal digits, as `segments` prints it.
    #[arg(value_parser = parse_segment)]
    pub(crate) segment: u64,
    /// Only the record at this offset.
    #[arg(long, value_name = "OFFSET")]
    pub(crate) at: Option<u64>,
    /// The bytes of each record too, in hexadecimal digits.
    #[arg(long)]
    pub(crate) hex: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Look again and again, with this pause; ends with Ctrl-C.
    #[arg(long, value_name = "DURATION", value_parser = parse_lifetime_ms)]
    pub(crate) watch: Option<u64>,
    /// In the text format of Prometheus, for a file that a collector reads.
    #[arg(long, conflicts_with_all = ["watch", "json"])]
    pub(crate) prometheus: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BigArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// So many entries.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,
    /// By what they are great. Age counts the writes of the store since.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: BigBy,
}

/// By what an entry is great.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum BigBy {
    /// Bytes of its record.
    #[default]
    Bytes,
    /// Writes since it was stored.
    Age,
}

#[derive(Debug, Args)]
pub(crate) struct HistArgs {
    /// What to count by.
    pub(crate) of: HistOf,
    /// The store.
    pub(crate) dir: PathBuf,
}

/// What a histogram counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HistOf {
    /// Bytes of a record.
    Size,
    /// Seconds left to live.
    Ttl,
    /// Writes since an entry was stored.
    Age,
    /// Bytes of a key.
    Keylen,
}

impl HistOf {
    /// The word for it, and the unit it counts in.
    pub(crate) const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Size => ("size", "bytes"),
            Self::Ttl => ("ttl", "seconds"),
            Self::Age => ("age", "writes"),
            Self::Keylen => ("keylen", "bytes"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ChangesArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Begin after the write with this sequence number.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub(crate) since: u64,
    /// Wait for more at the end, until Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The SVG; `-` prints it. Default: characters.
    pub(crate) out: Option<PathBuf>,
    /// Bytes of a cell, 4KiB or more. Default: what makes a picture of handy size.
    #[arg(long, value_name = "SIZE", value_parser = parse_cell)]
    pub(crate) cell: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The page; `-` prints it.
    pub(crate) out: PathBuf,
    /// Leave out the full check.
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// Smaller cells would make pictures that nobody can load.
const CELL_BYTES_MIN: u64 = 4 << 10;

fn parse_cell(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < CELL_BYTES_MIN => Err("a cell has at least 4KiB".to_owned()),
        bytes => Ok(bytes),
    }
}
