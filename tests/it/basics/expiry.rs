//! An entry is live iff store time is before its expiry, by every path; and touch.

use tierce_engine::{Batch, Change, Error, PutOptions, Timestamp};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, WAYS, Way, assert_seen, value_of};

fn expiring(at: Timestamp) -> PutOptions {
    PutOptions::new().expires_at(at)
}

/// Goal: live one millisecond before the expiry, gone at it, by every path that reads, in every durability and
/// however the store came up.
#[test]
fn the_exact_instant() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            let at = bench.engine().now().saturating_add_ms(100);
            bench.engine().put_with("k", "v", &expiring(at)).unwrap();
            if way == Way::Replay {
                bench.engine().checkpoint().unwrap();
                bench.engine().put("other", "x").unwrap();
            }
            bench.come_up(way);
            bench.clock.advance(99);
            assert_eq!(bench.engine().now(), Timestamp(at.0 - 1));
            assert_seen(bench.engine(), "k", true);
            bench.clock.advance(1);
            assert_eq!(bench.engine().now(), at);
            assert_seen(bench.engine(), "k", false);
            assert_eq!(bench.engine().entry("k").unwrap(), None, "{durability:?} {way:?}");
            bench.come_up(Way::Footers);
            assert_seen(bench.engine(), "k", false);
        }
    }
}

/// Goal: the same instant decides for staged entries, which are not in the log yet.
#[test]
fn the_exact_instant_while_staged() {
    let bench = Bench::new(Setup::new(tierce_engine::Durability::Periodic));
    let at = bench.engine().now().saturating_add_ms(100);
    bench.engine().put_with("k", "v", &expiring(at)).unwrap();
    bench.clock.advance(99);
    assert_eq!(value_of(bench.engine(), "k"), Some(b"v".to_vec()));
    assert!(bench.engine().contains_key("k").unwrap());
    assert!(bench.engine().entry("k").unwrap().is_some());
    bench.clock.advance(1);
    assert_eq!(bench.engine().stats().staged, 1);
    assert_eq!(value_of(bench.engine(), "k"), None);
    assert!(!bench.engine().contains_key("k").unwrap());
    assert_eq!(bench.engine().entry("k").unwrap(), None);
    assert_eq!(bench.engine().get_many(&["k"]).unwrap(), [None]);
    assert!(!bench.engine().delete("k").unwrap());
    bench.engine().put("k", "w").unwrap();
    assert_eq!(value_of(bench.engine(), "k"), Some(b"w".to_vec()));
}

/// Goal: an entry whose expiry is past or now is gone at once; one in the far future is not, and nothing overflows.
#[test]
fn expiries_at_the_ends_of_time() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let now = bench.engine().now();
        let expiries = [
            ("epoch", Timestamp(0), false),
            ("past", Timestamp(now.0 - 1), false),
            ("now", now, false),
            ("soon", Timestamp(now.0 + 1), true),
            ("far", Timestamp(u64::MAX), true),
            ("overflow", now.saturating_add_ms(u64::MAX), true),
        ];
        for (key, at, _) in expiries {
            bench.engine().put(key, "old").unwrap();
            bench.engine().put_with(key, "v", &expiring(at)).unwrap();
        }
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
            bench.engine().put("other", "x").unwrap();
        }
        bench.come_up(way);
        for (key, at, live) in expiries {
            assert_seen(bench.engine(), key, live);
            let entry = bench.engine().entry(key).unwrap();
            assert_eq!(entry.and_then(|entry| entry.expires_at), live.then_some(at), "{way:?}");
        }
    }
}

/// Goal: an expired entry that is still stored is absent for delete, touch, update and conditions, and a put of
/// its key makes it live anew.
#[test]
fn expired_behaves_as_absent() {
    for durability in DURABILITIES {
        let bench = Bench::new(Setup::new(durability));
        let at = bench.engine().now().saturating_add_ms(10);
        for key in ["delete", "touch", "update", "absent", "unchanged", "batch", "put"] {
            bench.engine().put_with(key, "v", &expiring(at)).unwrap();
        }
        bench.engine().sync().unwrap();
        let stored = bench.engine().entry("unchanged").unwrap().unwrap().sequence;
        bench.clock.advance(10);
        let engine = bench.engine();
        let before = engine.stats();
        assert!(!engine.touch("touch", None).unwrap(), "an expired entry is not revived");
        assert_seen(engine, "touch", false);
        let kept = engine.update("update", |old| {
            assert_eq!(old, None);
            Change::Keep
        });
        assert_eq!(kept.unwrap(), None);
        let unchanged = PutOptions::new().only_if_unchanged(stored);
        let refused = engine.put_with("unchanged", "w", &unchanged);
        assert!(matches!(refused, Err(Error::Conflict { found: None })), "{refused:?}");
        assert_eq!(engine.stats().sequence, before.sequence, "{durability:?}: nothing was written");
        // A delete of what has expired is on record: else a clock that is set back before a crash revives it.
        assert!(!engine.delete("delete").unwrap());
        engine.sync().unwrap();
        let deleted = engine.stats().sequence;
        assert!(deleted > before.sequence, "{durability:?}");
        let mut batch = Batch::new();
        batch.delete("batch");
        engine.commit(batch).unwrap();
        assert!(engine.stats().sequence > deleted, "{durability:?}");
        engine.put_with("absent", "new", &PutOptions::new().only_if_absent()).unwrap();
        engine.put("put", "new").unwrap();
        let put = |_: Option<&_>| Change::Put(b"new".to_vec(), PutOptions::new());
        engine.update("update", put).unwrap().unwrap();
        for key in ["absent", "put", "update"] {
            assert_eq!(value_of(engine, key), Some(b"new".to_vec()), "{durability:?}");
            assert_seen(engine, key, true);
        }
    }
}

