//! What goes with a put, and the conditions of a write.

use tierce_engine::{Batch, Durability, Entry, Error, PutOptions, SequenceNumber, Timestamp};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, WAYS, Way, assert_seen, value_of};

const FAR: Timestamp = Timestamp(u64::MAX - 1);

/// Entries with every option, alone and together.
fn every_option() -> Vec<(&'static str, PutOptions)> {
    let plain = PutOptions::new;
    vec![
        ("plain", plain()),
        ("expiring", plain().expires_at(FAR)),
        ("evictable", plain().evictable(true)),
        ("scoped", plain().scope("one")),
        ("scopes", plain().scope("one").scope(b"\0\xff").scope([b's'; 255])),
        ("codec", plain().codec(7, 0)),
        ("schema", plain().codec(0, u32::MAX)),
        ("item", plain().item(0x20, "")),
        ("items", plain().item(0x7f, [9; 255]).item(0x20, "x").item(0x20, "y")),
        (
            "all",
            plain()
                .expires_at(Timestamp(2_000_000_000_001))
                .evictable(true)
                .scope("s")
                .codec(255, 12)
                .item(0x21, "i"),
        ),
    ]
}

/// Expiry, evictable, codec, schema, scopes, items.
type Everything = (Option<Timestamp>, bool, u8, u32, Vec<Vec<u8>>, Vec<(u8, Vec<u8>)>);

#[track_caller]
fn assert_options(entry: &Entry, name: &str) {
    let scope = |name: &[u8]| name.to_vec();
    let expected: Everything = match name {
        "plain" => (None, false, 0, 0, vec![], vec![]),
        "expiring" => (Some(FAR), false, 0, 0, vec![], vec![]),
        "evictable" => (None, true, 0, 0, vec![], vec![]),
        "scoped" => (None, false, 0, 0, vec![scope(b"one")], vec![]),
        "scopes" => {
            let scopes = vec![scope(b"one"), scope(b"\0\xff"), scope(&[b's'; 255])];
            (None, false, 0, 0, scopes, vec![])
        }
        "codec" => (None, false, 7, 0, vec![], vec![]),
        "schema" => (None, false, 0, u32::MAX, vec![], vec![]),
        "item" => (None, false, 0, 0, vec![], vec![(0x20, vec![])]),
        "items" => {
            let items = vec![(0x7f, vec![9; 255]), (0x20, b"x".to_vec()), (0x20, b"y".to_vec())];
            (None, false, 0, 0, vec![], items)
        }
        "all" => {
            let expiry = Some(Timestamp(2_000_000_000_001));
            (expiry, true, 255, 12, vec![scope(b"s")], vec![(0x21, b"i".to_vec())])
        }
        other => panic!("{other}"),
    };
    let found = (
        entry.expires_at,
        entry.evictable,
        entry.codec,
        entry.schema,
        entry.scopes.clone(),
        entry.items.clone(),
    );
    assert_eq!(found, expected, "{name}");
    assert_eq!(entry.value.to_vec(), name.as_bytes());
}

/// Goal: everything that goes with a put comes back with its entry, whatever the durability and however the store
/// came up, by `entry` and by `iter`.
#[test]
fn options_round_trip() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            let (early, late): (Vec<_>, Vec<_>) =
                every_option().into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
            for (_, (name, options)) in early {
                bench.engine().put_with(name, name, &options).unwrap();
            }
            if way == Way::Replay {
                bench.engine().checkpoint().unwrap();
            }
            for (_, (name, options)) in late {
                bench.engine().put_with(name, name, &options).unwrap();
            }
            bench.come_up(way);
            let engine = bench.engine();
            for (name, _) in every_option() {
                assert_options(&engine.entry(name).unwrap().unwrap(), name);
            }
            let mut listed = 0;
            for item in engine.iter().unwrap() {
                let (key, entry) = item.unwrap();
                assert_options(&entry, std::str::from_utf8(&key).unwrap());
                listed += 1;
            }
            assert_eq!(listed, every_option().len(), "{durability:?} {way:?}");
        }
    }
}

/// Goal: options of puts in a batch round-trip too.
#[test]
fn options_in_a_batch() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let mut batch = Batch::new();
        for (name, options) in every_option() {
            batch.put_with(name, name, options);
        }
        bench.engine().commit(batch).unwrap();
        bench.come_up(way);
        for (name, _) in every_option() {
            assert_options(&bench.engine().entry(name).unwrap().unwrap(), name);
        }
    }
}

