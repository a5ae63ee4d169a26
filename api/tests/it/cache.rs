//! Caches: what is stored, how long, what is known of it, and what comes back after a restart or a crash.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tierce::{
    Cache, Durability, Error, Options, Put, SpaceOptions, Store, Ttl,
    codec::{Json, Raw},
    engine::io::MemoryDisk,
};
use tierce_kit::clock::TestClock;

/// A disk in memory and a clock that stands still: a store may be opened on them again and again.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: TestClock,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { disk: MemoryDisk::new(), clock: TestClock::new() }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new()
            .disk(self.disk.clone())
            .clock(self.clock.clone())
            .background(false)
            .segment_bytes(1 << 20)
    }

    pub(crate) fn open(&self) -> Store {
        Store::open_with("store", self.options()).unwrap()
    }

    /// The process is killed: what was written is there, nothing was closed.
    pub(crate) fn crash(&self) -> Self {
        Self { disk: MemoryDisk::with_files(self.disk.files()), clock: self.clock.clone() }
    }
}

/// Waits until something that other threads do has happened.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::yield_now();
    }
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Goal: get, insert, contains and remove say what was there; an absent key is no error.
#[test]
fn one_entry() {
    let cache = Desk::new().open().cache::<String, String>("c").unwrap();
    assert_eq!(cache.get("user:123").unwrap(), None);
    assert!(!cache.contains_key("user:123").unwrap());
    assert!(!cache.remove("user:123").unwrap());
    cache.insert("user:123", &"John".into()).unwrap();
    assert!(cache.contains_key("user:123").unwrap());
    assert_eq!(cache.get("user:123").unwrap().as_deref(), Some("John"));
    cache.insert("user:123", &"Jane".into()).unwrap();
    assert_eq!(cache.get("user:123").unwrap().as_deref(), Some("Jane"));
    assert!(cache.remove("user:123").unwrap());
    assert!(!cache.remove("user:123").unwrap());
    assert_eq!(cache.get("user:123").unwrap(), None);
}

/// Goal: a stored `None`, an empty text and a unit are hits, also for a loader.
#[test]
fn a_stored_nothing_is_a_hit() {
    let store = Desk::new().open();
    let cache = store.cache::<String, Option<u32>>("options").unwrap();
    cache.insert("a", &None).unwrap();
    assert_eq!(cache.get("a").unwrap(), Some(None));
    assert_eq!(cache.get_or_insert_with("a", || unreachable!()).unwrap(), None);
    let texts = store.cache::<String, String>("texts").unwrap();
    texts.insert("", &String::new()).unwrap();
    assert_eq!(texts.get("").unwrap(), Some(String::new()));
    let units: Cache<u8, (), Json> = store.cache_with("units", &SpaceOptions::new()).unwrap();
    units.insert(&1, &()).unwrap();
    assert_eq!(units.get(&1).unwrap(), Some(()));
    assert_eq!(cache.stats().unwrap().hits, 2);
}

/// Goal: an entry is there until the millisecond in which its lifetime ends, and from then on for nobody.
#[test]
fn it_expires_at_its_moment() {
    let desk = Desk::new();
    let cache = desk.open().cache::<String, u32>("c").unwrap();
    cache.insert_with("a", &1, &Put::new().ttl(Ttl::seconds(300)).tag("t")).unwrap();
    assert_eq!(cache.ttl("a").unwrap(), Some(Some(seconds(300))));
    desk.clock.advance(299_999);
    assert_eq!(cache.get("a").unwrap(), Some(1));
    assert_eq!(cache.ttl("a").unwrap(), Some(Some(Duration::from_millis(1))));
    assert_eq!(cache.len().unwrap(), 1);
    desk.clock.advance(1);
    assert_eq!(cache.get("a").unwrap(), None);
    assert!(!cache.contains_key("a").unwrap());
    assert_eq!(cache.ttl("a").unwrap(), None);
    assert!(cache.get_stale("a").unwrap().is_none(), "nobody said that it may be stale");
    assert_eq!(cache.keys_with_tag("t").unwrap(), [""; 0]);
    assert!(!cache.touch("a", seconds(9)).unwrap());
    assert!(!cache.remove("a").unwrap());
    assert_eq!(cache.take("a").unwrap(), None);
    assert!(cache.is_empty().unwrap() && cache.entries().unwrap().is_empty());
}

