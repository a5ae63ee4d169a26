//! Loading what is not there: once for all who ask, whatever happens to who loads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use tierce::{Error, LoadPolicy, Loaded, Loading, Put, SpaceOptions, Ttl};

use crate::cache::{Desk, seconds, until};

const THREADS: usize = 16;

/// Goal: of 16 threads that ask for one key one loads, and all get its value.
#[test]
fn one_load_for_all() {
    let cache = Desk::new().open().cache::<u32, String>("c").unwrap();
    let (loads, start) = (AtomicU32::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for key in 0..20 {
                    start.wait();
                    let load = || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        format!("value {key}")
                    };
                    let value = cache.get_or_insert_with(&key, load).unwrap();
                    assert_eq!(value, format!("value {key}"));
                }
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 20);
    assert_eq!(cache.stats().unwrap().loads, 20);
}

/// Goal: an error goes to all who waited, once, with its own words; nothing is stored, and the next one tries again.
#[test]
fn an_error_is_shared_and_not_stored() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let (loads, gate) = (AtomicU32::new(0), Barrier::new(THREADS));
    let fail = || {
        loads.fetch_add(1, Ordering::SeqCst);
        // The others are on their way: the last of them comes while this waits, or finds the error.
        gate.wait();
        Err::<u32, _>(std::io::Error::other("no network"))
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (cache, gate, fail) = (&cache, &gate, &fail);
            scope.spawn(move || {
                if number > 0 {
                    until("the load", || loads_of(cache));
                    gate.wait();
                }
                match cache.try_get_or_insert_with(&1, fail_or(fail, number == 0)) {
                    Err(Error::Loader(error)) => assert_eq!(error.to_string(), "no network"),
                    other => assert_eq!(other.unwrap(), 7),
                }
            });
        }
    });
    assert!(cache.get(&1).unwrap().is_none_or(|value| value == 7));
    assert_eq!(cache.try_get_or_insert_with(&1, || Ok::<_, Error>(7)).unwrap(), 7);
}

fn loads_of(cache: &tierce::Cache<u32, u32>) -> bool {
    cache.stats().unwrap().misses > 0
}

fn fail_or<E>(
    fail: impl FnOnce() -> Result<u32, E>,
    fails: bool,
) -> impl FnOnce() -> Result<u32, E> {
    move || if fails { fail() } else { Ok(7) }
}

/// Goal: a loader that panics wakes those who wait for it with an error; its own thread panics on, and the next one
/// loads.
#[test]
fn a_panic_wakes_those_who_wait() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let begun = Barrier::new(2);
    thread::scope(|scope| {
        let loads = scope.spawn(|| {
            catch_unwind(AssertUnwindSafe(|| {
                cache.get_or_insert_with(&1, || {
                    begun.wait();
                    until("the other to ask", || cache.stats().unwrap().misses >= 2);
                    panic!("planned")
                })
            }))
        });
        begun.wait();
        let waits = scope.spawn(|| cache.get_or_insert_with(&1, || 7));
        assert!(loads.join().unwrap().is_err());
        match waits.join().unwrap() {
            Err(Error::LoaderPanicked(text)) => assert_eq!(text, "planned"),
            // It asked, and had not begun to wait.
            other => assert_eq!(other.unwrap(), 7),
        }
    });
    assert_eq!(cache.get_or_insert_with(&1, || 7).unwrap(), 7);
    assert_eq!(cache.stats().unwrap().load_failures, 1);
}

/// Goal: a loader that asks for its own key gets an error, not a deadlock; others keys it may ask for.
#[test]
fn recursion_on_one_key() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let own = cache.get_or_insert_with(&1, || {
        let again = cache.get_or_insert_with(&1, || unreachable!());
        assert!(matches!(again, Err(Error::LoaderRecursion)), "{again:?}");
        cache.get_or_insert_with(&2, || 20).unwrap() + 1
    });
    assert_eq!(own.unwrap(), 21);
    assert_eq!(cache.get(&2).unwrap(), Some(20));
}

