//! Named spaces: their names, what was agreed when they were made, what they hold, and their end.

use std::collections::BTreeSet;

use tierce::{
    Cache, Error, Map, Options, SpaceOptions, Store, Ttl, codec::Raw, engine::io::MemoryDisk,
};

use crate::cache::{Desk, seconds};

/// Goal: names in any script and with parts are kept apart and listed in order.
#[test]
fn names() {
    let desk = Desk::new();
    let store = desk.open();
    let long = "n".repeat(200);
    let names = ["a", "a/b", "a/b/c", "ab", "Küche/Gerät 7", "日本", long.as_str()];
    for (number, name) in names.iter().enumerate() {
        store.map::<u32, u32>(name).unwrap().insert(&1, &(number as u32)).unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(store.map::<u32, u32>(name).unwrap().entries().unwrap(), [(1, number as u32)]);
    }
    drop(store);
    let listed: Vec<_> =
        desk.crash().open().spaces().unwrap().into_iter().map(|space| space.name).collect();
    let mut wanted = names.map(str::to_owned);
    wanted.sort();
    assert_eq!(listed, wanted);
}

/// Goal: names that cannot be used are refused with the reason, and leave nothing behind.
#[test]
fn names_that_are_refused() {
    let store = Desk::new().open();
    let long = "n".repeat(201);
    for name in ["", "/", "a//b", "/a", "a/", "a\nb", "\0", "$queue", long.as_str()] {
        let error = store.cache::<u32, u32>(name).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name:?}: {error:?}");
        assert_eq!(store.map::<u32, u32>(name).unwrap_err().kind(), "name");
    }
    assert!(store.spaces().unwrap().is_empty());
}

/// Goal: a space opened with other types of keys or values, or as another kind, is a typed error, and unharmed.
#[test]
fn types_that_differ() {
    let store = Desk::new().open();
    let cache = store.cache::<u32, String>("c").unwrap();
    cache.insert(&1, &"x".into()).unwrap();
    let what = |error: Error| match error {
        Error::Type { what, space, .. } if space == "c" => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(store.cache::<u32, u64>("c").unwrap_err()), "values");
    assert_eq!(what(store.cache::<String, String>("c").unwrap_err()), "keys");
    assert_eq!(what(store.map::<u32, String>("c").unwrap_err()), "a collection");
    assert!(store.cache::<u64, String>("c").is_ok(), "integers of all widths are one kind");
    assert_eq!(cache.get(&1).unwrap().as_deref(), Some("x"));
}

/// Goal: options that contradict the stored ones are refused, all of them at once; what is not said is as stored.
#[test]
fn options_that_differ() {
    let desk = Desk::new();
    let store = desk.open();
    let options = SpaceOptions::new().ttl(seconds(60)).ordered(true);
    let _: Cache<u32, u32> = store.cache_with("c", &options).unwrap();
    let other = SpaceOptions::new().ttl(Ttl::Never).ordered(false).evictable(false);
    let complaints = |error: Error| match error {
        Error::Options { complaints, .. } => complaints.len(),
        other => panic!("{other:?}"),
    };
    let open =
        |options: &SpaceOptions| store.cache_with::<u32, u32, tierce::codec::MsgPack>("c", options);
    assert_eq!(complaints(open(&other).unwrap_err()), 3);
    assert_eq!(complaints(open(&SpaceOptions::new().ttl(seconds(0))).unwrap_err()), 1);
    assert_eq!(complaints(store.map_with::<u32, u32, Raw2>("m", &options).unwrap_err()), 1);
    let plain = open(&SpaceOptions::new()).unwrap();
    plain.insert(&1, &1).unwrap();
    assert_eq!(plain.ttl(&1).unwrap(), Some(Some(seconds(60))));
    open(&other.change()).unwrap();
    let info = &desk.crash().open().spaces().unwrap()[0];
    assert_eq!((info.ttl_ms, info.ordered, info.evictable), (None, false, false));
}

type Raw2 = tierce::codec::Json;

/// Goal: statistics of a space count what is live in it and nothing else.
#[test]
fn statistics_of_a_space() {
    let desk = Desk::new();
    let store = desk.open();
    let cache: Cache<u32, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    let map = store.map::<u32, u32>("m").unwrap();
    map.insert(&1, &1).unwrap();
    assert!(store.space_stats("none").unwrap().is_none());
    assert_eq!(store.space_stats("c").unwrap().unwrap(), tierce::SpaceStats::default());
    cache.insert(&1, &vec![0; 1000]).unwrap();
    cache.insert_with(&2, &vec![0; 1000], &tierce::Put::new().ttl(seconds(9))).unwrap();
    let stats = store.space_stats("c").unwrap().unwrap();
    assert_eq!((stats.entries, stats.expiring), (2, 1));
    assert!((2000..2300).contains(&stats.bytes), "{stats:?}");
    desk.clock.advance(9_000);
    assert_eq!(store.space_stats("c").unwrap().unwrap().entries, 1);
    assert_eq!(store.space_stats("m").unwrap().unwrap().entries, 1);
}

