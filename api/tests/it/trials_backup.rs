//! A backup of a data directory that was broken off, and copies of it.

use std::{fs, path::Path};

use tierce::{Version, ops};

fn restore(dir: &Path) -> tierce::Result<bool> {
    let mut migrator = ops::Migrator::new(dir, [])?;
    let restored = ops::restore_from_backup(dir, &mut migrator, Version::new(1, 0, 0), || Ok(()))?;
    Ok(restored.is_some())
}

/// Goal: a program that was killed between the two calls of a backup starts again, whatever became of its files; a copy
/// that is damaged is refused all the same, also one that has the list under the same name.
#[test]
fn a_backup_that_was_broken_off() {
    for is_gone in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&copy).unwrap();
        fs::write(data.join("state.json"), "{\"a\":1}").unwrap();
        ops::prepare_backup(&data, Version::new(1, 0, 0), || Ok(())).unwrap();
        for name in ["state.json", "backup_metadata.json"] {
            fs::copy(data.join(name), copy.join(name)).unwrap();
        }
        // The program went on; then the power went.
        if is_gone {
            fs::remove_file(data.join("state.json")).unwrap();
        } else {
            fs::write(data.join("state.json"), "{\"a\":2}").unwrap();
        }
        assert!(!restore(&data).unwrap(), "nothing was restored");
        assert!(!data.join("backup_metadata.json").exists());
        assert!(!restore(&data).unwrap());
        // A copy is in the place of the original: its damage counts.
        fs::write(copy.join("state.json"), "{\"a\":3}").unwrap();
        fs::copy(copy.join("backup_metadata.json"), data.join("backup_metadata.json")).unwrap();
        assert_eq!(restore(&copy).unwrap_err().kind(), "backup");
        assert_eq!(restore(&data).unwrap_err().kind(), "backup");
        fs::write(copy.join("state.json"), "{\"a\":1}").unwrap();
        assert!(restore(&copy).unwrap(), "the copy is restored");
    }
}

/// Goal: a copy of hard links is not taken for the original.
#[cfg(unix)]
#[test]
fn a_backup_of_hard_links() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&copy).unwrap();
    fs::write(data.join("state.json"), "{\"a\":1}").unwrap();
    ops::prepare_backup(&data, Version::new(1, 0, 0), || Ok(())).unwrap();
    fs::hard_link(data.join("backup_metadata.json"), copy.join("backup_metadata.json")).unwrap();
    assert_eq!(restore(&copy).unwrap_err().kind(), "backup", "its file is missing");
}
