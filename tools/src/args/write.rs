//! How the commands are spelled that change entries: `put`, `del`, `touch`, `clear`; and `bench`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::Mode;
use crate::{
    lifetime::{Ttl, parse_lifetime_ms},
    limits::LimitArgs,
    size::parse_size_to,
};

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
    /// The value; `-` takes standard input as it is, to its end.
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: OsString,
    /// How long it lives: 250ms, 30s, 5m, 2h, 1d, or seconds. Default: --default-ttl.
    #[arg(long, value_name = "LIFETIME", value_parser = parse_lifetime_ms)]
    pub(crate) ttl: Option<u64>,
    /// A scope it belongs to; may be given several times.
    #[arg(long, value_name = "TAG", allow_hyphen_values = true)]
    pub(crate) tag: Vec<OsString>,
    /// Do nothing and exit with 1 if the key is there.
    #[arg(long)]
    pub(crate) if_absent: bool,
    /// What is behind the acknowledgement.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: Mode,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DelArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The keys.
    #[arg(required = true, allow_negative_numbers = true)]
    pub(crate) key: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct TouchArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: OsString,
    /// How long it lives from now on: 250ms, 30s, 5m, 2h, 1d, or seconds; or never, and it does not end.
    #[arg(value_name = "LIFETIME", value_parser = parse_lifetime_or_never)]
    pub(crate) lifetime: Ttl,
}

#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Where the store goes, new or empty; it is kept. Default: a temporary directory, removed at the end.
    pub(crate) dir: Option<PathBuf>,
    /// So many puts, then gets, then deletes.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: u64,
    /// Size of a value, at most 16MiB.
    #[arg(long, value_name = "SIZE", default_value_t = 100, value_parser = parse_bench_bytes)]
    pub(crate) value_bytes: u64,
    /// What is behind an acknowledgement.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: Mode,
}

fn parse_bench_bytes(text: &str) -> Result<u64, String> {
    parse_size_to(text, 16 << 20)
}

fn parse_lifetime_or_never(text: &str) -> Result<Ttl, String> {
    if text == "never" { Ok(Ttl::Never) } else { parse_lifetime_ms(text).map(Ttl::Ms) }
}
