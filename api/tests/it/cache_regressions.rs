//! Faults that were found once, each by its name.

use std::{
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tierce::{Cache, Error, LoadPolicy, Loaded, Loading, Map, Put, SpaceOptions, Ttl, codec::Raw};

use crate::cache::{Desk, seconds, until};

/// Goal: a load that begins while a write goes on does not overwrite what was written.
#[test]
fn a_load_that_begins_during_a_write_does_not_overwrite_it() {
    let cache = Desk::new().open().cache::<u32, String>("c").unwrap();
    let gate = Barrier::new(2);
    let (begun, begins) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (cache, gate) = (&cache, &gate);
        let write = scope.spawn(move || {
            cache.update(&1, &Put::new(), |_| {
                gate.wait();
                gate.wait();
                Some("written".into())
            })
        });
        gate.wait();
        let load = scope.spawn(move || {
            cache.get_or_insert_with(&1, || {
                begun.send(()).unwrap();
                gone.recv().unwrap();
                "loaded".into()
            })
        });
        begins.recv().unwrap();
        gate.wait();
        write.join().unwrap().unwrap();
        go.send(()).unwrap();
        assert_eq!(load.join().unwrap().unwrap(), "loaded");
    });
    assert_eq!(cache.get(&1).unwrap().as_deref(), Some("written"));
}

/// Goal: who forces a refresh is told that it failed, and the old value stays; a policy may say otherwise.
#[test]
fn a_forced_refresh_that_fails_says_so() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    let fail = || Err::<Loaded<u32>, _>("no network");
    for ttl in [Ttl::Never, Ttl::seconds(60)] {
        cache.insert_with("a", &1, &Put::new().ttl(ttl)).unwrap();
        assert!(matches!(cache.force_refresh("a", fail), Err(Error::Loader(_))));
        assert_eq!(cache.get("a").unwrap(), Some(1));
    }
    let policy = LoadPolicy::new().cache_errors(seconds(60));
    let failing = cache.loading(policy.clone(), |_, _| Err("no network".into()));
    assert!(matches!(failing.refresh(&"a".into()), Err(Error::Loader(_))));
    assert_eq!(failing.get(&"a".into()).unwrap(), 1, "a failure is not remembered over a value");
    let lenient = cache.loading(policy.stale_if_error(seconds(1)), |_, _| Err("no".into()));
    assert_eq!(lenient.refresh(&"a".into()).unwrap(), 1);
}

/// Goal: a refresh in the background that fails, and is to be remembered, leaves the stale value where it is.
#[test]
fn a_remembered_failure_does_not_replace_a_stale_value() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let policy = LoadPolicy::new()
        .ttl(seconds(10))
        .stale_while_revalidate(seconds(100))
        .cache_errors(seconds(30));
    let count = Arc::clone(&calls);
    let loading = cache.loading(policy, move |_, _| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(Loaded::new(7)),
        _ => Err("down".into()),
    });
    assert_eq!(loading.get(&1).unwrap(), 7);
    desk.clock.advance(20_000);
    assert_eq!(loading.get(&1).unwrap(), 7);
    until("the refresh", || cache.stats().unwrap().load_failures == 1);
    // The next one cannot begin before the first has landed, and lands after it.
    desk.clock.advance(5_000);
    until("another refresh", || {
        assert_eq!(loading.get(&1).unwrap(), 7);
        cache.stats().unwrap().load_failures > 1
    });
    assert_eq!(loading.get(&1).unwrap(), 7);
}

