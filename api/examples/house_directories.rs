//! Shows where the document on persistent storage (seed 000) puts its files: `{data_dir}/{ClassName}/cache`, one store
//! for all instances of a class, made when it is first used and not before, limited to 100 MiB. Instances put their own
//! name into their keys.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tierce::{Cache, Options, Store};

/// As the document's configuration has it.
const DEFAULT_CACHE_SIZE: u64 = 104_857_600;

/// A program of its own has these as statics.
type Lazy<T> = LazyLock<T, Box<dyn FnOnce() -> T>>;

struct App {
    instance: &'static str,
    cache: Lazy<tierce::Result<Cache<(String, String), u32>>>,
}

fn location(data_dir: &Path, class: &str) -> PathBuf {
    data_dir.join(class).join("cache")
}

impl App {
    fn new(data_dir: &Path, class: &'static str, instance: &'static str) -> Self {
        let path = location(data_dir, class);
        let open = move || {
            Store::open_with(path, Options::new().max_bytes(DEFAULT_CACHE_SIZE))?.cache("cache")
        };
        Self { instance, cache: LazyLock::new(Box::new(open)) }
    }

    fn cache(&self) -> Result<&Cache<(String, String), u32>, String> {
        self.cache.as_ref().map_err(ToString::to_string)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = tempfile::tempdir()?;
    let path = data_dir.path().join("WeatherApp/cache");
    assert_eq!(location(data_dir.path(), "WeatherApp"), path);

    let idle = App::new(data_dir.path(), "IdleApp", "0");
    let north = App::new(data_dir.path(), "WeatherApp", "north");
    let south = App::new(data_dir.path(), "WeatherApp", "south");
    assert!(!path.exists(), "nothing was used yet");

    north.cache()?.insert(&(north.instance, "runs"), &1)?;
    assert!(path.exists());
    south.cache()?.insert(&(south.instance, "runs"), &2)?;
    assert_eq!(south.cache()?.get(&("north", "runs"))?, Some(1), "they share it");
    assert_eq!(north.cache()?.get(&("south", "runs"))?, Some(2));
    let total = south.cache()?.store().engine().map(|engine| engine.usage().total);
    assert_eq!(total, Some(DEFAULT_CACHE_SIZE));

    // Closed and flushed when the last of them goes.
    drop((north, south, idle));
    assert!(!location(data_dir.path(), "IdleApp").exists(), "it never used its cache");
    let again = App::new(data_dir.path(), "WeatherApp", "north");
    assert_eq!(again.cache()?.get(&("north", "runs"))?, Some(1));

    // A place that cannot be written is an error that says which.
    let file = data_dir.path().join("file");
    std::fs::write(&file, "")?;
    let broken = App::new(&file, "WeatherApp", "0");
    let error = broken.cache().map(drop).expect_err("a file is in the way");
    println!("{error}");
    Ok(())
}
