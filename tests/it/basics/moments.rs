//! Iteration and snapshots: the store at one moment, whatever happens later.

use std::collections::BTreeMap;

use tierce_engine::{Durability, Iter, PutOptions, ReadMode, Snapshot};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, WAYS, filler, value_of};

fn listed(iter: Iter) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut entries = BTreeMap::new();
    for item in iter {
        let (key, entry) = item.unwrap();
        let twice = entries.insert(key, entry.value.to_vec());
        assert_eq!(twice, None, "each key once");
    }
    entries
}

fn numbered(numbers: std::ops::Range<u64>, seed: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    numbers.map(|n| (format!("key {n}").into_bytes(), filler(n ^ seed, 90))).collect()
}

fn put_all(bench: &Bench, entries: &BTreeMap<Vec<u8>, Vec<u8>>) {
    for (key, value) in entries {
        bench.engine().put(key, value).unwrap();
    }
}

/// Goal: iteration gives every live entry once, however the store came up.
#[test]
fn iteration_is_complete() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            assert_eq!(bench.engine().iter().unwrap().count(), 0);
            put_all(&bench, &numbered(0..100, 1));
            put_all(&bench, &numbered(0..30, 2));
            let mut expected = numbered(0..100, 1);
            expected.extend(numbered(0..30, 2));
            for number in 90..100 {
                let key = format!("key {number}").into_bytes();
                assert!(bench.engine().delete(&key).unwrap());
                expected.remove(&key);
            }
            bench.come_up(way);
            assert_eq!(listed(bench.engine().iter().unwrap()), expected, "{durability:?} {way:?}");
        }
    }
}

/// Goal: `get_many` answers in the order asked, absent and repeated keys included, for more keys than it takes at
/// once.
#[test]
fn get_many_keeps_the_order() {
    for read_mode in [ReadMode::Map, ReadMode::Positioned] {
        let mut bench = Bench::new(Setup { read_mode, ..Setup::default() });
        put_all(&bench, &numbered(0..200, 3));
        for way in WAYS {
            bench.come_up(way);
            let asked: Vec<u64> = (0..150).map(|n| n * 37 % 260).chain([5, 5, 900]).collect();
            let keys: Vec<_> = asked.iter().map(|n| format!("key {n}")).collect();
            let found = bench.engine().get_many(&keys).unwrap();
            assert_eq!(found.len(), keys.len());
            for (number, value) in asked.iter().zip(found) {
                let expected = (*number < 200).then(|| filler(number ^ 3, 90));
                assert_eq!(value.map(|value| value.to_vec()), expected, "{number} {way:?}");
            }
        }
        let none: [&str; 0] = [];
        assert!(bench.engine().get_many(&none).unwrap().is_empty());
    }
}

/// Fails unless the snapshot holds exactly this.
#[track_caller]
fn assert_holds(snapshot: &Snapshot, expected: &BTreeMap<Vec<u8>, Vec<u8>>) {
    assert_eq!(listed(snapshot.iter()), *expected);
    for (key, value) in expected {
        assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(&value[..]));
    }
    assert_eq!(snapshot.get("born later").unwrap(), None);
}

/// Goal: a snapshot is the store at its moment: later overwrites, deletes, touches, new keys, full segments,
/// seals, recovery of the log and the end of the store change nothing in it.
#[test]
fn a_snapshot_stands_still() {
    for read_mode in [ReadMode::Map, ReadMode::Positioned] {
        for durability in DURABILITIES {
            let bench = Bench::new(Setup { read_mode, ..Setup::new(durability) });
            put_all(&bench, &numbered(0..60, 1));
            let before = numbered(0..60, 1);
            let snapshot = bench.engine().snapshot().unwrap();
            assert_holds(&snapshot, &before);
            put_all(&bench, &numbered(0..30, 2));
            for number in 30..40 {
                assert!(bench.engine().delete(format!("key {number}")).unwrap());
            }
            let soon = bench.engine().now();
            assert!(bench.engine().touch("key 50", Some(soon)).unwrap());
            bench.engine().put("born later", "x").unwrap();
            assert_holds(&snapshot, &before);
            bench.settle();
            assert_holds(&snapshot, &before);
            put_all(&bench, &numbered(1_000..1_100, 4));
            bench.engine().checkpoint().unwrap();
            let second = bench.engine().snapshot().unwrap();
            assert_eq!(listed(second.iter()).len(), 30 + 19 + 1 + 100);
            bench.clock.advance(1_000_000);
            let clone = snapshot.clone();
            drop(snapshot);
            drop(bench);
            assert_holds(&clone, &before);
            assert_eq!(listed(second.iter()).len(), 150, "{durability:?}");
        }
    }
}

/// Goal: a snapshot asks its own clock: an entry that was live then is so for good.
#[test]
fn a_snapshot_keeps_its_time() {
    let bench = Bench::new(Setup::default());
    let at = bench.engine().now().saturating_add_ms(10);
    bench.engine().put_with("k", "v", &PutOptions::new().expires_at(at)).unwrap();
    let live = bench.engine().snapshot().unwrap();
    bench.clock.advance(10);
    let gone = bench.engine().snapshot().unwrap();
    assert_eq!((live.iter().count(), gone.iter().count()), (1, 0));
    assert!(live.get("k").unwrap().is_some() && gone.get("k").unwrap().is_none());
}

/// Goal: an iterator goes on over writes, whoever makes them, and shows its own moment.
#[test]
fn writing_while_iterating() {
    let bench = Bench::new(Setup::default());
    put_all(&bench, &numbered(0..80, 1));
    let mut seen = BTreeMap::new();
    for (turn, item) in bench.engine().iter().unwrap().enumerate() {
        let (key, entry) = item.unwrap();
        seen.insert(key.clone(), entry.value.to_vec());
        bench.engine().delete(&key).unwrap();
        bench.engine().put(format!("new {turn}"), filler(turn as u64, 200)).unwrap();
        bench.settle();
    }
    assert_eq!(seen, numbered(0..80, 1));
    assert_eq!(listed(bench.engine().iter().unwrap()).len(), 80);
}

/// Goal: a snapshot and an iterator outlive the store they came from, and neither keeps it from being opened again.
#[test]
fn a_snapshot_from_an_earlier_opening() {
    let mut bench = Bench::new(Setup::new(Durability::Os));
    put_all(&bench, &numbered(0..50, 1));
    let snapshot = bench.engine().snapshot().unwrap();
    let mut iter = snapshot.iter();
    let first = iter.next().unwrap().unwrap();
    for way in WAYS {
        bench.come_up(way);
        put_all(&bench, &numbered(0..50, 9));
        assert_holds(&snapshot, &numbered(0..50, 1));
    }
    let rest = listed(iter);
    assert_eq!((rest.len(), rest.contains_key(&first.0)), (49, false));
    assert_eq!(value_of(bench.engine(), "key 1"), Some(filler(1 ^ 9, 90)));
}