/// Goal: a dropped space is gone with all that was in it, gives its bytes back, and its id is never used again; handles
/// that are around find nothing and refuse writes, also when a space of that name is made again.
#[test]
fn a_dropped_space() {
    let desk = Desk::new();
    let store = desk.open();
    let options = SpaceOptions::new().ordered(true);
    let old: Cache<u32, Vec<u8>, Raw> = store.cache_with("c", &options).unwrap();
    let kept = store.map::<u32, u32>("kept").unwrap();
    kept.insert(&1, &1).unwrap();
    for key in 0..1500 {
        old.insert(&key, &vec![0; 4000]).unwrap();
    }
    let used = store.engine().unwrap().usage().used;
    let id = store.spaces().unwrap()[0].id;
    assert!(store.drop_space("c").unwrap());
    assert!(!store.drop_space("c").unwrap());
    assert!(!store.drop_space("never").unwrap());
    assert!(old.is_empty().unwrap() && old.get(&1).unwrap().is_none());
    assert_eq!(old.insert(&1, &vec![]).unwrap_err().kind(), "closed");
    assert_eq!(old.clear().unwrap_err().kind(), "closed");
    store.engine().unwrap().compact().unwrap();
    let usage = store.engine().unwrap().usage();
    assert!(usage.used < used / 2, "{usage:?}, {used} before");
    let new = store.cache::<u32, u32>("c").unwrap();
    new.insert(&1, &1).unwrap();
    assert!(store.spaces().unwrap()[0].id > id);
    assert!(old.is_empty().unwrap());
    assert_eq!(old.remove(&1).unwrap_err().kind(), "closed");
    drop((old, new, kept, store));
    let desk = desk.crash();
    let store = desk.open();
    assert_eq!(store.cache::<u32, u32>("c").unwrap().entries().unwrap(), [(1, 1)]);
    assert!(store.drop_space("c").unwrap());
    assert!(store.drop_space("kept").unwrap());
    let store = desk.crash().open();
    store.map::<u32, u32>("later").unwrap();
    assert!(store.spaces().unwrap()[0].id > id + 2, "not after a restart either");
}

/// Goal: a space that is dropped while others write to it leaves nothing that a later space could see.
#[test]
fn dropped_while_written() {
    let store = Desk::new().open();
    for round in 0..20 {
        let cache = store.cache::<u32, u32>("c").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for key in 0.. {
                        if cache.insert(&(key * 4 + thread), &round).is_err() {
                            break;
                        }
                    }
                });
            }
            crate::cache::until("a write", || !cache.is_empty().unwrap());
            assert!(store.drop_space("c").unwrap());
        });
        assert!(cache.is_empty().unwrap());
        let engine = store.engine().unwrap();
        let left = engine.iter().unwrap().filter(|item| item.as_ref().unwrap().0[0] != 0).count();
        assert_eq!(left, 0, "round {round}");
    }
}

/// Goal: ten thousand spaces are made, listed and found again after a crash.
#[test]
fn ten_thousand_spaces() {
    let desk = Desk::new();
    let store = desk.open();
    for number in 0..10_000_u32 {
        let map = store.map::<u32, u32>(&format!("room/{number}")).unwrap();
        map.insert(&0, &number).unwrap();
    }
    drop(store);
    let store = desk.crash().open();
    let spaces = store.spaces().unwrap();
    assert_eq!(spaces.len(), 10_000);
    let ids: BTreeSet<_> = spaces.iter().map(|space| space.id).collect();
    assert_eq!(ids.len(), 10_000);
    for number in (0..10_000).step_by(97) {
        let map = store.map::<u32, u32>(&format!("room/{number}")).unwrap();
        assert_eq!(map.get(&0).unwrap(), Some(number));
    }
    let map = store.map::<u32, u32>("room/9999").unwrap();
    assert_eq!(map.entries().unwrap(), [(0, 9999)]);
}

/// Goal: ordered spaces stay in step while many threads write, remove and cut.
#[test]
fn an_ordered_space_under_threads() {
    let store = Store::open_with("store", Options::new().disk(MemoryDisk::new())).unwrap();
    let options = SpaceOptions::new().ordered(true);
    let map: Map<u32, u32> = store.map_with("m", &options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let map = &map;
            scope.spawn(move || {
                for step in 0..300 {
                    let key = (step * 7 + thread) % 20;
                    match (step + thread) % 5 {
                        0 | 1 => map.insert(&key, &step).unwrap(),
                        2 => drop(map.remove(&key).unwrap()),
                        3 => drop(map.update(&key, |old| old.map_or(Some(1), |_| None)).unwrap()),
                        _ if step % 50 == 0 => map.clear().unwrap(),
                        _ => map.insert_all([(key, 1), (key + 1, 2)]).unwrap(),
                    }
                }
            });
        }
    });
    let wanted: Vec<_> = (0..30).filter(|key| map.contains_key(key).unwrap()).collect();
    assert_eq!(map.keys().unwrap(), wanted);
    let range: Vec<_> = map.range(..).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(range, wanted);
}
