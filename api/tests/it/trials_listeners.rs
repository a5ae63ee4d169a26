//! Caches and those who watch them: what a load is fenced by, what listeners hear and in which order, and callbacks that
//! panic or come back.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use tierce::{
    Cache, Error, LoadPolicy, Loaded, Options, Put, SpaceOptions, Store, Ttl,
    cache::{Event, Events, Removal},
    engine::io::MemoryDisk,
    testing::ManualClock,
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::cache::{Desk, seconds, until};

/// What it answers does not matter.
fn done<T>(_: T) {}

fn store(options: Options) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let options = options.disk(MemoryDisk::new()).clock(clock.clone()).background(false);
    (Store::open_with("store", options.segment_bytes(64 << 10)).unwrap(), clock)
}

/// Starts a load of `key` on another thread, runs `meanwhile` while it goes on; returns whether it was stored.
fn load_beside(cache: &Cache<String, u32>, key: &str, meanwhile: impl FnOnce()) -> bool {
    let (begun, go_on) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        let load = || {
            begun.wait();
            go_on.wait();
            Ok::<_, Error>(Loaded::new(1).tag("mine"))
        };
        let loaded = scope.spawn(move || cache.get_or_load(key, load).unwrap());
        begun.wait();
        meanwhile();
        go_on.wait();
        assert_eq!(loaded.join().unwrap(), 1);
    });
    cache.remove(key).unwrap()
}

/// Goal: a load is not stored if its own key, tag or prefix was hit while it went on, and is stored whatever else was
/// invalidated.
#[test]
fn a_load_is_fenced_by_what_hits_it() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    cache.insert("other", &1).unwrap();
    type Deed<'a> = (&'a str, bool, Box<dyn FnOnce() + 'a>);
    let deeds: Vec<Deed<'_>> = vec![
        ("nothing", true, Box::new(|| ())),
        ("another tag", true, Box::new(|| cache.cut_tag("other").unwrap())),
        ("another key", true, Box::new(|| done(cache.remove("other").unwrap()))),
        ("no key", true, Box::new(|| done(cache.invalidate_keys(|_| false).unwrap()))),
        ("no entry", true, Box::new(|| done(cache.invalidate_if(|_, _| false).unwrap()))),
        ("another prefix", true, Box::new(|| done(cache.invalidate_prefix("other").unwrap()))),
        ("another pattern", true, Box::new(|| done(cache.invalidate_glob("o*").unwrap()))),
        ("its tag", false, Box::new(|| cache.cut_tag("mine").unwrap())),
        ("its tag, counted", false, Box::new(|| done(cache.invalidate_tag("mine").unwrap()))),
        ("its key", false, Box::new(|| done(cache.remove("k").unwrap()))),
        ("its prefix", false, Box::new(|| done(cache.invalidate_prefix("k").unwrap()))),
        ("its pattern", false, Box::new(|| done(cache.invalidate_glob("?").unwrap()))),
        ("all", false, Box::new(|| done(cache.clear().unwrap()))),
        ("all, unseen", false, Box::new(|| cache.cut().unwrap())),
    ];
    for (what, is_stored, deed) in deeds {
        assert_eq!(load_beside(&cache, "k", deed), is_stored, "{what}");
    }
}

/// Goal: who asks after a tag was cut does not get the value of a load that began before, if it has that tag.
#[test]
fn nobody_joins_a_load_that_a_tag_made_old() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    let (begun, go_on) = (&Barrier::new(2), &AtomicBool::new(false));
    let cache = &cache;
    thread::scope(|scope| {
        let old = || {
            begun.wait();
            until("the other asks", || go_on.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(30));
            Ok::<_, Error>(Loaded::new(1).tag("t"))
        };
        let first = scope.spawn(move || cache.get_or_load("k", old).unwrap());
        begun.wait();
        cache.cut_tag("t").unwrap();
        let second = scope.spawn(|| {
            go_on.store(true, Ordering::SeqCst);
            cache.get_or_load("k", || Ok::<_, Error>(Loaded::new(2).tag("t"))).unwrap()
        });
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (1, 2));
    });
    assert_eq!(cache.get("k").unwrap(), Some(2));
}

