//! Maps: what is in them stays.

use std::{collections::BTreeMap, ops::Bound};

use tierce::{Error, Map, SpaceOptions, Ttl, codec::Json};
use tierce_kit::{rng::Rng, seed::cases};

use crate::cache::{Desk, seconds};

/// Goal: the verbs of a map say what was there.
#[test]
fn verbs() {
    let map = Desk::new().open().map::<String, u32>("m").unwrap();
    assert_eq!(map.get("a").unwrap(), None);
    assert!(!map.remove("a").unwrap() && map.is_empty().unwrap());
    map.insert("a", &1).unwrap();
    assert!(!map.insert_if_absent("a", &2).unwrap());
    assert!(map.insert_if_absent("b", &2).unwrap());
    assert_eq!(map.get_or_insert("a", 9).unwrap(), 1);
    assert_eq!(map.get_or_insert("c", 9).unwrap(), 9);
    assert_eq!(map.take("c").unwrap(), Some(9));
    assert_eq!(map.take("c").unwrap(), None);
    assert_eq!(map.update("a", |old| old.map(|old| old + 1)).unwrap(), Some(2));
    assert_eq!(map.update("none", |old| old).unwrap(), None);
    assert_eq!(map.update("b", |_| None).unwrap(), None);
    assert_eq!((map.len().unwrap(), map.contains_key("b").unwrap()), (1, false));
    map.clear().unwrap();
    assert!(map.keys().unwrap().is_empty());
}

/// Goal: a map refuses lifetimes and eviction, its entries outlive any time, and stay when the store is full.
#[test]
fn what_is_in_it_stays() {
    let desk = Desk::new();
    let store =
        tierce::Store::open_with("store", desk.options().max_bytes(8 << 20).segment_bytes(1 << 20))
            .unwrap();
    for options in [SpaceOptions::new().ttl(seconds(1)), SpaceOptions::new().evictable(true)] {
        let error = store.map_with::<u32, u32, Json>("m", &options).unwrap_err();
        assert!(matches!(error, Error::Options { .. }), "{error:?}");
    }
    let map = store.map::<u32, Vec<u8>>("m").unwrap();
    let cache = store.cache::<u32, Vec<u8>>("c").unwrap();
    for key in 0..20 {
        map.insert(&key, &vec![1; 1000]).unwrap();
    }
    desk.clock.advance(u64::from(u32::MAX) * 1000);
    for key in 0..5_000 {
        cache.insert(&key, &vec![2; 2000]).unwrap();
    }
    assert!(store.engine().unwrap().stats().evicted > 0);
    assert_eq!(map.len().unwrap(), 20);
    let full = (0..).map(|key| map.insert(&(1000 + key), &vec![3; 100_000])).find(Result::is_err);
    assert_eq!(full.unwrap().unwrap_err().kind(), "full");
    assert!((0..20).all(|key| map.get(&key).unwrap().is_some()));
}

/// Goal: an undecodable value is an error with the key in it, is kept, and can be replaced or removed.
#[test]
fn an_undecodable_value_is_an_error() {
    let store = Desk::new().open();
    let options = SpaceOptions::new().value_type("v");
    let numbers: Map<String, u32> = store.map_with("m", &options).unwrap();
    let texts: Map<String, String> = store.map_with("m", &options).unwrap();
    numbers.insert("k", &424_242).unwrap();
    let is_decode = |error: Error| match &error {
        Error::Decode { space, key, .. } => {
            assert!(space == "m" && key.contains('k') && !error.to_string().contains("424242"));
        }
        other => panic!("{other:?}"),
    };
    is_decode(texts.get("k").unwrap_err());
    is_decode(texts.take("k").unwrap_err());
    is_decode(texts.update("k", |_| unreachable!()).unwrap_err());
    is_decode(texts.entries().unwrap_err());
    is_decode(texts.get_or_insert("k", String::new()).unwrap_err());
    assert_eq!(numbers.get("k").unwrap(), Some(424_242));
    assert_eq!(texts.keys().unwrap(), ["k"]);
    texts.insert("k", &"x".into()).unwrap();
    assert_eq!(texts.get("k").unwrap().as_deref(), Some("x"));
}