/// Goal: what one insert says overrules the space, the space overrules for ever; zero removes.
#[test]
fn lifetimes_of_call_space_and_none() {
    let desk = Desk::new();
    let store = desk.open();
    let options = SpaceOptions::new().ttl(seconds(60));
    let cache: Cache<String, u32> = store.cache_with("c", &options).unwrap();
    let plain = store.cache::<String, u32>("plain").unwrap();
    cache.insert("space", &1).unwrap();
    cache.insert_with("call", &1, &Put::new().ttl(seconds(5))).unwrap();
    cache.insert_with("never", &1, &Put::new().ttl(Ttl::Never)).unwrap();
    let at = store.now().saturating_add_ms(7);
    cache.insert_with("until", &1, &Put::new().ttl(Ttl::Until(at))).unwrap();
    plain.insert("none", &1).unwrap();
    let left = |key: &str| cache.ttl(key).unwrap().unwrap();
    assert_eq!(left("space"), Some(seconds(60)));
    assert_eq!(left("call"), Some(seconds(5)));
    assert_eq!(left("never"), None);
    assert_eq!(left("until"), Some(Duration::from_millis(7)));
    assert_eq!(plain.ttl("none").unwrap(), Some(None));
    assert!(!cache.insert_with("call", &2, &Put::new().ttl(Ttl::seconds(0))).unwrap());
    assert_eq!(cache.get("call").unwrap(), None, "zero removes");
    assert!(!cache.insert_with("until", &2, &Put::new().ttl(Ttl::Until(store.now()))).unwrap());
    assert_eq!(cache.get("until").unwrap(), None, "so does a moment that is over");
    cache.insert_with("for ever", &1, &Put::new().ttl(Duration::MAX)).unwrap();
    assert!(left("for ever").unwrap() > seconds(1 << 40));
}

/// Goal: a plain insert clears lifetime, tags and pin of the old entry; `keep_ttl` keeps the lifetime, never included.
#[test]
fn a_plain_insert_clears_what_belonged_to_the_old_one() {
    let desk = Desk::new();
    let cache = desk.open().cache::<String, u32>("c").unwrap();
    cache.insert_with("a", &1, &Put::new().ttl(seconds(60)).tags(["x", "y"]).pinned()).unwrap();
    let entry = cache.entry("a").unwrap().unwrap();
    assert_eq!((entry.tags.as_slice(), entry.pinned), (&["x".to_owned(), "y".into()][..], true));
    assert_eq!(entry.stored_at, Some(desk.open().now()));
    assert!(entry.bytes > 0 && !entry.is_stale && entry.expires_at == entry.fresh_until);
    desk.clock.advance(10_000);
    assert!(cache.insert_with("a", &2, &Put::new().keep_ttl()).unwrap());
    assert_eq!(cache.ttl("a").unwrap(), Some(Some(seconds(50))));
    assert!(cache.keys_with_tag("x").unwrap().is_empty());
    cache.insert("a", &3).unwrap();
    let plain = cache.entry("a").unwrap().unwrap();
    assert_eq!((plain.value, plain.expires_at, plain.pinned), (3, None, false));
    assert!(plain.tags.is_empty() && plain.version > entry.version);
    cache.insert_with("new", &1, &Put::new().ttl(seconds(9)).keep_ttl()).unwrap();
    assert_eq!(cache.ttl("new").unwrap(), Some(Some(seconds(9))), "nothing to keep");
}

/// Goal: only-if-absent stores once, and again after expiry; of 16 threads one wins each key.
#[test]
fn only_if_absent() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let put = Put::new().if_absent().ttl(seconds(10));
    let won: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let (cache, put) = (&cache, &put);
                scope.spawn(move || {
                    let wins = |key: &u32| cache.insert_with(key, &thread, put).unwrap();
                    (0..100).filter(wins).count() as u32
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 100);
    desk.clock.advance(10_000);
    assert!(cache.insert_with(&1, &99, &put).unwrap(), "an expired entry is absent");
    assert_eq!(cache.get(&1).unwrap(), Some(99));
}