/// Goal: a value is loaded once or twice, not with every get, while another thread cuts other tags all the time.
#[test]
fn other_invalidations_do_not_cost_loads() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    let (stop, loads) = (AtomicBool::new(false), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&loads);
    let loading = cache.loading(LoadPolicy::new().ttl(Ttl::minutes(60)), move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        Ok(Loaded::new(1).tag("mine"))
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                cache.cut_tag(&format!("other-{}", n % 5)).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        (0..5).for_each(|_| assert_eq!(loading.get(&"k".to_owned()).unwrap(), 1));
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

/// Goal: a value that was fetched is served although the store has no room for it, by either kind of loader.
#[test]
fn a_value_without_room_is_served() {
    let (store, _) = store(Options::new().max_bytes(1 << 20));
    let cache = store.cache::<u32, Vec<u8>>("c").unwrap();
    let loading = cache.loading(LoadPolicy::new().stale_if_error(seconds(60)), |_, _| {
        Ok(Loaded::new(vec![2; 2 << 20]))
    });
    for _ in 0..3 {
        let value = cache.get_or_insert_with(&1, || vec![1; 2 << 20]).unwrap();
        assert_eq!((value.len(), loading.get(&2).unwrap().len()), (2 << 20, 2 << 20));
    }
    let stats = cache.stats().unwrap();
    assert_eq!((stats.unstored, stats.entries), (6, 0));
    assert!(stats.unstored_because.unwrap().contains("limit"));
}

// ---------------------------------------------------------------- listeners

/// Goal: what expired or was evicted is told before what takes its place, with and without a sweep.
#[test]
fn a_removal_is_told_before_what_follows() {
    let (expiring, clock) = store(Options::new());
    let cache = expiring.cache::<String, u32>("c").unwrap();
    let second = || Put::new().ttl(seconds(1));
    for sweeps in [true, false] {
        let events = cache.subscribe(100);
        cache.insert_with("k", &1, &second()).unwrap();
        clock.advance(seconds(5));
        if sweeps {
            expiring.engine().unwrap().sweep(None).unwrap();
        }
        cache.insert_with("k", &2, &second()).unwrap();
        clock.advance(seconds(5));
        assert!(!cache.remove("k").unwrap());
        let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        let (k, expired) = (|| "k".to_owned(), Removal::Expired);
        let expected = [
            Event::Inserted(k()),
            Event::Removed(k(), expired),
            Event::Inserted(k()),
            Event::Removed(k(), expired),
        ];
        assert_eq!(told, expected, "{sweeps}");
    }
    let (evicting, _) = store(Options::new().max_entries(2));
    let cache = evicting.cache::<u32, u32>("c").unwrap();
    let (events, mut mirror) = (cache.subscribe(100), BTreeSet::new());
    for key in [1, 2, 3, 4, 1, 2] {
        cache.insert(&key, &1).unwrap();
    }
    follow(&events, &mut mirror, |_, _| false);
    assert_eq!(mirror, keys_of(&cache));
    assert_eq!(mirror.len(), 2);
}

fn keys_of(cache: &Cache<u32, u32>) -> BTreeSet<u32> {
    cache.keys().unwrap().into_iter().collect()
}

/// Takes every event, and does to the mirror what it says.
fn follow(
    events: &Events<u32>,
    mirror: &mut BTreeSet<u32>,
    has_tag: impl Fn(u32, &str) -> bool,
) -> u64 {
    let mut count = 0;
    while let Some(event) = events.try_next() {
        count += 1;
        match event {
            Event::Inserted(key) | Event::Updated(key) => done(mirror.insert(key)),
            Event::Removed(key, _) => done(mirror.remove(&key)),
            Event::TagCut(tag) => mirror.retain(|key| !has_tag(*key, &tag)),
            Event::Cleared => mirror.clear(),
            other => panic!("{other:?}"),
        }
    }
    count
}

/// The tag of a key that is stored by [`deed`].
fn tag_of(key: u32) -> String {
    format!("t{}", key % 3)
}

/// One random change of the cache.
fn deed(cache: &Cache<u32, u32>, rng: &mut Rng) {
    let (key, value) = (rng.below(12) as u32, rng.below(100) as u32);
    let mut put = Put::new().tag(tag_of(key));
    if rng.one_in(2) {
        put = put.ttl(seconds(rng.between(1, 4)));
    }
    match rng.below(20) {
        0 => cache.cut_tag(&tag_of(key)).unwrap(),
        1 if rng.one_in(4) => cache.cut().unwrap(),
        2 | 3 => done(cache.remove(&key).unwrap()),
        4 => done(cache.take(&key).unwrap()),
        5 => done(cache.invalidate_keys(|other| *other % 5 == key % 5).unwrap()),
        6 => done(cache.update(&key, &put, |old| old.filter(|old| *old > 50)).unwrap()),
        7 => done(cache.update(&key, &put.keep_ttl(), |_| Some(value)).unwrap()),
        8 => done(cache.insert_with(&key, &value, &put.if_absent()).unwrap()),
        9 => {
            let load = || Ok::<_, Error>(Loaded::new(value).ttl(seconds(2)).tag(tag_of(key)));
            cache.get_or_load(&key, load).unwrap();
        }
        10 => done(cache.invalidate_if(|_, entry| entry.value == value).unwrap()),
        _ => done(cache.insert_with(&key, &value, &put).unwrap()),
    }
}

/// Goal: a copy of the keys that is built from events alone is what the cache holds, after any operations with expiry,
/// eviction, cuts, sweeps and compaction.
#[test]
fn a_mirror_is_what_the_cache_is() {
    cases("trials_listeners::a_mirror_is_what_the_cache_is", 60, |seed| {
        let mut rng = Rng::new(seed);
        let limit = rng.one_in(2).then(|| rng.between(2, 8));
        let options = Options::new();
        let (store, clock) = store(limit.into_iter().fold(options, Options::max_entries));
        let cache = store.cache::<u32, u32>("c").unwrap();
        let (events, mut mirror) = (cache.subscribe(10_000), BTreeSet::new());
        for _ in 0..rng.between(20, 150) {
            match rng.below(10) {
                0 => clock.advance(seconds(rng.between(1, 3))),
                1 => done(store.engine().unwrap().sweep(None).unwrap()),
                2 if rng.one_in(3) => done(store.engine().unwrap().compact().unwrap()),
                3 => done(follow(&events, &mut mirror, |key, tag| tag_of(key) == tag)),
                _ => deed(&cache, &mut rng),
            }
        }
        settle(&store, &clock);
        follow(&events, &mut mirror, |key, tag| tag_of(key) == tag);
        assert_eq!((mirror, events.lost()), (keys_of(&cache), 0));
    });
}

/// The store notices what has expired by now.
fn settle(store: &Store, clock: &ManualClock) {
    clock.advance(Duration::from_millis(1));
    store.engine().unwrap().sweep(None).unwrap();
}

/// Goal: the same with several writers, and with a reader that follows meanwhile.
#[test]
fn a_mirror_beside_threads() {
    cases("trials_listeners::a_mirror_beside_threads", 12, |seed| {
        let limit = (seed % 2 == 0).then_some(5);
        let options = Options::new();
        let (store, clock) = store(limit.into_iter().fold(options, Options::max_entries));
        let cache = store.cache::<u32, u32>("c").unwrap();
        let events = cache.subscribe(1_000_000);
        let running = AtomicU32::new(3);
        let mut mirror = BTreeSet::new();
        thread::scope(|scope| {
            for number in 0..3 {
                let (cache, running, clock) = (&cache, &running, &clock);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_add(number));
                    for _ in 0..150 {
                        if rng.one_in(50) {
                            clock.advance(seconds(1));
                        }
                        deed(cache, &mut rng);
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            while running.load(Ordering::SeqCst) > 0 {
                follow(&events, &mut mirror, |key, tag| tag_of(key) == tag);
                store.engine().unwrap().sweep(None).unwrap();
            }
        });
        settle(&store, &clock);
        follow(&events, &mut mirror, |key, tag| tag_of(key) == tag);
        assert_eq!((mirror, events.lost()), (keys_of(&cache), 0));
    });
}

/// A waker that does at once what its task would do, as executors that run inline and channels of a GUI do.
struct Inline<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for Inline<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Has `deed` run when the next event of `events` wakes its task.
fn when_woken(events: &Events<String>, deed: impl Fn() + Send + Sync + 'static) {
    let waker = Waker::from(Arc::new(Inline(deed)));
    let mut next = std::pin::pin!(events.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

/// Runs `work` on another thread; fails if it does not return.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    assert!(finished.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for itself");
}

/// Goal: a waker may write to the cache whose event woke it, whatever that event was.
#[test]
fn a_waker_that_writes_to_the_cache() {
    type Deed = fn(&Cache<String, u32>);
    let deeds: [Deed; 7] = [
        |cache| cache.insert("a", &1).unwrap(),
        |cache| done(cache.update("a", &Put::new(), |_| Some(1)).unwrap()),
        |cache| done(cache.get_or_insert_with("a", || 1).unwrap()),
        |cache| done(cache.remove("old").unwrap()),
        |cache| cache.cut_tag("t").unwrap(),
        |cache| done(cache.clear().unwrap()),
        // It has to make room first.
        |cache| done(cache.insert_with("heavy", &1, &Put::new().weight(9)).unwrap()),
    ];
    for deed in deeds {
        in_time(move || {
            let cache = Store::in_memory().unwrap().cache::<String, u32>("c").unwrap();
            cache.set_max_weight(Some(10)).unwrap();
            cache.insert("old", &1).unwrap();
            let events = cache.subscribe(16);
            let inner = cache.clone();
            when_woken(&events, move || {
                inner.insert("a", &2).unwrap();
                inner.cut_tag("u").unwrap();
            });
            deed(&cache);
            assert_eq!(cache.get("a").unwrap(), Some(2));
        });
    }
}

// ---------------------------------------------------------------- panics of callbacks

/// Goal: whatever a caller's code panics in, nothing stays locked, no later call waits, and what it was called for is
/// done whole or not at all.
#[test]
fn callbacks_that_panic() {
    in_time(|| {
        let cache = Store::in_memory().unwrap().cache::<String, u32>("c").unwrap();
        cache.set_max_weight(Some(100)).unwrap();
        cache.insert("a", &1).unwrap();
        type Deed = fn(&Cache<String, u32>);
        let deeds: [Deed; 6] = [
            |cache| done(cache.update("a", &Put::new(), |_| panic!("planned"))),
            |cache| done(cache.get_or_insert_with("b", || panic!("planned"))),
            |cache| done(cache.force_refresh("a", || -> Result<_, Error> { panic!("planned") })),
            |cache| done(cache.invalidate_keys(|_| panic!("planned"))),
            |cache| done(cache.invalidate_if(|_, _| panic!("planned"))),
            |cache| {
                let loading = cache.loading(LoadPolicy::new(), |_, _| panic!("planned"));
                done(loading.get(&"b".to_owned()));
            },
        ];
        for deed in deeds {
            assert!(catch_unwind(AssertUnwindSafe(|| deed(&cache))).is_err());
            assert_eq!(cache.get("a").unwrap(), Some(1));
            assert_eq!(cache.get_or_insert_with("other", || 1).unwrap(), 1);
            assert!(cache.remove("other").unwrap());
            assert_eq!(cache.update("a", &Put::new(), |old| old).unwrap(), Some(1));
        }
        // A panic of who is woken is not the writer's.
        let (events, others) = (cache.subscribe(16), cache.subscribe(16));
        when_woken(&events, || panic!("planned"));
        cache.insert("a", &2).unwrap();
        assert_eq!(others.try_next(), Some(Event::Updated("a".to_owned())));
        assert_eq!(cache.get("a").unwrap(), Some(2));
    });
}

/// Goal: when a loader panics, those who wait for it are served the stale value that an error would have given them.
#[test]
fn a_panic_of_a_loader_counts_as_an_error_for_others() {
    let (store, clock) = store(Options::new());
    let cache = store.cache::<u32, u32>("c").unwrap();
    let policy = || LoadPolicy::new().ttl(seconds(1)).stale_if_error(seconds(60));
    cache.loading(policy(), |_, _| Ok(Loaded::new(7))).get(&1).unwrap();
    clock.advance(seconds(5));
    let (begun, asked) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let loading = {
        let (begun, asked) = (Arc::clone(&begun), Arc::clone(&asked));
        cache.loading(policy(), move |_, _| {
            begun.wait();
            until("the other asks", || asked.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(30));
            panic!("planned")
        })
    };
    thread::scope(|scope| {
        let panics = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| loading.get(&1))).is_err());
        begun.wait();
        let waits = scope.spawn(|| {
            asked.store(true, Ordering::SeqCst);
            loading.get(&1)
        });
        assert!(panics.join().unwrap());
        assert_eq!(waits.join().unwrap().unwrap(), 7);
    });
}

