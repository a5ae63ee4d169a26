//! How the commands are spelled that mend a store: `repair`, `salvage`, `rebuild`, `migrate`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// The store; nobody may have it open.
    pub(crate) dir: PathBuf,
    /// Carry the plan out; without it the plan is printed, and nothing changes.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Where the way back is kept, new or empty. Default: undo-N in the store.
    #[arg(long, value_name = "DIR", requires = "apply")]
    pub(crate) undo: Option<PathBuf>,
    /// Go back: put the store to what it was before the repair that kept this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "apply")]
    pub(crate) undo_from: Option<PathBuf>,
    /// Exit as e2fsck does: 0 clean, 1 corrected, 4 left, 8 operational error, 16 usage.
    #[arg(long)]
    pub(crate) fsck_codes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// The store, with or without its manifest, or the file of one segment. Nothing in it is changed.
    pub(crate) dir: PathBuf,
    /// The new store: missing or empty.
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// The store; nobody may have it open.
    pub(crate) dir: PathBuf,
    /// Footers that are damaged or missing.
    #[arg(long)]
    pub(crate) footers: bool,
    /// The checkpoint.
    #[arg(long)]
    pub(crate) checkpoint: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The version of the format to bring it to. Default: the newest known here.
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    pub(crate) to: Option<(u16, u16)>,
}

/// A version as `1.0` or `1`.
fn parse_version(text: &str) -> Result<(u16, u16), String> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    };
    let version = number(major).zip(number(minor));
    version.ok_or_else(|| format!("{text:?} is no version like 1.0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a version is two numbers, or one.
    #[test]
    fn versions() {
        assert_eq!((parse_version("1.0"), parse_version("2")), (Ok((1, 0)), Ok((2, 0))));
        for wrong in ["", ".", "1.", ".1", "1.0.0", "+1", "1.x", "70000"] {
            assert!(parse_version(wrong).is_err(), "{wrong}");
        }
    }
}