/// Goal: take gives a value to one of many; the others find nothing.
#[test]
fn take_gives_it_to_one() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    for key in 0..50 {
        cache.insert(&key, &key).unwrap();
    }
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..50).filter(|key| cache.take(key).unwrap().is_some()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 50);
    assert!(cache.is_empty().unwrap());
}

/// Goal: a touch changes the lifetime and not the value: the log grows by less than the value.
#[test]
fn touch_writes_no_value() {
    let desk = Desk::new();
    let store = desk.open();
    let cache: Cache<String, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    cache.insert_with("a", &vec![7; 10_000], &Put::new().ttl(seconds(10))).unwrap();
    let before = log_bytes(&store);
    assert!(cache.touch("a", seconds(100)).unwrap());
    assert!(!cache.touch("b", seconds(100)).unwrap());
    assert!(log_bytes(&store) - before < 200);
    desk.clock.advance(50_000);
    assert_eq!(cache.get("a").unwrap().map(|value| value.len()), Some(10_000));
    assert!(cache.touch("a", Ttl::Never).unwrap());
    assert_eq!(cache.ttl("a").unwrap(), Some(None));
    assert!(cache.slide("a", seconds(20)).unwrap());
    assert!(cache.touch("a", seconds(20)).unwrap());
    assert!(cache.touch("a", Duration::ZERO).unwrap());
    assert_eq!(cache.get("a").unwrap(), None);
}

/// Bytes ever written to the log.
pub(crate) fn log_bytes(store: &Store) -> u64 {
    store.sync().unwrap();
    let engine = store.engine().unwrap();
    engine.stats().written_bytes
}

/// Goal: many keys at once, in their order, and how many were removed.
#[test]
fn many_at_once() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    cache.insert("a", &1).unwrap();
    cache.insert("c", &3).unwrap();
    assert_eq!(cache.get_many(["a", "b", "c"]).unwrap(), [Some(1), None, Some(3)]);
    assert_eq!(cache.remove_many(["a", "b"]).unwrap(), 1);
    assert_eq!(cache.keys().unwrap(), ["c"]);
    assert_eq!(cache.entries().unwrap(), [("c".to_owned(), 3)]);
}

/// Goal: clear costs the same however much is there, says how much it was, and compaction gives the bytes back.
#[test]
fn clear_is_one_record_and_space_comes_back() {
    let desk = Desk::new();
    let store = desk.open();
    let cache: Cache<u32, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    let other = store.cache::<u32, u32>("other").unwrap();
    other.insert(&1, &1).unwrap();
    for key in 0..1500 {
        cache.insert(&key, &vec![1; 4000]).unwrap();
    }
    let (before, used) = (log_bytes(&store), store.engine().unwrap().usage().used);
    assert_eq!(cache.clear().unwrap(), 1500);
    assert!(log_bytes(&store) - before < 200);
    assert!(cache.is_empty().unwrap());
    store.engine().unwrap().compact().unwrap();
    assert!(
        store.engine().unwrap().usage().used < used / 2,
        "{:?}",
        store.engine().unwrap().usage()
    );
    assert_eq!(other.get(&1).unwrap(), Some(1));
    cache.insert(&1, &vec![2]).unwrap();
    let store = desk.crash().open();
    let cache: Cache<u32, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    assert_eq!(cache.entries().unwrap(), [(1, vec![2])]);
}

/// Goal: the statistics say what is there and what was done, and a reset sets only the latter back.
#[test]
fn statistics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let store = Store::open(&path).unwrap();
    let cache = store.cache::<String, Vec<u8>>("c").unwrap();
    cache.insert("a", &vec![0; 1000]).unwrap();
    cache.insert_with("b", &vec![1], &Put::new().tag("t")).unwrap();
    assert!(cache.get("a").unwrap().is_some() && cache.get("nothing").unwrap().is_none());
    cache.remove("a").unwrap();
    cache.insert("a", &vec![0; 1000]).unwrap();
    cache.invalidate_tag("t").unwrap();
    assert!(cache.contains_key("a").unwrap() && cache.entry("a").unwrap().is_some());
    let stats = cache.stats().unwrap();
    assert_eq!((stats.entries, stats.hits, stats.misses), (1, 1, 1));
    assert_eq!((stats.inserts, stats.removed, stats.invalidated), (3, 1, 1));
    assert!(stats.bytes > 1000 && stats.hit_ratio() == 0.5);
    assert_eq!(
        stats.directory.as_deref(),
        Some(path.canonicalize().unwrap_or(path.clone()).as_path())
    );
    // Every handle of the space counts together.
    let again = store.cache::<String, Vec<u8>>("c").unwrap();
    assert_eq!(again.reset_stats().unwrap(), stats);
    let reset = cache.stats().unwrap();
    assert_eq!((reset.entries, reset.bytes, reset.hits, reset.inserts), (1, stats.bytes, 0, 0));
}