/// Goal: values that are loaded ahead of time, and were not modified, are not loaded at each get from then on.
#[test]
fn not_modified_values_are_refreshed_ahead_as_often_as_others() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let policy = LoadPolicy::new().ttl(seconds(100)).refresh_ahead(0.5);
    let loads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&loads);
    let loading = cache.loading(policy, move |key, old| {
        count.fetch_add(usize::from(*key == 1), Ordering::SeqCst);
        Ok(if old.is_some() { Loaded::not_modified() } else { Loaded::new(7) })
    });
    loading.get(&1).unwrap();
    for round in 1..=10 {
        desk.clock.advance(60_000);
        assert_eq!(loading.get(&1).unwrap(), 7);
        until("the refresh", || cache.ttl(&1).unwrap() == Some(Some(seconds(100))));
        until("its end", || cache.stats().unwrap().loads == round + 1);
        // Too early for the next one.
        desk.clock.advance(10_000);
        assert_eq!(loading.get(&1).unwrap(), 7);
        desk.clock.jump_wall(0);
        assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(90))), "round {round}");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 11);
}

/// Goal: stale values may be served for ever, and are fresh before that.
#[test]
fn a_stale_window_without_end_leaves_values_fresh() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    for (key, ttl) in [(1, seconds(60)), (2, Duration::MAX)] {
        let policy = LoadPolicy::new().ttl(ttl).stale_if_error(Duration::MAX).jitter(0.5);
        let loading = cache.loading(policy, |key, old| match old {
            None => Ok(Loaded::new(*key)),
            Some(_) => Err("down".into()),
        });
        assert_eq!(loading.get(&key).unwrap(), key);
        assert_eq!(cache.get(&key).unwrap(), Some(key));
        desk.clock.advance(1_000_000_000_000);
        assert_eq!(loading.get(&key).unwrap(), key, "the loader fails, the value is there");
        assert_eq!(cache.get(&key).unwrap().is_some(), ttl == Duration::MAX);
    }
}

/// Goal: a value that was not modified is fresh as long as the loader says, whatever window it was stored with.
#[test]
fn not_modified_heeds_the_window_of_the_record() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let not_modified = |_: &u32, old: Option<&_>| {
        let _: Option<&tierce::cache::Old<u32>> = old;
        Ok(if old.is_some() { Loaded::not_modified() } else { Loaded::new(1) })
    };
    for (before, after) in [(0, 600), (600, 0), (5, 600)] {
        let policy = |window| LoadPolicy::new().ttl(seconds(60)).stale_if_error(seconds(window));
        cache.remove(&1).unwrap();
        cache.loading(policy(before), not_modified).get(&1).unwrap();
        desk.clock.advance(10_000);
        cache.loading(policy(after), not_modified).refresh(&1).unwrap();
        assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(60))), "{before} {after}");
    }
}

/// Goal: touch and slide say how long a value is fresh, also if it may be stale after that.
#[test]
fn touch_of_a_value_that_may_be_stale() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let policy = LoadPolicy::new().ttl(seconds(60)).stale_if_error(seconds(3600));
    let loading = cache.loading(policy, |_, old| match old {
        None => Ok(Loaded::new(1)),
        Some(_) => Err("down".into()),
    });
    loading.get(&1).unwrap();
    assert!(cache.touch(&1, seconds(30)).unwrap());
    assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(30))));
    assert!(cache.slide(&1, seconds(90)).unwrap());
    assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(90))));
    desk.clock.advance(90_000);
    assert!(!cache.touch(&1, seconds(30)).unwrap(), "it is stale");
    assert!(!cache.slide(&1, seconds(30)).unwrap());
    assert_eq!(loading.get(&1).unwrap(), 1, "and still there");
}

