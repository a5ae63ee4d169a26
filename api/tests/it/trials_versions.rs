//! A renewal between the reading and the writing of an update is kept: in a store on disk, and on a server.

use std::thread;

use tierce::{Cache, Put, Store, Ttl};

/// Another thread gives the entry an hour.
fn renew(cache: &Cache<String, u32>) {
    let renewed = thread::scope(|scope| {
        scope.spawn(|| cache.touch("k", Ttl::hours(1)).unwrap()).join().unwrap()
    });
    assert!(renewed, "acknowledged");
}

/// An update of a cache keeps the lifetime, and another thread renews the entry while it is asked.
fn a_renewal_is_kept(store: &Store) {
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    cache.insert_with("k", &1, &Put::new().ttl(Ttl::seconds(60))).unwrap();
    let mut asked = 0;
    let updated = cache.update("k", &Put::new().keep_ttl(), |old| {
        asked += 1;
        if asked == 1 {
            renew(&cache);
        }
        old.map(|old| old + 1)
    });
    assert_eq!((updated.unwrap(), asked), (Some(2), 2), "it is asked again");
    let left = |at: tierce::Timestamp| at.0.saturating_sub(store.now().0);
    let entry = cache.entry("k").unwrap().unwrap();
    assert!(left(entry.expires_at.unwrap()) > 3_500_000, "the acknowledged renewal was taken back");
}

/// Goal: an update does not take back a renewal that came between.
#[test]
fn on_disk() {
    let store = Store::in_memory().unwrap();
    a_renewal_is_kept(&store);
}

/// Goal: the same on a server.
#[cfg(feature = "redis")]
#[test]
fn on_a_server() {
    let Some(server) = crate::redis_server::RedisServer::start() else { return };
    a_renewal_is_kept(&Store::redis(&server.url(), "test").unwrap());
}

/// Goal: a deletion that was decided by what is there does not hit what was renewed meanwhile, on a server too.
#[cfg(feature = "redis")]
#[test]
fn a_condition_covers_the_expiry() {
    let Some(server) = crate::redis_server::RedisServer::start() else { return };
    let store = Store::redis(&server.url(), "test").unwrap();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    cache.insert_with("k", &1, &Put::new().ttl(Ttl::seconds(60))).unwrap();
    let mut asked = 0;
    cache
        .update("k", &Put::new(), |old| {
            asked += 1;
            if asked == 1 {
                renew(&cache);
                return None;
            }
            old
        })
        .unwrap();
    assert_eq!((asked, cache.get("k").unwrap()), (2, Some(1)), "deleted by what was true before");
}
