//! Several changes, all or none.

use tierce_engine::{Batch, Durability, Error, PutOptions};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, WAYS, Way, assert_seen, filler, value_of};

/// Goal: a batch does everything it says, in its order, in every durability and however the store came up.
#[test]
fn a_batch_does_everything_in_order() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            bench.engine().put("deleted", "old").unwrap();
            bench.engine().put("replaced", "old").unwrap();
            if way == Way::Replay {
                bench.engine().checkpoint().unwrap();
            }
            let mut batch = Batch::new();
            batch
                .put("new", "1")
                .put("twice", "first")
                .put("twice", "second")
                .delete("deleted")
                .delete("absent")
                .put("born and gone", "x")
                .delete("born and gone")
                .delete("replaced")
                .put("replaced", "new");
            assert_eq!((batch.len(), batch.is_empty()), (9, false));
            bench.engine().commit(batch).unwrap();
            for again in [false, true] {
                if again {
                    bench.come_up(way);
                }
                let engine = bench.engine();
                assert_eq!(value_of(engine, "new"), Some(b"1".to_vec()));
                assert_eq!(value_of(engine, "twice"), Some(b"second".to_vec()));
                assert_eq!(value_of(engine, "replaced"), Some(b"new".to_vec()));
                for key in ["deleted", "absent", "born and gone"] {
                    assert_seen(engine, key, false);
                }
                let stats = engine.stats();
                assert_eq!((engine.iter().unwrap().count(), stats.entries), (3, 3));
            }
        }
    }
}

/// Goal: one condition that does not hold, and nothing of the batch is there.
#[test]
fn a_batch_with_a_condition_that_fails() {
    for durability in DURABILITIES {
        let mut bench = Bench::new(Setup::new(durability));
        bench.engine().put("there", "v").unwrap();
        bench.engine().sync().unwrap();
        let engine = bench.engine();
        let sequence = engine.entry("there").unwrap().unwrap().sequence;
        let stale = PutOptions::new().only_if_unchanged(sequence);
        engine.put("there", "w").unwrap();
        for condition in [PutOptions::new().only_if_absent(), stale] {
            let mut batch = Batch::new();
            batch.put("first", "v").delete("there").put_with("there", "x", condition);
            batch.put("last", "v");
            let refused = engine.commit(batch);
            assert!(matches!(refused, Err(Error::Conflict { found: Some(_) })), "{refused:?}");
        }
        bench.come_up(Way::Crash);
        let engine = bench.engine();
        assert_seen(engine, "first", false);
        assert_seen(engine, "last", false);
        assert_eq!(value_of(engine, "there"), Some(b"w".to_vec()), "{durability:?}");
    }
}

/// Goal: conditions are judged by the store before the batch, and hold together.
#[test]
fn a_batch_with_conditions_that_hold() {
    let bench = Bench::new(Setup::default());
    let engine = bench.engine();
    let sequence = engine.put_with("there", "v", &PutOptions::new()).unwrap();
    let mut batch = Batch::new();
    batch.put_with("there", "w", PutOptions::new().only_if_unchanged(sequence)).put_with(
        "new",
        "w",
        PutOptions::new().only_if_absent(),
    );
    engine.commit(batch).unwrap();
    assert_eq!(value_of(engine, "there"), Some(b"w".to_vec()));
    assert_eq!(value_of(engine, "new"), Some(b"w".to_vec()));
}

/// Goal: a batch larger than a segment, and one of many changes, are whole after a restart and after a crash.
#[test]
fn large_batches() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::new(Durability::Sync));
        let mut batch = Batch::new();
        for number in 0..20 {
            batch.put(format!("big {number}"), filler(number, 10_000));
        }
        bench.engine().commit(batch).unwrap();
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
        }
        let mut batch = Batch::new();
        for number in 0..3_000_u32 {
            batch.put(number.to_le_bytes(), number.to_le_bytes());
        }
        bench.engine().commit(batch).unwrap();
        bench.come_up(way);
        for number in 0..20 {
            let found = value_of(bench.engine(), format!("big {number}"));
            assert!(found == Some(filler(number, 10_000)), "{way:?} {number}");
        }
        for number in 0..3_000_u32 {
            let bytes = number.to_le_bytes();
            assert_eq!(value_of(bench.engine(), bytes), Some(bytes.to_vec()), "{way:?}");
        }
    }
}

/// Goal: a snapshot sees all of a batch or nothing. Method: a thread commits batches that keep two keys equal.
#[test]
fn snapshots_see_whole_batches() {
    let bench = Bench::new(Setup { segment_bytes: 64 << 10, ..Setup::default() });
    let pair = |number: u32| {
        let mut batch = Batch::new();
        batch.put("left", number.to_string()).put("right", number.to_string());
        batch
    };
    bench.engine().commit(pair(0)).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..2_000 {
                bench.engine().commit(pair(number)).unwrap();
            }
        });
        let mut seen = 0;
        while !writer.is_finished() || seen < 10 {
            let snapshot = bench.engine().snapshot().unwrap();
            let (left, right) = (snapshot.get("left").unwrap(), snapshot.get("right").unwrap());
            assert_eq!(left, right);
            seen += 1;
        }
    });
}
