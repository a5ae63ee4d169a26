//! What entries weigh, the limit of it, and who used which of them.

use std::sync::atomic::{AtomicBool, Ordering};

use tierce::{
    Cache, Loaded, Put, Store, Ttl,
    cache::{Event, Removal},
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::cache::Desk;

fn weight(weight: u64) -> Put {
    Put::new().weight(weight)
}

fn of(cache: &Cache<u32, u32>, key: u32) -> Option<u64> {
    cache.entry(&key).unwrap().map(|entry| entry.weight)
}

/// Goal: a weight belongs to the entry, over a restart too, until another value takes its place; the sum is told.
#[test]
fn weights_are_kept_and_summed() {
    let desk = Desk::new();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    cache.insert(&1, &1).unwrap();
    cache.insert_with(&2, &2, &weight(5)).unwrap();
    cache.insert_with(&3, &3, &weight(0)).unwrap();
    cache.get_or_load(&4, || Ok::<_, std::io::Error>(Loaded::new(4).weight(7))).unwrap();
    cache.update(&5, &weight(9), |_| Some(5)).unwrap();
    assert!(cache.touch(&2, Ttl::seconds(60)).unwrap());
    for _ in 0..2 {
        let all: Vec<_> = (1..=5).map(|key| of(&cache, key)).collect();
        assert_eq!(all, [Some(1), Some(5), Some(0), Some(7), Some(9)]);
        assert_eq!(cache.stats().unwrap().weight, 22);
    }
    drop(cache);
    store.close().unwrap();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    assert_eq!((of(&cache, 2), cache.stats().unwrap().weight), (Some(5), 22));
    cache.insert(&2, &2).unwrap();
    assert_eq!(of(&cache, 2), Some(1), "a plain insert has a plain weight");
}

/// Goal: what was used longest ago goes, is told and counted; who is used stays.
#[test]
fn the_coldest_go_first() {
    let desk = Desk::new();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    cache.set_max_weight(Some(8)).unwrap();
    let events = cache.subscribe(100);
    for key in 1..=4 {
        desk.clock.advance(1_000);
        cache.insert_with(&key, &key, &weight(2)).unwrap();
    }
    desk.clock.advance(1_000);
    assert_eq!(cache.get(&1).unwrap(), Some(1));
    cache.insert_with(&5, &5, &weight(3)).unwrap();
    let mut keys = cache.keys().unwrap();
    keys.sort_unstable();
    assert_eq!(keys, [1, 4, 5], "2 and 3 were used longest ago");
    let told = std::iter::from_fn(|| events.try_next());
    let gone = told.filter(|event| matches!(event, Event::Removed(..))).collect::<Vec<_>>();
    assert_eq!(gone, [2, 3].map(|key| Event::Removed(key, Removal::Evicted)));
    let stats = cache.stats().unwrap();
    assert_eq!((stats.weight, stats.outweighed, stats.removed), (7, 2, 0));
    // Another value of one that is there needs only what it weighs more.
    cache.insert_with(&5, &6, &weight(4)).unwrap();
    assert_eq!(cache.len().unwrap(), 3);
    // A limit that is set where more is stored holds at once.
    cache.set_max_weight(Some(4)).unwrap();
    assert_eq!(cache.keys().unwrap(), [5]);
    cache.set_max_weight(None).unwrap();
    cache.insert_with(&7, &7, &weight(100)).unwrap();
    assert_eq!(cache.len().unwrap(), 2);
}

/// Goal: what cannot have room is refused before anything is removed for it, and what was there stays.
#[test]
fn what_is_too_heavy_is_refused() {
    let cache = Store::in_memory().unwrap().cache::<u32, u32>("c").unwrap();
    cache.set_max_weight(Some(10)).unwrap();
    cache.insert_with(&1, &1, &weight(4)).unwrap();
    cache.insert_with(&2, &2, &weight(5).pinned()).unwrap();
    for (key, heavy) in [(3, 11), (1, 11), (3, 6), (1, 6)] {
        let error = cache.insert_with(&key, &9, &weight(heavy)).unwrap_err();
        assert_eq!(error.kind(), "overweight", "{error}");
        assert_eq!((cache.get(&1).unwrap(), cache.get(&2).unwrap()), (Some(1), Some(2)));
    }
    let loaded = cache.get_or_load(&3, || Ok::<_, std::io::Error>(Loaded::new(3).weight(11)));
    assert_eq!((loaded.unwrap(), cache.get(&3).unwrap()), (3, None), "served, and not stored");
    assert!(cache.stats().unwrap().unstored_because.unwrap().contains("no room"));
    assert_eq!(cache.update(&3, &weight(6), |_| Some(3)).unwrap_err().kind(), "overweight");
    // A pinned entry makes room for its own successor.
    cache.insert_with(&2, &3, &weight(6).pinned()).unwrap();
    assert_eq!(cache.stats().unwrap().weight, 10);
    assert_eq!(cache.set_max_weight(Some(5)).unwrap_err().kind(), "overweight");
    assert_eq!(cache.get(&2).unwrap(), Some(3), "what is pinned stays");
    assert!(cache.remove(&2).unwrap());
    cache.insert_with(&4, &4, &weight(5)).unwrap();
    assert!(cache.stats().unwrap().weight <= 5);
}

/// Goal: whatever is done, by however many, the entries never weigh more than the limit.
/// Method: three threads of random operations; a fourth looks at the whole at one moment, again and again.
#[test]
fn the_limit_holds_at_every_moment() {
    cases("cache_weight::the_limit_holds_at_every_moment", 3, the_limit_holds);
}

fn the_limit_holds(seed: u64) {
    const LIMIT: u64 = 100;
    let cache = Store::in_memory().unwrap().cache::<u32, u32>("c").unwrap();
    cache.set_max_weight(Some(LIMIT)).unwrap();
    let is_over = AtomicBool::new(false);
    let work = |writer: u64| {
        let mut random = Rng::new(seed.wrapping_add(writer));
        for _ in 0..500 {
            let (key, put) = (random.below(40) as u32, weight(random.below(30)));
            match random.below(8) {
                0 => drop(cache.remove(&key).unwrap()),
                1 => drop(cache.insert_with(&key, &1, &put.if_absent()).unwrap()),
                2 => drop(cache.update(&key, &put, |_| Some(2)).unwrap()),
                3 => drop(cache.get(&key).unwrap()),
                4 if key == 0 => drop(cache.clear().unwrap()),
                _ => drop(cache.insert_with(&key, &3, &put).unwrap()),
            }
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        let writers: Vec<_> = (0..3).map(|writer| scope.spawn(move || work(writer))).collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let weight = cache.stats().unwrap().weight;
                assert!(weight <= LIMIT, "{weight}");
            }
        });
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let stats = cache.stats().unwrap();
    assert!(stats.weight > LIMIT / 2, "it is used: {stats:?}");
    assert!(stats.outweighed > 50, "{stats:?}");
}

