//! Shows the helper for expiring entries of the document on persistent storage (seed 000): `get_cached_data` with a
//! greatest age, and `set_cached_data`, under keys `data:{key}`. The age is the reader's choice here, so two readers
//! may see the same entry differently; where the writer knows the lifetime, `Put::ttl` is simpler.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use serde::{Serialize, de::DeserializeOwned};
use tierce::{Cache, Options, Store, codec::Json, engine::io::MemoryDisk};
use tierce_kit::clock::TestClock;

/// Values of any kind, kept as JSON.
struct DataCache {
    cache: Cache<String, serde_json::Value, Json>,
}

impl DataCache {
    const TTL_MINUTES: u64 = 60;

    fn set_cached_data<T: Serialize>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(self.cache.insert(&format!("data:{key}"), &serde_json::to_value(value)?)?)
    }

    /// The value if it is not older than so many minutes.
    fn get_cached_data<T: DeserializeOwned>(
        &self,
        key: &str,
        ttl_minutes: Option<u64>,
    ) -> Result<Option<T>, Box<dyn std::error::Error>> {
        let Some(entry) = self.cache.entry(&format!("data:{key}"))? else { return Ok(None) };
        let age_ms = ttl_minutes.unwrap_or(Self::TTL_MINUTES) * 60_000;
        let is_fresh = entry.stored_at.is_some_and(|at| self.cache.store().now().0 < at.0 + age_ms);
        Ok(if is_fresh { Some(serde_json::from_value(entry.value)?) } else { None })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = TestClock::new();
    let options = Options::new().disk(MemoryDisk::new()).clock(clock.clone());
    let store = Store::open_with("data", options)?;
    let data = DataCache { cache: store.cache_with("data", &tierce::SpaceOptions::new())? };

    assert_eq!(data.get_cached_data::<f64>("price", None)?, None);
    data.set_cached_data("price", &31.4)?;
    data.set_cached_data("nothing", &None::<u32>)?;
    clock.advance(10 * 60_000);
    assert_eq!(data.get_cached_data("price", None)?, Some(31.4));
    assert_eq!(data.get_cached_data::<f64>("price", Some(5))?, None, "too old for this reader");
    assert_eq!(data.get_cached_data::<Option<u32>>("nothing", None)?, Some(None), "a hit");
    clock.advance(50 * 60_000);
    assert_eq!(data.get_cached_data::<f64>("price", None)?, None, "an hour is over");
    println!("the price was served for an hour");
    Ok(())
}
