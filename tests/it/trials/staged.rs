//! Staged writes are admitted before they are acknowledged, hold up no other write, and reach the device in time.

use std::time::{Duration, Instant};

use tierce_engine::{
    Batch, Durability, Engine, Error, Evict, Health, Options, PutOptions, SequenceNumber,
    Timestamp, Wrote, io::MemoryDisk,
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, ENOSPC, Fault},
    recorder::RecordingDisk,
    store::STORE,
};

use crate::limits::{Limited, evictable, name, value};

fn periodic() -> PutOptions {
    PutOptions::new().durability(Durability::Periodic)
}

fn steps(engine: &Engine) {
    for _ in 0..1_000 {
        if !engine.step().unwrap() {
            return;
        }
    }
    panic!("background work does not end");
}

/// Goal: more keys staged than the limit has entries are admitted as in any mode: the coldest go, the limit holds
/// over live and staged together, and everything else goes on; what is kept is there after a close.
#[test]
fn more_keys_than_entries() {
    for evict in [Evict::Lru, Evict::S3Fifo, Evict::Fifo] {
        let mut store = Limited::new(|options| {
            options.durability(Durability::Periodic).max_entries(100).evict(evict)
        });
        for key in 0..300 {
            store.engine().put_with(name(key), "v", &evictable()).unwrap();
            assert!(store.engine().get(name(key)).unwrap().is_some(), "{key}");
            let stats = store.engine().stats();
            assert!(stats.entries + stats.staged <= 100, "{stats:?}");
        }
        store.clock.advance(6_000);
        store.settle();
        let os = evictable().durability(Durability::Os);
        store.engine().put_with("another", "v", &os).unwrap();
        store.engine().delete_with(name(299), Durability::Os).unwrap();
        assert_eq!(store.engine().snapshot().unwrap().iter().count(), 99);
        assert_eq!(store.engine().health(), Health::Good);
        store.engine().put_with("last", "v", &evictable()).unwrap();
        store.reopen();
        assert!(store.engine().contains_key("last").unwrap());
        assert!(store.engine().stats().entries >= 99, "{:?}", store.engine().stats());
    }
}

/// Goal: entries that may not go are refused when staged beyond the limit, with the limit's name, and deletes make
/// room; an overwrite at the limit is staged.
#[test]
fn state_is_refused_at_its_limit() {
    let store = Limited::new(|options| options.durability(Durability::Periodic).max_entries(10));
    for key in 0..10 {
        store.engine().put(name(key), "v").unwrap();
    }
    let refused = store.engine().put(name(10), "v").unwrap_err();
    assert!(matches!(refused, Error::Full { what: "entries", .. }), "{refused}");
    let sequence = store.engine().put_with(name(3), "w", &periodic()).unwrap();
    assert_eq!(sequence, SequenceNumber(0), "an overwrite at the limit is staged");
    assert!(store.engine().delete(name(0)).unwrap());
    store.engine().put(name(10), "v").unwrap();
    store.clock.advance(6_000);
    store.settle();
    assert_eq!(store.engine().stats().entries, 10);
}

/// Goal: a value that no limit allows is refused when it is staged, as in any other mode, and no other write is affected.
#[test]
fn a_value_that_is_too_large() {
    let store = Limited::new(|options| options.max_bytes(1 << 20));
    let large = vec![7; 600 << 10];
    let refused = store.engine().put("large", &large).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    let staged = store.engine().put_with("large", &large, &periodic()).unwrap_err();
    assert!(matches!(staged, Error::TooLarge { .. }), "{staged}");
    store.engine().put("small", "v").unwrap();
    let store = Limited::new(|options| options.max_live_bytes(10_000));
    let refused = store.engine().put_with("large", vec![7; 11_000], &periodic()).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
    store.engine().put("small", "v").unwrap();
    assert_eq!(store.engine().health(), Health::Good);
}

/// Goal: a cache at its limit of bytes takes every staged write, never has more than the limit, and keeps its newest
/// entries over a close.
#[test]
fn a_cache_at_its_limit_of_bytes() {
    const LIMIT: u64 = 1 << 20;
    let mut store = Limited::new(|options| {
        options.durability(Durability::Periodic).max_bytes(LIMIT).segment_bytes(8 << 20)
    });
    for key in 0..4_000 {
        let put = store.engine().put_with(name(key), value(key, 0, 1_000), &evictable());
        assert!(put.is_ok(), "{key}: {put:?}; {:?}", store.engine().health());
        if key % 50 == 0 {
            store.clock.advance(100);
            store.settle();
        }
    }
    store.disk.assert_peak(LIMIT, "periodic");
    store.reopen();
    store.disk.assert_peak(LIMIT, "closed and reopened");
    let there = (3_500..4_000).filter(|key| store.engine().contains_key(name(*key)).unwrap());
    assert_eq!(there.count(), 500);
}