/// Goal: a plain put clears everything that the entry before it had, touches included.
#[test]
fn a_plain_put_clears_options() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        for (name, options) in every_option() {
            bench.engine().put_with(name, "old", &options).unwrap();
            assert!(bench.engine().touch(name, Some(FAR)).unwrap());
        }
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
        }
        for (name, _) in every_option() {
            bench.engine().put(name, "plain").unwrap();
        }
        bench.come_up(way);
        bench.engine().cut_scope("one").unwrap();
        for (name, _) in every_option() {
            let entry = bench.engine().entry(name).unwrap().expect(name);
            assert_options(&entry, "plain");
        }
    }
}

/// Goal: sequence numbers of acknowledged writes only grow, over restarts too, and `entry` shows them.
#[test]
fn sequence_numbers_grow() {
    let mut bench = Bench::new(Setup::default());
    let mut last = SequenceNumber(0);
    for way in WAYS {
        for number in 0..30 {
            let key = format!("key {}", number % 7);
            let sequence = bench.engine().put_with(&key, "v", &PutOptions::new()).unwrap();
            assert!(sequence > last, "{way:?}: {sequence} after {last}");
            assert_eq!(bench.engine().entry(&key).unwrap().unwrap().sequence, sequence);
            last = sequence;
        }
        bench.come_up(way);
        let engine = bench.engine();
        let newest = (0..7).map(|n| engine.entry(format!("key {n}")).unwrap().unwrap().sequence);
        assert_eq!(newest.max(), Some(last), "{way:?}");
    }
}

/// Fails unless this is a conflict that found this sequence number.
#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, Error>, expected: Option<SequenceNumber>) {
    match result {
        Err(Error::Conflict { found }) => assert_eq!(found, expected),
        other => panic!("no conflict but {other:?}"),
    }
}

/// Goal: `only_if_absent` writes exactly when no live entry is there; a refusal says what is.
#[test]
fn only_if_absent() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            let absent = PutOptions::new().only_if_absent();
            bench.engine().put_with("k", "first", &absent).unwrap();
            if way == Way::Replay {
                bench.engine().checkpoint().unwrap();
                bench.engine().put("other", "x").unwrap();
            }
            bench.come_up(way);
            let engine = bench.engine();
            let there = engine.entry("k").unwrap().unwrap().sequence;
            let before = engine.stats().sequence;
            assert_conflict(engine.put_with("k", "second", &absent), Some(there));
            let ticket = engine.submit("k", "second", &absent).unwrap();
            assert_conflict(ticket.wait(), Some(there));
            assert_eq!(engine.stats().sequence, before, "{durability:?} {way:?}");
            assert_eq!(value_of(engine, "k"), Some(b"first".to_vec()));
            assert!(engine.delete("k").unwrap());
            engine.put_with("k", "third", &absent).unwrap();
            assert_eq!(value_of(engine, "k"), Some(b"third".to_vec()));
        }
    }
}

/// Goal: `only_if_unchanged` writes exactly when the entry is the one that was read.
#[test]
fn only_if_unchanged() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let engine = bench.engine();
        let first = engine.put_with("k", "1", &PutOptions::new()).unwrap();
        let if_first = PutOptions::new().only_if_unchanged(first);
        let second = engine.put_with("k", "2", &if_first).unwrap();
        assert_conflict(engine.put_with("k", "3", &if_first), Some(second));
        assert_conflict(engine.put_with("absent", "3", &if_first), None);
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
            bench.engine().put("other", "x").unwrap();
        }
        bench.come_up(way);
        let engine = bench.engine();
        assert_eq!(value_of(engine, "k"), Some(b"2".to_vec()));
        assert_conflict(engine.put_with("k", "3", &if_first), Some(second));
        let if_second = PutOptions::new().only_if_unchanged(second);
        engine.put_with("k", "4", &if_second).unwrap();
        assert!(engine.delete("k").unwrap());
        let gone = engine.put_with("k", "5", &if_second);
        assert_conflict(gone, None);
        assert_seen(engine, "k", false);
    }
}

/// Goal: a put of the same value, and a put over a deleted entry, change the entry for `only_if_unchanged`.
#[test]
fn an_unchanged_value_is_a_changed_entry() {
    let bench = Bench::new(Setup::new(Durability::Sync));
    let first = bench.engine().put_with("k", "v", &PutOptions::new()).unwrap();
    let second = bench.engine().put_with("k", "v", &PutOptions::new()).unwrap();
    let if_first = PutOptions::new().only_if_unchanged(first);
    assert_conflict(bench.engine().put_with("k", "w", &if_first), Some(second));
    bench.engine().delete("k").unwrap();
    let third = bench.engine().put_with("k", "v", &PutOptions::new()).unwrap();
    assert_conflict(bench.engine().put_with("k", "w", &if_first), Some(third));
}
