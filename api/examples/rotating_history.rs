//! Seed 001, "File Rotation": a history of at most so many bytes, of which the oldest lines go; and the names of the
//! five newest backups, of which the oldest is dropped when a sixth comes. Seed 000: historical data that survives
//! restarts.

use std::{error::Error, fs, path::Path};

use tierce::{Store, collections::LogOptions};

const BACKUPS: usize = 5;

/// Makes a backup and removes the oldest one that is too much.
fn back_up(store: &Store, dir: &Path, number: u32) -> Result<(), Box<dyn Error>> {
    let backups = store.bounded_deque::<String>("backups", BACKUPS)?;
    let name = format!("backup-{number}.bin");
    fs::write(dir.join(&name), number.to_string())?;
    let oldest = if backups.len()? == BACKUPS { backups.front()? } else { None };
    // Order: off the list first. A crash leaves a file too many, never a name without its file.
    backups.push_back(&name)?;
    if let Some(oldest) = oldest {
        fs::remove_file(dir.join(oldest))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("store"))?;
    let ten_kib = LogOptions::new().max_bytes(10 << 10);
    let log = store.log_with::<String>("addon.log", &ten_kib)?;
    for number in 0..500 {
        log.append(&format!("{number:04} - addon - INFO - {}", "x".repeat(76)))?;
    }
    let last = log.tail(1)?;
    assert!(last[0].value.starts_with("0499"));
    assert!(log.len()? < 110, "{} lines of about 100 bytes", log.len()?);
    assert!(log.read(0, 1)?[0].id > 390, "the oldest went");

    let files = dir.path().join("backups");
    fs::create_dir(&files)?;
    for number in 1..=8 {
        back_up(&store, &files, number)?;
    }
    let kept = store.deque::<String>("backups")?.items()?;
    assert_eq!(kept.first().map(String::as_str), Some("backup-4.bin"));
    assert_eq!(kept.len(), BACKUPS);
    assert_eq!(fs::read_dir(&files)?.count(), BACKUPS);
    Ok(())
}
