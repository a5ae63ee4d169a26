//! How the commands are spelled that keep a store small: `compact`, `expire`, `evict`.

use std::path::PathBuf;

use clap::Args;

use crate::size::{parse_limit, parse_size};

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Begin when this share of all bytes is dead.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = parse_percent)]
    pub(crate) min_dead: u32,
    /// Copy at most so much a second: 20MiB. Default: as fast as it goes.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) max_rate: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Believe the machine's clock, however far it is ahead of the store's last use.
    #[arg(long)]
    pub(crate) trust_clock: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Until the records of live entries are no more than this.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) to: u64,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A share as `30%` or `30`, from 1 to 90.
fn parse_percent(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let percent = digits.parse().ok().filter(|percent| is_number && (1..=90).contains(percent));
    percent.ok_or_else(|| format!("{text:?} is no share from 1% to 90%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a share is what it says, with or without its sign.
    #[test]
    fn shares() {
        assert_eq!(
            (parse_percent("30%"), parse_percent("1"), parse_percent("90")),
            (Ok(30), Ok(1), Ok(90))
        );
        for wrong in ["", "%", "0", "91%", "-1", "+5", "1.5", "30 %"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
