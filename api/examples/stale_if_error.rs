//! Shows what the documents ask for between the lines ("API responses with rate limits", seed 000; "stale data", seed
//! 002): a value that is a little old is served at once while one load replaces it, an older one is served when the
//! service is down, also after a restart, and a value that the service calls unchanged is not written again.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tierce::{Error, LoadPolicy, Loaded, Loading, Options, Store, Ttl, engine::io::MemoryDisk};
use tierce_kit::clock::TestClock;

/// A service that counts requests, and may be down.
#[derive(Clone, Default)]
struct Service {
    is_down: Arc<AtomicBool>,
    requests: Arc<AtomicU32>,
}

fn prices(store: &Store, service: &Service) -> tierce::Result<Loading<String, f64>> {
    let policy = LoadPolicy::new()
        .ttl(Ttl::minutes(5))
        .stale_if_error(Duration::from_secs(24 * 3600))
        .retry_after(Duration::from_secs(10));
    let service = service.clone();
    Ok(store.cache::<String, f64>("prices")?.loading(policy, move |_item, old| {
        service.requests.fetch_add(1, Ordering::SeqCst);
        if service.is_down.load(Ordering::SeqCst) {
            return Err("no route to host".into());
        }
        Ok(match old.and_then(|old| old.validator.as_deref()) {
            Some(b"etag-1") => Loaded::not_modified(),
            _ => Loaded::new(9.99).validator("etag-1"),
        })
    }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let open =
        || Store::open_with("prices", Options::new().disk(disk.clone()).clock(clock.clone()));
    let (service, milk) = (Service::default(), "milk".to_owned());
    let store = open()?;
    let loading = prices(&store, &service)?;
    assert_eq!(loading.get(&milk)?, 9.99);

    // Six minutes later the service says that nothing has changed.
    clock.advance(6 * 60_000);
    assert_eq!(loading.get(&milk)?, 9.99);
    let stats = loading.cache().stats()?;
    assert_eq!((stats.loads, stats.inserts), (2, 1), "loaded twice, written once");

    // It is down, and the program starts anew: yesterday's price is better than none.
    service.is_down.store(true, Ordering::SeqCst);
    drop(loading);
    store.close()?;
    clock.advance(20 * 3600 * 1000);
    let store = open()?;
    let loading = prices(&store, &service)?;
    assert_eq!(loading.get(&milk)?, 9.99);
    assert_eq!(loading.cache().get("milk")?, None, "without a loader nothing stale is served");
    assert_eq!(loading.cache().stats()?.stale_served, 1);

    // After a day it is an error, and says which.
    clock.advance(5 * 3600 * 1000);
    match loading.get(&milk) {
        Err(Error::Loader(error)) => println!("no price any more: {error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(service.requests.load(Ordering::SeqCst), 4);
    Ok(())
}
