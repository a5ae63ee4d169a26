//! Seed 001, "/data" and "Directory Structure": the standard directories of an add-on with a settings file, a store and
//! a log in them; seed 000, "Storage Location": one cache directory for all instances of a class, created when it is
//! used.

use std::error::Error;

use tierce::{
    Config,
    ops::{self, ConfigDocument, Directories, Level, RotatingLog},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let directories = Directories::new(dir.path().join("data"));
    directories.create()?;
    directories.create()?; // again: nothing happens
    for directory in [
        directories.cache(),
        directories.logs(),
        directories.config(),
        directories.db(),
        directories.temp(),
    ] {
        assert!(directory.is_dir());
    }

    ConfigDocument::open(directories.config().join("config.json"))?.set("interval", &30)?;
    RotatingLog::open(directories.logs().join("addon.log"))?.log(Level::Info, "addon", "ready")?;
    let options = Config::new().engine_options().background(false);
    let store = options.clone().open(directories.db())?;
    store.put("events", "1")?;
    store.close()?;

    // A restart finds it all.
    let config = ConfigDocument::open(directories.config().join("config.json"))?;
    assert_eq!(config.get::<u32>("interval")?, Some(30));
    let store = options.clone().open(directories.db())?;
    assert_eq!(store.get("events")?.as_deref(), Some(&b"1"[..]));
    store.close()?;

    // A class has one directory, which is there from the first use on.
    let home = dir.path().join(".hassette");
    let path = ops::cache_of(&home, "WeatherApp")?;
    assert!(path.ends_with(".hassette/WeatherApp/cache") && !home.exists());
    let (one, other) = (options.clone().open(&path)?, options.open(&path)?);
    one.put("weather:Berlin", "rain")?;
    assert_eq!(other.get("weather:Berlin")?.as_deref(), Some(&b"rain"[..]));
    Ok(())
}