/// Goal: touch lengthens, shortens and takes away an expiry, keeps the rest of the entry, and the last one counts,
/// however the store came up.
#[test]
fn touch_sets_the_expiry() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let now = bench.engine().now();
        let at = |ms| Some(now.saturating_add_ms(ms));
        let cases = [
            ("longer", at(10), vec![at(100)], at(100)),
            ("shorter", at(100), vec![at(10)], at(10)),
            ("never", at(10), vec![None], None),
            ("set", None, vec![at(10)], at(10)),
            ("often", at(10), vec![at(50), None, at(70), at(20), at(90)], at(90)),
            ("and back", at(10), vec![at(50), at(10)], at(10)),
        ];
        for (key, first, _, _) in &cases {
            let options = PutOptions::new().scope("s").codec(3, 4).item(0x22, "i");
            let options = first.iter().fold(options, |options, at| options.expires_at(*at));
            bench.engine().put_with(key, *key, &options).unwrap();
        }
        for (number, (key, _, touches, _)) in cases.iter().enumerate() {
            for (turn, at) in touches.iter().enumerate() {
                if way == Way::Replay && number == 4 && turn == 2 {
                    bench.engine().checkpoint().unwrap();
                }
                assert!(bench.engine().touch(key, *at).unwrap());
            }
        }
        bench.come_up(way);
        for (key, _, _, expected) in &cases {
            let entry = bench.engine().entry(key).unwrap().unwrap();
            assert_eq!(entry.expires_at, *expected, "{key} {way:?}");
            assert_eq!((entry.codec, entry.schema, entry.scopes.len()), (3, 4, 1));
            assert_eq!((entry.value.to_vec(), entry.items.len()), (key.as_bytes().to_vec(), 1));
        }
        for ms in [9, 10, 19, 90, 99, 100, 100_000] {
            bench.clock.set_wall(now.0 + ms);
            for (key, _, _, expected) in &cases {
                let live = expected.is_none_or(|at| at.0 > now.0 + ms);
                assert_seen(bench.engine(), key, live);
            }
        }
    }
}

/// Goal: a touch is of the entry it found: what is put later has its own expiry.
#[test]
fn a_touch_ends_with_its_entry() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let now = bench.engine().now();
        let soon = now.saturating_add_ms(10);
        for key in ["overwritten", "deleted and put", "touched again"] {
            bench.engine().put(key, "old").unwrap();
            assert!(bench.engine().touch(key, Some(soon)).unwrap());
        }
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
        }
        bench.engine().put("overwritten", "new").unwrap();
        assert!(bench.engine().delete("deleted and put").unwrap());
        bench.engine().put("deleted and put", "new").unwrap();
        assert!(bench.engine().touch("touched again", None).unwrap());
        bench.come_up(way);
        bench.clock.advance(1_000);
        for key in ["overwritten", "deleted and put", "touched again"] {
            assert_seen(bench.engine(), key, true);
            assert_eq!(bench.engine().entry(key).unwrap().unwrap().expires_at, None, "{way:?}");
        }
    }
}

/// Goal: touching what is absent, deleted or cut off says so and changes nothing.
#[test]
fn touching_nothing() {
    let bench = Bench::new(Setup::default());
    let engine = bench.engine();
    engine.put_with("cut", "v", &PutOptions::new().scope("s")).unwrap();
    engine.put("deleted", "v").unwrap();
    engine.delete("deleted").unwrap();
    engine.cut_scope("s").unwrap();
    for key in ["absent", "deleted", "cut"] {
        let before = engine.stats().sequence;
        assert!(!engine.touch(key, None).unwrap(), "{key}");
        assert_eq!(engine.stats().sequence, before);
        assert_seen(engine, key, false);
    }
}

/// Goal: a touch into the past ends the entry, for good.
#[test]
fn a_touch_into_the_past() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        bench.engine().put("k", "v").unwrap();
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
        }
        assert!(bench.engine().touch("k", Some(bench.engine().now())).unwrap());
        bench.come_up(way);
        assert_seen(bench.engine(), "k", false);
        assert!(!bench.engine().touch("k", None).unwrap());
        assert!(!bench.engine().delete("k").unwrap());
    }
}

/// Goal: a touch does not write the value again.
#[test]
fn a_touch_is_small() {
    let bench = Bench::new(Setup::default());
    bench.engine().put("k", vec![1; 3_000]).unwrap();
    let before = bench.engine().stats().written_bytes;
    assert!(bench.engine().touch("k", Some(Timestamp(u64::MAX))).unwrap());
    let written = bench.engine().stats().written_bytes - before;
    assert!((1..=128).contains(&written), "{written} bytes");
}

/// Goal: a touch whose put stands in a sealed segment, and one that is itself in another sealed segment, count.
#[test]
fn touches_across_segments() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        let at = |n: u64| Timestamp(2_000_000_000_000 + n);
        for number in 0..60 {
            bench.engine().put(format!("key {number}"), [7; 300]).unwrap();
        }
        bench.settle();
        for number in 0..60 {
            assert!(bench.engine().touch(format!("key {number}"), Some(at(number))).unwrap());
            bench.engine().put(format!("filler {number}"), [8; 300]).unwrap();
            if way == Way::Replay && number == 30 {
                bench.engine().checkpoint().unwrap();
            }
        }
        assert!(bench.engine().stats().sealed > 3, "several segments are sealed");
        bench.come_up(way);
        for number in 0..60 {
            let entry = bench.engine().entry(format!("key {number}")).unwrap().unwrap();
            assert_eq!(entry.expires_at, Some(at(number)), "{way:?}");
        }
    }
}
