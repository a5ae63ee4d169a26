//! Room on the disk.

use std::path::Path;

use tierce_engine::io::{Disk as _, OsDisk};

use crate::{Error, Result};

/// What [`ensure_free`] is usually asked for: 100 MiB.
pub const FREE_BYTES_DEFAULT: u64 = 100 << 20;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DiskSpace {
    /// In all.
    pub total: u64,
    /// What is not free for this process; what the system keeps back for its administrator counts here.
    pub used: u64,
    /// What this process may still use.
    pub free: u64,
    /// How much of it all is used, from 0 to 100; 0 if there is nothing at all.
    pub percent: f64,
}

/// How much room there is where `path` is. If it does not exist yet, where its nearest parent is.
///
/// # Errors
/// [`Error::Io`] if the system does not say.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let space = tierce::ops::disk_space(dir.path().join("not/there/yet"))?;
/// assert_eq!(space.used + space.free, space.total);
/// assert!((0.0..=100.0).contains(&space.percent));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn disk_space(path: impl AsRef<Path>) -> Result<DiskSpace> {
    let path = path.as_ref();
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let space =
        OsDisk.space(there).map_err(|source| Error::io("ask for the room at", path, source))?;
    Ok(of(space.total, space.available))
}

/// Makes sure that at least `bytes` are free where `path` is; [`FREE_BYTES_DEFAULT`] is a good number. What is free now
/// may be gone at once: a store's own limit is `Options::min_free_bytes` of the engine.
///
/// # Errors
/// [`tierce_engine::Error::LowSpace`], with both numbers, if they are not; [`Error::Io`] if the system does not say.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// tierce::ops::ensure_free(dir.path(), 1)?;
/// let error = tierce::ops::ensure_free(dir.path(), u64::MAX).unwrap_err();
/// assert!(error.to_string().contains(&u64::MAX.to_string()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ensure_free(path: impl AsRef<Path>, bytes: u64) -> Result<()> {
    let DiskSpace { free, .. } = disk_space(path)?;
    if free < bytes {
        return Err(tierce_engine::Error::LowSpace { free, required: bytes }.into());
    }
    Ok(())
}

fn of(total: u64, free: u64) -> DiskSpace {
    let used = total.saturating_sub(free);
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no more digits")]
    let percent = if total == 0 { 0.0 } else { used as f64 / total as f64 * 100.0 };
    DiskSpace { total, used, free, percent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(of(200, 50), DiskSpace { total: 200, used: 150, free: 50, percent: 75.0 });
        assert_eq!(of(0, 0), DiskSpace { total: 0, used: 0, free: 0, percent: 0.0 });
        assert_eq!(of(10, 20).used, 0);
    }
}
