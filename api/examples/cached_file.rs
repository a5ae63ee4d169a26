//! Seed 002, "Cached file read": what was made of a file is remembered, and made again when the file changes. An empty
//! file is a file; a missing one is an error, and what was made of it is forgotten.

use std::{cell::Cell, error::Error, fs};

use tierce::{Store, Ttl};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rooms.txt");
    let store = Store::open(dir.path().join("store"))?;
    let rooms = store.file_cache::<Vec<String>>("rooms")?;
    let parsed = Cell::new(0);
    let parse = |bytes: &[u8]| {
        parsed.set(parsed.get() + 1);
        std::str::from_utf8(bytes).map(|text| text.lines().map(str::to_owned).collect())
    };

    fs::write(&path, "")?;
    assert!(rooms.get_with(&path, parse)?.is_empty());
    assert!(rooms.get_with(&path, parse)?.is_empty());
    assert_eq!(parsed.get(), 1, "an empty file is a hit");

    fs::write(&path, "attic\nhall\n")?;
    assert_eq!(rooms.get_with(&path, parse)?, ["attic", "hall"]);
    assert_eq!(rooms.get_with(&path, parse)?, ["attic", "hall"]);
    assert_eq!(parsed.get(), 2, "a changed file is read again, once");

    fs::remove_file(&path)?;
    let missing = rooms.get_with(&path, parse).err();
    assert_eq!(missing.map(|error| error.kind()), Some("io"));

    // What comes from no file: remembered by the arguments.
    let areas = store.memo::<(String, u32), f64>("areas", Ttl::hours(1))?;
    assert_eq!(areas.call(&("attic", 3), || 17.5)?, 17.5);
    assert_eq!(areas.call(&("attic", 3), || unreachable!())?, 17.5);
    Ok(())
}