/// Goal: two loaders that ask for each other's key, in two threads and over two caches, do not wait for ever.
#[test]
fn recursion_in_a_circle() {
    let store = Desk::new().open();
    let a = store.cache::<u32, u32>("a").unwrap();
    let b = store.cache::<u32, u32>("b").unwrap();
    let both = Barrier::new(2);
    let errors = AtomicU32::new(0);
    let load = |own: &tierce::Cache<u32, u32>, other: &tierce::Cache<u32, u32>| {
        own.get_or_insert_with(&1, || {
            both.wait();
            match other.get_or_insert_with(&1, || 5) {
                Err(Error::LoaderRecursion) => {
                    errors.fetch_add(1, Ordering::SeqCst);
                    1
                }
                other => other.unwrap() + 1,
            }
        })
        .unwrap()
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| load(&a, &b));
        let sum = load(&b, &a) + one.join().unwrap();
        assert_eq!(sum, 3, "one had to do without the other, which got its value");
    });
    assert_eq!(errors.load(Ordering::SeqCst), 1);
}

/// What is done while a load goes on, and what is stored then.
type During<'a> = (&'a str, &'a dyn Fn(), Option<u32>);

/// Goal: an insert, a remove and each kind of invalidation during a load are later than it: it is not stored.
#[test]
fn a_load_does_not_overwrite_what_came_after_it_began() {
    let store = Desk::new().open();
    for ordered in [false, true] {
        let options = SpaceOptions::new().ordered(ordered);
        let cache: tierce::Cache<String, u32> =
            store.cache_with(&format!("c/{ordered}"), &options).unwrap();
        let during: [During<'_>; 8] = [
            ("insert", &|| cache.insert("k", &2).unwrap(), Some(2)),
            (
                "update",
                &|| assert_eq!(cache.update("k", &Put::new(), |_| Some(2)).unwrap(), Some(2)),
                Some(2),
            ),
            ("remove", &|| assert!(!cache.remove("k").unwrap()), None),
            ("take", &|| assert_eq!(cache.take("k").unwrap(), None), None),
            ("tag", &|| assert_eq!(cache.invalidate_tag("t").unwrap(), 0), None),
            ("keys", &|| assert_eq!(cache.invalidate_keys(|_| true).unwrap(), 0), None),
            (
                "if",
                &|| {
                    // It says of a value what it cannot say of one that is being loaded.
                    cache.insert("other", &2).unwrap();
                    assert_eq!(cache.invalidate_if(|_, _| true).unwrap(), 1);
                },
                None,
            ),
            ("clear", &|| assert_eq!(cache.clear().unwrap(), 0), None),
        ];
        for (name, change, left) in during {
            cache.cut().unwrap();
            let load = || {
                change();
                Ok::<_, Error>(Loaded::new(1).tag("t"))
            };
            assert_eq!(cache.get_or_load("k", load).unwrap(), 1, "{name}");
            assert_eq!(cache.get("k").unwrap(), left, "{name}");
        }
        // Who asks after the change does not get what was loaded before it.
        let value = cache.get_or_insert_with("new", || {
            cache.remove("new").unwrap();
            cache.get_or_insert_with("new", || 3).unwrap()
        });
        assert_eq!((value.unwrap(), cache.get("new").unwrap()), (3, Some(3)));
    }
}

/// Goal: a forced refresh loads what is there already, and stores it with what it says.
#[test]
fn force_refresh() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    let value = AtomicU32::new(0);
    let load = || Ok::<_, Error>(Loaded::new(value.fetch_add(1, Ordering::SeqCst)).tag("t"));
    assert_eq!(cache.get_or_load("k", load).unwrap(), 0);
    assert_eq!(cache.get_or_load("k", load).unwrap(), 0);
    assert_eq!(cache.force_refresh("k", load).unwrap(), 1);
    assert_eq!(cache.get("k").unwrap(), Some(1));
    assert_eq!(cache.keys_with_tag("t").unwrap(), ["k"]);
    let never = || Ok::<_, Error>(Loaded::<u32>::not_modified());
    assert!(matches!(cache.get_or_load("other", never), Err(Error::Loader(_))));
    assert_eq!(cache.force_refresh("k", never).unwrap(), 1);
}

