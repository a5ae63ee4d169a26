//! The command line of backups.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The store; somebody may have it open.
    pub(crate) dir: PathBuf,
    /// A directory that is missing or empty; `-` prints an archive (tar).
    pub(crate) dest: PathBuf,
    /// Copy every byte; else segments are linked where the file system can.
    #[arg(long)]
    pub(crate) copy: bool,
    /// An earlier backup of this store: what that has is linked from there; with `-`, left out.
    #[arg(long, value_name = "EARLIER")]
    pub(crate) base: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup: a directory, an archive (tar), or `-` for one on standard input.
    pub(crate) backup: PathBuf,
    /// Where the store goes.
    pub(crate) dir: PathBuf,
    /// Replace the store that is there; it is moved aside, not removed.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Replace it without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// The earlier backup that an archive was made with.
    #[arg(long, value_name = "EARLIER")]
    pub(crate) base: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The backup, a directory.
    pub(crate) backup: PathBuf,
}
