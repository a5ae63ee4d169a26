//! Small stores evict exactly as their policy says.

use std::collections::HashSet;

use tierce_engine::Evict;
use tierce_kit::{rng::Rng, seed::cases};

use super::{get, put, store_of, there};
use crate::limits::{evictable, name};

/// What an exact policy would do: the coldest key first.
#[derive(Debug)]
struct Exact {
    order: Vec<u64>,
    reads_count: bool,
}

impl Exact {
    fn use_of(&mut self, key: u64) {
        self.order.retain(|other| *other != key);
        self.order.push(key);
    }
}

/// Goal: on random traces of a store of 1 to 200 entries, victims are the coldest of an exact model, at most a batch
/// of a 64th of the capacity at a time; reads count for LRU and not for FIFO; asking whether a key is there never does.
fn coldest_go(name_of_test: &str, evict: Evict) {
    cases(name_of_test, 12, |seed| {
        let mut rng = Rng::new(seed);
        let capacity = rng.between(1, 200);
        let store = store_of(capacity, evict);
        let mut exact = Exact { order: Vec::new(), reads_count: evict == Evict::Lru };
        let keys = capacity * 2 + 3;
        for step in 0..3_000 {
            let key = rng.below(keys).min(rng.below(keys));
            if rng.one_in(3) {
                assert_eq!(get(store.engine(), key), exact.order.contains(&key), "{step}");
                if exact.reads_count && exact.order.contains(&key) {
                    exact.use_of(key);
                }
                continue;
            }
            let was: HashSet<u64> = there(store.engine(), 0..keys).into_iter().collect();
            put(store.engine(), key);
            let is: HashSet<u64> = there(store.engine(), 0..keys).into_iter().collect();
            assert!(is.contains(&key), "{step}: just written");
            let gone: Vec<u64> = was.difference(&is).copied().collect();
            let batch = usize::try_from(1.max(capacity / 64)).unwrap();
            assert!(gone.len() <= batch, "{gone:?}");
            let coldest: Vec<u64> = exact.order.iter().take(gone.len()).copied().collect();
            let are_coldest = gone.iter().all(|key| coldest.contains(key));
            assert!(are_coldest, "{capacity}, {step}: {gone:?} went, the coldest were {coldest:?}");
            exact.order.retain(|key| !gone.contains(key));
            exact.use_of(key);
        }
    });
}

/// Goal: LRU is exact in small stores: reads and writes count.
#[test]
fn lru_evicts_the_least_recently_used() {
    coldest_go("eviction::exact::lru_evicts_the_least_recently_used", Evict::Lru);
}

/// Goal: FIFO is exact in small stores: only writes count.
#[test]
fn fifo_evicts_the_first_stored() {
    coldest_go("eviction::exact::fifo_evicts_the_first_stored", Evict::Fifo);
}

/// Goal: under S3-FIFO a scan of keys that are used once does not displace those that are used again and again, and
/// the limit holds.
#[test]
fn s3_fifo_lets_one_hit_wonders_go_first() {
    let store = store_of(1_000, Evict::S3Fifo);
    let hot = 0..300_u64;
    hot.clone().for_each(|key| put(store.engine(), key));
    for _ in 0..3 {
        hot.clone().for_each(|key| assert!(get(store.engine(), key)));
    }
    for wonder in 10_000..20_000 {
        put(store.engine(), wonder);
        if wonder % 5 == 0 {
            get(store.engine(), wonder % 300);
        }
    }
    let left = there(store.engine(), hot);
    assert!(left.len() >= 290, "only {} of 300 hot ones are left", left.len());
    assert_eq!(store.engine().stats().entries, 1_000);
}

/// Goal: the same scan displaces everything that an LRU has, so the test above tests the policy.
#[test]
fn a_scan_empties_an_lru() {
    let store = store_of(1_000, Evict::Lru);
    (0..300).for_each(|key| put(store.engine(), key));
    (10_000..20_000).for_each(|key| put(store.engine(), key));
    assert_eq!(there(store.engine(), 0..300), [0; 0]);
}

/// Goal: with no policy nothing is evicted and a write that finds no room is refused.
#[test]
fn none_evicts_nothing() {
    let store = store_of(100, Evict::None);
    (0..100).for_each(|key| put(store.engine(), key));
    let refused = store.engine().put_with(name(100), "x", &evictable());
    assert_eq!(refused.unwrap_err().kind(), "full");
    assert_eq!(there(store.engine(), 0..101).len(), 100);
    assert_eq!(store.engine().shrink_to(0).unwrap(), 0);
    assert_eq!(store.engine().stats().evicted, 0);
}

/// Goal: every way of reading a value counts as a use: get, entry, many, update; `contains_key` and iterating do not.
#[test]
fn what_counts_as_a_use() {
    type Use = fn(&tierce_engine::Engine, u64);
    let uses: [(&str, bool, Use); 5] = [
        ("get", true, |engine, key| assert!(get(engine, key))),
        ("entry", true, |engine, key| assert!(engine.entry(name(key)).unwrap().is_some())),
        ("get_many", true, |engine, key| {
            assert!(engine.get_many(&[name(key)]).unwrap()[0].is_some());
        }),
        ("contains_key", false, |engine, key| assert!(engine.contains_key(name(key)).unwrap())),
        ("iter", false, |engine, _| assert_eq!(engine.iter().unwrap().count(), 10)),
    ];
    for (way, counts, use_it) in uses {
        let store = store_of(10, Evict::Lru);
        (0..10).for_each(|key| put(store.engine(), key));
        use_it(store.engine(), 0);
        put(store.engine(), 10);
        let gone = if counts { 1 } else { 0 };
        assert_eq!(there(store.engine(), [gone]), [0; 0], "{way}: {gone} should have gone");
    }
}

/// Goal: `shrink_to` evicts the coldest down to what is asked, and state stays.
#[test]
fn shrinking_evicts_the_coldest() {
    let store = store_of(500, Evict::Lru);
    (0..500).for_each(|key| put(store.engine(), key));
    (0..100).for_each(|key| assert!(get(store.engine(), key)));
    let live = store.engine().stats().live_bytes;
    let gone = store.engine().shrink_to(live / 2).unwrap();
    let stats = store.engine().stats();
    assert!(stats.live_bytes <= live / 2 && stats.live_bytes > live / 2 - 200, "{stats:?}");
    assert_eq!((gone, stats.evicted, stats.entries), (500 - stats.entries, gone, 500 - gone));
    assert_eq!(there(store.engine(), 0..100).len(), 100, "the used ones stay");
    assert_eq!(there(store.engine(), 100..100 + gone).len(), 0, "the coldest go");
}