/// Goal: hits and last use are those since the value was stored, and unknown when nobody counted.
#[test]
fn uses_are_counted_if_asked_for() {
    let desk = Desk::new();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    let uses = |cache: &Cache<u32, u32>| {
        let entry = cache.entry(&1).unwrap().unwrap();
        (entry.hits, entry.accessed_at)
    };
    cache.insert(&1, &1).unwrap();
    cache.get(&1).unwrap();
    assert_eq!(uses(&cache), (None, None), "nobody asked for it");
    cache.track_uses(100);
    assert_eq!(uses(&cache), (None, None), "a look at what is known is no use");
    desk.clock.advance(5_000);
    let other = store.cache::<u32, u32>("c").unwrap();
    other.get(&1).unwrap();
    cache.get_or_insert_with(&1, || 9).unwrap();
    let at = store.now();
    desk.clock.advance(5_000);
    assert!(cache.contains_key(&1).unwrap());
    assert_eq!(uses(&cache), (Some(2), Some(at)));
    cache.invalidate_if(|_, entry| entry.hits == Some(3)).unwrap();
    cache.insert(&1, &2).unwrap();
    assert_eq!(uses(&cache), (None, None), "another value");
    cache.get(&1).unwrap();
    assert_eq!(uses(&cache).0, Some(1));
    drop((cache, other));
    store.close().unwrap();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    cache.track_uses(100);
    assert_eq!(uses(&cache), (None, None), "nothing is kept over a restart");
}