/// Goal: one directory opened twice is one store; both handles see the same at once.
#[test]
fn two_handles_of_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let one = Store::open(dir.path()).unwrap().cache::<String, u32>("c").unwrap();
    let other = Store::open(dir.path()).unwrap().cache::<String, u32>("c").unwrap();
    one.insert("a", &1).unwrap();
    assert_eq!(other.get("a").unwrap(), Some(1));
    assert!(other.remove("a").unwrap());
    assert_eq!(one.get("a").unwrap(), None);
}

/// Goal: an acknowledged entry with all that belongs to it is there after a clean restart, and after a crash.
#[test]
fn restart_and_crash() {
    let mut desk = Desk::new();
    let options = SpaceOptions::new().durability(Durability::Sync).ordered(true);
    for round in 0..3_u32 {
        let store = desk.open();
        let cache: Cache<u32, HashMap<String, u32>> = store.cache_with("c", &options).unwrap();
        for old in 0..round {
            let entry = cache.entry(&old).unwrap().unwrap();
            assert_eq!(entry.value["round"], old);
            assert_eq!(entry.tags, ["all"]);
            assert_eq!(entry.expires_at.unwrap().0, TestClock::START_MS + 100_000 + u64::from(old));
        }
        assert_eq!(cache.keys().unwrap(), (0..round).collect::<Vec<_>>());
        let put = Put::new()
            .tag("all")
            .ttl(Ttl::Until(tierce::Timestamp(TestClock::START_MS + 100_000 + u64::from(round))));
        cache.insert_with(&round, &HashMap::from([("round".to_owned(), round)]), &put).unwrap();
        if round == 0 {
            drop(cache);
            store.close().unwrap();
            assert!(desk.open().engine().unwrap().recovery_report().clean);
        } else {
            desk = desk.crash();
        }
    }
    let cache: Cache<u32, HashMap<String, u32>> = desk.open().cache_with("c", &options).unwrap();
    assert_eq!(cache.invalidate_tag("all").unwrap(), 3);
    let desk = desk.crash();
    let cache: Cache<u32, HashMap<String, u32>> = desk.open().cache_with("c", &options).unwrap();
    assert!(cache.is_empty().unwrap(), "a cut survives a crash, too");
}