// ---------------------------------------------------------------- updates, tags, patterns, order

/// Goal: an update that writes its own key is an error, not a loop; other keys, other spaces and other stores are its
/// own affair, and after a panic the key is free.
#[test]
fn an_update_that_writes_its_own_key() {
    let (first, second) = (Desk::new().open(), Desk::new().open());
    let (map, other) = (first.map::<u32, u32>("m").unwrap(), second.map::<u32, u32>("m").unwrap());
    let updated = map.update(&1, |_| {
        let error = map.insert(&1, &7).unwrap_err();
        assert!(matches!(error, Error::UpdateRecursion { .. }), "{error:?}");
        assert!(map.update(&1, |old| old).is_err() && map.remove(&1).is_err());
        assert!(map.insert_all([(1, 1)]).is_err());
        map.insert(&2, &7).unwrap();
        other.insert(&1, &7).unwrap();
        map.update(&3, |_| Some(3)).unwrap();
        Some(1)
    });
    assert_eq!(updated.unwrap(), Some(1));
    assert!(catch_unwind(AssertUnwindSafe(|| map.update(&1, |_| panic!("planned")))).is_err());
    map.insert(&1, &2).unwrap();
    let cache = first.cache::<u32, u32>("c").unwrap();
    let updated = cache.update(&1, &Put::new(), |_| {
        assert_eq!(cache.insert(&1, &7).unwrap_err().kind(), "recursion");
        cache.cut().unwrap();
        Some(1)
    });
    assert_eq!(updated.unwrap(), Some(1));
}

