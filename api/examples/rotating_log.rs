//! Seed 001, "File Rotation": a log of 10 MiB a file with 5 backups, of lines "time - name - level - message".

use std::{error::Error, fs, sync::Arc};

use tierce::ops::{Level, RotatingLog};
use tierce_kit::clock::TestClock;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("addon.log");
    let clock = Arc::new(TestClock::new());
    let (bytes, backups) = (RotatingLog::FILE_BYTES_MAX_DEFAULT, RotatingLog::BACKUPS_DEFAULT);
    assert_eq!((bytes, backups), (10 * 1024 * 1024, 5));

    let mut log = RotatingLog::open_with(&path, bytes, backups, clock.clone())?;
    log.log(Level::Info, "addon", "started")?;
    let line = "2023-11-14T22:13:20.000Z - addon - INFO - started\n";
    assert_eq!(fs::read_to_string(&path)?, line);
    drop(log);

    // With files this small, every line begins a new one; the sixth before the last is gone.
    let mut log = RotatingLog::open_with(&path, 60, backups, clock)?;
    for number in 1..=7 {
        log.log(Level::Debug, "addon", &format!("line {number}"))?;
    }
    log.sync()?;
    assert!(fs::read_to_string(&path)?.ends_with("line 7\n"));
    assert!(fs::read_to_string(dir.path().join("addon.log.5"))?.ends_with("line 2\n"));
    assert_eq!(fs::read_dir(dir.path())?.count(), 6);
    Ok(())
}