/// Goal: what was staged while there was room keeps no delete from going on when the file system is low, and is
/// written all the same; more is refused.
#[test]
fn low_space_beside_staged_writes() {
    const FREE: u64 = 10 << 20;
    let store = Limited::new(|options| options.min_free_bytes(FREE));
    store.disk.set_available(Some(FREE + (4 << 20)));
    store.engine().put("old", "v").unwrap();
    for key in 0..30 {
        store.engine().put_with(name(key), value(key, 0, 500), &periodic()).unwrap();
    }
    assert!(store.engine().stats().staged > 0, "nothing is staged, nothing is tested");
    store.disk.set_available(Some(FREE - 1));
    assert!(store.engine().delete("old").unwrap());
    assert!(store.engine().delete(name(0)).unwrap());
    let refused = (0..100).find_map(|more| {
        store.engine().put_with(name(100 + more), value(more, 0, 500), &periodic()).err()
    });
    assert!(matches!(refused, Some(Error::LowSpace { .. })), "{refused:?}");
    store.clock.advance(6_000);
    store.settle();
    assert_eq!((store.engine().stats().staged, store.engine().health()), (0, Health::Good));
    for key in 1..30 {
        assert!(store.engine().contains_key(name(key)).unwrap(), "{key}");
    }
}

/// Goal: a store that staged more than its limit allows has, after its time and a crash, as many entries as it may
/// have, the newest among them.
#[test]
fn acknowledged_writes_survive_a_crash_after_their_time() {
    let mut store = Limited::new(|options| {
        options.durability(Durability::Periodic).max_entries(100).evict(Evict::Lru)
    });
    for key in 0..101 {
        store.engine().put_with(name(key), "v", &evictable()).unwrap();
    }
    store.clock.advance(600_000);
    store.settle();
    store.crash();
    assert!(store.engine().contains_key(name(100)).unwrap());
    let entries = (0..101).filter(|key| store.engine().contains_key(name(*key)).unwrap()).count();
    assert!(entries >= 99, "{entries}");
}

/// Goal: without room for a segment staged puts wait, and deletes, reads and writes of other keys that need none go
/// on; a later write of a key that waits takes its place and is never undone by it.
#[test]
fn writes_beside_staged_ones_that_wait() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let options = Options::new().disk(disk.clone()).clock(clock.clone()).background(false);
    let options = options.segment_bytes(8 << 10);
    let engine = options.clone().open(STORE).unwrap();
    for key in 0..3 {
        engine.put(name(key), value(key, 0, 1_000)).unwrap();
    }
    disk.arm(Fault::nth(1, ENOSPC).of(&[CallKind::Create]).lasting());
    for key in 10..16 {
        engine.put_with(name(key), value(key, 0, 900), &periodic()).unwrap();
    }
    clock.advance(5_000);
    engine.step().unwrap_err();
    assert_eq!(engine.health(), Health::Behind);
    let staged = engine.stats().staged;
    assert!(staged > 0);
    assert!(engine.delete(name(0)).unwrap(), "another key");
    assert!(engine.delete(name(15)).unwrap(), "a key that waits");
    assert!(!engine.contains_key(name(15)).unwrap());
    engine.put(name(14), "newer").unwrap();
    engine
        .update(name(1), |_| tierce_engine::Change::Put(b"other".to_vec(), PutOptions::new()))
        .unwrap();
    let held_up = engine.touch(name(13), Some(Timestamp(engine.now().0 + 1_000))).unwrap_err();
    assert!(matches!(held_up, Error::Io { .. }), "{held_up}");
    disk.disarm();
    clock.advance(5_000);
    steps(&engine);
    assert_eq!((engine.stats().staged, engine.health()), (0, Health::Good));
    engine.close().unwrap();
    let engine = options.open(STORE).unwrap();
    assert_eq!(engine.get(name(14)).unwrap().as_deref(), Some(&b"newer"[..]));
    assert_eq!(engine.get(name(1)).unwrap().as_deref(), Some(&b"other"[..]));
    assert!(!engine.contains_key(name(15)).unwrap() && !engine.contains_key(name(0)).unwrap());
    for key in 10..14 {
        assert_eq!(engine.get(name(key)).unwrap().as_deref(), Some(&value(key, 0, 900)[..]));
    }
}

/// Goal: a store with a short period that a full disk stopped takes writes again by itself soon after there is room.
#[test]
fn a_full_disk_and_a_short_period() {
    let disk = RecordingDisk::new();
    let options = Options::new().disk(disk.clone()).durability(Durability::Periodic);
    let engine = options.periodic_ms(20).open(STORE).unwrap();
    engine.put("first", "v").unwrap();
    engine.sync().unwrap();
    disk.set_capacity(Some(disk.used() + 5_000));
    let started = Instant::now();
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(30), "{what}: {:?}", engine.health());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut key = 0;
    while !matches!(engine.health(), Health::Stopped { .. }) {
        assert!(started.elapsed() < Duration::from_secs(30), "it never stops");
        let _ = engine.put(name(key), value(key, 0, 1_000));
        key += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.free();
    wait("it goes on", &|| engine.put("again", "v").is_ok());
    wait("it is well", &|| engine.health() == Health::Good);
}

