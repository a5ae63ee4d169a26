//! What a program needs around its store: files that are written whole or not at all, standard directories, backups
//! that are verified before they are used, migrations of a data directory, retention, room on the disk, documents for
//! settings and status, and a log that rotates.
//!
//! Nothing here needs a store, and nothing runs by itself: each call does its work and returns. All of it works on
//! ordinary files that other programs may read. Where time matters it is an argument or a clock of the caller's.

pub(crate) mod atomic;
mod backup;
mod clean_up;
mod config_document;
#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a test that finds an error where none belongs fails by it")]
mod crash_tests;
mod directories;
pub(crate) mod document;
mod files;
mod manifest;
mod migrator;
mod rotating_log;
mod space;
mod status_document;
pub(crate) mod time;
pub(crate) mod turn;

pub use atomic::{atomic_write, atomic_write_with};
pub use backup::{
    BackupOptions, Restored, finish_backup, prepare_backup, prepare_backup_with,
    restore_from_backup,
};
pub use clean_up::{CleanedUp, RemovedFile, clean_up, clean_up_tree};
pub use config_document::ConfigDocument;
pub use directories::{Directories, cache_of};
pub use manifest::{BackupFile, BackupManifest};
pub use migrator::{DataStep, Migrator};
pub use rotating_log::{Level, RotatingLog, format_line};
pub use space::{DiskSpace, FREE_BYTES_DEFAULT, disk_space, ensure_free};
pub use status_document::StatusDocument;
