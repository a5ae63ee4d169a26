//! Shows how to look into a store when something seems wrong (the troubleshooting of seeds 000 and 002): the files in
//! its directory, its spaces with what is in them, statistics, and what was evicted lately and why.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use tierce::{Cache, Options, SpaceOptions, Store, codec::Raw};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::new().max_bytes(8 << 20).segment_bytes(1 << 20);
    let store = Store::open_with(dir.path(), options)?;
    let pages: Cache<u32, Vec<u8>, Raw> = store.cache_with("pages", &SpaceOptions::new())?;
    let settings = store.map::<String, String>("settings")?;
    settings.insert("theme", &"dark".into())?;
    // More than there is room for: the cache forgets, the settings stay.
    for page in 0..3_000 {
        pages.insert(&page, &vec![b'x'; 4_000])?;
    }

    println!("files in {}:", dir.path().display());
    let mut bytes = 0;
    for file in std::fs::read_dir(dir.path())? {
        let file = file?;
        bytes += file.metadata()?.len();
        println!("  {:>9} {}", file.metadata()?.len(), file.file_name().display());
    }
    assert!(bytes > 0 && bytes <= 8 << 20, "the limit holds for the files");

    println!("spaces:");
    for space in store.spaces()? {
        let stats = store.space_stats(&space.name)?.unwrap_or_default();
        println!(
            "  {} ({} of {}): {} entries, {} bytes",
            space.name, space.kind, space.values, stats.entries, stats.bytes
        );
    }
    assert_eq!(store.space_stats("settings")?.map(|stats| stats.entries), Some(1));

    let engine = store.engine().ok_or("a remote store")?;
    let (stats, evictions) = (engine.stats(), engine.evictions());
    println!("{} evicted; the last of them:", stats.evicted);
    for eviction in evictions.iter().rev().take(3) {
        println!("  {} bytes at {:?}: {:?}", eviction.bytes, eviction.at, eviction.cause);
    }
    assert!(stats.evicted > 0 && !evictions.is_empty());
    assert_eq!(pages.len()? as u64 + stats.evicted, 3_000, "nothing else is missing");
    assert_eq!(settings.get("theme")?.as_deref(), Some("dark"));
    println!("health: {:?}", engine.health());
    Ok(())
}
