//! Removing many at once: by tag, prefix, pattern, suffix, question, all.

use tierce::{Cache, LoadPolicy, Loaded, Put, SpaceOptions, Store};

use crate::cache::{Desk, seconds};

fn keys(store: &Store, ordered: bool) -> Cache<String, u32> {
    let name = format!("keys/{ordered}");
    store.cache_with(&name, &SpaceOptions::new().ordered(ordered)).unwrap()
}

const KEYS: [&str; 7] = [
    "plan:gabriel",
    "leftovers:gabriel",
    "plan:gabriella",
    "plan:sara",
    "tasks:None",
    "*:None",
    "gabriel:plan",
];

/// Goal: each way removes what it names and nothing that only looks like it, and says how many.
#[test]
fn what_keys_look_like() {
    let store = Desk::new().open();
    for ordered in [false, true] {
        let cache = keys(&store, ordered);
        let check = |ask: &dyn Fn() -> u64, count: u64, left: &[&str]| {
            for (number, key) in KEYS.iter().enumerate() {
                cache.insert(*key, &(number as u32)).unwrap();
            }
            assert_eq!(ask(), count);
            for key in KEYS {
                assert_eq!(cache.contains_key(key).unwrap(), !left.contains(&key), "{key}");
            }
            assert_eq!(cache.len().unwrap() as u64, 7 - count);
            assert_eq!(ask(), 0);
        };
        let suffix = |text: &'static str| move |cache: &Cache<_, _>| cache.invalidate_suffix(text);
        check(&|| suffix(":gabriel")(&cache).unwrap(), 2, &KEYS[..2]);
        check(&|| suffix(":None")(&cache).unwrap(), 2, &KEYS[4..6]);
        check(&|| cache.invalidate_prefix("plan:").unwrap(), 3, &[KEYS[0], KEYS[2], KEYS[3]]);
        check(&|| cache.invalidate_glob("*:gabriel*").unwrap(), 3, &KEYS[..3]);
        check(&|| cache.invalidate_glob("?asks:*").unwrap(), 1, &KEYS[4..5]);
        check(&|| cache.invalidate_glob("plan:sara").unwrap(), 1, &KEYS[3..4]);
        check(&|| cache.invalidate_keys(|key| key.starts_with('*')).unwrap(), 1, &KEYS[5..6]);
        check(&|| cache.invalidate_if(|_, entry| entry.value > 4).unwrap(), 2, &KEYS[5..]);
        check(&|| cache.clear().unwrap(), 7, &KEYS);
        assert_eq!(cache.stats().unwrap().invalidated, 2 + 2 + 3 + 3 + 1 + 1 + 1 + 2 + 7);
    }
}

/// Goal: keys of several parts are cut off by their first part; one that begins with the same letters stays.
#[test]
fn under_the_first_part() {
    let store = Desk::new().open();
    for ordered in [false, true] {
        let options = SpaceOptions::new().ordered(ordered);
        let cache: Cache<(String, u32), u32> =
            store.cache_with(&format!("c/{ordered}"), &options).unwrap();
        for name in ["gabriel", "gabriella", "", "gabriel\0"] {
            for number in 0..3 {
                cache.insert(&(name, number), &1).unwrap();
            }
        }
        assert_eq!(cache.invalidate_under("gabriel").unwrap(), 3);
        assert_eq!(cache.len().unwrap(), 9);
        assert_eq!(cache.invalidate_under("").unwrap(), 3);
        assert!(cache.contains_key(&("gabriel\0", 1)).unwrap());
    }
}

/// Goal: a tag removes exactly the entries that have it now, in this space, and not those stored afterwards.
#[test]
fn tags() {
    let desk = Desk::new();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    let other = store.cache::<u32, u32>("other").unwrap();
    let tagged = |tags: &[&str]| Put::new().tags(tags.iter().copied());
    cache.insert_with(&1, &1, &tagged(&["user:7", "plan"])).unwrap();
    cache.insert_with(&2, &2, &tagged(&["user:7", "user:7"])).unwrap();
    cache.insert_with(&3, &3, &tagged(&["user:70"])).unwrap();
    cache.insert_with(&4, &4, &tagged(&["user:7"]).ttl(seconds(1))).unwrap();
    cache.insert_with(&5, &5, &tagged(&["user:7"])).unwrap();
    cache.insert(&5, &50).unwrap();
    other.insert_with(&1, &1, &tagged(&["user:7"])).unwrap();
    desk.clock.advance(1_000);
    let mut with = cache.keys_with_tag("user:7").unwrap();
    with.sort_unstable();
    assert_eq!(with, [1, 2]);
    assert_eq!(cache.invalidate_tag("user:7").unwrap(), 2);
    assert_eq!(cache.invalidate_tag("user:7").unwrap(), 0);
    assert_eq!(cache.invalidate_tag("nobody").unwrap(), 0);
    let mut left = cache.keys().unwrap();
    left.sort_unstable();
    assert_eq!(left, [3, 5]);
    assert_eq!(other.get(&1).unwrap(), Some(1), "a tag is of one space");
    cache.insert_with(&1, &10, &tagged(&["user:7"])).unwrap();
    let store = desk.crash().open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    assert_eq!(cache.get(&1).unwrap(), Some(10), "stored after the cut");
    assert_eq!(cache.get(&2).unwrap(), None);
    assert_eq!(cache.entry(&1).unwrap().unwrap().tags, ["user:7"]);
}

/// Goal: tags of the greatest length work in spaces with long prefixes, where a scope's name has the least room.
#[test]
fn long_tags_in_late_spaces() {
    let store = Desk::new().open();
    for number in 0..300 {
        store.map::<u32, u32>(&format!("space/{number}")).unwrap();
    }
    let cache = store.cache::<u32, u32>("late").unwrap();
    let tags = ["t".repeat(240), "ü".repeat(120), "#".to_owned()];
    cache.insert_with(&1, &1, &Put::new().tags(tags.clone())).unwrap();
    cache.insert(&2, &2).unwrap();
    let entry = cache.entry(&1).unwrap().unwrap();
    assert_eq!(entry.tags.len(), 3);
    for tag in &tags {
        assert!(entry.tags.contains(tag));
        assert_eq!(cache.keys_with_tag(tag).unwrap(), [1]);
    }
    assert_eq!(cache.invalidate_tag(&tags[1]).unwrap(), 1);
    assert_eq!(cache.keys().unwrap(), [2]);
}

/// Goal: what a loader stored goes with its tags; cutting costs one record, however many go.
#[test]
fn loaded_values_have_tags() {
    let store = Desk::new().open();
    let cache = store.cache::<u32, Vec<u8>>("c").unwrap();
    let loading = cache.loading(LoadPolicy::new().tag("all"), |_, _| Ok(Loaded::new(vec![0; 500])));
    for key in 0..200 {
        loading.get(&key).unwrap();
    }
    let before = crate::cache::log_bytes(&store);
    cache.cut_tag("all").unwrap();
    assert!(crate::cache::log_bytes(&store) - before < 200);
    assert!(cache.is_empty().unwrap());
    assert_eq!(cache.stats().unwrap().invalidated, 0, "not counted");
}
