//! Seed 001, "Backup Integration" and "Test restore": flush and list before the copy, verify and migrate after it.

use std::{error::Error, fs, path::Path};

use tierce::{
    Version,
    engine::Options,
    ops::{self, BackupOptions, DataStep, Migrator},
};

const V0_1_0: Version = Version::new(0, 1, 0);
const V0_2_0: Version = Version::new(0, 2, 0);

/// What the system does with the directory.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = (entry?.path(), to.to_owned());
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy(&path, &to)? } else { fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (data, copied) = (dir.path().join("data"), dir.path().join("copied"));
    let store = Options::new().background(false).open(data.join("db"))?;
    store.put("count", "42")?;
    fs::write(data.join("settings.json"), "{}")?;
    fs::write(data.join("addon.log"), "it goes on changing")?;

    // Before: what is in memory goes to the files, then they are listed.
    let options = BackupOptions::new().exclude("*.log");
    let flush = || Ok(store.close()?);
    let manifest = ops::prepare_backup_with(&data, V0_1_0, &options, flush)?;
    assert!(manifest.files.iter().any(|file| file.path == "settings.json"));
    assert!(manifest.files.iter().all(|file| !file.path.ends_with(".log")));
    copy(&data, &copied)?;
    assert!(ops::finish_backup(&data)?);

    // A copy with one bit less is refused, by name, before anything is touched.
    let damaged = dir.path().join("damaged");
    copy(&copied, &damaged)?;
    fs::write(damaged.join("settings.json"), "{")?;
    let mut migrator = Migrator::new(&damaged, [])?;
    let error = ops::restore_from_backup(&damaged, &mut migrator, V0_2_0, || Ok(()))
        .expect_err("it must be refused");
    assert!(error.to_string().ends_with("damaged: settings.json"), "{error}");

    // A good one is verified, migrated and put to use by the newer program.
    let rename =
        |data: &Path| Ok(fs::rename(data.join("settings.json"), data.join("config.json"))?);
    let mut migrator = Migrator::new(&copied, [DataStep::new(V0_1_0, V0_2_0, rename)])?;
    let mut rebuilt = false;
    let restored = ops::restore_from_backup(&copied, &mut migrator, V0_2_0, || {
        rebuilt = true;
        Ok(())
    })?;
    assert_eq!(restored.map(|restored| restored.migrated), Some(vec![(V0_1_0, V0_2_0)]));
    assert!(rebuilt && copied.join("config.json").exists());
    let store = Options::new().background(false).open(copied.join("db"))?;
    assert_eq!(store.get("count")?.as_deref(), Some(&b"42"[..]));

    // Every later start finds no list and has nothing to do.
    assert!(ops::restore_from_backup(&copied, &mut migrator, V0_2_0, || Ok(()))?.is_none());
    Ok(())
}
