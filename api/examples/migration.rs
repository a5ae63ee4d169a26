//! Seed 001, "Migration Example": data of version 0.0.0 comes to 0.1.0 (a settings file is renamed) and to 0.2.0 (every
//! event gets a priority). A crash between two steps repeats none that was done.

use std::{error::Error, fs, path::Path};

use serde_json::{Map, Value};
use tierce::{
    BoxError, Version,
    ops::{self, DataStep, Migrator},
};

const V0_1_0: Version = Version::new(0, 1, 0);
const V0_2_0: Version = Version::new(0, 2, 0);

/// May run twice: it renames only if the old file is there and the new one is not.
fn rename_settings(data_dir: &Path) -> Result<(), BoxError> {
    let (old, new) = (data_dir.join("settings.json"), data_dir.join("config.json"));
    if old.exists() && !new.exists() {
        fs::rename(old, new)?;
    }
    Ok(())
}

/// May run twice: an event that has a priority keeps it, and the file is replaced whole.
fn add_priority(data_dir: &Path) -> Result<(), BoxError> {
    let file = data_dir.join("events.json");
    let mut events: Vec<Map<String, Value>> = serde_json::from_slice(&fs::read(&file)?)?;
    for event in &mut events {
        event.entry("priority").or_insert(0.into());
    }
    Ok(ops::atomic_write(file, serde_json::to_vec(&events)?)?)
}

fn migrator(data_dir: &Path) -> tierce::Result<Migrator> {
    let steps = [
        DataStep::new(Version::ZERO, V0_1_0, rename_settings),
        DataStep::new(V0_1_0, V0_2_0, add_priority),
    ];
    Migrator::new(data_dir, steps)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("settings.json"), "{}")?;

    let mut migrator = migrator(dir.path())?;
    assert_eq!(migrator.version()?, Version::ZERO, "there is no version file");
    assert_eq!(migrator.plan(V0_2_0)?.len(), 2, "a dry run");

    // The second step fails: the first is done and on record.
    assert_eq!(migrator.migrate(V0_2_0).expect_err("it must be refused").kind(), "migration");
    assert_eq!(migrator.version()?, V0_1_0);
    assert!(dir.path().join("config.json").exists());

    fs::write(dir.path().join("events.json"), r#"[{"type": "motion"}]"#)?;
    assert_eq!(migrator.migrate(V0_2_0)?, [(V0_1_0, V0_2_0)]);
    let events = fs::read_to_string(dir.path().join("events.json"))?;
    assert_eq!(events, r#"[{"priority":0,"type":"motion"}]"#);
    assert_eq!(fs::read_to_string(dir.path().join("version.txt"))?, "0.2.0\n");

    // Versions are numbers: 0.10.0 is newer, and what a newer program wrote is left alone.
    migrator.set_version(Version::new(0, 10, 0))?;
    assert_eq!(migrator.migrate(V0_2_0).expect_err("it must be refused").kind(), "too-new");
    Ok(())
}
