//! Shows every call of the usage guide of `PersistentCache` (seed 002), in its order: creating with a directory and a
//! limit, set and get, lifetimes, delete, clear, statistics, scoped use, sets from several threads, nested data, the
//! content of files, answers of an interface, settings from the environment, two handles of one directory.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::HashMap, path::Path, thread, time::Duration};

use serde_json::{Value, json};
use tierce::{Cache, Options, Put, SpaceOptions, Store, Ttl, codec::Json};

type Values = Cache<String, Value, Json>;

fn open(directory: &Path, size_limit: u64) -> tierce::Result<Values> {
    Store::open_with(directory, Options::new().max_bytes(size_limit))?
        .cache_with("cache", &SpaceOptions::new())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let directory = dir.path().join("custom/cache/path");
    let cache = open(&directory, 1 << 30)?;

    // Storing and retrieving.
    let john = json!({"name": "John", "email": "john@example.com"});
    assert_eq!(cache.get("user:123")?, None);
    cache.insert("user:123", &john)?;
    assert_eq!(cache.get("user:123")?, Some(john));

    // Lifetimes: five minutes, an hour.
    cache.insert_with("temp_data", &json!("value"), &Put::new().ttl(Ttl::seconds(300)))?;
    cache.insert_with("session:abc", &json!({"id": 7}), &Put::new().ttl(Ttl::hours(1)))?;
    let left = cache.ttl("session:abc")?.flatten();
    assert!(left.is_some_and(|left| left > Duration::from_secs(3000)));

    // Deleting says whether it was there.
    assert!(cache.remove("user:123")?);
    assert!(!cache.remove("user:123")?);
    assert_eq!(cache.clear()?, 2);

    // Sets from several threads.
    thread::scope(|scope| {
        for (id, name) in [(1, "Alice"), (2, "Bob"), (3, "Charlie")] {
            let cache = &cache;
            scope.spawn(move || cache.insert(&format!("user:{id}"), &json!({"name": name})));
        }
    });
    assert_eq!(cache.len()?, 3);

    // Maps, lists, nested.
    let config = json!({"api_url": "https://api.example.com", "timeout": 30, "retries": 3});
    cache.insert("config", &config)?;
    cache.insert("user_ids", &json!([1, 2, 3, 4, 5]))?;
    let users = json!([{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}]);
    let nested = json!({"users": users, "metadata": {"count": 2, "page": 1}});
    cache.insert("nested", &nested)?;
    assert_eq!(
        cache.get("nested")?.map(|value| value["users"][1]["name"].clone()),
        Some(json!("Bob"))
    );

    // Statistics.
    let stats = cache.stats()?;
    println!("Entries: {}", stats.entries);
    println!("Size: {:.2} MB", stats.bytes as f64 / 1024.0 / 1024.0);
    println!("Location: {}", stats.directory.as_deref().unwrap_or(Path::new("?")).display());
    assert_eq!(stats.entries, 6);

    // The content of a file. An empty file is a hit, too.
    let file = dir.path().join("empty.txt");
    std::fs::write(&file, "")?;
    for _ in 0..2 {
        assert_eq!(read_file_cached(&file, &cache)?, "");
    }
    assert_eq!(cache.stats()?.loads, 1, "read once");

    // Two handles of one directory see the same.
    let other = open(&directory, 1 << 30)?;
    other.insert_with("key", &json!("value"), &Put::new().ttl(Ttl::seconds(60)))?;
    assert_eq!(cache.get("key")?, Some(json!("value")));

    // Scoped: the last handle that goes closes the store; everything is there when it is opened again.
    drop((cache, other));
    reopened(&directory, &nested)
}

fn reopened(directory: &Path, nested: &Value) -> Result<(), Box<dyn std::error::Error>> {
    let settings =
        settings(&HashMap::from([("CACHE_SIZE_LIMIT", "524288000"), ("CACHE_CONTENT_TTL", "0")]))?;
    let cache = open(directory, settings.0)?;
    assert_eq!((settings.1, cache.get("nested")?.as_ref()), (Ttl::Never, Some(nested)));
    assert_eq!(cache.clear()?, 8);
    assert!(cache.is_empty()?);
    Ok(())
}

fn read_file_cached(path: &Path, cache: &Values) -> Result<String, Box<dyn std::error::Error>> {
    let path = path.canonicalize()?;
    let key = format!("file_content:{}", path.display());
    let content =
        cache.try_get_or_insert_with(&key, || std::fs::read_to_string(&path).map(Value::from))?;
    Ok(content.as_str().unwrap_or_default().to_owned())
}

/// The limit in bytes and the lifetime of contents; 0 seconds mean "never expires" there.
fn settings(env: &HashMap<&str, &str>) -> Result<(u64, Ttl), std::num::ParseIntError> {
    let number = |name: &str, default: u64| env.get(name).map_or(Ok(default), |text| text.parse());
    Ok((
        number("CACHE_SIZE_LIMIT", 500 << 20)?,
        Ttl::from_config_seconds(number("CACHE_CONTENT_TTL", 0)?),
    ))
}