/// Goal: an entry that expired while it was staged is not written: no change is shown, what was there before it is
/// gone, and a damaged record in its place is named by the health and holds up nothing.
#[test]
fn what_expires_while_staged() {
    let disk = MemoryDisk::new();
    let clock = TestClock::new();
    let options = || Options::new().disk(disk.clone()).clock(clock.clone()).background(false);
    let engine = options().open(STORE).unwrap();
    engine.put("older", "v").unwrap();
    let soon = periodic().expires_at(Timestamp(engine.now().0 + 1_000));
    engine.put_with("gone", "v", &soon).unwrap();
    engine.put_with("older", "w", &soon).unwrap();
    clock.advance(6_000);
    steps(&engine);
    let changes = engine.changes_since(SequenceNumber(0), 100).unwrap().changes;
    let changes: Vec<_> = changes.iter().map(|change| (change.wrote, &change.key[..])).collect();
    assert_eq!(changes, [(Wrote::Put, &b"older"[..]), (Wrote::Delete, &b"older"[..])]);
    assert_eq!(engine.stats().entries, 0);
    engine.put("damaged key", "v").unwrap();
    engine.close().unwrap();
    let mut files = disk.files();
    for bytes in files.values_mut() {
        let key = b"damaged key";
        if let Some(at) = bytes.windows(key.len()).position(|window| window == key) {
            bytes[at] ^= 1;
        }
    }
    let disk = MemoryDisk::with_files(files);
    let engine = options().disk(disk).open(STORE).unwrap();
    let soon = periodic().expires_at(Timestamp(engine.now().0 + 1_000));
    engine.put_with("damaged key", "w", &soon).unwrap();
    engine.put_with("innocent", "v", &periodic()).unwrap();
    clock.advance(6_000);
    steps(&engine);
    assert_eq!(engine.stats().staged, 0);
    assert!(engine.contains_key("innocent").unwrap());
    let Health::StagedLost { cause } = engine.health() else { panic!("{:?}", engine.health()) };
    assert!(cause.contains("damaged key"), "{cause}");
    engine.try_recover().unwrap();
    assert_eq!(engine.health(), Health::Good);
}

/// Goal: what may be staged is bounded by the options, which are validated.
#[test]
fn the_write_buffer_is_bounded() {
    for bytes in [0, Options::PERIODIC_BYTES_MAX + 1, u64::MAX] {
        let mut options = Options::new();
        options.periodic_bytes_max = bytes;
        let refused = options.validate();
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{bytes}: {refused:?}");
    }
    let store = Limited::new(|options| {
        let mut options = options.durability(Durability::Periodic).segment_bytes(1 << 20);
        options.periodic_bytes_max = 4_000;
        options
    });
    store.engine().put("larger", vec![1; 5_000]).unwrap();
    assert_eq!(store.engine().stats().staged, 0, "it went the ordinary way");
    for key in 0..20 {
        store.engine().put(name(key), vec![1; 1_000]).unwrap();
        assert!(store.engine().stats().staged <= 4);
    }
}

/// Goal: in `Periodic` mode everything is on the device within its period: a staged write that another write took
/// into the log, touches, cuts, batches, and conditional puts; also if the other interval is long.
#[test]
fn everything_periodic_is_synced_in_time() {
    type Work = fn(&Engine);
    let works: [(&str, Work); 6] = [
        ("drained", |engine| {
            engine.put("meter", "1").unwrap();
            let os = PutOptions::new().durability(Durability::Os);
            engine.put_with("other", "1", &os).unwrap();
        }),
        ("touch", |engine| assert!(engine.touch("first", None).unwrap())),
        ("cut", |engine| engine.cut_scope("scope").unwrap()),
        ("batch", |engine| {
            let mut batch = Batch::new();
            batch.put("a", "1").put("b", "2");
            engine.commit(batch).unwrap();
        }),
        ("conditional", |engine| {
            engine.put_with("new", "1", &PutOptions::new().only_if_absent()).unwrap();
        }),
        ("ticket", |engine| {
            engine.submit("new", "1", &PutOptions::new()).unwrap().wait().unwrap();
        }),
    ];
    for (what, work) in works {
        let clock = TestClock::new();
        let options = Options::new().disk(MemoryDisk::new()).clock(clock.clone()).background(false);
        let options = options.durability(Durability::Periodic).sync_interval_ms(600_000);
        let engine = options.open(STORE).unwrap();
        engine.put("first", "v").unwrap();
        engine.sync().unwrap();
        let before = engine.stats().sequence;
        work(&engine);
        for _ in 0..6 {
            clock.advance(1_000);
            steps(&engine);
        }
        let stats = engine.stats();
        assert!(stats.sequence > before, "{what}");
        assert_eq!((stats.staged, stats.durable_sequence), (0, stats.sequence), "{what}");
    }
}