/// Goal: a clock that jumps back brings nothing back, and what expires while the program is down is gone.
#[test]
fn clocks_that_jump() {
    let desk = Desk::new();
    let store = desk.open();
    let cache = store.cache::<u32, u32>("c").unwrap();
    cache.insert_with(&1, &1, &Put::new().ttl(seconds(60))).unwrap();
    cache.insert_with(&2, &2, &Put::new().ttl(seconds(600))).unwrap();
    desk.clock.advance(60_000);
    assert_eq!(cache.get(&1).unwrap(), None);
    desk.clock.jump_wall(-3_600_000);
    assert_eq!(cache.get(&1).unwrap(), None);
    assert_eq!(cache.ttl(&2).unwrap(), Some(Some(seconds(540))));
    drop(cache);
    store.close().unwrap();
    desk.clock.advance(3_600_000 + 600_000);
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    assert!(cache.is_empty().unwrap());
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Before {
    name: String,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct After {
    title: String,
}

/// Goal: values whose fields were renamed are misses that are counted, not errors and not wrong values.
#[test]
fn a_renamed_field_is_a_miss() {
    let store = Desk::new().open();
    let options = SpaceOptions::new().value_type("thing");
    let before: Cache<u32, Before> = store.cache_with("c", &options).unwrap();
    before.insert(&1, &Before { name: "x".into() }).unwrap();
    let after: Cache<u32, After> = store.cache_with("c", &options).unwrap();
    assert_eq!(after.get(&1).unwrap(), None);
    assert!(after.entries().unwrap().is_empty());
    assert_eq!(after.stats().unwrap().undecodable, 1);
    assert_eq!(before.get(&1).unwrap(), Some(Before { name: "x".into() }), "the bytes are kept");
    let load = || After { title: "y".into() };
    assert_eq!(after.get_or_insert_with(&1, load).unwrap(), After { title: "y".into() });
    assert_eq!(after.get(&1).unwrap(), Some(After { title: "y".into() }));
}

impl Clone for After {
    fn clone(&self) -> Self {
        Self { title: self.title.clone() }
    }
}

/// Goal: keys, values and tags beyond their limits, and a closed store, are errors of their own kinds.
#[test]
fn limits_are_typed_errors() {
    let desk = Desk::new();
    let store = Store::open_with("store", desk.options().value_bytes_max(1 << 20)).unwrap();
    let cache: Cache<String, Vec<u8>, Raw> = store.cache_with("c", &SpaceOptions::new()).unwrap();
    let kind = |error: Error| error.kind();
    let long = "k".repeat(70_000);
    assert_eq!(cache.insert(&long, &vec![]).map_err(kind), Err("too-large"));
    assert_eq!(cache.get(&long).map_err(kind), Ok(None), "it cannot be there");
    assert_eq!(cache.insert("k", &vec![0; (1 << 20) + 1]).map_err(kind), Err("too-large"));
    let tagged = |tag: String| cache.insert_with("k", &vec![], &Put::new().tag(tag)).map_err(kind);
    assert_eq!(tagged(String::new()), Err("name"));
    assert_eq!(tagged("t".repeat(241)), Err("name"));
    assert_eq!(tagged("t".repeat(240)), Ok(true));
    assert_eq!(cache.invalidate_tag(&"t".repeat(240)).unwrap(), 1);
    let tags = (0..1000).map(|n| format!("{n:0>100}"));
    let put = Put::new().tags(tags);
    assert_eq!(cache.insert_with("k", &vec![], &put).map_err(kind), Err("too-large"));
    assert_eq!(cache.get("k").unwrap(), None, "nothing was stored");
}

/// Goal: update is atomic over threads, keeps what it is told to, and removes for `None`.
#[test]
fn update_is_atomic() {
    let desk = Desk::new();
    let cache = desk.open().cache::<String, u64>("c").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let add = |old: Option<u64>| Some(old.unwrap_or(0) + 1);
                    cache.update("n", &Put::new(), add).unwrap();
                }
            });
        }
    });
    assert_eq!(cache.get("n").unwrap(), Some(400));
    cache.touch("n", seconds(10)).unwrap();
    let put = Put::new().keep_ttl();
    assert_eq!(cache.update("n", &put, |old| old.map(|old| old + 1)).unwrap(), Some(401));
    assert_eq!(cache.ttl("n").unwrap(), Some(Some(seconds(10))));
    desk.clock.advance(10_000);
    assert_eq!(cache.update("n", &put, |old| old).unwrap(), None, "expired is absent");
    cache.insert("n", &1).unwrap();
    assert_eq!(cache.update("n", &put, |_| None).unwrap(), None);
    assert!(!cache.contains_key("n").unwrap());
}

/// Goal: keys that look alike are different entries.
#[test]
fn keys_that_look_alike() {
    let store = Desk::new().open();
    let cache = store.cache::<(String, String), u32>("c").unwrap();
    cache.insert(&("a:b", "c"), &1).unwrap();
    cache.insert(&("a", "b:c"), &2).unwrap();
    cache.insert(&("", ""), &3).unwrap();
    cache.insert(&("\0", ""), &4).unwrap();
    cache.insert(&("", "\0"), &5).unwrap();
    assert_eq!(cache.get(&("a:b", "c")).unwrap(), Some(1));
    assert_eq!(cache.get(&("", "\0")).unwrap(), Some(5));
    assert_eq!(cache.len().unwrap(), 5);
}
