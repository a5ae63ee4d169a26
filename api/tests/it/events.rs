//! What happens to entries, told to who listens.

use std::time::Duration;

use tierce::{
    Options, Put, SpaceOptions, Store, Ttl,
    cache::{Event, Removal},
};
use tierce_engine::io::MemoryDisk;
use tierce_kit::clock::TestClock;

fn store(options: Options) -> (Store, TestClock) {
    let clock = TestClock::new();
    let options = options.disk(MemoryDisk::new()).clock(clock.clone()).background(false);
    (Store::open_with("store", options).unwrap(), clock)
}

/// Goal: each way in which an entry comes and goes is told with its cause, once, in order.
#[test]
fn each_with_its_cause() {
    let (store, clock) = store(Options::new());
    let cache = store.cache::<u32, u32>("c").unwrap();
    let other = store.cache::<u32, u32>("other").unwrap();
    cache.insert(&0, &0).unwrap();
    let events = cache.subscribe(100);
    other.insert(&9, &9).unwrap();
    cache.insert(&1, &1).unwrap();
    cache.insert(&1, &2).unwrap();
    cache.update(&1, &Put::new(), |old| old.map(|n| n + 1)).unwrap();
    cache.update(&1, &Put::new(), |_| None).unwrap();
    assert!(!cache.remove(&1).unwrap());
    cache.insert(&2, &2).unwrap();
    assert_eq!(cache.take(&2).unwrap(), Some(2));
    cache.get_or_insert_with(&3, || 3).unwrap();
    assert_eq!(cache.invalidate_keys(|key| *key == 3).unwrap(), 1);
    cache.insert_with(&4, &4, &Put::new().ttl(Ttl::seconds(1))).unwrap();
    clock.advance(2_000);
    store.engine().unwrap().sweep(None).unwrap();
    cache.cut_tag("t").unwrap();
    cache.cut().unwrap();
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let expected = [
        Event::Inserted(1),
        Event::Updated(1),
        Event::Updated(1),
        Event::Removed(1, Removal::Explicit),
        Event::Inserted(2),
        Event::Removed(2, Removal::Explicit),
        Event::Inserted(3),
        Event::Removed(3, Removal::Invalidated),
        Event::Inserted(4),
        Event::Removed(4, Removal::Expired),
        Event::TagCut("t".to_owned()),
        Event::Cleared,
    ];
    assert_eq!(told, expected);
    assert_eq!(events.lost(), 0);
}

/// Goal: what is evicted is told with its key.
#[test]
fn evictions_have_their_key() {
    let (store, _) = store(Options::new().max_entries(5));
    let cache = store.cache::<String, u32>("c").unwrap();
    let events = cache.subscribe(1_000);
    (0..20_u32).for_each(|n| cache.insert(&n.to_string(), &n).unwrap());
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let evicted = told.iter().filter(|event| matches!(event, Event::Removed(_, Removal::Evicted)));
    let inserted = told.iter().filter(|event| matches!(event, Event::Inserted(_)));
    let (evicted, inserted) = (evicted.count(), inserted.count());
    assert_eq!((inserted, inserted - evicted), (20, cache.len().unwrap()));
}

/// Goal: who is too slow loses the oldest and knows how many; who is gone costs nothing; each listener has its own
/// queue.
#[test]
fn a_slow_listener_loses_and_knows() {
    let (store, _) = store(Options::new());
    let cache =
        store.cache_with::<u32, u32, tierce::codec::Json>("c", &SpaceOptions::new()).unwrap();
    let (slow, quick) = (cache.subscribe(3), cache.subscribe(100));
    drop(cache.subscribe(1));
    (0..10).for_each(|n| cache.insert(&n, &n).unwrap());
    assert_eq!(slow.lost(), 7);
    assert_eq!(slow.try_next(), Some(Event::Inserted(7)));
    assert_eq!(quick.try_next(), Some(Event::Inserted(0)));
    assert_eq!(quick.lost(), 0);
}

/// Goal: a waiting listener is woken by a write of another thread, and may write itself.
#[test]
fn waiting_is_woken() {
    let (store, _) = store(Options::new());
    let cache = store.cache::<u32, u32>("c").unwrap();
    let events = cache.subscribe(10);
    let writer = {
        let cache = cache.clone();
        std::thread::spawn(move || cache.insert(&1, &1).unwrap())
    };
    assert_eq!(events.wait(Duration::from_secs(60)), Some(Event::Inserted(1)));
    cache.insert(&2, &2).unwrap();
    assert_eq!(events.wait(Duration::from_secs(60)), Some(Event::Inserted(2)));
    writer.join().unwrap();
}

/// Goal: a task that waits for the next event is woken by it, whichever thread it comes from, and one that is dropped
/// while it waits takes none.
#[test]
fn tasks_wait_for_events() {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    use tierce::asynchronous::block_on;
    let cache = Store::in_memory().unwrap().cache::<u32, u32>("c").unwrap();
    let events = cache.subscribe(1_000);
    {
        let dropped = pin!(events.next());
        assert!(dropped.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| (0..100).map(|_| block_on(events.next())).collect::<Vec<_>>());
        for number in 0..100 {
            cache.insert(&number, &1).unwrap();
            std::thread::yield_now();
        }
        let all: Vec<_> = (0..100).map(Event::Inserted).collect();
        assert_eq!(waits.join().unwrap(), all);
    });
}
