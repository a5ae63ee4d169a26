//! Seed 001, "Atomic Writes": a file is replaced whole or not at all, and no temporary file is left behind.

use std::{error::Error, fs, io};

use tierce::ops;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("state.json");
    ops::atomic_write(&path, r#"{"count": 1}"#)?;
    ops::atomic_write(&path, r#"{"count": 2}"#)?;

    // A writer that fails half-way leaves the old file as it was.
    let failed = ops::atomic_write_with(&path, |file| -> io::Result<()> {
        file.write_all(br#"{"count": "#)?;
        Err(io::Error::other("the sensor is gone"))
    });
    assert!(failed.expect_err("it must be refused").to_string().contains("the sensor is gone"));
    assert_eq!(fs::read_to_string(&path)?, r#"{"count": 2}"#);
    assert_eq!(fs::read_dir(dir.path())?.count(), 1, "no temporary file");
    Ok(())
}
