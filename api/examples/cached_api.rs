//! Shows the cached call of an interface of the usage guide (seed 002): key `api_response:{url}`, five minutes. Of
//! several callers one asks the server; a stored `null` is an answer, and no reason to ask again.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use serde_json::{Value, json};
use tierce::{
    BoxError, Cache, Error, Loaded, Options, SpaceOptions, Store, Ttl, codec::Json,
    engine::io::MemoryDisk,
};
use tierce_kit::clock::TestClock;

struct Api {
    cache: Cache<String, Value, Json>,
    requests: AtomicU32,
}

impl Api {
    fn fetch_data_cached(&self, url: &str) -> tierce::Result<Value> {
        let get = || Ok::<_, BoxError>(Loaded::new(self.request(url)?).ttl(Ttl::seconds(300)));
        self.cache.get_or_load(&format!("api_response:{url}"), get)
    }

    /// Stands for the request.
    fn request(&self, url: &str) -> Result<Value, BoxError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        match url.rsplit('/').next() {
            Some("null") => Ok(Value::Null),
            Some("down") => Err("503 Service Unavailable".into()),
            _ => Ok(json!({"url": url})),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = TestClock::new();
    let store =
        Store::open_with("api", Options::new().disk(MemoryDisk::new()).clock(clock.clone()))?;
    let cache = store.cache_with("api", &SpaceOptions::new())?;
    let api = Api { cache, requests: AtomicU32::new(0) };
    let requests = || api.requests.load(Ordering::SeqCst);

    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| api.fetch_data_cached("https://x/users"))).collect();
        for caller in callers {
            let answer = caller.join().expect("no panic").expect("an answer");
            assert_eq!(answer["url"], "https://x/users");
        }
    });
    assert_eq!(requests(), 1, "one request for eight callers");

    for _ in 0..3 {
        assert_eq!(api.fetch_data_cached("https://x/null")?, Value::Null);
    }
    assert_eq!(requests(), 2, "null was stored");

    for _ in 0..2 {
        assert!(matches!(api.fetch_data_cached("https://x/down"), Err(Error::Loader(_))));
    }
    assert_eq!(requests(), 4, "errors were not");

    clock.advance(300_000);
    api.fetch_data_cached("https://x/users")?;
    assert_eq!(requests(), 5, "five minutes are over");
    println!("{} requests", requests());
    Ok(())
}
