//! One suite, run through the blocking face and through the async one: what they answer is the same.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tierce::{
    AsyncCache, AsyncMap, BoxError, Cache, CacheStats, Error, Loaded, Map, Options, Put, Result,
    SpaceOptions, Store, Ttl, asynchronous::block_on, cache::Entry,
};
use tierce_engine::io::MemoryDisk;
use tierce_kit::clock::TestClock;

type Loads = Result<Loaded<u32>, BoxError>;
/// Its name, what it does, and how many entries it removes.
type Invalidation<F> = (&'static str, fn(&F) -> Result<u64>, u64);
/// A write, and what is there after it.
type Write<F> = (fn(&F), Option<u32>);

/// Makes a trait of methods that both faces have, and implements it for both.
macro_rules! faces {
    ($face:ident, $open:ident, $blocking:ty, $task:ty, {
        $(fn $name:ident(
            $($argument:ident: $type:ty),* $(,)?
        ) -> $answer:ty;)*
    }) => {
        trait $face: Clone + Send + Sync + 'static {
            fn open(store: &Store, name: &str, options: &SpaceOptions) -> Self;
            $(fn $name(&self, $($argument: $type),*) -> Result<$answer>;)*
        }

        impl $face for $blocking {
            fn open(store: &Store, name: &str, options: &SpaceOptions) -> Self {
                store.$open(name, options).unwrap()
            }
            $(fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                <$blocking>::$name(self, $($argument),*)
            })*
        }

        impl $face for $task {
            fn open(store: &Store, name: &str, options: &SpaceOptions) -> Self {
                block_on(store.asynchronous().$open(name, options)).unwrap()
            }
            $(fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                block_on(<$task>::$name(self, $($argument),*))
            })*
        }
    };
}

faces!(CacheFace, cache_with, Cache<String, u32>, AsyncCache<String, u32>, {
    fn get(key: &str) -> Option<u32>;
    fn get_stale(key: &str) -> Option<Entry<u32>>;
    fn entry(key: &str) -> Option<Entry<u32>>;
    fn get_many(keys: [&str; 2]) -> Vec<Option<u32>>;
    fn contains_key(key: &str) -> bool;
    fn ttl(key: &str) -> Option<Option<Duration>>;
    fn insert(key: &str, value: &u32) -> ();
    fn insert_with(key: &str, value: &u32, put: &Put) -> bool;
    fn remove(key: &str) -> bool;
    fn remove_many(keys: [&str; 2]) -> u64;
    fn take(key: &str) -> Option<u32>;
    fn touch(key: &str, ttl: Ttl) -> bool;
    fn slide(key: &str, lifetime: Duration) -> bool;
    fn update(key: &str, put: &Put, change: fn(Option<u32>) -> Option<u32>) -> Option<u32>;
    fn entries() -> Vec<(String, u32)>;
    fn keys() -> Vec<String>;
    fn len() -> usize;
    fn is_empty() -> bool;
    fn stats() -> CacheStats;
    fn reset_stats() -> CacheStats;
    fn cut_tag(tag: &str) -> ();
    fn invalidate_tag(tag: &str) -> u64;
    fn keys_with_tag(tag: &str) -> Vec<String>;
    fn cut() -> ();
    fn clear() -> u64;
    fn invalidate_under(part: &str) -> u64;
    fn invalidate_keys(is_it: fn(&String) -> bool) -> u64;
    fn invalidate_if(is_it: fn(&String, &Entry<u32>) -> bool) -> u64;
    fn invalidate_prefix(prefix: &str) -> u64;
    fn invalidate_suffix(suffix: &str) -> u64;
    fn invalidate_glob(pattern: &str) -> u64;
});

faces!(MapFace, map_with, Map<u32, u64>, AsyncMap<u32, u64>, {
    fn get(key: &u32) -> Option<u64>;
    fn contains_key(key: &u32) -> bool;
    fn insert(key: &u32, value: &u64) -> ();
    fn insert_if_absent(key: &u32, value: &u64) -> bool;
    fn get_or_insert(key: &u32, default: u64) -> u64;
    fn remove(key: &u32) -> bool;
    fn take(key: &u32) -> Option<u64>;
    fn update(key: &u32, change: fn(Option<u64>) -> Option<u64>) -> Option<u64>;
    fn insert_all(entries: [(u32, u64); 2]) -> ();
    fn entries() -> Vec<(u32, u64)>;
    fn range(range: std::ops::Range<u32>) -> Vec<(u32, u64)>;
    fn keys() -> Vec<u32>;
    fn len() -> usize;
    fn is_empty() -> bool;
    fn clear() -> ();
});