/// Goal: several entries are stored together, or none of them; a crash keeps them together.
#[test]
fn all_or_none() {
    let desk = Desk::new();
    let store = tierce::Store::open_with("store", desk.options().value_bytes_max(1000)).unwrap();
    let map = store.map::<u32, Vec<u8>>("m").unwrap();
    map.insert_all([] as [(u32, Vec<u8>); 0]).unwrap();
    let error = map.insert_all([(1, vec![1]), (2, vec![0; 2000])]).unwrap_err();
    assert_eq!(error.kind(), "too-large");
    assert!(map.is_empty().unwrap());
    map.insert_all((0..100).map(|key| (key, vec![1]))).unwrap();
    let map = desk.crash().open().map::<u32, Vec<u8>>("m").unwrap();
    assert_eq!(map.len().unwrap(), 100);
}

/// Goal: updates of 16 threads are all there.
#[test]
fn updates_lose_nothing() {
    let map = Desk::new().open().map::<(), u64>("n").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    map.update(&(), |old| Some(old.unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(map.get(&()).unwrap(), Some(800));
}

/// Goal: a panic in an update changes nothing and leaves the map usable.
#[test]
fn a_panic_in_an_update() {
    let map = Desk::new().open().map::<u32, u32>("m").unwrap();
    map.insert(&1, &1).unwrap();
    let update = || map.update(&1, |_| panic!("planned"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(update)).is_err());
    assert_eq!(map.update(&1, |old| old.map(|old| old + 1)).unwrap(), Some(2));
}

/// Goal: ranges give what a sorted map gives, in order, for every pair of bounds, after reopening too.
#[test]
fn ranges_are_those_of_a_sorted_map() {
    cases("map::ranges_are_those_of_a_sorted_map", 20, |seed| {
        let (mut rng, desk) = (Rng::new(seed), Desk::new());
        let options = SpaceOptions::new().ordered(true);
        let mut map: Map<i64, u64> = desk.open().map_with("m", &options).unwrap();
        let mut model = BTreeMap::new();
        for step in 0..60 {
            let key = rng.below(40) as i64 - 20;
            if rng.one_in(4) {
                assert_eq!(map.remove(&key).unwrap(), model.remove(&key).is_some());
            } else {
                map.insert(&key, &step).unwrap();
                model.insert(key, step);
            }
        }
        if rng.one_in(2) {
            map = desk.crash().open().map_with("m", &options).unwrap();
        }
        for _ in 0..60 {
            let mut bound = || {
                let key = rng.below(44) as i64 - 22;
                rng.weighted(&[
                    (3, Bound::Included(key)),
                    (3, Bound::Excluded(key)),
                    (1, Bound::Unbounded),
                ])
            };
            let range = (bound(), bound());
            let wanted: Vec<_> = model
                .iter()
                .filter(|(key, _)| std::ops::RangeBounds::contains(&range, *key))
                .map(|(key, value)| (*key, *value))
                .collect();
            assert_eq!(map.range(range).unwrap(), wanted, "{range:?}");
        }
    });
}

/// Goal: ranges need an ordered space and say so; "never" for a map's lifetime is what it has anyway.
#[test]
fn ranges_without_order() {
    let store = Desk::new().open();
    let map = store.map::<u32, u32>("m").unwrap();
    assert!(matches!(map.range(..), Err(Error::Options { .. })));
    let _ = SpaceOptions::new().ttl(Ttl::Never);
}

/// Goal: the entries under a first part are those and no others, in both kinds of spaces.
#[test]
fn entries_under_a_part() {
    let store = Desk::new().open();
    for ordered in [false, true] {
        let options = SpaceOptions::new().ordered(ordered);
        let map: Map<(String, i32), u32> =
            store.map_with(&format!("m/{ordered}"), &options).unwrap();
        for (number, name) in ["a", "ab", "a\0", ""].into_iter().enumerate() {
            for at in -1..2 {
                map.insert(&(name, at), &(number as u32)).unwrap();
            }
        }
        let mut found = map.entries_under("a").unwrap();
        found.sort();
        let wanted: Vec<_> = (-1..2).map(|at| (("a".to_owned(), at), 0)).collect();
        assert_eq!(found, wanted);
    }
}
