//! Stale values: while a fresh one is loaded, when loading fails, and ahead of time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use tierce::{
    BoxError, Cache, Error, LoadPolicy, Loaded, Loading, SpaceOptions, Store, cache::Old,
    codec::Raw,
};

use crate::cache::{Desk, log_bytes, seconds, until};

/// What the server answers, and how often it was asked.
#[derive(Clone, Default)]
struct Server {
    calls: Arc<AtomicU32>,
    answer: Arc<Mutex<Option<u32>>>,
}

impl Server {
    fn set(&self, answer: Option<u32>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn ask(&self) -> Result<Loaded<u32>, BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.answer.lock().unwrap().map(Loaded::new).ok_or_else(|| "down".into())
    }

    fn loading(&self, store: &Store, policy: LoadPolicy) -> Loading<u32, u32> {
        let this = self.clone();
        store.cache::<u32, u32>("c").unwrap().loading(policy, move |_, _| this.ask())
    }
}

/// Goal: a stale value is served at once while one load in the background replaces it, and not after its window.
#[test]
fn stale_while_revalidate() {
    let (desk, server) = (Desk::new(), Server::default());
    let policy = LoadPolicy::new().ttl(seconds(10)).stale_while_revalidate(seconds(20));
    let loading = server.loading(&desk.open(), policy);
    server.set(Some(1));
    assert_eq!(loading.get(&1).unwrap(), 1);
    server.set(Some(2));
    desk.clock.advance(9_999);
    assert_eq!(loading.get(&1).unwrap(), 1);
    assert_eq!(server.calls(), 1);
    desk.clock.advance(1);
    assert_eq!(loading.get(&1).unwrap(), 1, "stale, at once");
    until("the refresh", || loading.cache().get(&1).unwrap() == Some(2));
    assert_eq!(server.calls(), 2);
    assert_eq!(loading.cache().stats().unwrap().stale_served, 1);
    desk.clock.advance(30_000);
    server.set(Some(3));
    assert_eq!(loading.get(&1).unwrap(), 3, "past its window it is loaded, not served");
}

/// Goal: a refresh in the background that fails is tried again after a while and not before; the stale value is served.
#[test]
fn a_failed_refresh_is_retried_later() {
    let (desk, server) = (Desk::new(), Server::default());
    let policy = LoadPolicy::new()
        .ttl(seconds(10))
        .stale_while_revalidate(seconds(1000))
        .retry_after(seconds(30));
    let loading = server.loading(&desk.open(), policy);
    server.set(Some(1));
    loading.get(&1).unwrap();
    server.set(None);
    desk.clock.advance(10_000);
    assert_eq!(loading.get(&1).unwrap(), 1);
    until("the failure", || loading.cache().stats().unwrap().load_failures == 1);
    for _ in 0..1000 {
        assert_eq!(loading.get(&1).unwrap(), 1);
    }
    desk.clock.advance(29_999);
    assert_eq!(loading.get(&1).unwrap(), 1);
    server.set(Some(2));
    desk.clock.advance(1);
    until("the next refresh", || loading.get(&1).unwrap() == 2);
    assert_eq!(server.calls(), 3);
}

/// Goal: a stale value is served when loading fails, until its window ends, also after a crash and a restart.
#[test]
fn stale_if_error_survives_a_restart() {
    let (mut desk, server) = (Desk::new(), Server::default());
    let policy = LoadPolicy::new().ttl(seconds(10)).stale_if_error(seconds(100));
    server.set(Some(1));
    let store = desk.open();
    server.loading(&store, policy.clone()).get(&1).unwrap();
    drop(store);
    server.set(None);
    desk.clock.advance(50_000);
    for is_clean in [true, false] {
        if is_clean {
            desk.open().close().unwrap();
        } else {
            desk = desk.crash();
        }
        let loading = server.loading(&desk.open(), policy.clone());
        let asked = server.calls();
        assert_eq!(loading.get(&1).unwrap(), 1);
        assert_eq!(server.calls(), asked + 1, "it tries first");
        let entry = loading.cache().get_stale(&1).unwrap().unwrap();
        assert!(entry.is_stale && entry.fresh_until < entry.expires_at);
        assert_eq!(loading.cache().get(&1).unwrap(), None, "a plain get has nothing stale");
        assert!(!loading.cache().contains_key(&1).unwrap() && loading.cache().is_empty().unwrap());
    }
    desk.clock.advance(60_000);
    let loading = server.loading(&desk.open(), policy);
    assert!(matches!(loading.get(&1), Err(Error::Loader(_))), "past its window it is gone");
    assert!(loading.cache().get_stale(&1).unwrap().is_none());
}

