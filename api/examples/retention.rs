//! Seed 001, "Periodic Cleanup": files of the cache directory older than 30 days go, once a day, each with a line in
//! the log. The time of the last run is kept in a file: a program that never runs for a whole day cleans up all the
//! same.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tierce::{
    Timestamp,
    engine::io::Clock as _,
    ops::{self, ConfigDocument, Directories, Level, RotatingLog},
};
use tierce_kit::clock::TestClock;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// Cleans up if the last time was a day ago or longer. To be called at the start and now and then.
fn clean_up_daily(base: &Path, now: Timestamp, log: &mut RotatingLog) -> tierce::Result<usize> {
    let mut times = ConfigDocument::open(base.join("maintenance.json"))?;
    let last_ms = times.get_or("last_clean_up_ms", 0)?;
    if u128::from(now.0.saturating_sub(last_ms)) < DAY.as_millis() {
        return Ok(0);
    }
    let done = ops::clean_up(Directories::new(base).cache(), RETENTION, now)?;
    for file in &done.removed {
        log.log(Level::Info, "clean_up", &format!("deleted old file: {}", file.path.display()))?;
    }
    for error in &done.failed {
        log.log(Level::Warning, "clean_up", &error.to_string())?;
    }
    times.set("last_clean_up_ms", &now.0)?;
    Ok(done.removed.len())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let directories = Directories::new(dir.path());
    directories.create()?;
    let clock = TestClock::new();
    let log_file = directories.logs().join("addon.log");
    let mut log = RotatingLog::open_with(&log_file, 1 << 20, 5, Arc::new(clock.clone()))?;
    for (name, age_days) in [("a.json", 31), ("b.json", 29), ("c.json", 1)] {
        let file = fs::File::create(directories.cache().join(name))?;
        let now = UNIX_EPOCH + Duration::from_millis(TestClock::START_MS);
        file.set_modified(now - age_days * DAY)?;
    }

    let mut removed = Vec::new();
    for _ in 0..6 {
        removed.push(clean_up_daily(dir.path(), Timestamp(clock.wall_ms()), &mut log)?);
        clock.advance(12 * 3_600_000);
    }
    // At once; not after half a day; after one day the second is exactly 30 days old and stays; after two it goes.
    assert_eq!(removed, [1, 0, 0, 0, 1, 0]);
    assert!(directories.cache().join("c.json").exists());
    assert_eq!(fs::read_to_string(log_file)?.matches("deleted old file: ").count(), 2);
    Ok(())
}