/// Goal: what is kept of a lifetime is its fresh part; of a stale entry, or a failure, there is none; never is kept.
#[test]
fn keep_ttl_of_all_kinds_of_entries() {
    let desk = Desk::new();
    let options = SpaceOptions::new().ttl(seconds(5));
    let cache: Cache<u32, u32> = desk.open().cache_with("c", &options).unwrap();
    let policy = LoadPolicy::new().ttl(seconds(60)).stale_if_error(seconds(3600));
    let loading = cache.loading(policy.clone(), |_, _| Ok(Loaded::new(1)));
    let put = Put::new().keep_ttl();
    let left = |key: &u32| cache.ttl(key).unwrap().unwrap();
    let writes: [&dyn Fn(&u32); 2] =
        [&|key| assert!(cache.insert_with(key, &2, &put).unwrap()), &|key| {
            assert_eq!(cache.update(key, &put, |_| Some(2)).unwrap(), Some(2))
        }];
    for (write, keys) in writes.iter().zip([10, 20]) {
        let [fresh, stale, failed, never] = [keys, keys + 1, keys + 2, keys + 3];
        loading.get(&stale).unwrap();
        desk.clock.advance(61_000);
        write(&stale);
        assert_eq!(left(&stale), Some(seconds(5)));
        loading.get(&fresh).unwrap();
        desk.clock.advance(1_000);
        write(&fresh);
        assert_eq!(left(&fresh), Some(seconds(59)));
        desk.clock.advance(59_000);
        assert!(cache.get(&fresh).unwrap().is_none() && cache.get_stale(&fresh).unwrap().is_some());
        let failing =
            cache.loading(policy.clone().cache_errors(seconds(900)), |_, _| Err("x".into()));
        failing.get(&failed).unwrap_err();
        write(&failed);
        assert_eq!(left(&failed), Some(seconds(5)));
        cache.insert_with(&never, &1, &Put::new().ttl(Ttl::Never)).unwrap();
        write(&never);
        assert_eq!(left(&never), None);
    }
    let put = put.if_absent();
    assert!(!cache.insert_with(&13, &9, &put).unwrap(), "it is there");
    assert_eq!(cache.get(&13).unwrap(), Some(2));
}

/// Goal: a remembered failure, and a value that cannot be decoded, are nothing to take or to update.
#[test]
fn what_is_no_value_is_absent_for_take_and_update() {
    let store = Desk::new().open();
    let options = SpaceOptions::new().value_type("changed");
    let numbers: Cache<u32, u32> = store.cache_with("c", &options).unwrap();
    numbers.insert(&1, &1).unwrap();
    let texts: Cache<u32, String> = store.cache_with("c", &options).unwrap();
    let failing =
        texts.loading(LoadPolicy::new().cache_errors(seconds(60)), |_, _| Err("down".into()));
    assert!(failing.get(&2).is_err());
    for key in [1, 2] {
        assert_eq!(texts.take(&key).unwrap(), None);
        let set = |old: Option<String>| {
            assert_eq!(old, None);
            Some("new".to_owned())
        };
        assert_eq!(texts.update(&key, &Put::new(), set).unwrap().as_deref(), Some("new"));
        assert_eq!(texts.take(&key).unwrap().as_deref(), Some("new"));
    }
}

/// Goal: a loader that only names tags leaves the policy's lifetime; one that names a lifetime leaves its tags.
#[test]
fn what_a_loader_does_not_say_the_policy_says() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let policy = LoadPolicy::new().ttl(seconds(60)).tag("policy");
    let loading = cache.loading(policy, |key, _| {
        let loaded = Loaded::new(*key);
        Ok(if *key == 1 { loaded.tag("own") } else { loaded.ttl(seconds(5)) })
    });
    loading.get(&1).unwrap();
    loading.get(&2).unwrap();
    assert_eq!(cache.ttl(&1).unwrap(), Some(Some(seconds(60))));
    assert_eq!(cache.keys_with_tag("own").unwrap(), [1]);
    assert_eq!(cache.ttl(&2).unwrap(), Some(Some(seconds(5))));
    assert_eq!(cache.keys_with_tag("policy").unwrap(), [2]);
}

/// Goal: a load that says "not to be stored" does not leave the older value in its place.
#[test]
fn a_load_with_no_lifetime_removes_the_old_value() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    cache.insert(&1, &1).unwrap();
    let load = || Ok::<_, Error>(Loaded::new(2).ttl(Duration::ZERO));
    assert_eq!(cache.force_refresh(&1, load).unwrap(), 2);
    assert_eq!(cache.get(&1).unwrap(), None);
}