/// Goal: an entry keeps its tags through a write that asks for it, and takes more; without it they are replaced.
#[test]
fn tags_are_kept_on_request() {
    let cache = Desk::new().open().cache::<u32, u32>("c").unwrap();
    let tags = || {
        let mut tags = cache.entry(&1).unwrap().unwrap().tags;
        tags.sort();
        tags
    };
    cache.insert_with(&1, &1, &Put::new().tag("a").ttl(seconds(60))).unwrap();
    let keeping = Put::new().keep_ttl().keep_tags();
    cache.update(&1, &keeping.clone().tag("b"), |old| old.map(|old| old + 1)).unwrap();
    assert_eq!(tags(), ["a", "b"]);
    cache.insert_with(&1, &3, &keeping.tag("a")).unwrap();
    assert_eq!(tags(), ["a", "b"]);
    assert!(cache.entry(&1).unwrap().unwrap().expires_at.is_some());
    cache.update(&1, &Put::new().keep_tags(), |old| old).unwrap();
    assert!(cache.entry(&1).unwrap().unwrap().expires_at.is_none());
    assert_eq!(cache.invalidate_tag("a").unwrap(), 1);
    cache.insert_with(&1, &1, &Put::new().tag("a")).unwrap();
    cache.update(&1, &Put::new(), |old| old).unwrap();
    assert!(tags().is_empty());
}