/// Goal: errors are remembered if the policy says so: they fail at once, survive a restart, and are seen by nobody
/// else.
#[test]
fn remembered_errors() {
    let desk = Desk::new();
    let calls = Arc::new(AtomicU32::new(0));
    let open = |store: &tierce::Store| {
        let cache = store.cache::<String, u32>("c").unwrap();
        let count = Arc::clone(&calls);
        cache.loading(LoadPolicy::new().cache_errors(seconds(30)), move |_, _| {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Err("down, grün: ".repeat(40).into()),
                number => Ok(Loaded::new(number)),
            }
        })
    };
    let store = desk.open();
    let loading = open(&store);
    let key = "k".to_owned();
    for _ in 0..3 {
        assert!(matches!(loading.get(&key), Err(Error::Loader(_))));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let cache = loading.cache().clone();
    assert_eq!(cache.get("k").unwrap(), None);
    assert!(!cache.contains_key("k").unwrap() && cache.entry("k").unwrap().is_none());
    assert!(cache.get_stale("k").unwrap().is_none() && cache.ttl("k").unwrap().is_none());
    assert!(cache.is_empty().unwrap() && cache.keys().unwrap().is_empty());
    assert!(cache.entries().unwrap().is_empty() && !cache.touch("k", seconds(1)).unwrap());
    assert!(cache.insert_with("k", &9, &Put::new().if_absent().ttl(Ttl::millis(1))).unwrap());
    assert_eq!(loading.get(&key).unwrap(), 9, "a value in its place is one");
    cache.remove("k").unwrap();
    calls.store(0, Ordering::SeqCst);
    loading.get(&key).unwrap_err();
    drop((cache, loading));
    store.close().unwrap();
    let loading = open(&desk.open());
    let error = loading.get(&key).unwrap_err().to_string();
    assert!(error.contains("down, grün") && error.len() < 300, "{error}");
    desk.clock.advance(30_000);
    assert_eq!(loading.get(&key).unwrap(), 1);
}

/// Goal: who has no patience gets an error in time, the load goes on, and its value is there for the next one; a loader
/// that asks for its own key is found out though another thread runs it.
#[test]
fn patience() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let gate = Arc::new(Barrier::new(2));
    let wait = Arc::clone(&gate);
    let own: Arc<OnceLock<Loading<u32, u32>>> = Arc::default();
    let this = Arc::clone(&own);
    let policy = LoadPolicy::new().patience(std::time::Duration::from_millis(1));
    let loading = cache.loading(policy.clone(), move |key, _| {
        if *key == 1 {
            wait.wait();
        }
        if *key == 3 {
            let again = this.get().unwrap().get(key);
            assert!(matches!(again, Err(Error::LoaderRecursion)), "{again:?}");
        }
        Ok(Loaded::new(key * 10))
    });
    assert!(own.set(cache.loading(policy.patience(seconds(60)), |_, _| unreachable!())).is_ok());
    let error = loading.get(&1).unwrap_err();
    assert!(matches!(error, Error::Timeout { ms: 1, .. }), "{error:?}");
    gate.wait();
    until("the load", || cache.get(&1).unwrap() == Some(10));
    assert_eq!(loading.get(&1).unwrap(), 10);
    let patient = cache.loading(LoadPolicy::new().patience(seconds(60)), |key, _| {
        assert!(*key != 4, "planned");
        Ok(Loaded::new(*key))
    });
    assert_eq!(patient.get(&2).unwrap(), 2);
    assert!(matches!(patient.get(&4), Err(Error::LoaderPanicked(_))));
    let _ = loading.get(&3);
    until("the load", || cache.get(&3).unwrap() == Some(30));
}

/// Goal: what could not be stored is served all the same, to the one who loaded it too, and counted with the reason. Only
/// a handle whose space is gone says so.
#[test]
fn a_value_that_cannot_be_stored() {
    let desk = Desk::new();
    let store = tierce::Store::open_with("store", desk.options().value_bytes_max(1000)).unwrap();
    let cache = store.cache::<u32, String>("c").unwrap();
    let long = || "x".repeat(5000);
    assert_eq!(cache.get_or_insert_with(&1, long).unwrap(), long());
    assert_eq!(
        cache.get_or_load(&1, || Ok::<_, Error>(Loaded::new(long()).tag(""))).unwrap(),
        long()
    );
    let stats = cache.stats().unwrap();
    assert_eq!((stats.unstored, stats.loads, stats.entries), (2, 2, 0));
    assert!(stats.unstored_because.unwrap().contains("a tag is empty"));
    assert!(store.drop_space("c").unwrap());
    assert_eq!(cache.get_or_insert_with(&1, String::new).unwrap_err().kind(), "closed");
}