/// Goal: invalidation reaches stale values, which would be served again, and counts those that were fresh.
#[test]
fn invalidation_reaches_stale_values() {
    let desk = Desk::new();
    let cache = desk.open().cache::<String, u32>("c").unwrap();
    let policy = LoadPolicy::new().ttl(seconds(60)).stale_if_error(seconds(3600));
    let loading = cache.loading(policy.cache_errors(seconds(900)), |key: &String, old| {
        match (key.as_str(), old) {
            ("failed", _) | (_, Some(_)) => Err("down".into()),
            _ => Ok(Loaded::new(1)),
        }
    });
    let all: [&dyn Fn() -> u64; 3] = [
        &|| cache.invalidate_if(|_, entry| entry.value == 1).unwrap(),
        &|| cache.invalidate_keys(|_| true).unwrap(),
        &|| cache.clear().unwrap(),
    ];
    for invalidate in all {
        loading.get(&"stale".into()).unwrap();
        desk.clock.advance(60_000);
        loading.get(&"fresh".into()).unwrap();
        loading.get(&"failed".into()).unwrap_err();
        assert!(cache.get_stale("stale").unwrap().is_some());
        assert_eq!(cache.len().unwrap(), 1);
        assert_eq!(invalidate(), 1);
        assert!(cache.get_stale("stale").unwrap().is_none() && cache.is_empty().unwrap());
        cache.cut().unwrap();
    }
}

/// Goal: a question about entries may be answered by asking, or changing, the cache.
#[test]
fn a_predicate_may_use_the_cache() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    for key in 0..10 {
        cache.insert(&key, &key).unwrap();
    }
    let odd = |key: &u32| {
        cache.insert(&100, &1).unwrap();
        cache.get(key).unwrap().is_some_and(|value| value % 2 == 1)
    };
    assert_eq!(cache.invalidate_keys(odd).unwrap(), 5);
    assert_eq!(cache.invalidate_if(|key, _| cache.remove(key).unwrap()).unwrap(), 0);
    assert!(cache.is_empty().unwrap());
}

/// Goal: options that are changed hold for the handle that changed them, at once, though the space is open already.
#[test]
fn changed_options_hold_at_once() {
    let store = Desk::new().open();
    let before = store.cache::<u32, u32>("c").unwrap();
    before.insert(&1, &1).unwrap();
    let options = SpaceOptions::new().ttl(seconds(60)).evictable(false).ordered(true).change();
    let after: Cache<u32, u32> = store.cache_with("c", &options).unwrap();
    before.insert(&3, &3).unwrap();
    after.insert(&2, &2).unwrap();
    assert_eq!(after.ttl(&2).unwrap(), Some(Some(seconds(60))));
    assert!(after.entry(&2).unwrap().unwrap().pinned);
    assert_eq!(after.keys().unwrap(), [1, 2, 3], "the older handle notes its keys, too");
    assert_eq!(after.stats().unwrap().inserts, 3, "and counts with the others");
    let map: Map<u32, u32> = store.map_with("m", &SpaceOptions::new()).unwrap();
    map.insert(&2, &2).unwrap();
    let ordered: Map<u32, u32> =
        store.map_with("m", &SpaceOptions::new().ordered(true).change()).unwrap();
    map.insert_all([(1, 1), (3, 3)]).unwrap();
    map.remove(&3).unwrap();
    assert_eq!(ordered.range(..).unwrap(), [(1, 1), (2, 2)]);
    assert!(store.drop_space("c").unwrap());
    assert!(before.insert(&9, &9).is_err() && after.insert(&9, &9).is_err());
}