/// Goal: who has no patience gets the stale value, if it may be served on errors.
#[test]
fn no_patience_and_a_stale_value() {
    let desk = Desk::new();
    let gate = Arc::new(std::sync::Barrier::new(2));
    let wait = Arc::clone(&gate);
    let policy = LoadPolicy::new().ttl(seconds(10)).stale_if_error(seconds(100));
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let first = cache.loading(policy.clone(), |_, _| Ok(Loaded::new(1)));
    let policy = policy.patience(std::time::Duration::from_millis(1));
    let loading = cache.loading(policy, move |_, old| {
        wait.wait();
        Ok(Loaded::new(old.map_or(1, |old| old.value + 1)))
    });
    assert_eq!(first.get(&1).unwrap(), 1);
    desk.clock.advance(10_000);
    assert_eq!(loading.get(&1).unwrap(), 1, "it does not wait for the load");
    gate.wait();
    until("the load", || cache.get(&1).unwrap() == Some(2));
}

/// Goal: a value is loaded in the background when a part of its time is over, and the fresh one is served meanwhile.
#[test]
fn refresh_ahead() {
    let (desk, server) = (Desk::new(), Server::default());
    let policy = LoadPolicy::new().ttl(seconds(100)).refresh_ahead(0.8);
    let loading = server.loading(&desk.open(), policy);
    server.set(Some(1));
    loading.get(&1).unwrap();
    server.set(Some(2));
    desk.clock.advance(79_999);
    assert_eq!(loading.get(&1).unwrap(), 1);
    assert_eq!(server.calls(), 1);
    desk.clock.advance(1);
    assert_eq!(loading.get(&1).unwrap(), 1);
    until("the refresh", || loading.cache().get(&1).unwrap() == Some(2));
    assert_eq!(loading.cache().ttl(&1).unwrap(), Some(Some(seconds(100))));
    assert_eq!((server.calls(), loading.cache().stats().unwrap().misses), (2, 1));
}

/// Goal: entries without an expiry are never due, whatever the policy.
#[test]
fn what_never_expires_is_never_due() {
    let (desk, server) = (Desk::new(), Server::default());
    let policy = LoadPolicy::new().early(1e9).refresh_ahead(1.0).stale_while_revalidate(seconds(9));
    let loading = server.loading(&desk.open(), policy.jitter(1.0));
    server.set(Some(1));
    for _ in 0..100 {
        assert_eq!(loading.get(&1).unwrap(), 1);
        desk.clock.advance(1 << 40);
    }
    assert_eq!(server.calls(), 1);
}

/// Goal: "not modified" gives the value another lifetime and writes it not again; the validator comes back.
#[test]
fn not_modified_writes_no_value() {
    let desk = Desk::new();
    let store = desk.open();
    let cache: Cache<u32, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    let policy = LoadPolicy::new().ttl(seconds(60)).stale_if_error(seconds(600));
    let load = |_: &u32, old: Option<&Old<Vec<u8>>>| match old {
        None => Ok(Loaded::new(vec![1; 50_000]).validator("etag-1")),
        Some(old) => {
            assert_eq!(old.validator.as_deref(), Some(&b"etag-1"[..]));
            assert_eq!(old.value.len(), 50_000);
            Ok(Loaded::not_modified())
        }
    };
    let loading = cache.loading(policy, load);
    loading.get(&1).unwrap();
    let written = log_bytes(&store);
    for _ in 0..5 {
        desk.clock.advance(60_000);
        assert_eq!(loading.get(&1).unwrap().len(), 50_000);
        assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(60))));
    }
    assert!(log_bytes(&store) - written < 1000);
    assert_eq!(cache.stats().unwrap().inserts, 1);
    drop((cache, loading));
    store.close().unwrap();
    desk.clock.advance(59_000);
    let cache: Cache<u32, Vec<u8>, Raw> =
        desk.open().cache_with("c", &SpaceOptions::new()).unwrap();
    assert!(cache.get(&1).unwrap().is_some(), "the longer lifetime survives a restart");
}
