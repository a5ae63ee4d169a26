//! Seed 001, "Disk Space Monitoring": total, used, free and percent, and a minimum of free space before work begins.

use std::error::Error;

use tierce::ops;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let space = ops::disk_space(dir.path())?;
    assert_eq!(space.total, space.used + space.free);
    assert!((0.0..=100.0).contains(&space.percent));

    assert_eq!(ops::FREE_BYTES_DEFAULT, 100 * 1024 * 1024);
    let enough = ops::ensure_free(dir.path(), ops::FREE_BYTES_DEFAULT);
    assert_eq!(enough.is_ok(), space.free >= ops::FREE_BYTES_DEFAULT);

    // The error names both numbers.
    let required = space.total + 1;
    let error = ops::ensure_free(dir.path(), required).expect_err("it must be refused");
    assert_eq!(error.kind(), "low-space");
    assert!(error.to_string().contains(&required.to_string()), "{error}");
    Ok(())
}
