//! The check: it finds every fault, calls no healthy store sick, and changes nothing.
//!
//! - `shapes`: stores of different shape, and what stands where in their files
//! - `sweep`: random single faults, all found but those that a crash could have left
//! - `healthy`: stores that are fresh, crashed, compacted, recovered
//! - `beside`: a check while somebody writes
//! - `codes`: each code, and each level
//! - `hostile`: directories that somebody made up

mod beside;
mod codes;
mod healthy;
mod hostile;
mod shapes;
mod sweep;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Result,
    check::{CheckOptions, CheckReport, check_store, check_store_with},
    io::{Disk, MemoryDisk},
};
use tierce_kit::store::STORE;

/// The files of a disk.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn disk_of(files: &Files) -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::with_files(files.clone()))
}

/// Checks these files, and that the check left them alone.
fn check(files: &Files) -> Result<CheckReport> {
    let disk = MemoryDisk::with_files(files.clone());
    let report = check_store(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(STORE));
    assert!(disk.files() == *files, "the check changed a file");
    report
}

/// The same with options.
fn check_with(files: &Files, options: CheckOptions<'_>) -> CheckReport {
    check_store_with(&disk_of(files), Path::new(STORE), options).unwrap()
}

/// The codes that a report has, in order, each once.
fn codes_of(report: &CheckReport) -> Vec<&'static str> {
    let mut codes: Vec<_> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[track_caller]
fn assert_healthy(report: &CheckReport) {
    assert!(report.is_healthy(), "{:#?}", report.findings);
}
