//! Cache entries that cannot be decoded, because the type of their values changed.

use tierce::{Cache, Put, SpaceOptions, Store};

/// Goal: what `get` does not find is not there for anything else either, and can be stored again in every way.
#[test]
fn entries_that_cannot_be_decoded() {
    let heals: [fn(&Cache<u32, u64>); 3] = [
        |cache| assert!(cache.insert_with(&1, &7, &Put::new().if_absent()).unwrap()),
        |cache| {
            assert_eq!(cache.take(&1).unwrap(), None);
            assert!(cache.insert_with(&1, &7, &Put::new().if_absent()).unwrap());
        },
        |cache| {
            let stored = cache.update(&1, &Put::new(), |old| Some(old.unwrap_or(7))).unwrap();
            assert_eq!(stored, Some(7));
        },
    ];
    for heal in heals {
        let store = Store::in_memory().unwrap();
        let options = SpaceOptions::new().value_type("value");
        let old: Cache<u32, String> = store.cache_with("c", &options).unwrap();
        old.insert(&1, &"old".to_owned()).unwrap();
        drop(old);
        let cache: Cache<u32, u64> = store.cache_with("c", &options).unwrap();
        cache.insert(&2, &2).unwrap();
        assert_eq!(cache.get(&1).unwrap(), None);
        assert!(!cache.contains_key(&1).unwrap() && cache.contains_key(&2).unwrap());
        assert_eq!((cache.len().unwrap(), cache.keys().unwrap()), (1, vec![2]));
        assert_eq!(cache.entries().unwrap(), [(2, 2)]);
        cache.remove(&2).unwrap();
        assert!(cache.is_empty().unwrap());
        heal(&cache);
        assert_eq!(cache.get(&1).unwrap(), Some(7));
        assert!(cache.contains_key(&1).unwrap() && cache.len().unwrap() == 1);
    }
}
