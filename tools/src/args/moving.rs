//! How the commands are spelled that move entries in and out: `dump`, `load`, `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Mode;

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: TextFormat,
    /// In order of the bytes of the keys. Holds all keys in memory; without it memory is bounded.
    #[arg(long)]
    pub(crate) sort: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The store; created if there is none.
    pub(crate) dir: PathBuf,
    /// What to read; a file is read to its end before anything is stored. Default, and `-`: standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: TextFormat,
    #[command(flatten)]
    pub(crate) storing: StoringArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StoringArgs {
    /// Leave entries as they are whose keys are there already.
    #[arg(long, conflicts_with = "replace")]
    pub(crate) if_absent: bool,
    /// Replace entries whose keys are there already. The default.
    #[arg(long)]
    pub(crate) replace: bool,
    /// What is behind the acknowledgement of a batch; at the end everything is on the device.
    #[arg(long, value_enum, default_value = "os")]
    pub(crate) durability: Mode,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) from: ImportFrom,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportFrom {
    /// The directory of a cache of python-diskcache. Nothing in it is written; pickles are not executed.
    #[cfg(feature = "sqlite")]
    Diskcache(ImportDiskcacheArgs),
    /// JSON: an object of keys and values, or an array of objects with key, value and perhaps ttl in seconds.
    Json(ImportJsonArgs),
}

#[cfg(feature = "sqlite")]
#[derive(Debug, Args)]
pub(crate) struct ImportDiskcacheArgs {
    /// The cache's directory: that of cache.db, or of the shards of a FanoutCache.
    pub(crate) source: PathBuf,
    /// The store; created if there is none.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) storing: StoringArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportJsonArgs {
    /// The file; `-` takes standard input.
    pub(crate) source: PathBuf,
    /// The store; created if there is none.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) storing: StoringArgs,
}

/// How entries are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    /// JSON lines: everything, exactly.
    #[default]
    Jsonl,
    /// What mdb_dump -p writes and mdb_load reads: keys and values only.
    Lmdb,
    /// RFC 4180 with a header: keys, values, expiries.
    Csv,
}