/// Goal: a pattern can mean a star.
#[test]
fn a_pattern_with_a_star_in_it() {
    let cache = Desk::new().open().cache::<String, u32>("c").unwrap();
    for key in ["a*b", "aXb", "a*"] {
        cache.insert(key, &1).unwrap();
    }
    assert_eq!(cache.invalidate_glob(r"a\*b").unwrap(), 1);
    assert_eq!(cache.invalidate_glob(r"a\*").unwrap(), 1);
    assert_eq!(cache.keys().unwrap(), ["aXb"]);
}

/// Goal: messages of errors name the thing that failed.
#[test]
fn texts() {
    let desk = Desk::new();
    let store = desk.open();
    let map = store.map::<Vec<u8>, u32>("m").unwrap();
    let error = map.insert(&vec![0; 40_000], &1).unwrap_err().to_string();
    assert!(error.starts_with("encoded key"), "{error}");
    let reader = Store::from(Arc::new(desk.options().open_reader("store").unwrap()));
    let error = reader.queue::<u32>("q").unwrap_err().to_string();
    assert_eq!(error, "a reader cannot hold a queue");
    let ordered = SpaceOptions::new().ordered(true);
    let error = store.map_with::<Vec<u8>, u32, tierce::codec::MsgPack>("m", &ordered).unwrap_err();
    assert!(error.to_string().contains("SpaceOptions::change"), "{error}");
    let (kept, other) = (map, store.clone());
    assert!(!other.close_handle().unwrap(), "a map keeps it open");
    drop(kept);
    assert!(store.close_handle().unwrap());
}