/// Goal: a refresh in the background that panics is not tried again at each get.
#[test]
fn a_refresh_that_panics_is_retried_later() {
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let policy = LoadPolicy::new()
        .ttl(seconds(10))
        .stale_while_revalidate(seconds(1000))
        .retry_after(seconds(30));
    let loading = cache.loading(policy, |_, old| {
        assert!(old.is_none(), "planned");
        Ok(Loaded::new(1))
    });
    loading.get(&1).unwrap();
    desk.clock.advance(20_000);
    let failures = |count| until("a failure", || cache.stats().unwrap().load_failures == count);
    loading.get(&1).unwrap();
    failures(1);
    for _ in 0..2000 {
        assert_eq!(loading.get(&1).unwrap(), 1);
    }
    assert_eq!(cache.stats().unwrap().load_failures, 1);
    desk.clock.advance(30_000);
    until("the next one", || {
        loading.get(&1).unwrap();
        cache.stats().unwrap().load_failures == 2
    });
}

/// Goal: what is remembered of a failure goes with the tag that the value would have had.
#[test]
fn a_remembered_failure_has_the_tags() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let up = Arc::new(AtomicUsize::new(0));
    let is_up = Arc::clone(&up);
    let policy = LoadPolicy::new().cache_errors(seconds(60)).tag("weather");
    let loading = cache.loading(policy, move |_, _| match is_up.load(Ordering::SeqCst) {
        0 => Err("down".into()),
        _ => Ok(Loaded::new(1)),
    });
    loading.get(&1).unwrap_err();
    up.store(1, Ordering::SeqCst);
    loading.get(&1).unwrap_err();
    assert_eq!(cache.invalidate_tag("weather").unwrap(), 0, "it is no entry");
    assert_eq!(loading.get(&1).unwrap(), 1);
}

/// Goal: loaders that ask for a key whose refresh waits for a worker, when all workers run such loaders, come to an
/// end.
#[test]
fn workers_that_wait_for_work_that_waits_for_workers() {
    const WORKERS: u32 = 4;
    let desk = Desk::new();
    let cache = desk.open().cache::<u32, u32>("c").unwrap();
    let policy = LoadPolicy::new().ttl(seconds(10)).stale_while_revalidate(seconds(1000));
    let own: Arc<OnceLock<Loading<u32, u32>>> = Arc::default();
    let gate = Arc::new(Barrier::new(WORKERS as usize + 1));
    let (this, wait) = (Arc::clone(&own), Arc::clone(&gate));
    let loading = cache.loading(policy, move |key, old| {
        if *key < WORKERS && old.is_some() {
            wait.wait();
            wait.wait();
            return Ok(Loaded::new(this.get().unwrap().refresh(&WORKERS)?));
        }
        Ok(Loaded::new(old.map_or(1, |old| old.value + 1)))
    });
    assert!(own.set(loading.clone()).is_ok());
    for key in 0..=WORKERS {
        loading.get(&key).unwrap();
    }
    desk.clock.advance(20_000);
    for key in 0..WORKERS {
        loading.get(&key).unwrap();
    }
    gate.wait();
    assert_eq!(loading.get(&WORKERS).unwrap(), 1, "stale; its refresh is queued");
    gate.wait();
    until("all refreshes", || (0..=WORKERS).all(|key| cache.get(&key).unwrap().is_some()));
    assert!(cache.get(&WORKERS).unwrap().is_some_and(|value| value >= 2));
}

/// Goal: keys that expired leave an ordered space when it is walked, and come back when they are stored again.
#[test]
fn expired_keys_of_an_ordered_space() {
    let desk = Desk::new();
    let options = SpaceOptions::new().ordered(true).ttl(seconds(10));
    let cache: Cache<u32, Vec<u8>, Raw> = desk.open().cache_with("c", &options).unwrap();
    for round in 0..5 {
        for key in 0..20 {
            cache.insert(&((key * 7) % 20), &vec![round]).unwrap();
        }
        assert_eq!(cache.keys().unwrap(), (0..20).collect::<Vec<_>>());
        desk.clock.advance(10_000);
        assert!(cache.keys().unwrap().is_empty() && cache.entries().unwrap().is_empty());
    }
}