/// The loads, which take a closure here and a future there.
trait LoadFace: CacheFace {
    fn get_or_load(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32>;
    fn get_or_insert_with(&self, key: &str, load: impl FnOnce() -> u32) -> Result<u32>;
    fn force_refresh(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32>;
}

impl LoadFace for Cache<String, u32> {
    fn get_or_load(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32> {
        Self::get_or_load(self, key, load)
    }

    fn get_or_insert_with(&self, key: &str, load: impl FnOnce() -> u32) -> Result<u32> {
        Self::get_or_insert_with(self, key, load)
    }

    fn force_refresh(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32> {
        Self::force_refresh(self, key, load)
    }
}

impl LoadFace for AsyncCache<String, u32> {
    fn get_or_load(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32> {
        block_on(Self::get_or_load(self, key, async { load() }))
    }

    fn get_or_insert_with(&self, key: &str, load: impl FnOnce() -> u32) -> Result<u32> {
        block_on(Self::get_or_insert_with(self, key, async { load() }))
    }

    fn force_refresh(&self, key: &str, load: impl FnOnce() -> Loads) -> Result<u32> {
        block_on(Self::force_refresh(self, key, async { load() }))
    }
}

fn store() -> (Store, TestClock) {
    let clock = TestClock::new();
    let options = Options::new().disk(MemoryDisk::new()).clock(clock.clone()).background(false);
    (Store::open_with("store", options).unwrap(), clock)
}

fn cache<F: CacheFace>() -> (F, TestClock) {
    let (store, clock) = store();
    (F::open(&store, "c", &SpaceOptions::new()), clock)
}

fn text(error: &Error) -> (&'static str, String) {
    (error.kind(), error.to_string())
}

fn values<F: CacheFace>() {
    let (c, _) = cache::<F>();
    assert_eq!(c.get("a").unwrap(), None);
    c.insert("a", &1).unwrap();
    c.insert("b", &2).unwrap();
    assert_eq!(c.get("a").unwrap(), Some(1));
    assert_eq!(c.get_many(["b", "x"]).unwrap(), [Some(2), None]);
    assert!(c.contains_key("a").unwrap() && !c.contains_key("x").unwrap());
    assert_eq!(c.len().unwrap(), 2);
    assert_eq!(c.keys().unwrap().len(), 2);
    assert_eq!(c.entries().unwrap().len(), 2);
    assert!(c.remove("a").unwrap() && !c.remove("a").unwrap());
    assert_eq!(c.take("b").unwrap(), Some(2));
    assert_eq!(c.take("b").unwrap(), None);
    assert!(c.is_empty().unwrap());
    c.insert("a", &1).unwrap();
    assert_eq!(c.remove_many(["a", "b"]).unwrap(), 1);
    c.insert("a", &1).unwrap();
    assert_eq!(c.clear().unwrap(), 1);
    c.insert("a", &1).unwrap();
    c.cut().unwrap();
    assert!(c.is_empty().unwrap());
}

fn lifetimes<F: CacheFace>() {
    let (c, clock) = cache::<F>();
    let second = Put::new().ttl(Ttl::seconds(1));
    assert!(c.insert_with("a", &1, &second).unwrap());
    assert_eq!(c.ttl("a").unwrap(), Some(Some(Duration::from_secs(1))));
    assert_eq!(c.ttl("x").unwrap(), None);
    assert!(c.insert_with("a", &2, &Put::new().keep_ttl()).unwrap());
    clock.advance(999);
    assert_eq!(c.get("a").unwrap(), Some(2));
    clock.advance(1);
    assert_eq!(c.get("a").unwrap(), None);
    assert_eq!(c.get_stale("a").unwrap(), None);
    c.insert("a", &3).unwrap();
    assert!(c.touch("a", Ttl::seconds(5)).unwrap() && !c.touch("x", Ttl::seconds(5)).unwrap());
    assert!(c.slide("a", Duration::from_secs(9)).unwrap());
    clock.advance(8_000);
    assert_eq!(c.get("a").unwrap(), Some(3));
    let none = Put::new().ttl(Duration::ZERO);
    assert!(!c.insert_with("a", &4, &none).unwrap(), "looked up, and never stored");
    assert_eq!(c.get("a").unwrap(), None);
}

fn puts<F: CacheFace>() {
    let (c, _) = cache::<F>();
    let put = Put::new().tags(["y", "x"]).pinned().if_absent();
    assert!(c.insert_with("a", &1, &put).unwrap());
    assert!(!c.insert_with("a", &2, &put).unwrap());
    let entry = c.entry("a").unwrap().unwrap();
    assert_eq!((entry.value, entry.pinned, entry.is_stale), (1, true, false));
    assert_eq!(entry.tags, ["x", "y"]);
    let bad = c.insert_with("a", &1, &Put::new().tag("")).unwrap_err();
    assert_eq!(bad.kind(), "name");
    assert_eq!(c.update("a", &Put::new(), |old| old.map(|n| n + 1)).unwrap(), Some(2));
    assert_eq!(c.update("b", &Put::new(), |old| old.or(Some(7))).unwrap(), Some(7));
    assert_eq!(c.update("b", &Put::new(), |_| None).unwrap(), None);
    assert_eq!(c.keys().unwrap(), ["a"]);
}

fn invalidations<F: CacheFace>() {
    let (c, _) = cache::<F>();
    let fill = || {
        for (key, value) in [("u:1:n", 1), ("u:2:n", 2), ("u:10:m", 3)] {
            let tag = if value > 1 { "many" } else { "one" };
            c.insert_with(key, &value, &Put::new().tag(tag)).unwrap();
        }
    };
    fill();
    assert_eq!(c.keys_with_tag("one").unwrap(), ["u:1:n"]);
    assert_eq!(c.invalidate_tag("many").unwrap(), 2);
    c.cut_tag("one").unwrap();
    assert!(c.is_empty().unwrap());
    let each: [Invalidation<F>; 6] = [
        ("prefix", |c| c.invalidate_prefix("u:1"), 2),
        ("suffix", |c| c.invalidate_suffix(":n"), 2),
        ("glob", |c| c.invalidate_glob("u:?:*"), 2),
        ("keys", |c| c.invalidate_keys(|key| key.ends_with('m')), 1),
        ("entries", |c| c.invalidate_if(|_, entry| entry.value < 3), 2),
        ("part", |c| c.invalidate_under("u:1:n"), 1),
    ];
    for (what, invalidate, count) in each {
        fill();
        assert_eq!(invalidate(&c).unwrap(), count, "{what}");
        assert_eq!(c.len().unwrap() as u64, 3 - count, "{what}");
    }
}

fn loads<F: LoadFace>() {
    let (c, clock) = cache::<F>();
    assert_eq!(c.get_or_insert_with("a", || 1).unwrap(), 1);
    assert_eq!(c.get_or_insert_with("a", || unreachable!()).unwrap(), 1);
    let loaded = || Ok(Loaded::new(2).ttl(Ttl::seconds(1)).tag("t"));
    assert_eq!(c.get_or_load("b", loaded).unwrap(), 2);
    assert_eq!(c.keys_with_tag("t").unwrap(), ["b"]);
    assert_eq!(c.force_refresh("a", || Ok(Loaded::new(3))).unwrap(), 3);
    assert_eq!(c.force_refresh("a", || Ok(Loaded::not_modified())).unwrap(), 3);
    clock.advance(1_000);
    assert_eq!(c.get_or_load("b", || Ok(4.into())).unwrap(), 4);
}

fn failures<F: LoadFace>() {
    let (c, _) = cache::<F>();
    let error = c.get_or_load("a", || Err("planned".into())).unwrap_err();
    assert_eq!(text(&error), ("loader", "the loader failed: planned".to_owned()));
    let panic = || c.get_or_load("a", || resume_unwind(Box::new("planned")));
    let panic = catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"planned"));
    assert_eq!(c.get("a").unwrap(), None);
    assert_eq!(c.get_or_load("a", || Ok(1.into())).unwrap(), 1, "the key is not locked");
    let _ = c.force_refresh("a", || Err("planned".into()));
    assert_eq!(c.get("a").unwrap(), Some(1));
    let stats = c.stats().unwrap();
    assert_eq!((stats.loads, stats.load_failures), (1, 3));
}

fn circles<F: LoadFace>() {
    let (c, _) = cache::<F>();
    let inner = || c.get_or_load("a", || Ok(1.into()));
    let error = c.get_or_load("a", || Ok(inner()?.into())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loader failed: a loader asked for the key that it is loading"
    );
    let deep = || c.get_or_load("b", || Ok(inner()?.into()));
    let error = c.get_or_load("a", || Ok(deep()?.into())).unwrap_err();
    assert!(error.to_string().ends_with("a loader asked for the key that it is loading"));
    let other = || c.get_or_load("b", || Ok(2.into()));
    assert_eq!(c.get_or_load("a", || Ok((other()? + 1).into())).unwrap(), 3);
}

fn writes_during_loads<F: LoadFace>() {
    let (c, _) = cache::<F>();
    let writes: [Write<F>; 4] = [
        (|c| c.insert("a", &7).unwrap(), Some(7)),
        (|c| assert!(c.remove("a").unwrap()), None),
        (|c| c.cut().unwrap(), None),
        (|c| assert_eq!(c.invalidate_keys(|_| true).unwrap(), 0), None),
    ];
    for (write, left) in writes {
        let loaded = c.force_refresh("a", || {
            write(&c);
            Ok(1.into())
        });
        assert_eq!(loaded.unwrap(), 1);
        assert_eq!(c.get("a").unwrap(), left, "what was loaded is older");
    }
}

/// Method: the loader goes on until all have asked, as the misses tell. Who asks later finds the value.
fn stampedes<F: LoadFace>() {
    const THREADS: u64 = 8;
    let (c, _) = cache::<F>();
    let loads = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (c, loads) = (c.clone(), Arc::clone(&loads));
            thread::spawn(move || {
                c.get_or_insert_with("a", || {
                    while c.stats().unwrap().misses < THREADS {
                        thread::yield_now();
                    }
                    loads.fetch_add(1, Ordering::SeqCst);
                    7
                })
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

/// Method: as in [`stampedes`].
fn failures_are_shared<F: LoadFace>() {
    const THREADS: u64 = 4;
    let (c, _) = cache::<F>();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let c = c.clone();
            thread::spawn(move || {
                catch_unwind(AssertUnwindSafe(|| {
                    c.get_or_load("a", || {
                        while c.stats().unwrap().misses < THREADS {
                            thread::yield_now();
                        }
                        resume_unwind(Box::new("planned"))
                    })
                }))
            })
        })
        .collect();
    // Who asked, and had not yet found the load when it ended, loads again, and panics itself.
    for ended in threads.into_iter().map(|thread| thread.join().unwrap()) {
        match ended {
            Err(panic) => assert_eq!(panic.downcast_ref::<&str>(), Some(&"planned")),
            Ok(error) => {
                let told = text(&error.unwrap_err());
                assert_eq!(told, ("loader", "the loader panicked: planned".to_owned()));
            }
        }
    }
    assert_eq!(c.get_or_insert_with("a", || 1).unwrap(), 1);
}

fn statistics<F: LoadFace>() {
    let (c, _) = cache::<F>();
    c.insert("a", &1).unwrap();
    let _ = (c.get("a").unwrap(), c.get("x").unwrap(), c.contains_key("x").unwrap());
    c.get_or_insert_with("b", || 2).unwrap();
    c.remove("a").unwrap();
    c.invalidate_keys(|_| true).unwrap();
    let stats = c.reset_stats().unwrap();
    let counts = (stats.hits, stats.misses, stats.inserts, stats.removed, stats.invalidated);
    assert_eq!(counts, (1, 2, 2, 1, 1));
    assert_eq!((stats.entries, stats.loads), (0, 1));
    assert_eq!(c.stats().unwrap().hits, 0);
}

fn maps<F: MapFace>() {
    let (store, _) = store();
    let m = F::open(&store, "m", &SpaceOptions::new().ordered(true));
    m.insert(&1, &1).unwrap();
    assert!(!m.insert_if_absent(&1, &2).unwrap());
    assert!(m.insert_if_absent(&2, &2).unwrap());
    assert_eq!(m.get_or_insert(&1, 9).unwrap(), 1);
    assert_eq!(m.get_or_insert(&3, 3).unwrap(), 3);
    m.insert_all([(4, 4), (5, 5)]).unwrap();
    assert_eq!(m.keys().unwrap(), [1, 2, 3, 4, 5]);
    let some = [(2, 2), (3, 3)];
    assert_eq!(m.range(2..4).unwrap(), some);
    assert_eq!(m.update(&1, |old| old.map(|number| number + 10)).unwrap(), Some(11));
    assert_eq!(m.take(&1).unwrap(), Some(11));
    assert_eq!(m.get(&1).unwrap(), None);
    assert!(m.contains_key(&2).unwrap() && m.remove(&2).unwrap() && !m.remove(&2).unwrap());
    assert_eq!((m.len().unwrap(), m.entries().unwrap().len()), (3, 3));
    m.clear().unwrap();
    assert!(m.is_empty().unwrap());
    let plain = F::open(&store, "plain", &SpaceOptions::new());
    assert_eq!(plain.range(1..2).unwrap_err().kind(), "options");
    let panic = || m.update(&1, |_| resume_unwind(Box::new("planned")));
    assert!(catch_unwind(AssertUnwindSafe(panic)).is_err());
    assert!(m.is_empty().unwrap(), "the store lives on");
}

/// Makes a test of each case for each face.
macro_rules! both {
    ($blocking:ty, $task:ty: $($case:ident),*) => {
        $(mod $case {
            #[test]
            fn blocking() {
                super::$case::<$blocking>();
            }

            #[test]
            fn asynchronous() {
                super::$case::<$task>();
            }
        })*
    };
}

both!(tierce::Cache<String, u32>, tierce::AsyncCache<String, u32>:
    values, lifetimes, puts, invalidations, loads, failures, circles, writes_during_loads,
    stampedes, failures_are_shared, statistics);
both!(tierce::Map<u32, u64>, tierce::AsyncMap<u32, u64>: maps);
