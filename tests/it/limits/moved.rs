//! Limits that change while the store is open, the least limit that works, and what `usage` says.

use tierce_engine::{Error, Evict, Options, PutOptions};

use super::{Limited, evictable, name, value};

/// Goal: a limit set lower evicts and compacts until the directory fits, and holds from then on; a higher one is
/// used again.
#[test]
fn down_and_up() {
    let mut store = Limited::new(|options| options.max_bytes(4 << 20));
    let write = |store: &Limited, first: u64, count: u64| {
        for key in first..first + count {
            store.engine().put_with(name(key), value(key, 0, 900), &evictable()).unwrap();
        }
    };
    write(&store, 0, 6_000);
    let before = store.engine().stats().live_bytes;
    store.engine().set_max_bytes(Some(1 << 20)).unwrap();
    assert!(store.disk.total() <= 1 << 20, "{}", store.disk.total());
    store.disk.forget_peak();
    write(&store, 10_000, 2_000);
    assert!(store.engine().get(name(11_999)).unwrap().is_some());
    store.disk.assert_peak(1 << 20, "lower");
    let lower = store.engine().stats().live_bytes;
    assert!(lower < before && lower > 200 << 10, "{lower} of {before}");
    store.engine().set_max_bytes(Some(4 << 20)).unwrap();
    write(&store, 20_000, 6_000);
    store.disk.assert_peak(4 << 20, "higher");
    assert!(store.engine().stats().live_bytes > before * 8 / 10);
    store.engine().set_max_bytes(None).unwrap();
    write(&store, 30_000, 6_000);
    assert!(store.disk.total() > 6 << 20, "no limit");
    store.close();
}

/// Goal: lowering the limit below what state has says Full and loses nothing; an impossible one is refused and
/// changes nothing.
#[test]
fn down_below_the_state() {
    let store = Limited::new(|options| options.max_bytes(2 << 20).segment_bytes(64 << 10));
    for key in 0..1_000 {
        store.engine().put(name(key), value(key, 0, 900)).unwrap();
    }
    let refused = store.engine().set_max_bytes(Some(10_000));
    assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
    assert_eq!(store.engine().usage().total, 2 << 20);
    let full = store.engine().set_max_bytes(Some(512 << 10));
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    let refused = store.engine().put("more", value(1, 1, 9_000));
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    for key in 0..1_000 {
        let read = store.engine().get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key, 0, 900)[..]));
    }
}

/// Goal: a limit that is too low to work is refused, and the least that works is named.
#[test]
fn the_least_is_named() {
    let refused = Options::new().max_bytes(1).validate();
    let Err(Error::InvalidOptions { complaints }) = refused else { panic!("{refused:?}") };
    let least = least();
    assert!(complaints[0].contains(&least.to_string()), "{complaints:?}");
    assert!(Options::new().max_bytes(least).validate().is_ok());
    assert!(Options::new().max_bytes(least - 1).validate().is_err());
}

/// The number that the complaint names.
fn least() -> u64 {
    let Err(Error::InvalidOptions { complaints }) = Options::new().max_bytes(1).validate() else {
        panic!("it was taken");
    };
    complaints[0].rsplit(' ').next().unwrap().parse().unwrap()
}

/// Goal: a store works at the least limit: thousands of writes, reopened, never too much; also one of state.
#[test]
fn the_least_works() {
    let limit = least();
    for evict in [Evict::Lru, Evict::S3Fifo, Evict::Fifo] {
        let mut store = Limited::new(|options| options.max_bytes(limit).evict(evict));
        for key in 0..5_000 {
            let wanted = value(key, 0, 20 + (key as usize * 13) % 300);
            store.engine().put_with(name(key), &wanted, &evictable()).unwrap();
            let read = store.engine().get(name(key)).unwrap();
            assert_eq!(read.as_deref(), Some(&wanted[..]), "{evict:?}: {key}");
            store.disk.assert_peak(limit, "at the least");
            if key % 1_000 == 999 {
                store.reopen();
            }
        }
    }
    let store = Limited::new(|options| options.max_bytes(limit));
    let mut key = 0;
    while store.engine().put_with(name(key), value(key, 0, 100), &PutOptions::new()).is_ok() {
        key += 1;
    }
    assert!(key > 20, "state of {key} entries");
    for gone in 0..key {
        assert!(store.engine().delete(name(gone)).unwrap());
    }
    store.engine().put("again", "works").unwrap();
    store.disk.assert_peak(limit, "state");
}

/// Goal: `usage` adds up, is never less than what the directory has, and not much more.
#[test]
fn usage_adds_up() {
    let store = Limited::new(|options| options.max_bytes(2 << 20).segment_bytes(64 << 10));
    for key in 0..6_000 {
        store.engine().put_with(name(key), value(key, 0, 800), &evictable()).unwrap();
        let usage = store.engine().usage();
        let total = store.disk.total();
        assert!(usage.used >= total, "{usage:?}, on disk {total}");
        assert!(usage.used <= total + (400 << 10), "{usage:?}, on disk {total}");
        assert_eq!((usage.total, usage.used + usage.free), (2 << 20, 2 << 20));
        assert_eq!(usage.percent, (usage.used * 100).div_ceil(2 << 20));
        assert_eq!(usage.live, store.engine().stats().live_bytes);
    }
    assert!(store.engine().usage().percent > 80, "{:?}", store.engine().usage());
    let unlimited = Limited::new(|options| options);
    unlimited.disk.set_available(Some(1 << 30));
    unlimited.engine().put("k", "v").unwrap();
    let usage = unlimited.engine().usage();
    assert_eq!(
        (usage.free, usage.disk_free, usage.total - usage.used),
        (1 << 30, 1 << 30, 1 << 30)
    );
}
